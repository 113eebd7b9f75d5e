//! Owns the way through a core without this module's patch, nginx 1.9.11 to 1.29.2: a stock one, or one that
//! someone else has patched, whose patch then sees no CONNECT to read.

use nginx_sys::ngx_conf_t;

use super::probe;
use crate::ffi::request::Request;
#[cfg(core_patch = "another")]
use crate::ffi::request::CONNECT;

pub use super::disguised::{before_log, start};

/// What the log says of this way.
#[cfg(not(core_patch = "another"))]
pub const NAME: &str = "CONNECT is shown to the core in origin-form";

/// What the log says of this way.
#[cfg(core_patch = "another")]
pub const NAME: &str = "CONNECT is shown to the core in origin-form, the patch that it carries \
     is left alone";

/// What to say to another core.
#[cfg(not(core_patch = "another"))]
pub const MISFIT: &str = "ngx_http_proxy_connect_module was built for an nginx as released, and \
     the source of this nginx is patched for CONNECT: build the module for this nginx, or load it \
     into the unpatched one";

/// What to say to another core.
#[cfg(core_patch = "another")]
pub const MISFIT: &str = "ngx_http_proxy_connect_module was built for an nginx whose source \
     carries another patch for CONNECT, and that of this nginx does not: build the module for this \
     nginx, or load it into that one";

/// Whether the core refuses authority-form: only then there is something to do for this way.
#[cfg(not(core_patch = "another"))]
pub fn fits() -> bool {
    probe::parse(|_, _| ()).is_none()
}

/// Whether the core has the fields of the patch, and where the module expects them: a request of
/// another core is laid out otherwise.
#[cfg(core_patch = "another")]
pub fn fits() -> bool {
    probe::has_fields()
}

/// Whether a CONNECT came to the core without its disguise, for want of memory say. The server was
/// not chosen by its authority then.
#[cfg(core_patch = "another")]
pub fn is_read_by_patch(request: &Request) -> bool {
    request.raw().method == CONNECT
}

/// No other module takes CONNECT where the core does not parse it by itself.
pub fn is_anothers(_request: Request) -> bool {
    false
}

/// The core knows by itself what the client wants.
pub fn restore_keepalive(_request: Request) {}

/// The core asks no server for leave.
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

/// The core has no fields of its own for an authority.
#[cfg(http2)]
pub fn note_authority(_request: Request) {}
