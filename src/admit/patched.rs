//! Owns the way through a core with this module's patch (patch/, nginx 1.4 to 1.29.2): its parser
//! accepts authority-form and leaves the parts in fields of the request.

use nginx_sys::{ngx_conf_t, ngx_cycle_t};

use super::probe;
use crate::ffi::bytes;
use crate::ffi::request::Request;

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

/// Whether the core has the fields of the patch, and where the module expects them.
pub fn fits() -> bool {
    probe::has_fields()
}

/// The host as it stands in the request line.
pub fn host(request: &Request) -> &[u8] {
    // SAFETY: the core's parser points the field into the request line, which lives as long as
    // the request.
    unsafe { bytes(request.raw().connect_host) }
}

/// The port's digits as they stand in the request line.
pub fn port(request: &Request) -> &[u8] {
    // SAFETY: as in host().
    unsafe { bytes(request.raw().connect_port) }
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

/// Nothing beside what all ways register.
///
/// # Safety
///
/// None is needed.
pub unsafe fn install(_cf: *mut ngx_conf_t) -> Option<()> {
    Some(())
}

/// The patch keeps locations away by itself.
///
/// # Safety
///
/// None is needed.
pub unsafe fn start(_cycle: *mut ngx_cycle_t) {}

/// The core has recognised it.
pub fn recognise(_request: Request) {}
