//! Owns how a CONNECT gets past nginx's own 405 and to the module. There are three ways, of which
//! build.rs picks one by what the core offers; all that depends on it lies in one file for each.

#[cfg(not(admit = "patched"))]
mod explain;
#[cfg(not(admit = "patched"))]
mod line;
#[cfg(not(admit = "patched"))]
mod locations;

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
use proxy_connect_core::target::Authority;

use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::log::Log;
use crate::ffi::phase::{add_handler, Phase, PhaseHandler, Verdict};
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;

/// How this build reads the authority of a CONNECT, and lets a server take it.
pub use way::{enable, host, port};

/// Registers the module's handlers. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        way::install(cf)?;
        add_handler::<Admission>(cf, Phase::PostRead)?;
        add_handler::<Departure>(cf, Phase::PreContent)
    }
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

/// Refuses a CONNECT that can't become a tunnel before any other phase sees it.
struct Admission;

impl PhaseHandler for Admission {
    fn handle(request: Request) -> Verdict {
        way::recognise(request);

        if !request.is_connect() {
            return Verdict::Decline;
        }

        // Whatever the answer: bytes behind a CONNECT belong to the tunnel.
        request.forbid_keepalive();

        match admit(request) {
            Ok(()) => Verdict::Decline,
            Err(refusal) => {
                let log = request.connection().log();
                log.write(NGX_LOG_INFO, 0, format_args!("client sent {}", refusal.what));
                Verdict::Refuse(refusal.status)
            }
        }
    }
}

/// Sends an admitted CONNECT on its way, once it is rewritten and access is granted.
struct Departure;

impl PhaseHandler for Departure {
    fn handle(request: Request) -> Verdict {
        // After an internal redirect, by error_page say, the context is gone: what runs then is
        // the answer to a refused CONNECT.
        if !request.is_connect() || Tunnel::current(request).is_none() {
            return Verdict::Decline;
        }

        crate::tunnel::begin(request)
    }
}

struct Refusal {
    status: u16,
    /// Completes "client sent".
    what: String,
}

fn admit(request: Request) -> Result<(), Refusal> {
    let refuse = |status, what: &str| Err(Refusal { status, what: what.into() });

    if request.is_http09() {
        return refuse(400, "CONNECT over HTTP/0.9");
    }

    if !request.is_http1() {
        return refuse(405, "CONNECT over a version of HTTP that has no tunnels here yet");
    }

    if Tunnel::create(request).is_none() {
        return refuse(500, "CONNECT, there is no memory for it");
    }

    authority(&request).map_err(|what| Refusal { status: 400, what })?;

    if !ServerConf::takes_connect(&request) {
        return refuse(405, "CONNECT to a server without \"proxy_connect\"");
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
/// What is wrong with it. A core that parses CONNECT has refused most of this by itself; a core
/// patched by someone else may have let it pass.
pub fn authority(request: &Request) -> Result<Authority<'_>, String> {
    let authority =
        Authority::new(host(request), port(request)).map_err(|error| error.to_string())?;

    let is_literal = authority.host() != authority.bare_host();

    if is_literal && Addr::parse_ip(request.pool(), authority.bare_host(), 0).is_none() {
        return Err("CONNECT with an invalid IPv6 literal".into());
    }

    Ok(authority)
}
