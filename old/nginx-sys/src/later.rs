//! Owns functions and names that came with a later nginx than this one.

#[allow(unused_imports)]
use crate::bindings::*;

/// HTTP/2, which no request of an older nginx has.
#[cfg(lacks = "NGX_HTTP_VERSION_20")]
pub const NGX_HTTP_VERSION_20: u32 = 2000;

/// Before 1.13.4 the phase in front of the content is that of try_files, which runs no handlers: the
/// content phase it is, and `src/ffi/phase.rs` minds the difference.
#[cfg(lacks = "NGX_HTTP_PRECONTENT_PHASE")]
pub const ngx_http_phases_NGX_HTTP_PRECONTENT_PHASE: ngx_http_phases =
    ngx_http_phases_NGX_HTTP_CONTENT_PHASE;

/// Reads an IP address with an optional port, an IPv6 address in brackets if it has one.
///
/// # Safety
///
/// A live pool, a place for the address, and a text of that length.
#[cfg(lacks = "ngx_parse_addr_port")]
pub unsafe fn ngx_parse_addr_port(
    pool: *mut ngx_pool_t,
    addr: *mut ngx_addr_t,
    text: *mut u_char,
    len: usize,
) -> ngx_int_t {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text, len) };

    let Some((start, end, port)) = split(bytes) else {
        return NGX_DECLINED as ngx_int_t;
    };

    // SAFETY: a part of the text; an address that was parsed has its family's length.
    unsafe {
        let rc = ngx_parse_addr(pool, addr, text.add(start), end - start);
        if rc == NGX_OK as ngx_int_t {
            crate::ngx_inet_set_port((*addr).sockaddr, port);
        }
        rc
    }
}

/// Where the address begins and ends, and the port.
#[cfg(lacks = "ngx_parse_addr_port")]
fn split(text: &[u8]) -> Option<(usize, usize, u16)> {
    if text.first() == Some(&b'[') {
        let end = text.iter().position(|&byte| byte == b']')?;
        return match text.get(end + 1..)? {
            [] => Some((1, end, 0)),
            [b':', digits @ ..] => Some((1, end, port(digits)?)),
            _ => None,
        };
    }

    let mut colons = text.iter().enumerate().filter(|(_, &byte)| byte == b':').map(|(at, _)| at);

    match (colons.next(), colons.next()) {
        (Some(colon), None) => Some((0, colon, port(&text[colon + 1..])?)),
        _ => Some((0, text.len(), 0)),
    }
}

#[cfg(lacks = "ngx_parse_addr_port")]
fn port(digits: &[u8]) -> Option<u16> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|&port| port != 0)
}

/// Sets the port of an address that has one.
///
/// # Safety
///
/// An address of the length that its family has.
#[cfg(lacks = "ngx_inet_set_port")]
pub unsafe fn ngx_inet_set_port(addr: *mut sockaddr, port: in_port_t) {
    // SAFETY: the caller's promise.
    unsafe {
        match i32::from((*addr).sa_family) {
            libc::AF_INET => (*addr.cast::<libc::sockaddr_in>()).sin_port = port.to_be(),
            libc::AF_INET6 => (*addr.cast::<libc::sockaddr_in6>()).sin6_port = port.to_be(),
            _ => {}
        }
    }
}

/// Sets TCP_NODELAY, unless it is set already.
///
/// # Safety
///
/// An open connection.
#[cfg(lacks = "ngx_tcp_nodelay")]
pub unsafe fn ngx_tcp_nodelay(c: *mut ngx_connection_t) -> ngx_int_t {
    const UNSET: u32 = ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_UNSET;
    const SET: u32 = ngx_connection_tcp_nodelay_e_NGX_TCP_NODELAY_SET;

    let on: libc::c_int = 1;

    // SAFETY: an open connection; the option takes an int.
    unsafe {
        if (*c).tcp_nodelay() != UNSET {
            return NGX_OK as ngx_int_t;
        }

        let rc = libc::setsockopt(
            (*c).fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );

        if rc == -1 {
            let (log, error) = ((*c).log, crate::ngx_socket_errno());
            if (*log).log_level >= NGX_LOG_ERR as usize {
                let text = c"setsockopt(TCP_NODELAY) failed";
                ngx_log_error_core(NGX_LOG_ERR as usize, log, error, text.as_ptr());
            }
            return NGX_ERROR as ngx_int_t;
        }

        (*c).set_tcp_nodelay(SET);
    }

    NGX_OK as ngx_int_t
}

#[cfg(lacks = "transparent")]
impl ngx_peer_connection_t {
    /// The configuration refuses it, where the core can't do it.
    pub fn set_transparent(&mut self, _: u32) {}
}

/// Writes an address as text.
///
/// # Safety
///
/// An address of the length that its family has, and a place of `len` bytes.
#[cfg(lacks = "ngx_sock_ntop socklen")]
pub unsafe fn ngx_sock_ntop(
    addr: *mut sockaddr,
    _: socklen_t,
    text: *mut u_char,
    len: usize,
    port: ngx_uint_t,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe { crate::bindings::ngx_sock_ntop(addr, text, len, port) }
}
