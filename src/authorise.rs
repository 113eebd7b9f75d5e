//! Owns the decision whether an admitted CONNECT may go where it wants to.

use proxy_connect_core::target::Authority;

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;
use crate::verdict::{refuse, Rule};

/// Checks the port against `proxy_connect_allow`.
///
/// # Errors
///
/// 403 for a port that is not allowed.
pub fn check(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    authority: &Authority<'_>,
) -> Result<(), Failure> {
    let port = authority.port();

    if conf.allows(port) {
        return Ok(());
    }

    let reason = format_args!("port {port} is not allowed by \"proxy_connect_allow\"");
    refuse(request, conf, tunnel, Rule::Port, reason)
}
