//! Owns the answer to a CONNECT whose tunnel stands.

use proxy_connect_core::response;

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::request::Request;

/// The answer without `proxy_connect_response` and without `$proxy_connect_response`.
pub const DEFAULT: &[u8] = b"HTTP/1.1 200 Connection Established\r\nProxy-agent: nginx\r\n\r\n";

/// The answer for `request`: what the variable was set to, then what the directive says unless
/// that comes to nothing, then the default. It lives as long as the request.
///
/// # Errors
///
/// 500 when there is no memory.
pub fn text<'a>(
    request: Request,
    conf: &ServerConf,
    set: Option<&'a [u8]>,
) -> Result<&'a [u8], Failure> {
    if let Some(text) = set {
        return Ok(text);
    }

    let text = match conf.response() {
        Some(response) => response.evaluate(request).ok_or(Failure::INTERNAL)?,
        None => DEFAULT,
    };

    // A client that is told nothing would wait for ever.
    Ok(if text.is_empty() { DEFAULT } else { text })
}

/// The status that the access log tells for an answer: the one in its status line, 200 if that
/// can't be read.
pub fn status(text: &[u8]) -> u16 {
    response::status(text).unwrap_or(200)
}
