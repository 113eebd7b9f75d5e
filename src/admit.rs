//! Owns how a CONNECT gets past nginx's own 405 and to the module. There are three ways, of which
//! build.rs picks one by what the core offers; all that depends on it lies in one file for each.

#[cfg(not(admit = "patched"))]
mod explain;
#[cfg(not(admit = "patched"))]
mod line;
#[cfg(not(admit = "patched"))]
mod locations;
#[cfg(not(admit = "native"))]
mod probe;

#[cfg(admit = "native")]
mod native;
#[cfg(admit = "patched")]
mod patched;
#[cfg(admit = "stock")]
mod stock;

#[cfg(admit = "native")]
use native as way;
#[cfg(admit = "patched")]
use patched as way;
#[cfg(admit = "stock")]
use stock as way;

use nginx_sys::{ngx_conf_t, ngx_cycle_t, NGX_LOG_INFO};
use proxy_connect_core::target::{Authority, AuthorityError};

use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::log::Log;
use crate::ffi::request::Request;

/// How this build knows a CONNECT, reads its authority, and lets a server take it.
pub use way::{enable, host, is_anothers, port, recognise};

/// Whether the core that loads the module is one that it was built for.
///
/// # Errors
///
/// What is wrong, and what to do.
pub fn check_core() -> Result<(), &'static str> {
    if way::fits() {
        Ok(())
    } else {
        Err(way::MISFIT)
    }
}

/// Does what the way needs while the configuration is read. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { way::install(cf) }
}

/// Does what the way needs once the configuration is complete, and tells the log which it is.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn start(cycle: *mut ngx_cycle_t) {
    // SAFETY: the caller's promise; a cycle has a log.
    unsafe {
        way::start(cycle);

        if let Some(log) = Log::from_ptr((*cycle).log) {
            log.write(NGX_LOG_INFO, 0, format_args!("{}", way::NAME));
        }
    }
}

/// What is wrong with a CONNECT to a server that takes none; completes "client sent".
const NOT_ALLOWED: &str = "connect method to a server without \"proxy_connect\"";

/// A CONNECT that can't become a tunnel.
pub struct Refusal {
    /// The status to answer.
    pub status: u16,
    /// Completes "client sent".
    pub what: String,
}

/// Lies in the pool of a request that the module has looked at; a pool holds nothing of no size.
struct Seen(#[allow(dead_code)] u8);

/// Decides whether a CONNECT can become a tunnel.
///
/// # Errors
///
/// [`Refusal`] says what is wrong with it.
pub fn admit(request: Request) -> Result<(), Refusal> {
    let refuse = |status, what: &str| Err(Refusal { status, what: what.into() });

    // From here on it is the module that tells the log what is wrong.
    if request.pool().put(Seen(1)).is_none() {
        return refuse(500, "CONNECT, there is no memory for it");
    }

    if request.is_http09() {
        return refuse(400, "CONNECT over HTTP/0.9");
    }

    if !request.is_http1() {
        return refuse(405, "CONNECT over a version of HTTP that has no tunnels here yet");
    }

    authority(&request).map_err(|what| Refusal { status: 400, what })?;

    if !ServerConf::takes_connect(&request) {
        return refuse(405, NOT_ALLOWED);
    }

    #[cfg(core_patch = "another")]
    if way::is_read_by_patch(&request) {
        return refuse(500, "CONNECT, which a patch of the core has read");
    }

    if request.announces_body() {
        return refuse(400, "CONNECT with a body");
    }

    Ok(())
}

/// The authority of a CONNECT.
///
/// # Errors
///
/// What is wrong with it. A core that parses CONNECT has refused most of this by itself.
pub fn authority(request: &Request) -> Result<Authority<'_>, String> {
    let authority =
        Authority::new(host(request), port(request)).map_err(|error| error.to_string())?;

    let is_literal = authority.host() != authority.bare_host();

    if is_literal && !is_ipv6(request, authority.bare_host()) {
        return Err(AuthorityError::InvalidLiteral.to_string());
    }

    Ok(authority)
}

fn is_ipv6(request: &Request, text: &[u8]) -> bool {
    let addr = Addr::parse_ip(request.pool(), text, 0);
    addr.is_some_and(|addr| addr.family() == libc::AF_INET6)
}
