//! Owns what becomes of a hooked connection when a panic reaches its boundary.

use nginx_sys::ngx_connection_t;

use crate::ffi::boundary::guard;
use crate::ffi::log::Log;

/// Runs a callback that serves no request yet; a panic in it closes the connection.
///
/// # Safety
///
/// `c` must be a connection of the HTTP module that has no request yet, open or just closed.
pub unsafe fn guard_connection(c: *mut ngx_connection_t, callback: impl FnOnce()) {
    let close = || {
        // SAFETY: the caller's promise; nginx marks a closed connection by its descriptor.
        unsafe {
            if (*c).fd != -1 {
                nginx_sys::ngx_http_close_connection(c);
            }
        }
    };

    // The connection's own log would call us back.
    guard(Log::of_cycle(), callback, close);
}
