//! Owns making a disguised request a CONNECT again: its bytes before a log line shows them, and
//! all of it before the first phase handler or the access log looks.

use nginx_sys::{ngx_connection_t, ngx_http_log_ctx_t, ngx_http_request_t, ngx_log_t};
use proxy_connect_core::disguise::{DISGUISE, METHOD};

use super::hook::Hook;
use super::receive::{next_request, receive};
use crate::admit::explain::explain;
use crate::admit::line;
use crate::ffi::phase::{PhaseHandler, Verdict};
use crate::ffi::request::{Request, CONNECT};
use crate::ffi::request_bits as bits;
use crate::ffi::str_of;

/// The path of a request that has none.
static ROOT: &[u8] = b"/";

/// Makes a disguised request a CONNECT again, for the phases.
pub fn recognise(request: Request) {
    let c = request.raw().connection;

    // SAFETY: a live request's connection is open.
    unsafe {
        let Some(hook) = hook_of(c) else {
            return;
        };

        hook.whole = true;

        if std::mem::take(&mut hook.disguised) {
            // A CONNECT is the last request of its connection.
            (*c).recv = hook.receive;
            restore(request.as_ptr());
        }
    }
}

/// Has our log handler stand before the connection's own.
///
/// # Safety
///
/// `c` must be an open connection, and `hook` its own.
pub unsafe fn watch_log(c: *mut ngx_connection_t, hook: &mut Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        if hook.log.is_none() {
            hook.log = (*(*c).log).handler;
            (*(*c).log).handler = Some(before_error_log);
        }
    }
}

/// The hook of a connection that is still read through it.
///
/// # Safety
///
/// As for [`Hook::of`].
unsafe fn hook_of<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Hook> {
    type Receive = unsafe extern "C" fn(*mut ngx_connection_t, *mut u8, usize) -> isize;

    // SAFETY: the caller's promise.
    unsafe {
        let hooked = (*c).recv.is_some_and(|own| std::ptr::fn_addr_eq(own, receive as Receive));
        hooked.then(|| Hook::of(c)).flatten()
    }
}

/// # Safety
///
/// `r` must be a live request that was read in disguise.
unsafe fn restore(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        restore_bytes(r);

        // The line was not read to its end.
        if (*r).request_line.len == 0 || (*r).method_name.data.is_null() {
            return;
        }

        (*r).method = CONNECT;
        (*r).method_name.len = METHOD.len() - 1;

        (*r).schema_start = std::ptr::null_mut();
        (*r).schema_end = std::ptr::null_mut();
        (*r).schema = str_of(b"");
        (*r).schema.data = std::ptr::null_mut();

        // As the core does for a CONNECT that it parses by itself, but for the request-target.
        (*r).uri = str_of(ROOT);
        (*r).args = str_of(b"");
        (*r).exten = str_of(b"");
        bits::set_valid_unparsed_uri(&mut *r, 0);

        if let Some(request) = Request::from_ptr(r) {
            (*r).unparsed_uri = str_of(line::authority(&request));
        }
    }
}

/// Shows the bytes that the client sent.
///
/// # Safety
///
/// As for [`restore`].
unsafe fn restore_bytes(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise. The parser set the pointer to where the disguise begins, and
    // moves it with the bytes.
    unsafe {
        let start = (*r).request_start;

        if start.is_null() {
            return;
        }

        let line = std::slice::from_raw_parts_mut(start, DISGUISE.len());

        if line == DISGUISE {
            line.copy_from_slice(METHOD);
        }
    }
}

/// Shows the logs what the client sent, and looks at what nginx read behind the request.
pub struct BeforeLog;

impl PhaseHandler for BeforeLog {
    fn handle(request: Request) -> Verdict {
        if request.main() == request && !request.is_http2_or_newer() {
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
    // SAFETY: nginx calls it with a log that watch_log() changed, whose data is the context of
    // an open connection.
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
