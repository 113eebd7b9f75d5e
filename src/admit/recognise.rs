//! Owns the moment before the first phase handler of any module: a request that was shown to the core as
//! another is made a CONNECT there.

use nginx_sys::{ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t};

use super::checker::{guarded, replace_first, Checker};
#[cfg(not(admit = "patched"))]
use super::disguised;
#[cfg(http2)]
use super::http2;
use crate::ffi::request::{Request, DISGUISED};
use crate::ffi::request_bits as bits;

/// The core's checker of the first place in the phases: one of our handlers stands in the first phase.
const CORE: Checker = nginx_sys::ngx_http_core_generic_phase;

/// Has requests made CONNECTs before the first handler of any module. `None` when there is no `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace_first(cycle, CORE, first) }
}

unsafe extern "C" fn first(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe {
        guarded(r, || {
            if let Some(request) = Request::from_ptr(r) {
                recognise(request);
            }

            CORE(r, ph)
        })
    }
}

fn recognise(request: Request) {
    #[cfg(not(admit = "patched"))]
    if request.has_request_line() {
        return disguised::recognise(request);
    }

    #[cfg(http2)]
    if request.is_stream() && request.main() == request {
        http2::recognise(request);
    }
}

/// Makes a request a CONNECT.
///
/// # Safety
///
/// `r` must be a live request before its first phase handler.
pub unsafe fn make_connect(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).method = DISGUISED;
        bits::set_valid_unparsed_uri(&mut *r, 0);
    }
}
