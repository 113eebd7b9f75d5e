//! Owns what differs for a connection over TLS.

use libc::c_int;
use nginx_sys::{ngx_connection_t, ngx_int_t, ngx_uint_t};
use proxy_connect_core::relay::Shut;

use super::{Peeked, Socket};
use crate::ffi::code;

// src/ffi/socket/records.c
extern "C" {
    fn proxy_connect_collect_records(c: *mut ngx_connection_t);
    fn proxy_connect_send_records(c: *mut ngx_connection_t, buf: *const u8, size: usize) -> isize;
    fn proxy_connect_has_ktls(c: *mut ngx_connection_t) -> ngx_uint_t;
    fn proxy_connect_send_key_update(c: *mut ngx_connection_t) -> ngx_int_t;
}

/// What differs for a connection over TLS.
impl Socket {
    /// Whether the connection is one over TLS.
    pub(super) fn is_ssl(self) -> bool {
        !self.get().ssl.is_null()
    }

    /// OpenSSL takes in what stands in the socket, and tells bytes from a close_notify. The handshake must
    /// be finished: it may not be asked this way while nginx reads early data.
    pub(super) fn peek_ssl(self) -> Peeked {
        let mut byte = 0u8;

        // SAFETY: as in allow_partial_writes(); room for the one byte asked for. OpenSSL's queue
        // of errors must be empty before a call whose error is asked for, and nginx wants it
        // empty afterwards.
        unsafe {
            let Some(ssl) = self.get().ssl.as_ref() else {
                return Peeked::Nothing;
            };

            nginx_sys::ERR_clear_error();
            nginx_sys::ngx_set_socket_errno(0);

            let n = nginx_sys::SSL_peek(ssl.connection, std::ptr::addr_of_mut!(byte).cast(), 1);
            let errno = nginx_sys::ngx_socket_errno();
            let error = nginx_sys::SSL_get_error(ssl.connection, n);
            nginx_sys::ERR_clear_error();

            match error as u32 {
                nginx_sys::SSL_ERROR_NONE => Peeked::Bytes,
                nginx_sys::SSL_ERROR_WANT_READ | nginx_sys::SSL_ERROR_WANT_WRITE => Peeked::Nothing,
                nginx_sys::SSL_ERROR_SYSCALL if errno != 0 => Peeked::Broken(errno),
                nginx_sys::SSL_ERROR_SSL => Peeked::Broken(0),
                _ => Peeked::Eof,
            }
        }
    }

    /// Whether the end of file that was just read is a reset: nginx makes no difference over TLS.
    pub(super) fn is_reset_over_ssl(self) -> bool {
        // SAFETY: as in allow_partial_writes().
        let notified = unsafe {
            self.get().ssl.as_ref().is_none_or(|ssl| {
                let shutdown = nginx_sys::SSL_get_shutdown(ssl.connection);
                shutdown & nginx_sys::SSL_RECEIVED_SHUTDOWN as c_int != 0
            })
        };

        !notified && self.is_closed_by_reset()
    }

    /// The error itself went to OpenSSL.
    #[cfg(target_os = "linux")]
    fn is_closed_by_reset(self) -> bool {
        self.tcp_state() == Some(super::options::TCP_CLOSE)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_closed_by_reset(self) -> bool {
        nginx_sys::ngx_socket_errno() == libc::ECONNRESET
    }

    /// Lets OpenSSL take a part of the bytes, and the rest from another place: the relay sends
    /// from the buffer that all tunnels share, and keeps what was not taken elsewhere.
    pub(in crate::ffi) fn allow_partial_writes(self) {
        // SAFETY: a TLS connection of nginx's has an SSL object as long as it is open.
        if let Some(ssl) = unsafe { self.get().ssl.as_ref() } {
            let mode = nginx_sys::SSL_MODE_ENABLE_PARTIAL_WRITE
                | nginx_sys::SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

            // SAFETY: as above; this is the SSL_set_mode() of OpenSSL's headers.
            unsafe {
                nginx_sys::SSL_ctrl(
                    ssl.connection,
                    nginx_sys::SSL_CTRL_MODE as c_int,
                    mode as _,
                    std::ptr::null_mut(),
                );
            }
        }
    }

    /// Has the records that one [`Sink::send`](proxy_connect_core::relay::Sink::send) makes leave together,
    /// where OpenSSL and not the system makes them. `records.c` has what that takes.
    pub(in crate::ffi) fn collect_records(self) {
        // SAFETY: an open connection.
        unsafe { proxy_connect_collect_records(self.as_ptr()) };
    }

    /// As nginx's own function for a connection, for as many records as it takes.
    pub(super) fn send_records(self, bytes: &[u8]) -> isize {
        // SAFETY: an open connection; the bytes are only read.
        unsafe { proxy_connect_send_records(self.as_ptr(), bytes.as_ptr(), bytes.len()) }
    }

    /// Has the socket take pipes, where the system makes the records of what is sent.
    pub(in crate::ffi) fn splice_into_ktls(&mut self) {
        // SAFETY: an open connection.
        self.takes_pipes = unsafe { proxy_connect_has_ktls(self.as_ptr()) != 0 };
    }

    /// Before bytes go past OpenSSL to a system that makes the records: sends what OpenSSL owes before them, the answer
    /// to a KeyUpdate (RFC 8446, section 4.6.3).
    pub(super) fn send_key_update(self) -> Shut {
        // SAFETY: an open connection.
        match unsafe { proxy_connect_send_key_update(self.as_ptr()) } {
            code::OK => Shut::Done,
            code::AGAIN => Shut::Blocked,
            _ => Shut::Broken,
        }
    }

    /// The half-close of TLS (RFC 8446, section 6.1): reading goes on.
    pub(super) fn send_close_notify(self) -> Shut {
        // SAFETY: as in allow_partial_writes(). OpenSSL's queue of errors must be empty before
        // a call whose error is asked for.
        let error = unsafe {
            let Some(ssl) = self.get().ssl.as_ref() else {
                return Shut::Broken;
            };

            nginx_sys::ERR_clear_error();

            let error = match nginx_sys::SSL_shutdown(ssl.connection) {
                0.. => return Shut::Done,
                n => nginx_sys::SSL_get_error(ssl.connection, n),
            };

            nginx_sys::ERR_clear_error();
            error
        };

        if error == nginx_sys::SSL_ERROR_WANT_WRITE as c_int {
            self.write().set_not_ready();
            return Shut::Blocked;
        }

        Shut::Broken
    }

    pub(super) fn forbid_close_notify(self) {
        // SAFETY: as in allow_partial_writes(); one thread, no other reference is held.
        if let Some(ssl) = unsafe { self.get().ssl.as_mut() } {
            ssl.set_no_send_shutdown(1);
            ssl.set_no_wait_shutdown(1);
        }
    }
}
