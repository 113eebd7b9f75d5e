//! Owns telling the log what is wrong with a CONNECT that the core refused before its line could be
//! judged: it only says that a request is invalid.

use nginx_sys::NGX_LOG_INFO;
use proxy_connect_core::target;

use super::line;
use crate::conf::ServerConf;
use crate::ffi::request::Request;

/// Looks at a request that is being logged.
pub fn explain(request: Request) {
    // What was judged is explained where it is refused; of a client that went away nothing is known.
    if request.raw().headers_out.status != 400
        || !ServerConf::takes_connect(&request)
        || line::authority(&request).is_some()
        || request.connection().has_failed()
    {
        return;
    }

    if let Some(wrong) = target::complaint(request.header_bytes()) {
        let log = request.connection().log();
        log.write(NGX_LOG_INFO, 0, format_args!("client sent {wrong}"));
    }
}
