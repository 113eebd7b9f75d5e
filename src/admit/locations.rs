//! Owns keeping locations away from a CONNECT where the core looks for one: an authority has no
//! path, so the configuration of the server applies.

use std::ptr::NonNull;

use nginx_sys::{
    ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t, NGX_HTTP_MAX_URI_CHANGES,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::ffi::boundary::guard;
use crate::ffi::code;
use crate::ffi::log::Log;
use crate::ffi::request::Request;
use crate::ffi::request_bits as bits;

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

/// Puts `ours` in the place of the core's checker `cores`. `None` when there is no `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn replace(cycle: *mut ngx_cycle_t, cores: Checker, ours: Checker) -> Option<()> {
    // SAFETY: the caller's promise. The core ends the handlers with one that has no checker.
    unsafe {
        let cmcf = NgxHttpCoreModule::main_conf_mut(cycle.as_ref()?)?;
        let mut next = NonNull::new(cmcf.phase_engine.handlers)?;

        while let Some(checker) = next.as_ref().checker {
            if std::ptr::fn_addr_eq(checker, cores) {
                next.as_mut().checker = Some(ours);
            }

            next = next.add(1);
        }
    }

    Some(())
}

/// The core's own look-up.
const CORE: Checker = nginx_sys::ngx_http_core_find_config_phase;

/// The status after a panic.
const FAILED: ngx_int_t = nginx_sys::NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// What the core calls for a place in the phases.
pub type Checker =
    unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_http_phase_handler_t) -> ngx_int_t;

unsafe extern "C" fn find_config(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe { check(r, ph, CORE, |r| use_server(r)) }
}

/// Does the work of a checker: `ours` for a CONNECT of ours, which goes on with the next phase then, and
/// the core's own checker, `cores`, for all other requests. A panic ends the request with 500.
///
/// # Safety
///
/// `r` and `ph` must be what nginx calls a checker with.
pub unsafe fn check(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
    cores: Checker,
    ours: impl FnOnce(*mut ngx_http_request_t),
) -> ngx_int_t {
    let go_on = || {
        // SAFETY: the caller's promise.
        unsafe {
            if Request::from_ptr(r).is_some_and(is_ours) {
                ours(r);
                (*r).phase_handler += 1;
                code::AGAIN
            } else {
                cores(r, ph)
            }
        }
    };

    let give_up = || {
        // SAFETY: the caller's promise.
        unsafe { nginx_sys::ngx_http_finalize_request(r, FAILED) };
        code::OK
    };

    guard(Log::of_cycle(), go_on, give_up)
}

/// Gives the request the configuration of its server.
///
/// # Safety
///
/// `r` must be a live request in the look-up of its location.
unsafe fn use_server(r: *mut ngx_http_request_t) {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).content_handler = None;
        bits::set_uri_changed(&mut *r, 0);
        nginx_sys::ngx_http_update_location_config(r);
    }
}

/// A CONNECT that we admitted and that no internal redirect gave an URI.
fn is_ours(request: Request) -> bool {
    request.is_connect()
        && bits::uri_changes(request.raw()) == NGX_HTTP_MAX_URI_CHANGES + 1
        && request.has_context(crate::module())
}
