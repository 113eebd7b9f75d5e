//! Owns what an answer tells of the reason: `Proxy-Status` (RFC 9209), in place of a tunnel and beside one.

use proxy_connect_core::proxy_status::{ProxyError, ProxyStatus};

use crate::admit;
use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::header_filter::{self, HeaderFilter};
use crate::ffi::request::Request;
use crate::ffi::variable::NoMemory;
use crate::tunnel::Tunnel;

const FIELD: &str = "Proxy-Status";

/// What the module does to the header of an answer that nginx sends.
pub struct Answer;

impl HeaderFilter for Answer {
    fn handle(request: Request) -> Result<(), NoMemory> {
        let name = ServerConf::of(&request).and_then(ServerConf::proxy_status);

        match name {
            Some(name) if is_in_place_of_tunnel(request) => add_proxy_status(request, name),
            _ => Ok(()),
        }
    }
}

/// Whether `request` is a CONNECT that no tunnel was built for, or will be.
fn is_in_place_of_tunnel(request: Request) -> bool {
    request.main() == request && request.was_connect() && !admit::is_anothers(request)
}

/// Why there is no tunnel, or why it broke. The CONNECT may have been answered by another module, or by
/// nginx: then the status tells what it can.
pub fn error_of(request: Request) -> Option<ProxyError> {
    let tunnel = Tunnel::of(request);

    if let Some(tunnel) = tunnel {
        // The status of one that stood is what `proxy_connect_response` says.
        if tunnel.error.get().is_some() || tunnel.close_reason.get().is_some() {
            return tunnel.error.get();
        }
    }

    ProxyError::of_status(request.status())
}

fn add_proxy_status(request: Request, name: &[u8]) -> Result<(), NoMemory> {
    let Some(error) = error_of(request) else {
        return Ok(());
    };

    let details = Tunnel::of(request).and_then(|tunnel| tunnel.details.get());
    let status = ProxyStatus { name, error: Some(error), next_hop: None, details }.to_string();

    match request.pool().copy(status.as_bytes()) {
        Some(value) => header_filter::push(request, FIELD, value),
        None => Err(NoMemory),
    }
}

/// The answer `text` to a CONNECT whose tunnel stands, with the upstream's address where the server tells
/// it. A text without a status line is left as it is.
///
/// # Errors
///
/// 500 when there is no memory.
pub fn with_next_hop<'a>(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    text: &'a [u8],
) -> Result<&'a [u8], Failure> {
    let name = conf.proxy_status().filter(|_| conf.tells_details());
    let line = text.iter().position(|&byte| byte == b'\n').map(|place| place + 1);

    let (Some(name), Some(line), Some(addr)) = (name, line, tunnel.addr.get()) else {
        return Ok(text);
    };

    let (line, rest) = text.split_at(line);
    let addr = addr.text();
    let next_hop = Some(addr.as_bytes());
    let status = ProxyStatus { name, error: None, next_hop, details: None };
    let field = format!("{FIELD}: {status}\r\n");
    let text = [line, field.as_bytes(), rest].concat();

    request.pool().copy(&text).map(|text| &*text).ok_or(Failure::INTERNAL)
}
