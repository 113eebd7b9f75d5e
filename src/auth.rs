//! Owns what a server with `proxy_connect_auth` does about credentials: those for the proxy take the place of
//! those for the origin before any other module looks, and what asks for them leaves as 407 (RFC 9110,
//! sections 11.7 and 15.5.8). So whatever module checks `Authorization`, and answers 401, checks users of a
//! proxy.
//!
//! | file | owns |
//! |---|---|
//! | [`credentials`] | which credentials stand in the request's header, and when |
//! | [`challenge`] | the answer that asks for them |

mod challenge;
mod credentials;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use nginx_sys::{ngx_conf_t, ngx_cycle_t, ngx_http_request_t, ngx_int_t, NGX_LOG_INFO};
use ngx::http::HttpModuleConfExt;
use proxy_connect_core::proxy_status::ProxyError;

use crate::conf::auth::Scope;
use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::code;
use crate::ffi::error_pages;
use crate::ffi::filter;
use crate::ffi::phase::{add_handler, Phase, IN_CONTENT};
use crate::ffi::request::Request;
use challenge::Challenge;
use credentials::{Credentials, TakeError};

pub use challenge::finish;
pub use credentials::grant;

/// Whether any configuration that this process has read has credentials hidden while a header is read.
static HIDDEN: AtomicBool = AtomicBool::new(false);

// src/auth/hidden.c
extern "C" {
    fn proxy_connect_hide_credentials(cf: *mut ngx_conf_t) -> ngx_int_t;
    fn proxy_connect_show_credentials(r: *mut ngx_http_request_t);
}

/// What is kept for a request whose credentials are those for the proxy, in its pool.
struct Auth {
    is_connect: bool,
    credentials: Credentials,
    access: Cell<Access>,
    /// The answer asks for credentials.
    is_challenged: Cell<bool>,
    /// The header of the answer waits for the body.
    is_held: Cell<bool>,
    /// The connection is kept, though this is a CONNECT.
    is_kept: Cell<bool>,
}

/// What was decided about a request that is no CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing yet.
    Pending,
    /// It may have its content: a 401 is the origin's from here on.
    Granted,
    /// It was refused: its content is the page that says so.
    Refused,
}

/// Registers the filter and the handlers, where any server has a use for them. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise: the configurations of all servers are merged.
    unsafe {
        let is_used = ServerConf::any(cf.as_ref()?, asks_users);

        filter::install::<Challenge>(is_used);

        if is_used {
            HIDDEN.store(true, Ordering::Relaxed);

            if proxy_connect_hide_credentials(cf) != code::OK {
                return None;
            }
        }

        if ServerConf::any(cf.as_ref()?, |conf| conf.auth() == Scope::All) {
            add_handler::<credentials::BeforeAccess>(cf, Phase::PreAccess)?;
        }
    }

    Some(())
}

/// Whether a server has users of a proxy.
pub fn asks_users(conf: &ServerConf) -> bool {
    conf.auth() != Scope::Off
}

/// Does what is left when the configuration is complete. `None` when there is no `http` block, or no memory.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn start(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if IN_CONTENT && ServerConf::any(cycle.as_ref()?, |conf| conf.auth() == Scope::All) {
            credentials::watch_content(cycle)?;
        }

        let pool = (*cycle).pool;

        for (server, mut conf) in ServerConf::all(cycle.as_ref()?) {
            if conf.as_ref().auth() == Scope::Connect {
                if let Some(table) = error_pages::copy_united(pool, server) {
                    conf.as_mut().set_connect_locations(table);
                }
            }
        }
    }

    Some(())
}

/// Prepares the location, or server, whose configuration is being merged. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a merge of location configurations got.
pub unsafe fn prepare_location(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise; the configurations of servers are merged before those of their locations.
    unsafe {
        let conf = cf.as_ref()?.http_server_conf_unchecked::<ServerConf>(crate::module())?;

        match conf.as_ref().auth() {
            Scope::All => error_pages::unite(cf),
            Scope::Off | Scope::Connect => Some(()),
        }
    }
}

/// Why a request with credentials goes no further: the status to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u16);

/// Shows the credentials that were hidden while nginx read the header of `request`, whose log has it by now. To be
/// called before any module looks at them, whatever the server.
pub fn show_credentials(request: Request) {
    if HIDDEN.load(Ordering::Relaxed) {
        // SAFETY: a live request, whose header was read.
        unsafe { proxy_connect_show_credentials(request.as_ptr()) };
    }
}

/// Has the credentials for the proxy be those of `request`, where its server says so.
///
/// # Errors
///
/// 400 for a request that has two of them, 500 without memory. The log was told.
pub fn begin(request: Request) -> Result<(), Refused> {
    let Some(conf) = ServerConf::of(&request).filter(|conf| is_for(conf, request)) else {
        return Ok(());
    };

    let credentials = Credentials::take(request).map_err(|error| match error {
        TakeError::Duplicate => {
            let what = "client sent more than one \"Proxy-Authorization\" header";
            request.connection().log().write(NGX_LOG_INFO, 0, format_args!("{what}"));
            Refused(400)
        }
        TakeError::NoMemory => Refused(500),
    })?;

    let auth = Auth {
        is_connect: request.is_connect(),
        credentials,
        access: Cell::new(Access::Pending),
        is_challenged: Cell::new(false),
        is_held: Cell::new(false),
        is_kept: Cell::new(false),
    };

    request.pool().put(auth).ok_or(Refused(500))?;

    if let Some(table) = conf.connect_locations() {
        request.use_locations(table);
    }

    Ok(())
}

/// The client's credentials for a proxy, wherever they stand now.
///
/// # Errors
///
/// 400 for a client that has sent two pairs of them.
pub fn for_proxy<'a>(request: Request) -> Result<Option<&'a [u8]>, Failure> {
    let value = match Auth::of(request) {
        Some(auth) => auth.credentials.for_proxy(),
        None => credentials::find(request).map_err(|_| {
            let what = "client sent more than one \"Proxy-Authorization\" header";
            request.connection().log().write(NGX_LOG_INFO, 0, format_args!("{what}"));
            Failure::new(400, ProxyError::HttpRequestError)
        })?,
    };

    Ok(value)
}

fn is_for(conf: &ServerConf, request: Request) -> bool {
    match conf.auth() {
        Scope::Off => false,
        Scope::Connect => request.is_connect(),
        Scope::All => true,
    }
}

/// Whether the connection of a CONNECT may be kept when its answer asks for credentials: nothing may have come
/// behind it, which would be the tunnel's.
pub fn may_keep_connection(request: Request) -> bool {
    ServerConf::of(&request).is_some_and(asks_users)
        && request.has_request_line()
        && !request.has_early_bytes()
        && !request.announces_body()
}

/// Whether the connection of a CONNECT that is over is kept.
#[cfg(not(admit = "patched"))]
pub fn keeps_connection(request: Request) -> bool {
    Auth::of(request).is_some_and(|auth| auth.is_kept.get())
}

impl Auth {
    /// What is kept for `request`. `None` where its credentials are the origin's.
    fn of<'a>(request: Request) -> Option<&'a Self> {
        let conf = ServerConf::of(&request)?;

        if !asks_users(conf) || request.main() != request {
            return None;
        }

        // SAFETY: begin() put it into the request's pool.
        request.pool().find::<Self>().map(|auth| unsafe { auth.as_ref() })
    }
}
