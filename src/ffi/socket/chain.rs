//! Owns reading into, and sending from, more than one piece of memory at once, with nginx's own functions for its chains.

use std::io::IoSlice;

use nginx_sys::{ngx_buf_t, ngx_chain_t};
use proxy_connect_core::relay::{Layout, Received, Sent, PIECES};

use super::Socket;
use crate::ffi::code;

/// How many frames are read at once at most.
const FRAMES: usize = 8;

/// A chain of buffers, each a piece of memory, that does not outlive them.
struct Chain<const N: usize> {
    buffers: [ngx_buf_t; N],
    links: [ngx_chain_t; N],
    len: usize,
}

impl<const N: usize> Chain<N> {
    fn new() -> Self {
        // SAFETY: all-zero bytes are valid for both structures, as nginx itself makes them.
        let (buffer, link): (ngx_buf_t, ngx_chain_t) = unsafe { std::mem::zeroed() };
        Self { buffers: [buffer; N], links: [link; N], len: 0 }
    }

    /// Adds a piece: `len` bytes at `start`, of which the first `filled` are there. False when it is full.
    fn push(&mut self, start: *mut u8, filled: usize, len: usize) -> bool {
        let Some(buffer) = self.buffers.get_mut(self.len) else {
            return false;
        };

        buffer.start = start;
        buffer.pos = start;
        buffer.last = start.wrapping_add(filled);
        buffer.end = start.wrapping_add(len);
        buffer.set_memory(1);
        self.len += 1;
        true
    }

    /// The first link. It is good as long as the chain stays where it is.
    fn link(&mut self) -> *mut ngx_chain_t {
        let mut next = std::ptr::null_mut();

        for (buffer, link) in self.buffers[..self.len].iter_mut().zip(&mut self.links).rev() {
            link.buf = buffer;
            link.next = next;
            next = link;
        }

        next
    }
}

impl Socket {
    /// Reads `max` bytes at most into `buffer` where frames are made of them.
    pub(super) fn receive_chain(self, buffer: &mut [u8], layout: Layout, max: usize) -> Received {
        let Layout { header, payload } = layout;

        let Some(receive) = self.get().recv_chain else {
            return Received::Blocked;
        };

        let mut chain = Chain::<FRAMES>::new();
        let mut left = max;

        for frame in buffer.chunks_mut(header.saturating_add(payload)) {
            let room = frame.len().saturating_sub(header).min(left);

            if room == 0 || !chain.push(frame[header..].as_mut_ptr(), 0, room) {
                break;
            }

            left -= room;
        }

        // SAFETY: the connection's own function, an open connection, and a chain of memory that nobody
        // else refers to.
        match unsafe { receive(self.as_ptr(), chain.link(), 0) } {
            n @ 1.. => Received::Bytes(n as usize),
            0 if self.is_reset_over_ssl() => Received::Broken,
            0 => Received::Eof,
            code::AGAIN => Received::Blocked,
            _ => Received::Broken,
        }
    }

    /// Sends a part of what lies in `pieces`.
    pub(super) fn send_chain(self, pieces: &[IoSlice<'_>]) -> Sent {
        let (Some(send), true) = (self.get().send_chain, self.write().is_ready()) else {
            return Sent::Blocked;
        };

        let mut chain = Chain::<PIECES>::new();

        for piece in pieces {
            let len = piece.len();

            if !chain.push(piece.as_ptr().cast_mut(), len, len) {
                break;
            }
        }

        let before = self.get().sent;

        // SAFETY: the connection's own function, an open connection, and a chain of bytes that it only reads.
        let rest = unsafe { send(self.as_ptr(), chain.link(), 0) };

        // NGX_CHAIN_ERROR.
        if rest.addr() as isize == code::ERROR {
            return Sent::Broken;
        }

        match usize::try_from(self.get().sent - before) {
            Ok(n @ 1..) => Sent::Bytes(n),
            _ => Sent::Blocked,
        }
    }
}
