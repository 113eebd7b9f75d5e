//! Owns what an answer tells of the reason: `Proxy-Status` (RFC 9209), in place of a tunnel and beside one; and
//! the last look at a header before nginx writes it.

use nginx_sys::ngx_conf_t;
use proxy_connect_core::page;
use proxy_connect_core::proxy_status::{ProxyError, ProxyStatus};

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::filter::{self, LastFilter};
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;
use crate::{admit, auth};

const FIELD: &str = "Proxy-Status";

const PROXY_AUTHENTICATION: u16 = 407;

/// Registers the filter, where any server has a use for it. `None` without an `http` block.
///
/// # Safety
///
/// `cf` must be the configuration that the postconfiguration hook of a module with its place there got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise: the configurations of all servers are merged.
    unsafe {
        let is_used = |conf: &ServerConf| {
            auth::asks_users(conf) || conf.proxy_status().is_some() || conf.passes_auth()
        };
        filter::install_last::<Answer>(ServerConf::any(cf.as_ref()?, is_used));
    }

    Some(())
}

/// The last look at the header of an answer that nginx sends.
struct Answer;

impl LastFilter for Answer {
    fn header(request: Request) -> Option<()> {
        auth::finish(request);
        name_status(request);

        match ServerConf::of(&request).and_then(ServerConf::proxy_status) {
            Some(name) if is_in_place_of_tunnel(request) => add_proxy_status(request, name),
            _ => Some(()),
        }
    }
}

/// Gives a parent's 407 that is handed on its status line: an old nginx has none for it.
fn name_status(request: Request) {
    let is_handed_on = ServerConf::of(&request).is_some_and(ServerConf::passes_auth);

    if is_handed_on && request.answer_status() == PROXY_AUTHENTICATION {
        request.answer_with(PROXY_AUTHENTICATION, page::STATUS_LINE);
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

fn add_proxy_status(request: Request, name: &[u8]) -> Option<()> {
    let Some(error) = error_of(request) else {
        return Some(());
    };

    let details = Tunnel::of(request).and_then(|tunnel| tunnel.details.get());
    let status = ProxyStatus { name, error: Some(error), next_hop: None, details }.to_string();

    request.answer_fields().push(FIELD.as_bytes(), request.pool().copy(status.as_bytes())?)
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
