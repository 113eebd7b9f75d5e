//! Owns the decision whether an admitted CONNECT may go where it wants to.

use nginx_sys::NGX_LOG_ERR;
use proxy_connect_core::target::Authority;

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::request::Request;

/// Checks the port against `proxy_connect_allow`.
///
/// # Errors
///
/// 403 for a port that is not allowed.
pub fn check(
    request: Request,
    conf: &ServerConf,
    authority: &Authority<'_>,
) -> Result<(), Failure> {
    if conf.allows(authority.port()) {
        return Ok(());
    }

    request.connection().log().write(
        NGX_LOG_ERR,
        0,
        format_args!("port {} is not allowed by \"proxy_connect_allow\"", authority.port()),
    );

    Err(Failure::FORBIDDEN)
}
