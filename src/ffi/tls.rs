//! Owns options of a connection's TLS, through the C compiler: `tls.c` says why.

use nginx_sys::ngx_connection_t;

use super::request::Request;

extern "C" {
    fn proxy_connect_forgive_eof(c: *mut ngx_connection_t);
}

/// Lets a client end its side without a close_notify, as nginx does since 1.21.2.
pub fn forgive_eof(request: Request) {
    // SAFETY: a live request's connection is open.
    unsafe { proxy_connect_forgive_eof(request.raw().connection) };
}
