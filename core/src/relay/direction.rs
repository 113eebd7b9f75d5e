//! Owns one direction of a tunnel: `Running`, then `ShuttingDown`, then `Done`, and the bytes
//! that its sink did not take yet.

use super::{End, Received, Sent, Shut};

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Direction {
    state: State,
    /// Read from the source, not taken by the sink. Nothing is read while it holds bytes, so it
    /// never grows beyond one buffer; it owns memory only while it holds bytes.
    pending: Vec<u8>,
    /// How much of `pending` the sink took.
    taken: usize,
    /// The source is known to be broken: its end, when it comes, is no end of file.
    source_broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The source is at its end; the sink is to be told so.
    ShuttingDown,
    Done,
}

/// What one run of a direction did.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Bytes that the sink took.
    pub sent: usize,
    /// The budget is used up, the source may have more.
    pub more: bool,
    /// Why the direction can't go on.
    pub fault: Option<Fault>,
}

/// What stopped a direction before its end of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The source is broken.
    Source,
    /// The sink is broken.
    Sink,
    /// No memory for the bytes that the sink did not take.
    OutOfMemory,
}

/// Why a run came to rest without a fault.
enum Rest {
    /// The source has nothing, the sink takes nothing, or the direction is done.
    Quiet,
    /// The budget is used up.
    Spent,
}

impl Direction {
    /// A direction that begins with `pending` already read.
    pub fn new(pending: Vec<u8>) -> Self {
        Self { state: State::Running, pending, taken: 0, source_broken: false }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes read and not yet taken.
    pub fn held(&self) -> usize {
        self.pending.len() - self.taken
    }

    /// Ends the direction and drops what it holds: its sink is broken.
    pub fn abandon(&mut self) {
        self.state = State::Done;
        self.release();
    }

    /// Delivers what the source sent before it broke, and then ends without an end of file: the
    /// system reports a reset once, after that it says that there is nothing more.
    pub fn source_is_broken(&mut self) {
        self.source_broken = true;
    }

    /// Moves bytes from `source` to `sink` until one of them blocks, the source ends, or about
    /// `budget` bytes are moved.
    pub fn run(
        &mut self,
        source: &mut impl End,
        sink: &mut impl End,
        scratch: &mut [u8],
        budget: usize,
    ) -> Step {
        let mut step = Step::default();

        match self.pump(source, sink, scratch, budget, &mut step.sent) {
            Ok(Rest::Quiet) => (),
            Ok(Rest::Spent) => step.more = true,
            Err(fault) => {
                self.abandon();
                step.fault = Some(fault);
            }
        }

        step
    }

    fn pump(
        &mut self,
        source: &mut impl End,
        sink: &mut impl End,
        scratch: &mut [u8],
        budget: usize,
        sent: &mut usize,
    ) -> Result<Rest, Fault> {
        while self.state != State::Done {
            if !self.flush(sink, sent)? {
                return Ok(Rest::Quiet);
            }

            if self.state == State::ShuttingDown && self.source_broken {
                self.state = State::Done;
                continue;
            }

            if self.state == State::ShuttingDown {
                match sink.shutdown() {
                    Shut::Done => self.state = State::Done,
                    Shut::Blocked => return Ok(Rest::Quiet),
                    Shut::Broken => return Err(Fault::Sink),
                }
                continue;
            }

            if *sent >= budget {
                return Ok(Rest::Spent);
            }

            match source.receive(scratch) {
                Received::Bytes(n) => {
                    if !self.forward(&scratch[..n], sink, sent)? {
                        return Ok(Rest::Quiet);
                    }
                }
                Received::Eof => self.state = State::ShuttingDown,
                Received::Blocked => return Ok(Rest::Quiet),
                Received::Broken => return Err(Fault::Source),
            }
        }

        Ok(Rest::Quiet)
    }

    /// Sends what is pending. True when nothing is left.
    fn flush(&mut self, sink: &mut impl End, sent: &mut usize) -> Result<bool, Fault> {
        while self.held() > 0 {
            match sink.send(&self.pending[self.taken..]) {
                Sent::Bytes(n) => {
                    self.taken += n;
                    *sent += n;
                }
                Sent::Blocked => return Ok(false),
                Sent::Broken => return Err(Fault::Sink),
            }
        }

        self.release();
        Ok(true)
    }

    /// Sends `bytes` straight from where they were read; keeps what the sink does not take.
    /// True when it took all.
    fn forward(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl End,
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        while !bytes.is_empty() {
            match sink.send(bytes) {
                Sent::Bytes(n) => {
                    bytes = &bytes[n..];
                    *sent += n;
                }
                Sent::Blocked => return self.keep(bytes).map(|()| false),
                Sent::Broken => return Err(Fault::Sink),
            }
        }

        Ok(true)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.pending.try_reserve_exact(bytes.len()).map_err(|_| Fault::OutOfMemory)?;
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn release(&mut self) {
        self.pending = Vec::new();
        self.taken = 0;
    }
}
