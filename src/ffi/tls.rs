//! Owns options and fields of a connection's TLS, through the C compiler: `tls.c` says why.

use nginx_sys::{ngx_connection_t, ngx_uint_t};

use super::request::Request;
use super::socket::Socket;

extern "C" {
    fn proxy_connect_forgive_eof(c: *mut ngx_connection_t);
    fn proxy_connect_in_early_data(c: *mut ngx_connection_t) -> ngx_uint_t;
}

/// Lets a client end its side without a close_notify, as nginx does since 1.21.2.
pub fn forgive_eof(request: Request) {
    // SAFETY: a live request's connection is open.
    unsafe { proxy_connect_forgive_eof(request.raw().connection) };
}

/// Whether nginx is still reading the early data of a client.
pub fn is_in_early_data(connection: Socket) -> bool {
    // SAFETY: an open connection.
    unsafe { proxy_connect_in_early_data(connection.as_ptr()) != 0 }
}
