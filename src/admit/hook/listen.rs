//! Owns the listening sockets: which of them hook their connections, and the moment to do it.

use nginx_sys::{ngx_connection_t, ngx_cycle_t, ngx_listening_t};

use super::guard::guard_connection;
use super::Hook;
#[cfg(not(admit = "patched"))]
use crate::admit::disguised::receive;
#[cfg(http2)]
use crate::admit::http2;
#[cfg(not(admit = "patched"))]
use crate::conf::ServerConf;

/// For tests: hooks the listening sockets though no server has `proxy_connect`. Its value may be [`HTTP2`].
#[cfg(any(http2, not(admit = "patched")))]
const HOOK_ALL: &str = "PROXY_CONNECT_HOOK_ALL";

/// Hooks the HTTP listening sockets whose connections are to be read through functions of ours. `None` where
/// there is nothing to hook.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let cycle = cycle.as_mut()?;

        #[cfg(http2)]
        http2::find_addresses(cycle);

        #[cfg(not(admit = "patched"))]
        if !takes_lines(cycle) {
            return None;
        }

        for ls in cycle.listening.as_slice_mut::<ngx_listening_t>() {
            if is_http(ls) && is_hooked(ls) {
                ls.handler = Some(init_connection);
            }
        }
    }

    Some(())
}

/// For tests: each connection of HTTP/2 is read through the module, too.
#[cfg(http2)]
const HTTP2: &str = "http2";

/// Whether connections are hooked whatever servers say.
#[cfg(not(admit = "patched"))]
fn hooks_all() -> bool {
    std::env::var_os(HOOK_ALL).is_some()
}

/// The same of those of HTTP/2.
#[cfg(http2)]
pub fn hooks_all_http2() -> bool {
    std::env::var_os(HOOK_ALL).is_some_and(|value| value == HTTP2)
}

/// Whether any server has `proxy_connect`: what a CONNECT gets from one that has none does not depend on who
/// listens beside it.
///
/// # Safety
///
/// `cycle` must be complete.
#[cfg(not(admit = "patched"))]
unsafe fn takes_lines(cycle: &ngx_cycle_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { ServerConf::any(cycle, ServerConf::is_enabled) || hooks_all() }
}

/// # Safety
///
/// `_ls` must be a socket of the HTTP module.
#[cfg(not(admit = "patched"))]
unsafe fn is_hooked(_ls: &ngx_listening_t) -> bool {
    true
}

/// A patched core reads request lines by itself.
///
/// # Safety
///
/// `ls` must be a socket of the HTTP module.
#[cfg(admit = "patched")]
unsafe fn is_hooked(ls: &ngx_listening_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { http2::is_behind(ls) }
}

/// Whether a listening socket is one of the HTTP module for connections of TCP.
pub fn is_http(ls: &ngx_listening_t) -> bool {
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

        #[cfg(not(admit = "patched"))]
        if has_lines(hook) {
            receive::attach(c, hook);
        }

        #[cfg(ngx_feature = "http_ssl")]
        if (*hook.http).ssl() != 0 {
            return super::tls::attach(c);
        }

        #[cfg(http2)]
        http2::attach_in_cleartext(c, hook);
    }
}

/// Whether requests of HTTP/1 may come over the connection.
///
/// # Safety
///
/// `_hook` must be that of an open connection.
#[cfg(not(admit = "patched"))]
unsafe fn has_lines(_hook: &Hook) -> bool {
    #[cfg(http2)]
    // SAFETY: the caller's promise.
    return unsafe { !http2::is_alone(_hook) };

    #[cfg(not(http2))]
    true
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
