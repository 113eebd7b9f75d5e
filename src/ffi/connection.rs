//! Owns what all connections have in common, of a socket or of a stream: which one it is, and its log.

use std::net::SocketAddr;
use std::ptr::NonNull;

use nginx_sys::ngx_connection_t;

use super::addr::Addr;
use super::code;
use super::log::Log;

/// A connection of nginx's, open while the handle is used.
///
/// That of a stream (HTTP/2, HTTP/3) is a copy of the one that it came over, with the same descriptor,
/// functions and TLS, which the client's other streams use too. So this says nothing of them: who
/// wants to read, write or set anything asks [`Client::of`](super::client::Client::of).
#[derive(Clone, Copy, Debug)]
pub struct Connection(NonNull<ngx_connection_t>);

impl Connection {
    /// # Safety
    ///
    /// `connection` must be open while the handle is used.
    pub(super) unsafe fn from_ptr(connection: *mut ngx_connection_t) -> Option<Self> {
        NonNull::new(connection).map(Self)
    }

    /// The pointer that nginx's functions take.
    pub(super) fn as_ptr(self) -> *mut ngx_connection_t {
        self.0.as_ptr()
    }

    /// The connection as nginx lays it out.
    pub(super) fn get(&self) -> &ngx_connection_t {
        // SAFETY: an open connection, see from_ptr(); no callback runs while the reference
        // lives.
        unsafe { self.0.as_ref() }
    }

    /// The connection's log.
    pub fn log(self) -> Log {
        // SAFETY: an open connection has a log.
        unsafe { Log::from_ptr(self.get().log) }.unwrap_or_else(Log::of_cycle)
    }

    /// The client's address, as `$remote_addr` and `$remote_port` tell it, and that of this host which it came
    /// to. `None` where one of them is no IP address, or can't be told.
    pub fn endpoints(self) -> Option<(SocketAddr, SocketAddr)> {
        // SAFETY: an open connection; nginx asks the system once, and keeps the address in the connection's
        // pool.
        let (client, server) = unsafe {
            let connection = self.as_ptr();
            let rc = nginx_sys::ngx_connection_local_sockaddr(connection, std::ptr::null_mut(), 0);

            if rc != code::OK {
                return None;
            }

            (Addr::copy_inet((*connection).sockaddr), Addr::copy_inet((*connection).local_sockaddr))
        };

        Some((client?.socket_addr()?, server?.socket_addr()?))
    }
}
