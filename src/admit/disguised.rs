//! Owns the way through a core without this module's patch, nginx 1.9.11 to 1.29.2: a stock one, or
//! one that someone else has patched, whose patch then sees no CONNECT to read.
//!
//! Its parser refuses authority-form but takes absolute-form. Both fit the same eight bytes:
//! where a request begins with `CONNECT `, the parser is shown `CON a://` instead (the disguise),
//! reads the host and picks the server as for any absolute-form, and before the first phase
//! handler the request is made a CONNECT again. Bytes neither move nor change their number, so
//! buffers, pieces and limits are those of any other request.
//!
//! | file | owns |
//! |---|---|
//! | [`fit`] | whether the core is the one that this was built for |
//! | [`listen`] | which listening sockets hook their connections |
//! | [`guard`] | what becomes of a connection after a panic |
//! | [`hook`] | what is kept for a hooked connection |
//! | [`tls`] | getting between the TLS handshake and the first read |
//! | [`receive`] | the reading of a connection, and the disguise |
//! | [`restore`] | making the request a CONNECT again |
//! | [`logs`] | what the logs see of it |
//! | `files` | keeping the core's own `try_files` away from it |

#[cfg(try_files = "core")]
mod files;
mod fit;
mod guard;
mod hook;
mod listen;
mod logs;
mod receive;
mod restore;
#[cfg(ngx_feature = "http_ssl")]
mod tls;

use nginx_sys::{ngx_conf_t, ngx_cycle_t};

use super::locations;
use crate::ffi::phase::{add_handler, Phase};
use crate::ffi::request::Request;

pub use super::line::{host, port};
#[cfg(core_patch = "another")]
pub use fit::is_read_by_patch;
pub use fit::{fits, MISFIT, NAME};
pub use restore::recognise;

/// No other module takes CONNECT where the core does not parse it by itself.
pub fn is_anothers(_request: Request) -> bool {
    false
}

/// The core asks no server for leave.
///
/// # Errors
///
/// None.
///
/// # Safety
///
/// None is needed.
pub unsafe fn enable(_cf: *mut ngx_conf_t) -> Result<(), String> {
    Ok(())
}

/// Sees to it that the access log shows what the client sent.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { add_handler::<logs::BeforeLog>(cf, Phase::Log) }
}

/// Keeps locations away, and hooks the listening sockets of servers with `proxy_connect`.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn start(cycle: *mut ngx_cycle_t) {
    // SAFETY: the caller's promise. Without an http block there is nothing to do.
    unsafe {
        if locations::install(cycle).is_some() {
            #[cfg(try_files = "core")]
            let _ = files::install(cycle);

            let _ = listen::install(cycle);
        }
    }
}
