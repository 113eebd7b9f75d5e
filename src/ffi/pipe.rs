//! Owns pipes, and moving bytes through them between sockets: splice(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

/// Room in a pipe, in bytes.
pub const CAPACITY: usize = 256 * 1024;

/// A pipe that does not block.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// Why there is no pipe.
#[derive(Debug)]
pub enum PipeError {
    /// pipe2() failed: no descriptors are left, say.
    Open(io::Error),
    /// The pipe can't be made as large as [`CAPACITY`]: the user of the workers has used up
    /// `pipe-user-pages-soft`.
    Size(io::Error),
}

impl Pipe {
    /// Opens a pipe.
    ///
    /// # Errors
    ///
    /// [`PipeError`], when the system has none of this size to give.
    pub fn open() -> Result<Self, PipeError> {
        let mut fds: [RawFd; 2] = [-1; 2];

        // SAFETY: room for the two descriptors.
        if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } == -1 {
            return Err(PipeError::Open(io::Error::last_os_error()));
        }

        // SAFETY: open descriptors that nobody else owns.
        let (reader, writer) =
            unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };

        // SAFETY: an open pipe; the command takes an int.
        let size =
            unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, CAPACITY as c_int) };

        match size {
            -1 => Err(PipeError::Size(io::Error::last_os_error())),
            _ => Ok(Self { reader, writer }),
        }
    }

    /// Moves at most `max` bytes of a socket into the pipe. Answers 0 at an end of file.
    ///
    /// # Errors
    ///
    /// As of splice(2), `WouldBlock` among them.
    pub fn fill(&mut self, socket: RawFd, max: usize) -> io::Result<usize> {
        splice(socket, self.writer.as_raw_fd(), max.min(CAPACITY))
    }

    /// Moves at most `len` bytes of the pipe into a socket.
    ///
    /// # Errors
    ///
    /// As of splice(2), `WouldBlock` among them.
    pub fn drain(&mut self, socket: RawFd, len: usize) -> io::Result<usize> {
        splice(self.reader.as_raw_fd(), socket, len)
    }
}

fn splice(from: RawFd, to: RawFd, len: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;

    loop {
        // SAFETY: open descriptors; neither of them has an offset.
        let n = unsafe {
            libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), len, flags)
        };

        match usize::try_from(n) {
            Ok(n) => return Ok(n),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => (),
                error => return Err(error),
            },
        }
    }
}
