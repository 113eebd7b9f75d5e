//! Owns whether the core is the one that the stock way was built for: one as released, or one with
//! a patch of someone else's, which has its own fields in the request and is otherwise left alone.

use crate::admit::probe;
#[cfg(core_patch = "another")]
use crate::ffi::request::{Request, CONNECT};

/// What the log says of this way.
#[cfg(not(core_patch = "another"))]
pub const NAME: &str = "CONNECT is shown to the core in absolute-form";

/// What the log says of this way.
#[cfg(core_patch = "another")]
pub const NAME: &str = "CONNECT is shown to the core in absolute-form, the patch that it carries \
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
