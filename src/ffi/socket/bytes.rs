//! Owns how a connection is an end of the relay: reading and writing with nginx's own functions.

use std::ffi::CStr;
#[cfg(http2)]
use std::io::IoSlice;

use nginx_sys::ngx_err_t;
#[cfg(http2)]
use proxy_connect_core::relay::Layout;
use proxy_connect_core::relay::{
    Drain, Fill, Frames, Lend, NoFrames, NoLoan, Received, Sent, Shut, Sink, Source,
};

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

    #[cfg(http2)]
    fn receive_frames(&mut self, buffer: &mut [u8], layout: Layout, max: usize) -> Received {
        if max > layout.payload {
            return self.receive_chain(buffer, layout, max);
        }

        Source::<P>::receive(self, &mut buffer[layout.header..][..max])
    }

    fn lends(&mut self) -> Option<impl Lend> {
        None::<NoLoan>
    }

    fn fills(&mut self) -> Option<impl Fill<P>> {
        self.plain()
    }
}

impl<P: AsMut<Pipe>> Sink<P> for Socket {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        Socket::send(*self, bytes)
    }

    /// OpenSSL has begun a record of what it did not take.
    fn takes_loans(&self) -> bool {
        !self.is_ssl()
    }

    #[cfg(http2)]
    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> Sent {
        match pieces {
            [piece] => Sink::<P>::send(self, piece),
            pieces => self.send_chain(pieces),
        }
    }

    fn frames(&mut self) -> Option<impl Frames> {
        None::<NoFrames>
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
        self.taker()
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

        let n = match self.is_ssl() {
            true => self.send_records(bytes),
            // SAFETY: the connection's own send function, which only reads the bytes.
            false => unsafe { send(self.as_ptr(), bytes.as_ptr().cast_mut(), bytes.len()) },
        };

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
