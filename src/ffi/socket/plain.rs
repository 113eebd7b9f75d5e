//! Owns moving the bytes of a connection through pipes: of and to one of plain TCP, and to one over TLS whose records the
//! system makes.

use proxy_connect_core::relay::{Drain, Fill, Received, Sent, Shut};

use super::Socket;
use crate::ffi::pipe::Pipe;

/// A connection whose bytes are those of its socket, unchanged: no TLS, and no module that reads or
/// writes in nginx's place.
pub struct Plain(Socket);

/// A connection whose socket takes bytes as they are: a plain one, or one over TLS that encrypts by itself.
pub struct Taker(Socket);

impl Socket {
    /// The connection as one that pipes work with. `None` where they don't.
    pub(in crate::ffi) fn plain(self) -> Option<Plain> {
        // SAFETY: nginx sets its functions once, before there are connections.
        let io = unsafe { nginx_sys::ngx_io };
        let own = self.get();

        let is_plain = own.recv.map(|recv| recv as usize) == io.recv.map(|recv| recv as usize)
            && own.send.map(|send| send as usize) == io.send.map(|send| send as usize);

        (cfg!(target_os = "linux") && is_plain).then_some(Plain(self))
    }

    /// The connection as one that pipes can be drained into. `None` where they can't.
    pub(in crate::ffi) fn taker(self) -> Option<Taker> {
        match self.takes_pipes {
            true => Some(Taker(self)),
            false => self.plain().map(|Plain(socket)| Taker(socket)),
        }
    }
}

impl<P: AsMut<Pipe>> Fill<P> for Plain {
    fn fill(&mut self, pipe: &mut P, max: usize) -> Received {
        match pipe.as_mut().fill(self.0.get().fd, max) {
            Ok(0) => Received::Eof,
            Ok(n) => {
                self.0.read().forget_available();
                Received::Bytes(n)
            }
            // A socket that can't be spliced is one to be read.
            Err(error) if is_passing(&error) || error.raw_os_error() == Some(libc::EINVAL) => {
                Received::Blocked
            }
            Err(error) => {
                self.0.tell_splice(&error);
                Received::Broken
            }
        }
    }
}

impl<P: AsMut<Pipe>> Drain<P> for Taker {
    fn drain(&mut self, pipe: &mut P, len: usize) -> Sent {
        if !self.0.write().is_ready() {
            return Sent::Blocked;
        }

        if self.0.takes_pipes {
            match self.0.send_key_update() {
                Shut::Done => {}
                Shut::Blocked => return Sent::Blocked,
                Shut::Broken => return Sent::Broken,
            }
        }

        match pipe.as_mut().drain(self.0.get().fd, len) {
            Ok(n @ 1..) => {
                // SAFETY: an open connection; one thread, and no reference into it is held.
                unsafe { (*self.0.as_ptr()).sent += n as nginx_sys::off_t };
                Sent::Bytes(n)
            }
            Ok(_) => Sent::Broken,
            Err(error) if is_passing(&error) => {
                self.0.write().set_not_ready();
                Sent::Blocked
            }
            Err(error) => {
                self.0.tell_splice(&error);
                Sent::Broken
            }
        }
    }
}

impl Socket {
    fn tell_splice(self, error: &std::io::Error) {
        self.tell(error.raw_os_error().unwrap_or_default(), c"splice() failed");
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}
