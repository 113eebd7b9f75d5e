//! Owns the way through a core that parses CONNECT by itself, nginx 1.29.3 and newer, for the
//! servers that allow it.

use nginx_sys::{ngx_conf_t, ngx_cycle_t, NGX_HTTP_NOT_ALLOWED, NGX_LOG_INFO};
use ngx::http::{HttpModuleServerConf, NgxHttpCoreModule};

use super::explain::explain;
use super::{locations, NOT_ALLOWED};
use crate::conf::ServerConf;
use crate::ffi::log::Shown;
use crate::ffi::phase::{add_handler, Phase, PhaseHandler, Verdict};
use crate::ffi::request::Request;

pub use super::line::{host, port};

/// What the log says of this way.
pub const NAME: &str = "the core parses CONNECT";

/// What to say to another core.
pub const MISFIT: &str = "";

/// nginx's signature has its version, and each core of that version parses CONNECT.
pub fn fits() -> bool {
    true
}

/// Has the core let CONNECT through to the server that `cf` has just read.
///
/// # Errors
///
/// Another module lets it through already.
///
/// # Safety
///
/// `cf` must be the configuration that a merge of server configurations got.
pub unsafe fn enable(cf: *mut ngx_conf_t) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let core = unsafe { cf.as_ref().and_then(|cf| NgxHttpCoreModule::server_conf_mut(cf)) };

    match core {
        Some(core) if core.allow_connect() == 0 => {
            core.set_allow_connect(1);
            Ok(())
        }
        Some(core) => {
            // SAFETY: the core's parser keeps the name of the file.
            let file = unsafe { std::ffi::CStr::from_ptr(core.file_name.cast()) };

            Err(format!(
                "\"proxy_connect\" and another module, such as that of \"tunnel_pass\", both want \
                 the CONNECT requests of the server at {}:{}, keep one of them",
                Shown(file.to_bytes()),
                core.line
            ))
        }
        None => Ok(()),
    }
}

/// Has the log tell what is wrong with a CONNECT that the core's parser refuses.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { add_handler::<BeforeLog>(cf, Phase::Log) }
}

struct BeforeLog;

impl PhaseHandler for BeforeLog {
    fn handle(request: Request) -> Verdict {
        if request.has_request_line() {
            explain(request);
            explain_refusal(request);
        }

        Verdict::Decline
    }
}

/// Says of a CONNECT that the core refused for its server what the other ways say of it.
fn explain_refusal(request: Request) {
    let status = request.raw().headers_out.status;

    if status == NGX_HTTP_NOT_ALLOWED as usize && request.was_connect() && !is_allowed(&request) {
        let log = request.connection().log();
        log.write(NGX_LOG_INFO, 0, format_args!("client sent {NOT_ALLOWED}"));
    }
}

/// Whether the CONNECT is for another module.
pub fn is_anothers(request: Request) -> bool {
    is_allowed(&request) && !ServerConf::takes_connect(&request)
}

/// Whether the core lets a CONNECT through to its server: where some module wants it.
fn is_allowed(request: &Request) -> bool {
    let core = NgxHttpCoreModule::server_conf(request.raw());
    core.is_some_and(|core| core.allow_connect() != 0)
}

/// Keeps locations away.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn start(cycle: *mut ngx_cycle_t) {
    // SAFETY: the caller's promise. Without an http block there is nothing to do.
    let _ = unsafe { locations::install(cycle) };
}

/// The core has recognised it.
pub fn recognise(_request: Request) {}
