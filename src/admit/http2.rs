//! Owns CONNECT over HTTP/2, which no core takes: its HEADERS are shown to nginx in disguise, and nothing of
//! what follows them. It needs nothing of a core, so it is the same for all ways.
//!
//! | file | owns |
//! |---|---|
//! | [`addresses`] | which addresses have a server with such tunnels: only their connections are looked into |
//! | [`preface`] | finding out whether a connection in cleartext is one of HTTP/2 |
//! | [`frames`] | the reading of a connection |
//! | [`receiver`] | the connection's own receive function, and how much is asked of it at once |
//! | [`data`] | where the bytes of tunnels lie among those that were read |
//! | [`request`] | what is changed in the request |

mod addresses;
mod data;
mod frames;
mod preface;
mod receiver;
mod request;

use nginx_sys::{ngx_connection_t, ngx_http_connection_t, ngx_uint_t};

use super::hook::Hook;
use crate::conf::ServerConf;
#[cfg(ngx_feature = "http_ssl")]
use crate::ffi::request::Request;
#[cfg(ngx_feature = "http_ssl")]
use crate::ffi::stream::http2::place_of;

pub use addresses::find as find_addresses;
#[cfg(admit = "patched")]
pub use addresses::is_behind;
pub use request::{before_log, recognise};

// src/ffi/stream/http2.c
extern "C" {
    fn proxy_connect_h2_is_on(hc: *mut ngx_http_connection_t) -> ngx_uint_t;
    #[cfg(not(admit = "patched"))]
    fn proxy_connect_h2_is_alone(hc: *mut ngx_http_connection_t) -> ngx_uint_t;
}

/// Has a connection over TLS read frame by frame, of which nginx and the client have agreed that it is one of
/// HTTP/2; if its address has a server with tunnels over it.
///
/// # Safety
///
/// `c` must be an open connection whose handshake is over and of which nothing was read, and `hook` its own.
pub unsafe fn attach_over_tls(c: *mut ngx_connection_t, hook: &Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        if addresses::has((*hook.http).addr_conf) {
            frames::attach(c, hook.http, true, &[]);
        }
    }
}

/// Whether a connection in cleartext can be one of HTTP/2 alone, and has no request lines: before nginx 1.25.1, where
/// `listen` says so.
///
/// # Safety
///
/// `hook` must be that of an open connection.
#[cfg(not(admit = "patched"))]
pub unsafe fn is_alone(hook: &Hook) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*hook.http).ssl() == 0 && proxy_connect_h2_is_alone(hook.http) != 0 }
}

/// Has a connection in cleartext read frame by frame if it turns out to be one of HTTP/2.
///
/// # Safety
///
/// `c` must be an open connection of which nothing was read, and `hook` its own.
pub unsafe fn attach_in_cleartext(c: *mut ngx_connection_t, hook: &Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        if addresses::has((*hook.http).addr_conf) && proxy_connect_h2_is_on(hook.http) != 0 {
            preface::attach(c, hook);
        }
    }
}

/// Has a CONNECT hear of the end of its connection's handshake, which waits for it.
#[cfg(ngx_feature = "http_ssl")]
pub fn note_early(request: Request) {
    // SAFETY: a live request over a stream, whose connection is open. No other reference to its frames is
    // in use: nginx is not in our receive function.
    unsafe {
        if let Some(frames) = place_of(request).and_then(|(_, c)| frames::of(c)) {
            frames.note_early();
        }
    }
}

/// Whether the server that a connection has by its address, or the name in its TLS, is the one for all its
/// CONNECTs.
///
/// # Safety
///
/// `http` must be that of an open connection.
unsafe fn keeps_server(http: *mut ngx_http_connection_t) -> bool {
    // SAFETY: the caller's promise; the module creates ServerConf as its server configurations.
    unsafe {
        let conf = (*(*http).conf_ctx).srv_conf.add(crate::module().ctx_index);
        (*conf).cast::<ServerConf>().as_ref().is_some_and(ServerConf::is_of_connection)
    }
}
