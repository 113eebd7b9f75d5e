//! Owns sockets: a connection that has its descriptor for itself, be it a peer's or a client's of HTTP/1.
//! How its bytes are moved, its options, and what differs over TLS, lie beside it.

mod bytes;
#[cfg(http2)]
mod chain;
mod options;
mod plain;
#[cfg_attr(not(ngx_feature = "ssl"), path = "socket/no_tls.rs")]
mod tls;

pub(super) use options::set as set_option;
pub use options::{has_net_raw, probe, send_lowat, Keepalive, SendLowat, SocketOptions, Unfit};

use std::mem::{size_of, MaybeUninit};

use libc::socklen_t;
use nginx_sys::{ngx_connection_t, ngx_err_t, ngx_uint_t};
use proxy_connect_core::relay::Shut;

use super::code;
use super::connection::Connection;
use super::end::{End, EventError};
use super::log::Log;
use super::ngx_event::NgxEvent;
use super::tls as options_of_tls;

/// An open connection that nobody else uses, down to its descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    connection: Connection,
    /// The system makes the records of its TLS, and pipes may be drained into it.
    takes_pipes: bool,
}

/// What stands unread in a connection.
pub enum Peeked {
    /// At least one byte.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// The end of file.
    Eof,
    /// The connection is broken, for this reason.
    Broken(ngx_err_t),
}

/// How far a connect is.
pub enum Connecting {
    /// The connection stands.
    Done,
    /// An event will tell.
    InProgress,
    /// It failed, for this reason.
    Failed(ngx_err_t),
}

impl Socket {
    /// # Safety
    ///
    /// `connection` must be open while the handle is used, and not be that of a stream.
    pub(super) unsafe fn from_ptr(connection: *mut ngx_connection_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        let connection = unsafe { Connection::from_ptr(connection) }?;
        Some(Self { connection, takes_pipes: false })
    }

    pub(super) fn as_ptr(self) -> *mut ngx_connection_t {
        self.connection.as_ptr()
    }

    fn get(&self) -> &ngx_connection_t {
        self.connection.get()
    }

    /// The connection's log.
    pub fn log(self) -> Log {
        self.connection.log()
    }

    /// Lets a relay use the connection, where it is one over TLS.
    pub fn prepare_tls(self) {
        self.allow_partial_writes();
        options_of_tls::forgive_eof_of(self);
    }

    /// How many bytes nginx has sent through it.
    pub(super) fn sent(self) -> nginx_sys::off_t {
        self.get().sent
    }

    /// The read event.
    pub(super) fn read(self) -> NgxEvent {
        // SAFETY: an open connection's events live as long as it does, and are never null.
        unsafe { NgxEvent::from_ptr(self.get().read).unwrap_unchecked() }
    }

    /// The write event.
    pub(super) fn write(self) -> NgxEvent {
        // SAFETY: as in read().
        unsafe { NgxEvent::from_ptr(self.get().write).unwrap_unchecked() }
    }

    /// Looks at what may be read next without taking it. Where there is nothing, the connection is no
    /// longer ready to be read, as after nginx's own recv.
    pub(super) fn peek(self) -> Peeked {
        let peeked = if self.is_ssl() { self.peek_ssl() } else { self.peek_socket() };

        if matches!(peeked, Peeked::Nothing) {
            self.read().set_not_ready();
        }

        peeked
    }

    fn peek_socket(self) -> Peeked {
        let mut byte = 0u8;

        // SAFETY: an open socket, and room for the one byte asked for.
        let n = unsafe {
            libc::recv(self.get().fd, std::ptr::addr_of_mut!(byte).cast(), 1, libc::MSG_PEEK)
        };

        match n {
            1.. => Peeked::Bytes,
            0 => Peeked::Eof,
            _ => match nginx_sys::ngx_socket_errno() {
                libc::EAGAIN | libc::EINTR => Peeked::Nothing,
                errno => Peeked::Broken(errno),
            },
        }
    }

    /// How far the connect of a peer's connection is. The system says so, whatever the events are: nginx
    /// can take what is left of an event for one of a connection that it made since.
    pub fn connecting(self) -> Connecting {
        if self.has_peer() {
            return Connecting::Done;
        }

        // There is no error either while the connect is under way.
        match self.take_socket_error() {
            0 => {
                self.read().set_not_ready();
                self.write().set_not_ready();
                Connecting::InProgress
            }
            errno => Connecting::Failed(errno),
        }
    }

    /// Whether the socket is connected: before, and when the connect failed, it has no peer.
    fn has_peer(self) -> bool {
        let mut addr = MaybeUninit::<libc::sockaddr_storage>::uninit();
        let mut len = size_of::<libc::sockaddr_storage>() as socklen_t;

        // SAFETY: an open socket, and room for as many bytes as `len` says, which nobody reads.
        unsafe { libc::getpeername(self.get().fd, addr.as_mut_ptr().cast(), &mut len) == 0 }
    }

    fn shutdown_socket(self) -> Shut {
        // SAFETY: an open socket.
        match unsafe { libc::shutdown(self.get().fd, libc::SHUT_WR) } {
            0 => Shut::Done,
            _ => Shut::Broken,
        }
    }
}

impl End for Socket {
    fn watch(&self, room: usize) -> Result<(), EventError> {
        let flags: ngx_uint_t =
            if self.read().is_eof() { nginx_sys::NGX_CLOSE_EVENT as ngx_uint_t } else { 0 };

        // SAFETY: events of an open connection.
        let (read, write) = unsafe {
            (
                nginx_sys::ngx_handle_read_event(self.read().as_ptr(), flags),
                nginx_sys::ngx_handle_write_event(self.write().as_ptr(), room),
            )
        };

        if read == code::OK && write == code::OK {
            Ok(())
        } else {
            Err(EventError)
        }
    }

    fn post(&self) {
        self.read().post_next();
    }

    fn disregard(&self) -> Result<(), EventError> {
        self.read().set_ready();
        self.write().set_ready();
        self.watch(0)
    }

    /// Sets TCP_NODELAY, unless it is a unix socket or set already.
    fn set_nodelay(&self) -> Result<(), EventError> {
        // SAFETY: an open connection.
        match unsafe { nginx_sys::ngx_tcp_nodelay(self.as_ptr()) } {
            code::OK => Ok(()),
            _ => Err(EventError),
        }
    }

    fn is_settled(&self) -> bool {
        !self.has_unacknowledged()
    }

    /// Over TLS no close_notify pretends a proper end either.
    fn abort(&self) {
        self.linger_for_nothing();
        self.forbid_close_notify();
    }
}
