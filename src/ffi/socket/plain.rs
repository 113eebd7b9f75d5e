//! Owns moving the bytes of a connection through pipes.

use proxy_connect_core::relay::{Drain, Fill, Received, Sent};

use super::Socket;
use crate::ffi::pipe::Pipe;

/// A connection whose bytes are those of its socket, unchanged: no TLS, and no module that reads or
/// writes in nginx's place.
pub struct Plain(Socket);

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
                self.tell_splice(&error);
                Received::Broken
            }
        }
    }
}

impl<P: AsMut<Pipe>> Drain<P> for Plain {
    fn drain(&mut self, pipe: &mut P, len: usize) -> Sent {
        if !self.0.write().is_ready() {
            return Sent::Blocked;
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
                self.tell_splice(&error);
                Sent::Broken
            }
        }
    }
}

impl Plain {
    fn tell_splice(&self, error: &std::io::Error) {
        self.0.tell(error.raw_os_error().unwrap_or_default(), c"splice() failed");
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}
