//! Owns the way through a core whose parser does not take every CONNECT: a stock one, one that someone else
//! has patched, and one that parses CONNECT by itself, but none of HTTP/1.0.
//!
//! A CONNECT is shown to the parser as a request for a path, which it takes whatever the authority looks
//! like. Before the end of the line is shown, the authority is judged, and stands where that of an
//! absolute-form would: the core chooses the server by it. Before the first phase handler the request is
//! made a CONNECT again. Bytes neither move nor change their number, so buffers, pieces and limits are
//! those of any other request.
//!
//! | file | owns |
//! |---|---|
//! | [`receive`] | the reading of a connection |
//! | [`request`] | what is changed in the request |
//! | [`end`] | what follows a request |
//! | `files` | keeping the core's own `try_files` away from it |

mod end;
#[cfg(try_files = "core")]
mod files;
pub mod receive;
mod request;

use nginx_sys::ngx_cycle_t;

use super::hook::listen;
use super::{locations, recognise};

pub use end::before_log;
pub use request::recognise;

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

            let _ = recognise::install(cycle);
            let _ = listen::install(cycle);
        }
    }
}
