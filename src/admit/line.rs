//! Owns reading the authority out of the request line, for the ways whose core has no fields of
//! its own for it.

use proxy_connect_core::target;

use crate::ffi::bytes;
use crate::ffi::request::Request;

/// The host as it stands in the request line of a CONNECT; empty without one.
pub fn host(request: &Request) -> &[u8] {
    target::split(authority(request)).0
}

/// The port as it stands in the request line of a CONNECT; empty without one.
pub fn port(request: &Request) -> &[u8] {
    target::split(authority(request)).1
}

/// The request-target of a CONNECT: what stands between the method and the HTTP version.
pub fn authority(request: &Request) -> &[u8] {
    // SAFETY: the core points the field into the header buffer, which lives as long as the
    // request.
    let line = unsafe { bytes(request.raw().request_line) };
    target::request_line(line).map_or(b"", |(authority, _)| authority)
}
