//! Owns options and the state of a connection's TLS, through the C compiler: `tls.c` says why.

use nginx_sys::ngx_connection_t;

use super::client::Client;
use super::request::Request;
use super::socket::Socket;

extern "C" {
    fn proxy_connect_forgive_eof(c: *mut ngx_connection_t);
    #[cfg(ngx_feature = "http_ssl")]
    fn proxy_connect_awaits_finished(c: *mut ngx_connection_t) -> nginx_sys::ngx_uint_t;
    #[cfg(ngx_feature = "http_ssl")]
    fn proxy_connect_recv_early(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize;
}

/// Lets a client end its side without a close_notify, as nginx does since 1.21.2. A stream has an
/// end of its own.
pub fn forgive_eof(request: Request) {
    if let Some(Client::Socket(socket)) = Client::of(request) {
        forgive_eof_of(socket);
    }
}

/// The same for another end of a tunnel.
pub(super) fn forgive_eof_of(socket: Socket) {
    // SAFETY: an open connection.
    unsafe { proxy_connect_forgive_eof(socket.as_ptr()) };
}

/// Whether the handshake of a client still lacks its Finished (RFC 8446, section 4.4.4): until that comes, all
/// that was read is early data, which anyone may have sent. `$ssl_early_data` is "1" for as long.
#[cfg(ngx_feature = "http_ssl")]
pub fn awaits_finished(socket: Socket) -> bool {
    // SAFETY: an open connection.
    unsafe { proxy_connect_awaits_finished(socket.as_ptr()) != 0 }
}

/// The same of a request that came over a stream of the connection.
#[cfg(all(http2, ngx_feature = "http_ssl"))]
pub fn stream_awaits_finished(request: Request) -> bool {
    // SAFETY: an open connection: a stream's is a copy of it, with its TLS, which is looked at alone.
    unsafe { proxy_connect_awaits_finished(request.connection().as_ptr()) != 0 }
}

/// Reads from a client as `c->recv` does, of which the Finished may be due.
///
/// # Safety
///
/// `place` must have room for `size` bytes, at least one, and in front of it the byte that was read last.
#[cfg(ngx_feature = "http_ssl")]
pub(super) unsafe fn receive_early(socket: Socket, place: *mut u8, size: usize) -> isize {
    // SAFETY: an open connection, and the caller's promise.
    unsafe { proxy_connect_recv_early(socket.as_ptr(), place, size) }
}
