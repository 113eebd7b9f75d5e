//! Owns keeping locations away from a CONNECT where the core looks for one: an authority has no
//! path, so the configuration of the server applies.

use nginx_sys::{ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t};

use super::checker::{check, next, replace, Checker};
use crate::ffi::request::Request;
use crate::ffi::request_bits as bits;

/// The core's own look-up.
const CORE: Checker = nginx_sys::ngx_http_core_find_config_phase;

/// Puts our look-up of the location in the place of the core's. `None` when there is no `http`
/// block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace(cycle, CORE, find_config) }
}

unsafe extern "C" fn find_config(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    let ours = |request: Request| {
        use_server(request);

        #[cfg(core_patch = "another")]
        if let Some(status) = request.refusal_of_client() {
            request.finalize(status);
            return crate::ffi::code::OK;
        }

        next(request)
    };

    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe { check(r, ph, CORE, ours) }
}

/// Gives the request the configuration of its server.
fn use_server(request: Request) {
    let r = request.as_ptr();

    // SAFETY: a live request in the look-up of its location, to which no reference is held.
    unsafe {
        (*r).content_handler = None;
        bits::set_uri_changed(&mut *r, 0);
        nginx_sys::ngx_http_update_location_config(r);
    }
}
