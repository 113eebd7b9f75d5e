//! Owns one direction of a tunnel: `Running`, then `ShuttingDown`, then `Done`, and the bytes
//! that its sink did not take yet.

use std::collections::TryReserveError;
use std::io::IoSlice;

use super::allowance::{Meter, Room};
use super::pace::Pace;
use super::{
    BrokenSink, Drain, Fill, Frames, Intake, Lend, Received, Sent, Shut, Sink, Source, Splice,
    Workspace, PIECES,
};

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Direction<P> {
    state: State,
    pace: Pace,
    /// Read from the source, not taken by the sink. Nothing is read while anything is held, so it
    /// never grows beyond one buffer; it owns memory only while it holds bytes.
    pending: Vec<u8>,
    /// How much of `pending` the sink took.
    taken: usize,
    /// A pipe with bytes that the sink did not take, and how many. It comes after `pending`.
    pipe: Option<(P, usize)>,
    /// The source has something for which the sink has no room: nothing was read.
    is_waiting: bool,
    /// The source is known to be broken: its end, when it comes, is no end of file.
    source_broken: bool,
    /// The opposite direction is done: the connections are closed as soon as this one is.
    last: bool,
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
pub(super) struct Run {
    /// Bytes that the source gave.
    pub received: usize,
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
    /// The quota is used up, and the source has more.
    Quota,
    /// No memory for the bytes that the sink did not take.
    OutOfMemory,
}

/// Why a run halted without a fault.
enum Halt {
    /// The source has nothing, the sink takes nothing, or the direction is done.
    Quiet,
    /// The budget is used up.
    Spent,
}

impl<P> Direction<P> {
    /// A direction that begins with `pending` already read.
    pub fn new(pending: Vec<u8>, splice: Splice) -> Self {
        Self {
            state: State::Running,
            pace: Pace::new(splice),
            pending,
            taken: 0,
            pipe: None,
            is_waiting: false,
            source_broken: false,
            last: false,
        }
    }

    /// Has the sink get `pending` first. An end that the direction came to already is one behind them.
    pub fn begin_with(&mut self, pending: Vec<u8>) {
        self.pending = pending;

        if self.state == State::Done {
            self.state = State::ShuttingDown;
        }
    }

    /// Takes out what the direction was to begin with.
    pub fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Has the sink get `bytes` behind what it has not taken yet.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn append(&mut self, bytes: Vec<u8>) -> Result<(), TryReserveError> {
        if self.state != State::Running {
            return Ok(());
        }

        if self.pending.is_empty() {
            self.pending = bytes;
            return Ok(());
        }

        self.pending.try_reserve(bytes.len())?;
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    /// The end of the source was read elsewhere: its end of file, unless it is known to be broken.
    pub fn source_has_ended(&mut self) {
        if self.state == State::Running {
            let is_done = self.source_broken && self.held() == 0;
            self.state = if is_done { State::Done } else { State::ShuttingDown };
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the source came to its end of file.
    pub fn is_at_end(&self) -> bool {
        self.state != State::Running
    }

    /// Whether the sink has yet to take something, if only the end of file.
    pub fn waits_for_sink(&self) -> bool {
        self.state == State::ShuttingDown || self.held() > 0 || self.is_waiting
    }

    /// Whether the sink has all that was read, and more may come.
    pub fn is_open(&self) -> bool {
        self.state == State::Running && self.held() == 0
    }

    /// Bytes read and not yet taken.
    pub fn held(&self) -> usize {
        self.pending.len() - self.taken + self.pipe.as_ref().map_or(0, |(_, len)| *len)
    }

    /// Ends the direction and drops what it holds, a pipe that is not empty included: its sink is
    /// broken.
    pub fn abandon(&mut self) {
        self.state = State::Done;
        self.pipe = None;
        self.is_waiting = false;
        self.release();
    }

    /// Delivers what the source sent before it broke, and then ends without an end of file: the
    /// system reports a reset once, after that it says that there is nothing more.
    pub fn source_is_broken(&mut self) {
        self.source_broken = true;
    }

    /// Notes that the opposite direction is done.
    pub fn note_last(&mut self) {
        self.last = true;
    }

    /// Moves bytes from `source` to `sink` until one of them blocks, the source ends, `meter` has no room
    /// for more, or about `budget` bytes are moved.
    pub fn run(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        budget: usize,
        mut meter: Option<Meter<'_>>,
    ) -> Run {
        let mut run = Run::default();

        let halted = self.pump(source, sink, shared, budget, meter.as_mut(), &mut run);

        if let Some(meter) = meter {
            meter.settle(run.received);
        }

        match halted {
            Ok(Halt::Quiet) => (),
            Ok(Halt::Spent) => run.more = true,
            Err(fault) => {
                self.abandon();
                run.fault = Some(fault);
            }
        }

        run
    }

    /// Sends what is held, and reads nothing.
    pub fn run_without_source(
        &mut self,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
    ) -> Run {
        let mut run = Run::default();

        if let Err(fault) = self.flush(sink, shared, &mut run) {
            self.abandon();
            run.fault = Some(fault);
        }

        run
    }

    fn pump(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        budget: usize,
        mut meter: Option<&mut Meter<'_>>,
        run: &mut Run,
    ) -> Result<Halt, Fault> {
        self.is_waiting = false;

        while self.state != State::Done {
            if !self.flush(sink, shared, run)? {
                return Ok(Halt::Quiet);
            }

            if self.state == State::ShuttingDown {
                match self.pass_end_on(sink) {
                    Shut::Done => self.state = State::Done,
                    Shut::Blocked => return Ok(Halt::Quiet),
                    Shut::Broken => return Err(Fault::Sink),
                }
                continue;
            }

            if run.sent >= budget {
                return Ok(Halt::Spent);
            }

            let Some(room) = self.room(source, meter.as_deref_mut(), run.received)? else {
                return Ok(Halt::Quiet);
            };

            let room = match self.intake(source, sink, room)? {
                Some(room) => room,
                None if self.state == State::Running => return Ok(Halt::Quiet),
                None => continue,
            };

            if self.splice(source, sink, shared, room, run)? {
                continue;
            }

            let goes_on = match self.pass(source, sink, room, run)? {
                Some(goes_on) => goes_on,
                None => self.copy(source, sink, shared, room, run)?,
            };

            if !goes_on {
                return Ok(Halt::Quiet);
            }
        }

        Ok(Halt::Quiet)
    }

    /// How many bytes are to be read of the source at most. `None` where it is worth no read; its end is
    /// worth one.
    fn room(
        &mut self,
        source: &mut impl Source<P>,
        meter: Option<&mut Meter<'_>>,
        received: usize,
    ) -> Result<Option<usize>, Fault> {
        // Mostly it is the opposite direction that has something to do.
        if !source.is_readable() {
            self.pace.drained();
            return Ok(None);
        }

        let room = match meter {
            None => Some(usize::MAX),
            Some(meter) => match meter.room(received) {
                Room::Bytes(room) => Some(room),
                Room::Later => return Ok(None),
                Room::Spent => None,
            },
        };

        if room.is_none() || self.pace.is_doubtful() {
            match source.look() {
                Received::Bytes(_) if room.is_none() => return Err(Fault::Quota),
                Received::Bytes(_) | Received::Eof => (),
                Received::Blocked => {
                    self.pace.drained();
                    return Ok(None);
                }
                Received::Broken => return Err(Fault::Source),
            }
        }

        // Where there is no room, there is an end of file only.
        Ok(room.or(Some(usize::MAX)))
    }

    /// How many of `room` bytes the sink takes. `None` where it takes none; an end of file it may.
    fn intake(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        room: usize,
    ) -> Result<Option<usize>, Fault> {
        let Some(mut frames) = sink.frames() else {
            return Ok(Some(room));
        };

        match frames.intake() {
            Intake::Bytes(n) => return Ok(Some(room.min(n))),
            Intake::Nothing => (),
            Intake::End => match source.look() {
                Received::Bytes(_) | Received::Blocked => (),
                Received::Eof => {
                    self.state = State::ShuttingDown;
                    return Ok(None);
                }
                Received::Broken => return Err(Fault::Source),
            },
        }

        self.is_waiting = true;
        Ok(None)
    }

    fn pass_end_on(&self, sink: &mut impl Sink<P>) -> Shut {
        if self.source_broken || (self.last && sink.ends_by_closing()) {
            return Shut::Done;
        }

        sink.shutdown()
    }

    /// Reads `room` bytes at most into a pipe, where that is the thing to do and both ends can. False when
    /// nothing was read.
    fn splice(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        room: usize,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        if !self.pace.wants_pipe() {
            return Ok(false);
        }

        let (Some(mut source), Some(_)) = (source.fills(), sink.drains()) else {
            return Ok(false);
        };

        let Some(mut pipe) = shared.take_pipe() else {
            return Ok(false);
        };

        match source.fill(&mut pipe, room) {
            Received::Bytes(n) => {
                self.pace.spliced(n, n == room);
                self.pipe = Some((pipe, n));
                run.received += n;
                Ok(true)
            }
            Received::Broken => {
                shared.give_back(pipe);
                Err(Fault::Source)
            }
            Received::Blocked | Received::Eof => {
                shared.give_back(pipe);
                Ok(false)
            }
        }
    }

    /// Sends `room` bytes at most from where they lie with the source, which keeps what the sink does not take.
    /// `None` where they do not lie there, or may not go from there, false when there is nothing to do for now.
    fn pass(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        room: usize,
        run: &mut Run,
    ) -> Result<Option<bool>, Fault> {
        if !sink.takes_loans() {
            return Ok(None);
        }

        let Some(mut source) = source.lends() else {
            return Ok(None);
        };

        let mut pieces = [IoSlice::new(&[]); PIECES];

        let sent = match source.pieces(room, &mut pieces) {
            0 => return Ok(None),
            count => sink.send_pieces(&pieces[..count]),
        };

        match sent {
            Sent::Bytes(n) => {
                source.take(n);
                run.received += n;
                run.sent += n;
                Ok(Some(true))
            }
            Sent::Blocked => {
                self.is_waiting = true;
                Ok(Some(false))
            }
            Sent::Broken => Err(Fault::Sink),
        }
    }

    /// Reads `room` bytes at most into the buffer and sends from it. False when there is nothing to do for
    /// now.
    fn copy(
        &mut self,
        source: &mut impl Source<P>,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        room: usize,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        let layout = sink.frames().map(|frames| frames.layout());

        let buffer = shared.buffer();

        let received = match layout {
            Some(layout) => source.receive_frames(buffer, layout, room),
            None => {
                let len = buffer.len().min(room);
                source.receive(&mut buffer[..len])
            }
        };

        match received {
            Received::Bytes(n) if layout.is_some() => {
                run.received += n;
                self.frame(buffer, n, sink, run)
            }
            Received::Bytes(n) => {
                run.received += n;
                let all = self.forward(&buffer[..n], sink, run)?;
                self.pace.copied(n, n == buffer.len(), all);
                Ok(all)
            }
            Received::Eof => {
                self.state = State::ShuttingDown;
                Ok(true)
            }
            Received::Blocked => {
                self.pace.drained();
                Ok(false)
            }
            Received::Broken => Err(Fault::Source),
        }
    }

    /// Sends the `len` bytes that were read where frames are made of them.
    fn frame(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        sink: &mut impl Sink<P>,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        let sent = sink.frames().ok_or(BrokenSink).and_then(|mut f| f.send_frames(buffer, len));
        sent.map_err(|BrokenSink| Fault::Sink)?;

        run.sent += len;
        Ok(true)
    }

    /// Sends what is held. True when nothing is left.
    fn flush(
        &mut self,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        while self.taken < self.pending.len() {
            match sink.send(&self.pending[self.taken..]) {
                Sent::Bytes(n) => {
                    self.taken += n;
                    run.sent += n;
                }
                Sent::Blocked => return Ok(false),
                Sent::Broken => return Err(Fault::Sink),
            }
        }

        self.release();
        self.flush_pipe(sink, shared, run)
    }

    fn flush_pipe(
        &mut self,
        sink: &mut impl Sink<P>,
        shared: &mut impl Workspace<Pipe = P>,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        let Some((mut pipe, mut len)) = self.pipe.take() else {
            return Ok(true);
        };

        // It was asked before the pipe was filled.
        let mut sink = sink.drains().ok_or(Fault::Sink)?;

        while len > 0 {
            match sink.drain(&mut pipe, len) {
                Sent::Bytes(n) => {
                    len -= n;
                    run.sent += n;
                }
                Sent::Blocked => {
                    self.pipe = Some((pipe, len));
                    return Ok(false);
                }
                Sent::Broken => return Err(Fault::Sink),
            }
        }

        shared.give_back(pipe);
        Ok(true)
    }

    /// Sends `bytes` straight from where they were read; keeps what the sink does not take.
    /// True when it took all.
    fn forward(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl Sink<P>,
        run: &mut Run,
    ) -> Result<bool, Fault> {
        while !bytes.is_empty() {
            match sink.send(bytes) {
                Sent::Bytes(n) => {
                    bytes = &bytes[n..];
                    run.sent += n;
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
