//! Owns ends that follow a script, and what they share.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::relay::{
    BrokenSink, Drain, Fill, Frames, Intake, Layout, Lend, Received, Sent, Shut, Sink, Source,
    Workspace, PIECES,
};

/// The size of the buffer, and of a pipe, in bytes.
pub const BUFFER: usize = 64;
const PIPE: usize = 256 * 1024;

/// What an end does when it is read from, in order; after the script it blocks.
#[derive(Clone, Debug)]
pub enum Read {
    Bytes(Vec<u8>),
    Blocked,
    Eof,
    Broken,
}

/// What an end does when it is written to, in order; after the script it takes everything.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    Bytes(usize),
    Blocked,
    Broken,
}

/// A pipe, and what is in it.
#[derive(Debug, Default)]
pub struct Pipe(VecDeque<u8>);

/// What the tunnels of a worker share.
#[derive(Debug)]
pub struct Worker {
    pub buffer: [u8; BUFFER],
    /// How many pipes may be had at once.
    pub limit: usize,
    /// How many pipes are out.
    pub out: usize,
    /// Whether a pipe came back with bytes in it.
    pub tainted: bool,
}

impl Worker {
    pub fn with_pipes(limit: usize) -> Self {
        Self { buffer: [0; BUFFER], limit, out: 0, tainted: false }
    }
}

impl Workspace for Worker {
    type Pipe = Pipe;

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        if self.out == self.limit {
            return None;
        }

        self.out += 1;
        Some(Pipe::default())
    }

    fn give_back(&mut self, pipe: Pipe) {
        self.out -= 1;
        self.tainted |= !pipe.0.is_empty();
    }
}

#[derive(Debug, Default)]
pub struct Mock {
    pub reads: VecDeque<Read>,
    pub writes: VecDeque<Write>,
    pub got: Vec<u8>,
    pub shut: usize,
    /// How many bytes came or went through pipes.
    pub piped: usize,
    /// How often a pipe was to be filled.
    pub fills: usize,
    /// Whether pipes don't work with it.
    pub needs_copies: bool,
    /// Whether closing says as much as a shutdown.
    pub ends_by_closing: bool,
    /// Whether its bytes can be sent from where they lie.
    pub lends: bool,
    /// Whether it wants once more what it did not take, and what that is.
    pub insists: bool,
    pub offered: Vec<u8>,
    /// How it has frames, if it does.
    pub layout: Option<Layout>,
    /// How much it said last that it takes.
    pub room: usize,
    /// Whether the last write was not taken.
    pub blocked: bool,
    /// A call that a careful relay never makes.
    pub misuse: Option<&'static str>,
}

impl Mock {
    pub fn reading(reads: impl IntoIterator<Item = Read>) -> Self {
        Self { reads: reads.into_iter().collect(), ..Self::default() }
    }

    pub fn writing(mut self, writes: impl IntoIterator<Item = Write>) -> Self {
        self.writes = writes.into_iter().collect();
        self
    }
}

impl Source<Pipe> for Mock {
    fn is_readable(&self) -> bool {
        !self.reads.is_empty()
    }

    fn look(&mut self) -> Received {
        if !self.is_readable() {
            self.misuse = Some("a look at an end that is not readable");
        }

        match self.reads.front() {
            Some(Read::Bytes(_)) => Received::Bytes(1),
            Some(Read::Eof) => Received::Eof,
            // Both are told once.
            Some(Read::Blocked | Read::Broken) | None => self.receive(&mut [0]),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if !self.is_readable() {
            self.misuse = Some("a read of an end that is not readable");
        }

        match self.reads.pop_front() {
            None | Some(Read::Blocked) => Received::Blocked,
            Some(Read::Broken) => Received::Broken,
            Some(Read::Eof) => {
                if self.reads.iter().any(|read| matches!(read, Read::Bytes(_))) {
                    self.misuse = Some("script reads after the end of file");
                }
                Received::Eof
            }
            Some(Read::Bytes(mut bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);

                if n < bytes.len() {
                    self.reads.push_front(Read::Bytes(bytes.split_off(n)));
                }

                Received::Bytes(n)
            }
        }
    }

    fn lends(&mut self) -> Option<impl Lend> {
        self.lends.then_some(self)
    }

    fn fills(&mut self) -> Option<impl Fill<Pipe>> {
        (!self.needs_copies).then_some(self)
    }
}

impl Lend for &mut Mock {
    fn pieces<'a>(&'a self, max: usize, pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut left = max;

        let bytes = self.reads.iter().map_while(|read| match read {
            Read::Bytes(bytes) if left > 0 => {
                let n = bytes.len().min(left);
                left -= n;
                Some(&bytes[..n])
            }
            _ => None,
        });

        pieces.iter_mut().zip(bytes).map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count()
    }

