//! Owns the way through a patched core (patch/, nginx 1.4 to 1.29.2): its parser accepts
//! authority-form and leaves the parts in fields of the request. Only the names of these fields
//! matter, so that a core patched by someone else serves as well.

use crate::ffi::bytes;
use crate::ffi::request::Request;

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
