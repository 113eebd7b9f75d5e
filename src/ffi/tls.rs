//! Owns options and fields of a connection's TLS, through the C compiler: `tls.c` says why.

use nginx_sys::{ngx_connection_t, ngx_uint_t};

use super::client::Client;
use super::connection::Connection;
use super::request::Request;

extern "C" {
    fn proxy_connect_forgive_eof(c: *mut ngx_connection_t);
    fn proxy_connect_in_early_data(c: *mut ngx_connection_t) -> ngx_uint_t;
}

/// Lets a client end its side without a close_notify, as nginx does since 1.21.2. A stream has an
/// end of its own.
pub fn forgive_eof(request: Request) {
    if let Some(Client::Socket(socket)) = Client::of(request) {
        // SAFETY: an open connection.
        unsafe { proxy_connect_forgive_eof(socket.as_ptr()) };
    }
}

/// Whether nginx is still reading the early data of a client.
#[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
pub fn is_in_early_data(connection: Connection) -> bool {
    // SAFETY: an open connection.
    unsafe { proxy_connect_in_early_data(connection.as_ptr()) != 0 }
}
