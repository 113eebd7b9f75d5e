//! Owns what the logs see of a request in disguise: what the client sent.

use nginx_sys::{ngx_connection_t, ngx_http_log_ctx_t, ngx_http_request_t, ngx_log_t};

use super::hook::Hook;
use super::receive::{hook_of, next_request};
use super::restore::{restore, restore_bytes};
use crate::admit::explain::explain;
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;
use crate::ffi::phase::{PhaseHandler, Verdict};
use crate::ffi::request::Request;

/// Has our log handler stand before the connection's own.
///
/// # Safety
///
/// `c` must be an open connection, and `hook` its own.
pub unsafe fn attach(c: *mut ngx_connection_t, hook: &mut Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        if hook.log.is_none() {
            hook.log = (*(*c).log).handler;
            (*(*c).log).handler = Some(before_error_log);
        }
    }
}

/// Shows the logs what the client sent, and looks at what nginx read behind the request.
pub struct BeforeLog;

impl PhaseHandler for BeforeLog {
    fn handle(request: Request) -> Verdict {
        if request.has_request_line() {
            // SAFETY: a live request, whose connection is open.
            unsafe { before_log(request.as_ptr()) };
            explain(request);
        }

        Verdict::Decline
    }
}

/// # Safety
///
/// `r` must be a live request that is being logged.
unsafe fn before_log(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(hook) = hook_of((*r).connection) {
            if std::mem::take(&mut hook.disguised) {
                restore(r);
            }

            if std::mem::take(&mut hook.whole) {
                look_ahead(r, hook);
            }
        }
    }
}

/// # Safety
///
/// `r` must be a live request that is being logged.
unsafe fn look_ahead(r: *mut ngx_http_request_t, hook: &mut Hook) {
    // SAFETY: the caller's promise: nginx reads on behind this request from here.
    unsafe {
        let Some(header_in) = (*r).header_in.as_mut() else {
            return;
        };

        let len = (header_in.last as usize).saturating_sub(header_in.pos as usize);

        if len > 0 {
            let left = next_request(hook, std::slice::from_raw_parts_mut(header_in.pos, len));
            header_in.last = header_in.pos.add(left);
        }
    }
}

/// Stands in the place of the log's handler, which shows the request line.
unsafe extern "C" fn before_error_log(log: *mut ngx_log_t, buf: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: nginx calls it with a log that attach() changed, whose data is the context of
    // an open connection.
    guard(Log::of_cycle(), || unsafe { add_context(log, buf, len) }, || buf)
}

/// # Safety
///
/// `log` must be the log of an open connection, which attach() changed; `buf` must have room for
/// `len` bytes.
unsafe fn add_context(log: *mut ngx_log_t, buf: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let context = (*log).data.cast::<ngx_http_log_ctx_t>();

        let Some(hook) = Hook::of((*context).connection) else {
            return buf;
        };

        let (disguised, own) = (hook.disguised, hook.log);

        if disguised && !(*context).request.is_null() {
            // What the parser keeps are pointers; it does not look at these bytes again.
            restore_bytes((*context).request);
        }

        own.map_or(buf, |own| own(log, buf, len))
    }
}
