//! Owns finding out whether a connection in cleartext is one of HTTP/2, by prior knowledge (RFC 9113, section
//! 3.3): it begins with the preface, which no request does. Where it ends, and before nginx reads on, its
//! frames begin.

use nginx_sys::{ngx_connection_t, ngx_http_connection_t, ngx_recv_pt};
use proxy_connect_core::http2::frame::PREFACE;

use super::frames;
use crate::admit::hook::{proxy_protocol, Hook};
use crate::ffi::boundary::guard;
use crate::ffi::code;
use crate::ffi::log::Log;
use crate::ffi::pool::Pool;

/// What is kept for a connection of which it is not known, in its pool.
struct Begun {
    http: *mut ngx_http_connection_t,
    /// The connection's own receive function.
    receive: ngx_recv_pt,
    /// Who reads it if it is not of HTTP/2.
    otherwise: ngx_recv_pt,
    /// A PROXY protocol header comes before all.
    is_proxied: bool,
    /// How many bytes of the preface have come.
    seen: usize,
}

/// Has our receive function stand before the one that reads request lines. Without memory CONNECT is refused.
///
/// # Safety
///
/// `c` must be an open connection of which nothing was read, and `hook` its own.
pub unsafe fn attach(c: *mut ngx_connection_t, hook: &Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        let begun = Begun {
            http: hook.http,
            receive: hook.receive,
            otherwise: (*c).recv,
            is_proxied: (*hook.http).proxy_protocol() != 0,
            seen: 0,
        };

        if Pool::from_ptr((*c).pool).and_then(|pool| pool.put(begun)).is_some() {
            (*c).recv = Some(receive);
        }
    }
}

/// Stands in the place of `c->recv`.
unsafe extern "C" fn receive(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: nginx calls it with an open connection, and with room for `size` bytes.
    guard(Log::of_cycle(), || unsafe { read(c, buf, size) }, || code::ERROR)
}

/// # Safety
///
/// `c` must be an open connection that attach() prepared; `buf` must have room for `size` bytes.
unsafe fn read(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: the caller's promise. No other reference to what is kept is in use.
    unsafe {
        let begun = Pool::from_ptr((*c).pool).and_then(|pool| pool.find::<Begun>());

        let Some(begun) = begun.map(|mut begun| begun.as_mut()) else {
            return code::ERROR;
        };

        let (Some(own), Some(otherwise)) = (begun.receive, begun.otherwise) else {
            return code::ERROR;
        };

        let buffer = std::slice::from_raw_parts_mut(buf, size);

        if begun.is_proxied {
            let len = proxy_protocol::look(c, buffer).unwrap_or(size);
            let n = own(c, buf, len);
            begun.is_proxied = n == code::AGAIN;
            return n;
        }

        let n = otherwise(c, buf, size);

        let Some(read) = usize::try_from(n).ok().filter(|&n| n > 0) else {
            return n;
        };

        let rest = &PREFACE[begun.seen..];
        let len = rest.len().min(read);

        if buffer[..len] != rest[..len] {
            (*c).recv = Some(otherwise);
            return n;
        }

        begun.seen += len;

        if len == rest.len() {
            (*c).recv = Some(own);
            frames::attach(c, begun.http, false, &buffer[len..read]);
        }

        len as isize
    }
}
