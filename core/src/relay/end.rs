//! Owns the traits that the relay works with: what an end of a tunnel is, as one that gives bytes and
//! as one that takes them, and what all tunnels of a worker share.

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

    /// The source as one that pipes can be filled from. `None` where its bytes have to be read.
    fn fills(&mut self) -> Option<impl Fill<P>>;
}

/// What takes the bytes of a tunnel.
pub trait Sink<P> {
    /// Takes a part of `bytes`, which are not empty.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Passes on an end of file: nothing more will be sent.
    fn shutdown(&mut self) -> Shut;

    /// Whether closing the connection tells the peer as much as [`Sink::shutdown`] does.
    fn ends_by_closing(&self) -> bool;

    /// The sink as one that pipes can be drained into. `None` where its bytes have to be sent. A sink
    /// that was one stays so while a pipe holds bytes for it.
    fn drains(&mut self) -> Option<impl Drain<P>>;
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

    /// The buffer to copy through, which is not empty.
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
