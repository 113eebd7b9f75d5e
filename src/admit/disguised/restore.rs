//! Owns making a disguised request a CONNECT again: its bytes, and all that the parser made of
//! them.

use nginx_sys::ngx_http_request_t;
use proxy_connect_core::disguise::{DISGUISE, METHOD};

use super::receive;
use crate::admit::line;
use crate::ffi::request::{Request, DISGUISED};
use crate::ffi::request_bits as bits;
use crate::ffi::str_of;

/// The path of a request that has none.
static ROOT: &[u8] = b"/";

/// Makes a disguised request a CONNECT again, for the phases.
pub fn recognise(request: Request) {
    let c = request.raw().connection;

    // SAFETY: a live request's connection is open.
    unsafe {
        let Some(hook) = receive::hook_of(c) else {
            return;
        };

        hook.whole = true;

        if std::mem::take(&mut hook.disguised) {
            // A CONNECT is the last request of its connection.
            receive::detach(c, hook);
            restore(request.as_ptr());
        }
    }
}

/// Makes all of a request that of a CONNECT, as far as it was read.
///
/// # Safety
///
/// `r` must be a live request that was read in disguise.
pub unsafe fn restore(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        restore_bytes(r);

        // The line was not read to its end.
        if (*r).request_line.len == 0 || (*r).method_name.data.is_null() {
            return;
        }

        (*r).method = DISGUISED;
        (*r).method_name.len = METHOD.len() - 1;

        (*r).schema_start = std::ptr::null_mut();
        (*r).schema_end = std::ptr::null_mut();

        #[cfg(request_schema)]
        {
            (*r).schema = str_of(b"");
            (*r).schema.data = std::ptr::null_mut();
        }

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
pub unsafe fn restore_bytes(r: *mut ngx_http_request_t) {
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
