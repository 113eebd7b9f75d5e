//! Owns the way through a core that parses CONNECT by itself, nginx 1.29.3 and newer, for the
//! servers that allow it.

use nginx_sys::{ngx_conf_t, ngx_cycle_t};
use ngx::http::{HttpModuleServerConf, NgxHttpCoreModule};

use super::explain::explain;
use super::locations;
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
        }

        Verdict::Decline
    }
}

/// Whether the CONNECT is for another module: the core lets through none that no module wants.
pub fn is_anothers(request: Request) -> bool {
    !ServerConf::takes_connect(&request)
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
