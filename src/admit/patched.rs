//! Owns the way through a core with this module's patch (patch/, nginx 1.4 to 1.29.2): its parser
//! accepts authority-form, and asks the module what it names as soon as the line is read.

use nginx_sys::{ngx_conf_t, ngx_cycle_t, ngx_http_request_t, ngx_int_t, ngx_uint_t};
use proxy_connect_core::persistence;

#[cfg(http2)]
use super::{hook::listen, recognise};
use super::{line, probe};
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;
use crate::ffi::request::Request;
use crate::ffi::{bytes, code, str_of};

/// What the log says of this way.
pub const NAME: &str = if cfg!(no_rewrite) {
    "the core is patched for CONNECT, without the rewrite phase"
} else {
    "the core is patched for CONNECT"
};

/// What to say to another core.
pub const MISFIT: &str = "ngx_http_proxy_connect_module was built for an nginx whose source is \
     patched for CONNECT, and this nginx is not, or has another patch: build the module for this \
     nginx, or load it into the patched one";

// src/admit/patched.c
extern "C" {
    fn proxy_connect_core_asks() -> ngx_uint_t;
    fn proxy_connect_set_handler(
        handler: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
    );
}

/// Whether the core asks the module, and has the fields of the patch where the module expects them.
pub fn fits() -> bool {
    // SAFETY: it only compares an address.
    let asks = unsafe { proxy_connect_core_asks() } != 0;

    asks && probe::has_fields()
}

/// No other module takes CONNECT where the core is patched.
pub fn is_anothers(_request: Request) -> bool {
    false
}

/// The patched core asks no server for leave.
///
/// # Errors
///
/// None.
///
/// # Safety
///
/// None is needed.
pub unsafe fn enable(_cf: *mut ngx_conf_t) -> Result<(), String> {
    Ok(())
}

/// Has nginx keep the connection of a CONNECT where the client wants it: the patched core closes it after any.
pub fn restore_keepalive(request: Request) {
    let fields = request.fields();
    let values = fields.iter().filter(|field| field.name().eq_ignore_ascii_case(b"Connection"));
    let is_http11 = request.is_http11();

    if values.fold(is_http11, |wanted, field| persistence::is_wanted(wanted, field.value())) {
        request.allow_keepalive();
    }
}

/// Has the core ask. The patch keeps locations away by itself, and knows nothing of streams.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
#[cfg_attr(not(http2), allow(unused_variables))]
pub unsafe fn start(cycle: *mut ngx_cycle_t) {
    // SAFETY: the core asks, else `fits` had kept it from starting. It is a word that the core reads when
    // a request comes, on this thread.
    unsafe { proxy_connect_set_handler(on_line) };

    // Without an http block there is nothing to do.
    #[cfg(http2)]
    // SAFETY: the caller's promise.
    unsafe {
        if recognise::install(cycle).is_some() {
            let _ = listen::install(cycle);
        }
    }
}

/// What the core calls when it has read the line of a CONNECT.
unsafe extern "C" fn on_line(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the core calls it with a live request.
    guard(Log::of_cycle(), || unsafe { judge(r) }, || code::ERROR)
}

/// # Safety
///
/// `r` must be a live request whose line was read.
unsafe fn judge(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise; the core points the line into the header buffer, which lives as long as
    // the request.
    let (request, text) = unsafe {
        match Request::from_ptr(r) {
            Some(request) => (request, bytes(request.raw().request_line)),
            None => return code::ERROR,
        }
    };

    line::judge(request, text);
    note_authority(request);

    code::OK
}

/// Fills the fields that the patch has for an authority.
pub fn note_authority(request: Request) {
    if let Some(Ok(authority)) = line::authority(&request) {
        let r = request.as_ptr();

        // SAFETY: a live request; the authority's text lives as long.
        unsafe {
            (*r).connect_host = str_of(authority.host());
            (*r).connect_port = str_of(authority.port_text());
            (*r).connect_port_n = authority.port();
        }
    }
}

/// Nothing is kept for a connection.
pub fn before_log(_request: Request) {}
