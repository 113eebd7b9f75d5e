//! Owns keeping `try_files` of a server away from a CONNECT, which asks for no file, where that is a
//! phase of the core's own (before nginx 1.13.4): it would look for them before the tunnel begins.

use nginx_sys::{ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t};

use crate::admit::checker::{check, next, replace, Checker};

/// Puts our checker in the place of the core's. `None` when there is no `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace(cycle, CORE, try_files) }
}

/// The core's own.
const CORE: Checker = nginx_sys::ngx_http_core_try_files_phase;

unsafe extern "C" fn try_files(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe { check(r, ph, CORE, next) }
}
