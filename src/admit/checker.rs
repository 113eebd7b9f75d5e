//! Owns putting checkers of ours in the place of the core's: what the core calls for each place in its
//! phases, and what decides there whether a handler runs.

use std::ptr::NonNull;

use nginx_sys::{ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use crate::ffi::boundary::guard;
use crate::ffi::code;
use crate::ffi::log::Log;
#[cfg(not(admit = "patched"))]
use crate::ffi::request::Request;

/// What the core calls for a place in the phases.
pub type Checker =
    unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_http_phase_handler_t) -> ngx_int_t;

/// The status after a panic.
const FAILED: ngx_int_t = nginx_sys::NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// Puts `ours` in the place of the core's checker `cores`, wherever that stands. `None` when there is no
/// `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn replace(cycle: *mut ngx_cycle_t, cores: Checker, ours: Checker) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace_in(places(cycle)?, cores, ours) };
    Some(())
}

/// Puts `ours` in the place of the core's checker `cores` where that is the first of all.
///
/// # Safety
///
/// As for [`replace`].
#[cfg(any(http2, not(admit = "patched")))]
pub unsafe fn replace_first(cycle: *mut ngx_cycle_t, cores: Checker, ours: Checker) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace_in(places(cycle)?.take(1), cores, ours) };
    Some(())
}

/// # Safety
///
/// `places` must be ones of the cycle that is being made.
unsafe fn replace_in(
    places: impl Iterator<Item = NonNull<ngx_http_phase_handler_t>>,
    cores: Checker,
    ours: Checker,
) {
    for mut place in places {
        // SAFETY: the caller's promise; no other reference to the place is held.
        let place = unsafe { place.as_mut() };

        if place.checker.is_some_and(|checker| std::ptr::fn_addr_eq(checker, cores)) {
            place.checker = Some(ours);
        }
    }
}

/// The places in the phases, in their order.
///
/// # Safety
///
/// As for [`replace`].
unsafe fn places(
    cycle: *mut ngx_cycle_t,
) -> Option<impl Iterator<Item = NonNull<ngx_http_phase_handler_t>>> {
    // SAFETY: the caller's promise.
    let first = unsafe {
        let cmcf = NgxHttpCoreModule::main_conf_mut(cycle.as_ref()?)?;
        NonNull::new(cmcf.phase_engine.handlers)?
    };

    // SAFETY: the core ends the places with one that has no checker.
    Some(
        std::iter::successors(Some(first), |place| unsafe { Some(place.add(1)) })
            .take_while(|place| unsafe { place.as_ref() }.checker.is_some()),
    )
}

/// Does the work of a checker: `ours` for a CONNECT that `is_ours`, and the core's own checker, `cores`, for
/// all other requests. A panic ends the request with 500.
///
/// # Safety
///
/// `r` and `ph` must be what nginx calls a checker with.
#[cfg(not(admit = "patched"))]
pub unsafe fn check(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
    cores: Checker,
    ours: impl FnOnce(Request) -> ngx_int_t,
) -> ngx_int_t {
    let go_on = || {
        // SAFETY: the caller's promise.
        unsafe {
            match Request::from_ptr(r).filter(|request| is_ours(*request)) {
                Some(request) => ours(request),
                None => cores(r, ph),
            }
        }
    };

    // SAFETY: the caller's promise.
    unsafe { guarded(r, go_on) }
}

/// Runs a checker; a panic in it ends the request with 500.
///
/// # Safety
///
/// `r` must be a live request.
pub unsafe fn guarded(
    r: *mut ngx_http_request_t,
    checker: impl FnOnce() -> ngx_int_t,
) -> ngx_int_t {
    let give_up = || {
        // SAFETY: the caller's promise.
        unsafe { nginx_sys::ngx_http_finalize_request(r, FAILED) };
        code::OK
    };

    guard(Log::of_cycle(), checker, give_up)
}

/// Has the request go on with the next place.
#[cfg(not(admit = "patched"))]
pub fn next(request: Request) -> ngx_int_t {
    // SAFETY: a live request in its phases; no reference to it is held.
    unsafe { (*request.as_ptr()).phase_handler += 1 };
    code::AGAIN
}

/// A CONNECT that we admitted and that no internal redirect gave an URI.
#[cfg(not(admit = "patched"))]
fn is_ours(request: Request) -> bool {
    request.is_connect() && !request.is_redirected() && request.has_context(crate::module())
}