    fn take(&mut self, mut len: usize) {
        while len > 0 {
            match self.reads.pop_front() {
                Some(Read::Bytes(bytes)) if bytes.len() > len => {
                    self.reads.push_front(Read::Bytes(bytes[len..].into()));
                    return;
                }
                Some(Read::Bytes(bytes)) => len -= bytes.len(),
                _ => return self.misuse = Some("more was taken than was lent"),
            }
        }
    }
}

impl Sink<Pipe> for Mock {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.blocked = matches!(self.writes.front(), Some(Write::Blocked));

        if bytes.is_empty() {
            self.misuse = Some("an empty send");
        }

        if self.shut > 0 {
            self.misuse = Some("a send after the shutdown");
        }

        if !bytes.starts_with(&self.offered) {
            self.misuse = Some("not what was not taken");
        }

        self.offered.clear();

        if self.insists && self.blocked {
            self.offered.extend_from_slice(bytes);
        }

        let n = match self.writes.pop_front() {
            None => bytes.len(),
            Some(Write::Bytes(n)) => n.clamp(1, bytes.len()),
            Some(Write::Blocked) => return Sent::Blocked,
            Some(Write::Broken) => return Sent::Broken,
        };

        self.got.extend_from_slice(&bytes[..n]);
        Sent::Bytes(n)
    }

    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> Sent {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.send(&bytes)
    }

    fn takes_loans(&self) -> bool {
        !self.insists
    }

    fn frames(&mut self) -> Option<impl Frames> {
        self.layout.is_some().then_some(self)
    }

    fn shutdown(&mut self) -> Shut {
        self.blocked = matches!(self.writes.front(), Some(Write::Blocked));

        match self.writes.pop_front() {
            Some(Write::Blocked) => return Shut::Blocked,
            Some(Write::Broken) => return Shut::Broken,
            _ => (),
        }

        self.shut += 1;
        Shut::Done
    }

    fn ends_by_closing(&self) -> bool {
        self.ends_by_closing
    }

    fn drains(&mut self) -> Option<impl Drain<Pipe>> {
        (!self.needs_copies).then_some(self)
    }
}

impl Frames for &mut Mock {
    fn layout(&self) -> Layout {
        self.layout.unwrap_or(Layout { header: 0, payload: usize::MAX })
    }

    fn intake(&mut self) -> Intake {
        self.blocked = false;
        self.room = 0;

        match self.writes.front() {
            None => self.room = usize::MAX,
            Some(Write::Bytes(n)) => self.room = *n,
            Some(Write::Broken) => self.room = usize::MAX,
            Some(Write::Blocked) => {
                self.writes.pop_front();
                self.blocked = true;
                // Each of them now and then.
                return if self.writes.len() % 2 == 0 { Intake::Nothing } else { Intake::End };
            }
        }

        Intake::Bytes(self.room)
    }

    fn send_frames(&mut self, buffer: &mut [u8], len: usize) -> Result<(), BrokenSink> {
        if len == 0 || len > self.room {
            self.misuse = Some("frames that there is no room for");
        }

        if self.shut > 0 {
            self.misuse = Some("frames after the shutdown");
        }

        self.room = 0;

        if let Some(Write::Broken) = self.writes.pop_front() {
            return Err(BrokenSink);
        }

        let Layout { header, payload } = self.layout();
        let (mut left, mut at) = (len, 0);

        while left > 0 {
            let n = left.min(payload);
            self.got.extend_from_slice(&buffer[at + header..][..n]);
            at += header + n;
            left -= n;
        }

        Ok(())
    }
}

impl Fill<Pipe> for &mut Mock {
    fn fill(&mut self, pipe: &mut Pipe, max: usize) -> Received {
        self.fills += 1;

        if !pipe.0.is_empty() {
            self.misuse = Some("a fill of a pipe that is not empty");
        }

        match self.reads.front() {
            Some(Read::Bytes(_)) => (),
            // A connection without bytes leaves its script to receive().
            Some(Read::Broken) => return Received::Broken,
            _ => return Received::Blocked,
        }

        let mut buffer = [0; PIPE];
        let received = self.receive(&mut buffer[..PIPE.min(max)]);

        if let Received::Bytes(n) = received {
            pipe.0.extend(&buffer[..n]);
            self.piped += n;
        }

        received
    }
}

impl Drain<Pipe> for &mut Mock {
    fn drain(&mut self, pipe: &mut Pipe, len: usize) -> Sent {
        if pipe.0.len() != len {
            self.misuse = Some("a drain with a wrong length");
        }

        let bytes: Vec<u8> = pipe.0.iter().copied().collect();
        let sent = self.send(&bytes);

        if let Sent::Bytes(n) = sent {
            pipe.0.drain(..n);
            self.piped += n;
        }

        sent
    }
}
