//! Owns the traits that the relay works with: what an end of a tunnel is, as one that gives bytes and
//! as one that takes them, and what all tunnels of a worker share.

use std::io::IoSlice;

/// What gives bytes to a tunnel. `P` is a pipe that bytes can be moved through without being copied.
///
/// No call blocks. A source that answers `Blocked` sees to it that the relay gets another turn once
/// it is ready, and so does a sink.
pub trait Source<P> {
    /// Whether there may be something to read. Nobody reads or looks otherwise.
    fn is_readable(&self) -> bool;

    /// Looks whether there is something to read, without taking it: `Bytes` tells of one, whatever follows.
    /// A source may say only once that it is broken.
    fn look(&mut self) -> Received;

    /// Reads into `buffer`, which is not empty.
    fn receive(&mut self, buffer: &mut [u8]) -> Received;

    /// Reads `max` bytes at most, which are not none, into `buffer`, where frames are made of them: all but the
    /// last are full. A source may read less than there is.
    fn receive_frames(&mut self, buffer: &mut [u8], layout: Layout, max: usize) -> Received {
        let room = buffer.len().saturating_sub(layout.header).min(layout.payload).min(max);
        self.receive(&mut buffer[layout.header..][..room])
    }

    /// The source as one whose bytes lie in memory, from where they can be sent. `None` where they have to be read.
    fn lends(&mut self) -> Option<impl Lend>;

    /// The source as one that pipes can be filled from. `None` where its bytes have to be read.
    fn fills(&mut self) -> Option<impl Fill<P>>;
}

/// What takes the bytes of a tunnel.
pub trait Sink<P> {
    /// Takes a part of `bytes`, which are not empty.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Takes a part of what lies in `pieces`, in their order. There is one, and none is empty.
    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> Sent {
        pieces.first().map_or(Sent::Blocked, |piece| self.send(piece))
    }

    /// Whether it takes bytes of a source that lends. One that wants what it did not take once more, and not less of it,
    /// has them copied: how much may be read of a source can become less meanwhile.
    fn takes_loans(&self) -> bool;

    /// The sink as one that sends frames. `None` where bytes go as they are.
    fn frames(&mut self) -> Option<impl Frames>;

    /// Passes on an end of file: nothing more will be sent.
    fn shutdown(&mut self) -> Shut;

    /// Whether closing the connection tells the peer as much as [`Sink::shutdown`] does.
    fn ends_by_closing(&self) -> bool;

    /// The sink as one that pipes can be drained into. `None` where its bytes have to be sent. A sink
    /// that was one stays so while a pipe holds bytes for it.
    fn drains(&mut self) -> Option<impl Drain<P>>;
}

/// A source whose bytes lie in memory, so that nobody has to copy them.
pub trait Lend {
    /// The first of its bytes, `max` at most, which are not none. How many of `pieces` they are.
    fn pieces<'a>(&'a self, max: usize, pieces: &mut [IoSlice<'a>; PIECES]) -> usize;

    /// Notes that `len` of them were sent.
    fn take(&mut self, len: usize);
}

/// How many pieces of memory are sent at once.
pub const PIECES: usize = 32;

/// A sink that sends frames, and has the last word on how much is read for it: what it does not take lies with the
/// source.
pub trait Frames {
    /// How the bytes have to lie.
    fn layout(&self) -> Layout;

    /// What it takes now. Where that is no byte, it sees to it that the relay gets another turn.
    fn intake(&mut self) -> Intake;

    /// Takes the `len` bytes that lie in frames at the beginning of `buffer`, all of them, and not more than it
    /// said that it takes. The headers are its own to write.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    fn send_frames(&mut self, buffer: &mut [u8], len: usize) -> Result<(), BrokenSink>;
}

/// How bytes lie in a buffer where frames are made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The room that is left before each frame's bytes, in bytes.
    pub header: usize,
    /// How many bytes a frame has at most, at least one.
    pub payload: usize,
}

/// What a sink of frames takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// So many bytes at most, at least one.
    Bytes(usize),
    /// No byte, but an end of file.
    End,
    /// Nothing.
    Nothing,
}

/// The connection of a sink is reset, or unusable for another reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenSink;

/// What is no source that lends.
pub enum NoLoan {}

impl Lend for NoLoan {
    fn pieces<'a>(&'a self, _max: usize, _pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
        match *self {}
    }

    fn take(&mut self, _len: usize) {
        match *self {}
    }
}

/// What is no sink of frames.
pub enum NoFrames {}

impl Frames for NoFrames {
    fn layout(&self) -> Layout {
        match *self {}
    }

    fn intake(&mut self) -> Intake {
        match *self {}
    }

    fn send_frames(&mut self, _buffer: &mut [u8], _len: usize) -> Result<(), BrokenSink> {
        match *self {}
    }
}

/// A source that pipes can be filled from. Bytes go through a pipe where a source [`Fill`]s it
/// and a sink [`Drain`]s it: it takes the two of them.
pub trait Fill<P> {
    /// Reads `max` bytes at most, which are not none, into `pipe`, which is empty.
    ///
    /// `Blocked` is a guess only, and an end of file is not told: [`Source::receive`] knows.
    fn fill(&mut self, pipe: &mut P, max: usize) -> Received;
}

/// A sink that pipes can be drained into.
pub trait Drain<P> {
    /// Takes a part of the `len` bytes in `pipe`, at least one.
    fn drain(&mut self, pipe: &mut P, len: usize) -> Sent;
}

/// What the tunnels of a worker share. It holds no byte of theirs between turns.
pub trait Workspace {
    /// The pipes.
    type Pipe;

    /// The buffer to copy through, or to make frames in, which is not empty.
    fn buffer(&mut self) -> &mut [u8];

    /// An empty pipe. `None` when there is none to be had: copy instead.
    fn take_pipe(&mut self) -> Option<Self::Pipe>;

    /// Takes back a pipe, which must be empty: a byte left in it would get into another tunnel.
    fn give_back(&mut self, pipe: Self::Pipe);
}

/// The answer to [`Source::receive`], [`Source::look`] and [`Fill::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The end of file.
    Eof,
    /// Nothing now.
    Blocked,
    /// The connection is broken: reset, or unusable for another reason.
    Broken,
}

/// The answer to [`Sink::send`] and [`Drain::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// None now.
    Blocked,
    /// The connection is broken: reset, or unusable for another reason.
    Broken,
}

/// The answer to [`Sink::shutdown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The end of file is on its way.
    Done,
    /// Not now.
    Blocked,
    /// The connection is broken: reset, or unusable for another reason.
    Broken,
}
