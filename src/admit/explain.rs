//! Owns telling the log what is wrong with the request line of a CONNECT that the core refused by itself, for
//! that or for something else.

use nginx_sys::NGX_LOG_INFO;
use proxy_connect_core::target;

use super::line;
use crate::conf::ServerConf;
use crate::ffi::request::Request;

/// Looks at a request that is being logged.
pub fn explain(request: Request) {
    // Of a client that went away nothing is known.
    if request.raw().headers_out.status != 400
        || !ServerConf::takes_connect(&request)
        || request.has_broken_connection()
    {
        return;
    }

    let complaint = match line::authority(&request) {
        Some(_) => line::take_complaint(request),
        None => target::complaint(request.header_bytes()).map(Into::into),
    };

    if let Some(complaint) = complaint {
        let log = request.connection().log();
        log.write(NGX_LOG_INFO, 0, format_args!("client sent {complaint}"));
    }
}
