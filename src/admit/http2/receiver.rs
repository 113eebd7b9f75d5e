//! Owns the connection's own receive function, and how much is asked of it at once.

use nginx_sys::{ngx_connection_t, ngx_recv_pt};

use crate::ffi::code;

/// How many bytes of a connection in cleartext are read before they go on: more would not stay in the processor's cache
/// until then.
const CLEAR: usize = 128 * 1024;

/// How many of them are read with one call: meanwhile the system takes nothing that comes.
const CLEAR_PIECE: usize = 32 * 1024;

/// What a connection's bytes come from.
pub struct Receiver {
    own: ngx_recv_pt,
    is_secure: bool,
    /// What it has returned behind bytes, where that was an end.
    end: Option<isize>,
}

impl Receiver {
    /// For a connection that had `own` before, over TLS or not.
    pub fn new(own: ngx_recv_pt, is_secure: bool) -> Self {
        Self { own, is_secure, end: None }
    }

    /// Whether the end has come, and nobody was told.
    pub fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// As the connection's own receive function, which is called for pieces as long as each is full.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    pub unsafe fn receive(&mut self, c: *mut ngx_connection_t, buffer: &mut [u8]) -> isize {
        let Some(own) = self.own else {
            return code::ERROR;
        };

        if let Some(end) = self.end.take() {
            return end;
        }

        let (most, most_at_once) = match self.is_secure {
            true => (buffer.len(), buffer.len()),
            false => (CLEAR.min(buffer.len()), CLEAR_PIECE),
        };

        let mut len = 0;

        while len < most {
            let piece = &mut buffer[len..most];
            let room = piece.len().min(most_at_once);

            // SAFETY: the caller's promise; the piece has the room.
            let n = unsafe { own(c, piece.as_mut_ptr(), room) };

            let Some(read) = usize::try_from(n).ok().filter(|&n| n > 0) else {
                if len == 0 {
                    return n;
                }

                self.end = Some(n).filter(|&n| n != code::AGAIN);
                break;
            };

            len += read;

            // SAFETY: the caller's promise: the events of an open connection live.
            if read < room || unsafe { (*(*c).read).ready() } == 0 {
                break;
            }
        }

        len as isize
    }
}
