//! Owns how a connection is an end of the relay: reading and writing with nginx's own functions,
//! or through a pipe.

use std::ffi::CStr;

use nginx_sys::ngx_err_t;
use proxy_connect_core::relay::{End, Received, Sent, Shut};

use super::{Connection, Peeked};
use crate::ffi::code;
use crate::ffi::pipe::Pipe;

impl<P: AsMut<Pipe>> End<P> for Connection {
    fn ends_by_closing(&self) -> bool {
        !self.is_ssl()
    }

    fn can_splice(&self) -> bool {
        cfg!(target_os = "linux") && self.is_plain()
    }

    fn fill(&mut self, pipe: &mut P) -> Received {
        self.fill_pipe(pipe.as_mut())
    }

    fn drain(&mut self, pipe: &mut P, len: usize) -> Sent {
        self.drain_pipe(pipe.as_mut(), len)
    }

    fn is_readable(&self) -> bool {
        self.read().is_ready()
    }

    fn look(&mut self) -> Received {
        match self.peek() {
            Peeked::Bytes => Received::Bytes(1),
            Peeked::Eof => Received::Eof,
            Peeked::Nothing => Received::Blocked,
            Peeked::Broken(errno) => {
                self.tell(errno, c"recv() failed");
                Received::Broken
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let Some(receive) = self.get().recv else {
            return Received::Blocked;
        };

        // Elsewhere than on Linux it tells a reset over TLS, see is_closed_by_reset().
        #[cfg(not(target_os = "linux"))]
        nginx_sys::ngx_set_socket_errno(0);

        // SAFETY: the connection's own receive function, an open connection, and a buffer with
        // its length.
        let n = unsafe { receive(self.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };

        match n {
            1.. => Received::Bytes(n as usize),
            0 if self.is_reset_over_ssl() => Received::Broken,
            0 => Received::Eof,
            code::AGAIN => Received::Blocked,
            _ => Received::Broken,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        let (Some(send), true) = (self.get().send, self.write().is_ready()) else {
            return Sent::Blocked;
        };

        // SAFETY: the connection's own send function, which only reads the bytes.
        let n = unsafe { send(self.as_ptr(), bytes.as_ptr().cast_mut(), bytes.len()) };

        match n {
            1.. => Sent::Bytes(n as usize),
            0 | code::AGAIN => Sent::Blocked,
            _ => Sent::Broken,
        }
    }

    fn shutdown(&mut self) -> Shut {
        if self.is_ssl() {
            self.send_close_notify()
        } else {
            self.shutdown_socket()
        }
    }
}

/// Reading and writing through pipes.
impl Connection {
    /// Whether the connection's bytes are those of its socket, unchanged: no TLS, and no module
    /// that reads or writes in nginx's place.
    fn is_plain(self) -> bool {
        // SAFETY: nginx sets its functions once, before there are connections.
        let io = unsafe { nginx_sys::ngx_io };
        let own = self.get();

        own.recv.map(|recv| recv as usize) == io.recv.map(|recv| recv as usize)
            && own.send.map(|send| send as usize) == io.send.map(|send| send as usize)
    }

    fn fill_pipe(self, pipe: &mut Pipe) -> Received {
        match pipe.fill(self.get().fd) {
            Ok(0) => Received::Eof,
            Ok(n) => {
                self.read().forget_available();
                Received::Bytes(n)
            }
            // A socket that can't be spliced is one to be read.
            Err(error) if is_passing(&error) || error.raw_os_error() == Some(libc::EINVAL) => {
                Received::Blocked
            }
            Err(error) => {
                self.tell_splice(&error);
                Received::Broken
            }
        }
    }

    fn drain_pipe(self, pipe: &mut Pipe, len: usize) -> Sent {
        if !self.write().is_ready() {
            return Sent::Blocked;
        }

        match pipe.drain(self.get().fd, len) {
            Ok(n @ 1..) => {
                // SAFETY: an open connection; one thread, and no reference into it is held.
                unsafe { (*self.as_ptr()).sent += n as nginx_sys::off_t };
                Sent::Bytes(n)
            }
            Ok(_) => Sent::Broken,
            Err(error) if is_passing(&error) => {
                self.write().set_not_ready();
                Sent::Blocked
            }
            Err(error) => {
                self.tell_splice(&error);
                Sent::Broken
            }
        }
    }

    fn tell_splice(self, error: &std::io::Error) {
        self.tell(error.raw_os_error().unwrap_or_default(), c"splice() failed");
    }

    /// Has nginx log an error of the connection, as it does for its own.
    fn tell(self, errno: ngx_err_t, text: &'static CStr) {
        // SAFETY: an open connection; nginx only reads the text.
        unsafe {
            nginx_sys::ngx_connection_error(self.as_ptr(), errno, text.as_ptr().cast_mut());
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}
