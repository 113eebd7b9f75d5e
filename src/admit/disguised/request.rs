//! Owns what is changed in a request that is shown in disguise: its bytes, what the parser made of them, and
//! in time for the phases what makes it a CONNECT.

use nginx_sys::{ngx_buf_t, ngx_http_request_t};
use proxy_connect_core::disguise::{self, Reading, METHOD};

use super::receive;
use crate::admit::{line, recognise};
use crate::auth;
use crate::ffi::request::Request;

/// Shows what the client sent in place of what was shown to the parser.
///
/// # Safety
///
/// `r` must be a request whose line is being read.
pub unsafe fn reveal(r: *mut ngx_http_request_t, reading: Reading) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(line) = shown(r) {
            disguise::reveal(reading, line);
        }
    }
}

/// Judges the request line, of which the parser has not read the end yet.
///
/// # Safety
///
/// As for [`reveal`].
pub unsafe fn judge(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    let (request, line) = unsafe {
        match (Request::from_ptr(r), shown(r)) {
            (Some(request), Some(line)) => (request, &*line),
            _ => return,
        }
    };

    line::judge(request, line);

    // SAFETY: the caller's promise; the slices of the request are not used any more.
    unsafe {
        // The parser has taken a shorter one.
        (*r).method_end = (*r).request_start.add(METHOD.len() - 2);

        if (*r).http_protocol.data.is_null() {
            answer_at_once(r);
        }
    }
}

/// Has the core go to the phases as soon as a line without a version is read, as it does for a GET of HTTP/0.9,
/// which has no header. It would answer any other method with no status line.
///
/// # Safety
///
/// As for [`reveal`].
unsafe fn answer_at_once(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe { (*r).method = nginx_sys::NGX_HTTP_GET as usize };
}

/// The request line as far as the parser has read it. `None` before its first byte.
///
/// # Safety
///
/// As for [`reveal`]; no other reference to these bytes may be in use.
unsafe fn shown<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut [u8]> {
    // SAFETY: the caller's promise: the parser points request_start into the header buffer and moves it
    // with the bytes, of which it has read those before pos.
    unsafe {
        let start = (*r).request_start;
        let buffer: &ngx_buf_t = (*r).header_in.as_ref()?;

        if start.is_null() || !(buffer.start..buffer.pos).contains(&start) {
            return None;
        }

        Some(std::slice::from_raw_parts_mut(start, buffer.pos.offset_from(start) as usize))
    }
}

/// Makes a request a CONNECT that was shown as another.
pub fn recognise(request: Request) {
    let c = request.raw().connection;

    // SAFETY: a live request's connection is open, and no other reference to its hook is in use.
    unsafe {
        let Some(hook) = receive::hook_of(c) else {
            return;
        };

        if hook.reading.take_request() {
            // A CONNECT is the last request of its connection, whoever answers it; but for one that is asked
            // for credentials.
            receive::detach(c, hook);

            if !auth::may_keep_connection(request) {
                request.forbid_keepalive();
            }

            recognise::make_connect(request.as_ptr());
        }
    }
}
