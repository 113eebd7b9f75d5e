//! Owns the way through a core that parses CONNECT by itself, nginx 1.29.3 and newer: it takes fewer than
//! others do, so it is shown them in disguise, and a module of its own that takes CONNECT gets those of its
//! servers as if it were not.

use nginx_sys::ngx_conf_t;
use ngx::http::{HttpModuleServerConf, NgxHttpCoreModule};

use crate::conf::ServerConf;
use crate::ffi::log::Shown;
use crate::ffi::request::Request;

pub use super::disguised::{before_log, start};

/// What the log says of this way.
pub const NAME: &str = "the core parses CONNECT, which is shown to it in origin-form";

/// What to say to another core.
pub const MISFIT: &str = "";

/// nginx's signature has its version, and each core of that version parses CONNECT.
pub fn fits() -> bool {
    true
}

/// The core knows by itself what the client wants.
pub fn restore_keepalive(_request: Request) {}

/// Lets the server that `cf` has just read have CONNECT.
///
/// # Errors
///
/// Another module wants it already.
///
/// # Safety
///
/// `cf` must be the configuration that a merge of server configurations got.
pub unsafe fn enable(cf: *mut ngx_conf_t) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let core = unsafe { cf.as_ref().and_then(|cf| NgxHttpCoreModule::server_conf(cf)) };

    match core {
        Some(core) if core.allow_connect() != 0 => {
            // SAFETY: the core's parser keeps the name of the file.
            let file = unsafe { std::ffi::CStr::from_ptr(core.file_name.cast()) };

            Err(format!(
                "\"proxy_connect\" and another module, such as that of \"tunnel_pass\", both want \
                 the CONNECT requests of the server at {}:{}, keep one of them",
                Shown(file.to_bytes()),
                core.line
            ))
        }
        _ => Ok(()),
    }
}

/// Whether the CONNECT is for another module that takes it: the core lets it have those of HTTP/1.1.
pub fn is_anothers(request: Request) -> bool {
    let core = NgxHttpCoreModule::server_conf(request.raw());

    core.is_some_and(|core| core.allow_connect() != 0)
        && request.is_http11()
        && !ServerConf::takes_connect(&request)
}

/// The core has no fields of its own for an authority.
#[cfg(http2)]
pub fn note_authority(_request: Request) {}
