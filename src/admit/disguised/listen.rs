//! Owns the listening sockets: which of them hook their connections, and the moment to do it.

#[cfg(ngx_feature = "http_ssl")]
use std::ptr::NonNull;

#[cfg(ngx_feature = "http_ssl")]
use nginx_sys::ngx_http_connection_t;
use nginx_sys::{ngx_connection_t, ngx_cycle_t, ngx_listening_t};

use super::guard::guard_connection;
use super::hook::Hook;
use super::receive;
use crate::conf::ServerConf;

/// For tests: hooks the listening sockets though no server has `proxy_connect`.
const HOOK_ALL: &str = "PROXY_CONNECT_HOOK_ALL";

/// Hooks the HTTP listening sockets, if any server has `proxy_connect`: what a CONNECT gets from one that has
/// none does not depend on who listens beside it. `None` where there is nothing to hook.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let cycle = cycle.as_mut()?;

        if !ServerConf::any(cycle, ServerConf::is_enabled) && std::env::var_os(HOOK_ALL).is_none() {
            return None;
        }

        for ls in cycle.listening.as_slice_mut::<ngx_listening_t>() {
            if is_http(ls) {
                ls.handler = Some(init_connection);
            }
        }
    }

    Some(())
}

fn is_http(ls: &ngx_listening_t) -> bool {
    ls.type_ == libc::SOCK_STREAM
        && ls.handler.is_some_and(|handler| {
            std::ptr::fn_addr_eq(
                handler,
                nginx_sys::ngx_http_init_connection as unsafe extern "C" fn(_),
            )
        })
}

/// Stands in the place of ngx_http_init_connection().
unsafe extern "C" fn init_connection(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls the handler of a listening socket with the connection that it accepted.
    unsafe { guard_connection(c, || initialise(c)) }
}

/// # Safety
///
/// `c` must be a connection that nginx has just accepted.
unsafe fn initialise(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        // With a deferred accept there are bytes already, and nginx would read them before we
        // are in between.
        let ready = (*(*c).read).ready();
        (*(*c).read).set_ready(0);

        nginx_sys::ngx_http_init_connection(c);

        // nginx closed it.
        if (*c).fd == -1 {
            return;
        }

        attach(c);

        if ready != 0 {
            resume(c);
        }
    }
}

/// # Safety
///
/// `c` must be a connection that nginx has just initialised.
unsafe fn attach(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(hook) = Hook::make(c) else {
            return;
        };

        receive::attach(c, hook);

        #[cfg(ngx_feature = "http_ssl")]
        if is_ssl(c) {
            super::tls::attach(c);
        }
    }
}

/// Whether the connection begins with a TLS handshake.
///
/// # Safety
///
/// As for [`attach`].
#[cfg(ngx_feature = "http_ssl")]
unsafe fn is_ssl(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller's promise: the data is an ngx_http_connection_t.
    unsafe { NonNull::new((*c).data.cast::<ngx_http_connection_t>()) }
        .is_some_and(|http| unsafe { http.as_ref() }.ssl() != 0)
}

/// Goes on where nginx would have after a deferred accept.
///
/// # Safety
///
/// As for [`attach`].
unsafe fn resume(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let read = (*c).read;
        (*read).set_ready(1);

        if nginx_sys::ngx_use_accept_mutex != 0 {
            nginx_sys::ngx_post_event(read, std::ptr::addr_of_mut!(nginx_sys::ngx_posted_events));
        } else if let Some(handler) = (*read).handler {
            handler(read);
        }
    }
}
