//! Owns how a connection is an end of the relay: reading and writing with nginx's own functions.

use std::ffi::CStr;

use nginx_sys::ngx_err_t;
use proxy_connect_core::relay::{Drain, Fill, Received, Sent, Shut, Sink, Source};

use super::{Peeked, Socket};
use crate::ffi::code;
use crate::ffi::pipe::Pipe;

impl<P: AsMut<Pipe>> Source<P> for Socket {
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
        Socket::receive(*self, buffer)
    }

    fn fills(&mut self) -> Option<impl Fill<P>> {
        self.plain()
    }
}

impl<P: AsMut<Pipe>> Sink<P> for Socket {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        Socket::send(*self, bytes)
    }

    fn shutdown(&mut self) -> Shut {
        if self.is_ssl() {
            self.send_close_notify()
        } else {
            self.shutdown_socket()
        }
    }

    fn ends_by_closing(&self) -> bool {
        !self.is_ssl()
    }

    fn drains(&mut self) -> Option<impl Drain<P>> {
        self.plain()
    }
}

impl Socket {
    /// Reads into `buffer`, which is not empty.
    pub fn receive(self, buffer: &mut [u8]) -> Received {
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

    /// Takes a part of `bytes`, which are not empty.
    pub fn send(self, bytes: &[u8]) -> Sent {
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

    /// Has nginx log an error of the connection, as it does for its own.
    pub(super) fn tell(self, errno: ngx_err_t, text: &'static CStr) {
        // SAFETY: an open connection; nginx only reads the text.
        unsafe {
            nginx_sys::ngx_connection_error(self.as_ptr(), errno, text.as_ptr().cast_mut());
        }
    }
}
