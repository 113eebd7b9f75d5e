//! Owns the trait that an end of a tunnel offers to the relay.

/// One end of a tunnel: a connection, or whatever else bytes come from and go to.
///
/// No call blocks. An end that answers `Blocked` sees to it that the relay gets another turn
/// once it is ready.
pub trait End {
    /// Reads into `buffer`, which is not empty.
    fn receive(&mut self, buffer: &mut [u8]) -> Received;

    /// Takes a part of `bytes`, which are not empty.
    fn send(&mut self, bytes: &[u8]) -> Sent;

    /// Passes on an end of file: nothing more will be sent, reading goes on.
    fn shutdown(&mut self) -> Shut;
}

/// The answer to [`End::receive`].
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

/// The answer to [`End::send`].
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
