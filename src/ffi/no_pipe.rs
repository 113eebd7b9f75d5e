//! Owns the absence of splice(2): pipes that there are none of.

use std::io;
use std::os::fd::RawFd;

/// Room in a pipe, in bytes.
pub const CAPACITY: usize = 0;

/// A pipe, which there is none of.
#[derive(Debug)]
pub enum Pipe {}

/// Why there is no pipe. There never is one, so nobody hears why.
#[derive(Debug)]
pub enum PipeError {
    /// pipe2() failed.
    #[allow(dead_code)]
    Open(io::Error),
    /// The pipe would be too small.
    #[allow(dead_code)]
    Size(io::Error),
}

impl Pipe {
    /// There is none.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn open() -> Result<Self, PipeError> {
        Err(PipeError::Open(io::ErrorKind::Unsupported.into()))
    }

    /// # Errors
    ///
    /// None: there is no pipe to call it with.
    pub fn fill(&mut self, _socket: RawFd, _max: usize) -> io::Result<usize> {
        match *self {}
    }

    /// # Errors
    ///
    /// None: there is no pipe to call it with.
    pub fn drain(&mut self, _socket: RawFd, _len: usize) -> io::Result<usize> {
        match *self {}
    }
}
