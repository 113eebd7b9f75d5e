//! Owns the traits that the relay works with: an end of a tunnel, and what all tunnels of a
//! worker share.

/// One end of a tunnel: a connection, or whatever else bytes come from and go to. `P` is a pipe
/// that bytes can be moved through without being copied.
///
/// No call blocks. An end that answers `Blocked` sees to it that the relay gets another turn
/// once it is ready.
pub trait End<P> {
    /// Whether there may be something to read. Nobody reads or looks otherwise.
    fn is_readable(&self) -> bool;

    /// Looks whether there is something to read, without taking it: `Bytes` tells of one, whatever follows.
    /// A connection may say only once that it is broken.
    fn look(&mut self) -> Received;

    /// Reads into `buffer`, which is not empty.
    fn receive(&mut self, buffer: &mut [u8]) -> Received;

    /// Takes a part of `bytes`, which are not empty.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Passes on an end of file: nothing more will be sent, reading goes on.
    fn shutdown(&mut self) -> Shut;

    /// Whether closing the connection tells the peer as much as [`End::shutdown`] does.
    fn ends_by_closing(&self) -> bool;

    /// Whether [`End::fill`] and [`End::drain`] work.
    fn can_splice(&self) -> bool;

    /// Reads into `pipe`, which is empty.
    ///
    /// `Blocked` is a guess only, and an end of file is not told: [`End::receive`] knows.
    fn fill(&mut self, pipe: &mut P) -> Received;

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

/// The answer to [`End::receive`] and [`End::fill`].
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

/// The answer to [`End::send`] and [`End::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// None now.
    Blocked,
    /// The connection is broken: reset, or unusable for another reason.
    Broken,
}

/// The answer to [`End::shutdown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// The end of file is on its way.
    Done,
    /// Not now.
    Blocked,
    /// The connection is broken: reset, or unusable for another reason.
    Broken,
}
