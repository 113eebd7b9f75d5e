//! Owns how a CONNECT gets past nginx's own 405 and to the module. There are three ways, of which
//! build.rs picks one by what the core offers; all that depends on it lies in one file for each.

pub mod checker;
#[cfg(ngx_feature = "http_ssl")]
pub mod early_data;
mod explain;
#[cfg(any(http2, not(admit = "patched")))]
mod hook;
#[cfg(http2)]
mod http2;
mod line;
#[cfg(not(admit = "patched"))]
mod locations;
#[cfg(ngx_feature = "http_ssl")]
mod misdirected;
#[cfg(not(admit = "native"))]
mod probe;
#[cfg(any(http2, not(admit = "patched")))]
mod recognise;
mod uri;

#[cfg(not(admit = "patched"))]
mod disguised;
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

use nginx_sys::{ngx_conf_t, ngx_cycle_t};

use proxy_connect_core::http2::fields::SectionError as Complaint;

use crate::conf::ServerConf;
use crate::ffi::log::Log;
use crate::ffi::phase::{add_handler, Phase, PhaseHandler, Verdict};
use crate::ffi::request::Request;
use crate::version;

pub use line::authority;
pub use way::{enable, is_anothers, restore_keepalive};

/// Whether the core that loads the module is one that it was built for.
///
/// # Errors
///
/// What is wrong, and what to do.
pub fn check_core() -> Result<(), String> {
    if way::fits() {
        Ok(())
    } else {
        Err(format!("{} ({}this is nginx {})", way::MISFIT, version::BUILD, version::Running))
    }
}

/// Does what is to be done before nginx reads the `http` block. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a preconfiguration hook got.
pub unsafe fn prepare(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { uri::hide_from_variables(cf) }
}

/// Does what is to be done when nginx has read the `http` block. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        uri::find_rewrite(cf)?;

        #[cfg(ngx_feature = "http_ssl")]
        let _ = misdirected::warn(cf);

        add_handler::<BeforeLog>(cf, Phase::Log)
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
        // Without an http block there is nothing to hide.
        let _ = uri::hide_from_rewrite(cycle);

        if let Some(log) = Log::from_ptr((*cycle).log) {
            version::tell(log, way::NAME);
        }
    }
}

/// Looks at each request before it is logged.
struct BeforeLog;

impl PhaseHandler for BeforeLog {
    fn handle(request: Request) -> Verdict {
        if request.has_request_line() {
            way::before_log(request);
            explain::explain(request);
        }

        #[cfg(http2)]
        if request.is_stream() && request.main() == request {
            http2::before_log(request);
        }

        Verdict::Decline
    }
}

/// Gives a CONNECT that is another module's what it would have had from the core.
///
/// # Errors
///
/// [`Refusal`], as the core would have refused it.
pub fn leave(request: Request) -> Result<(), Refusal> {
    uri::show(request);

    if request.announces_body() {
        return refuse(400, "CONNECT request with body");
    }

    Ok(())
}

/// What is wrong with a CONNECT to a server that takes none; completes "client sent".
const NOT_ALLOWED: &str = "connect method to a server without \"proxy_connect\"";

/// A CONNECT that can't become a tunnel.
pub struct Refusal {
    /// The status to answer.
    pub status: u16,
    /// Completes "client sent".
    pub what: String,
    /// Whether it is malformed as only a stream's can be: the stream ends without an answer.
    pub is_malformed: bool,
}

fn refuse<T>(status: u16, what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, what: what.into(), is_malformed: false })
}

/// Refuses a CONNECT for its request line, of which there may be no version.
fn refuse_line(request: Request, status: u16, what: impl Into<String>) -> Result<(), Refusal> {
    line::forget_nobody(request);
    request.expect_header();
    refuse(status, what)
}

/// Whether the server that answers `request` has tunnels over HTTP/2.
fn takes_http2(request: &Request) -> bool {
    ServerConf::of(request).is_some_and(ServerConf::takes_http2)
}

/// Decides whether a CONNECT can become a tunnel.
///
/// # Errors
///
/// [`Refusal`] says what is wrong with it.
pub fn admit(request: Request) -> Result<(), Refusal> {
    let is_stream_of_ours = takes_http2(&request) && authority(&request).is_some();

    if !request.has_request_line() && !is_stream_of_ours {
        let what = match ServerConf::takes_connect(&request) {
            true => "CONNECT over a version of HTTP that has no tunnels here",
            false => NOT_ALLOWED,
        };

        return refuse(405, what);
    }

    #[cfg(core_patch = "another")]
    if way::is_read_by_patch(&request) {
        return refuse(500, "CONNECT, which a patch of the core has read");
    }

    match authority(&request) {
        None => return refuse_line(request, 500, "CONNECT, there is no memory for it"),
        Some(Err(error)) => {
            line::take_complaint(request);
            let status = if error == Complaint::Protocol { 501 } else { 400 };
            let refused = refuse_line(request, status, error.to_string());
            let is_malformed = error.is_malformed();
            return refused.map_err(|refusal| Refusal { is_malformed, ..refusal });
        }
        Some(Ok(_)) => (),
    }

    if !ServerConf::takes_connect(&request) {
        return refuse(405, NOT_ALLOWED);
    }

    if line::announces_body(request) {
        return refuse(400, "CONNECT with a body");
    }

    Ok(())
}
