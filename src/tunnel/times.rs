//! Owns the times of one CONNECT: how long each part of the work took.

use std::cell::Cell;

use nginx_sys::ngx_msec_t;

use crate::ffi;

/// The times of a tunnel.
#[derive(Default)]
pub struct Times {
    /// Resolving the upstream's name.
    pub resolve: Span,
    /// Connecting to the upstream.
    pub connect: Span,
    /// From the first connect to the first byte of the upstream.
    pub first_byte: Span,
    /// From the tunnel's standing to its end.
    pub duration: Span,
}

/// The time that a part of the work took, in milliseconds. `None` before it is done, and where it never
/// is.
#[derive(Default)]
pub struct Span(Cell<Option<ngx_msec_t>>);

impl Span {
    /// What it took, once it is done.
    pub fn msec(&self) -> Option<ngx_msec_t> {
        self.0.get()
    }

    pub(super) fn done(&self, since: ngx_msec_t) {
        self.0.set(Some(ffi::now().wrapping_sub(since)));
    }
}
