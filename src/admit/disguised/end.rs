//! Owns the end of a request on a hooked connection: another one may stand behind it.

use nginx_sys::{ngx_connection_t, ngx_http_request_t};

use super::receive::{attach, hook_of, look_ahead};
use super::request;
use crate::admit::hook::Hook;
use crate::auth;
use crate::ffi::request::Request;

/// Sees to it that the log shows what the client sent, and looks at what nginx read behind the request.
pub fn before_log(request: Request) {
    let r = request.as_ptr();

    if auth::keeps_connection(request) {
        // SAFETY: as below.
        unsafe { keep((*r).connection) };
        return;
    }

    // SAFETY: a live request, whose connection is open, and no other reference to its hook is in use.
    unsafe {
        let Some(hook) = hook_of((*r).connection) else {
            return;
        };

        request::reveal(r, hook.reading);

        if hook.reading.next_request() {
            look_behind(r, hook);
        }
    }
}

/// Hooks a connection again that a CONNECT was to have for itself: another request may follow.
///
/// # Safety
///
/// `c` must be an open connection, and no other reference to its hook may be in use.
unsafe fn keep(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(hook) = Hook::of(c) {
            hook.reading.keep();
            attach(c, hook);
        }
    }
}

/// # Safety
///
/// `r` must be a live request that is being logged, and `hook` its connection's.
unsafe fn look_behind(r: *mut ngx_http_request_t, hook: &mut Hook) {
    // SAFETY: the caller's promise: nginx reads on behind this request from here.
    unsafe {
        let Some(header_in) = (*r).header_in.as_mut() else {
            return;
        };

        let len = (header_in.last as usize).saturating_sub(header_in.pos as usize);

        if len > 0 {
            let behind = std::slice::from_raw_parts_mut(header_in.pos, len);
            header_in.last = header_in.pos.add(look_ahead((*r).connection, hook, behind));
        }
    }
}
