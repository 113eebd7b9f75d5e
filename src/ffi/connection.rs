//! Owns connections of both sides: what the tunnel does with a client's or a peer's connection,
//! and how each of them is an end of the relay.

use std::mem::size_of;
use std::ptr::NonNull;

use libc::{c_int, linger, socklen_t};
use nginx_sys::{ngx_connection_t, ngx_err_t, ngx_uint_t};
use proxy_connect_core::relay::{End, Received, Sent, Shut};

use super::code;
use super::event::Event;
use super::log::Log;
use super::pipe::Pipe;

/// An open connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection(NonNull<ngx_connection_t>);

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

/// The keepalive of a listening socket: `so_keepalive` of the `listen` directive.
#[derive(Clone, Copy)]
pub struct Keepalive {
    idle: c_int,
    interval: c_int,
    count: c_int,
}

/// nginx refused to watch an event.
pub struct EventError;

impl Connection {
    /// # Safety
    ///
    /// `connection` must be open while the handle is used.
    pub unsafe fn from_ptr(connection: *mut ngx_connection_t) -> Option<Self> {
        NonNull::new(connection).map(Self)
    }

    pub(super) fn as_ptr(self) -> *mut ngx_connection_t {
        self.0.as_ptr()
    }

    fn get(&self) -> &ngx_connection_t {
        // SAFETY: an open connection, see from_ptr(); no callback runs while the reference
        // lives.
        unsafe { self.0.as_ref() }
    }

    /// The connection's log.
    pub fn log(self) -> Log {
        // SAFETY: an open connection has a log.
        unsafe { Log::from_ptr(self.get().log) }.unwrap_or_else(Log::of_cycle)
    }

    /// The read event.
    pub fn read(self) -> Event {
        // SAFETY: an open connection's events live as long as it does, and are never null.
        unsafe { Event::from_ptr(self.get().read).unwrap_unchecked() }
    }

    /// The write event.
    pub fn write(self) -> Event {
        // SAFETY: as in read().
        unsafe { Event::from_ptr(self.get().write).unwrap_unchecked() }
    }

    /// Whether a worker shutdown wants the connection closed.
    pub fn is_closing(self) -> bool {
        self.get().close() != 0
    }

    /// Looks at what may be read next without taking it.
    pub fn peek(self) -> Peeked {
        if self.is_ssl() {
            self.peek_ssl()
        } else {
            self.peek_socket()
        }
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

    /// The error that a connect ended with, 0 for none.
    pub fn take_socket_error(self) -> ngx_err_t {
        let mut error: ngx_err_t = 0;

        match self.get_option(libc::SOL_SOCKET, libc::SO_ERROR, &mut error) {
            Ok(()) => error,
            Err(errno) => errno,
        }
    }

    /// Reads a socket option, or the beginning of it, into `value`.
    fn get_option<T>(self, level: c_int, option: c_int, value: &mut T) -> Result<(), ngx_err_t> {
        let mut len = size_of::<T>() as socklen_t;

        // SAFETY: an open socket, and room for as many bytes as `len` says.
        let rc = unsafe {
            libc::getsockopt(
                self.get().fd,
                level,
                option,
                std::ptr::from_mut(value).cast(),
                &mut len,
            )
        };

        if rc == -1 {
            Err(nginx_sys::ngx_socket_errno())
        } else {
            Ok(())
        }
    }

    /// Sets TCP_NODELAY, unless it is a unix socket or set already.
    ///
    /// # Errors
    ///
    /// The connection is broken; nginx logged why.
    pub fn set_nodelay(self) -> Result<(), EventError> {
        // SAFETY: an open connection.
        match unsafe { nginx_sys::ngx_tcp_nodelay(self.as_ptr()) } {
            code::OK => Ok(()),
            _ => Err(EventError),
        }
    }

    /// Makes the close that follows a reset: what was not sent is dropped, and over TLS no
    /// close_notify pretends a proper end.
    pub fn reset_on_close(mut self) {
        self.set_option(libc::SOL_SOCKET, libc::SO_LINGER, &linger { l_onoff: 1, l_linger: 0 });
        self.forbid_close_notify();
    }

    /// The `so_keepalive` of the socket that accepted the connection, where it is switched on.
    pub fn listening_keepalive(self) -> Option<Keepalive> {
        // SAFETY: a listening socket outlives what it accepted; null where there is none.
        let listening = unsafe { self.get().listening.as_ref()? };

        (listening.keepalive() == 1).then_some(Keepalive {
            idle: listening.keepidle,
            interval: listening.keepintvl,
            count: listening.keepcnt,
        })
    }

    /// Switches on TCP keepalive as a listening socket has it.
    pub fn set_keepalive(mut self, keepalive: Keepalive) {
        self.set_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1);

        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        for (option, value) in [
            (libc::TCP_KEEPIDLE, keepalive.idle),
            (libc::TCP_KEEPINTVL, keepalive.interval),
            (libc::TCP_KEEPCNT, keepalive.count),
        ] {
            if value != 0 {
                self.set_option(libc::IPPROTO_TCP, option, &value);
            }
        }
    }

    /// A socket option that is worth a line, and no more, when it can't be set.
    fn set_option<T>(&mut self, level: c_int, option: c_int, value: &T) {
        // SAFETY: an open socket, and a value of the option's type with its length.
        let rc = unsafe {
            libc::setsockopt(
                self.get().fd,
                level,
                option,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as socklen_t,
            )
        };

        if rc == -1 {
            self.log().write(
                nginx_sys::NGX_LOG_INFO,
                nginx_sys::ngx_socket_errno(),
                format_args!("setsockopt({level}, {option}) failed, ignored"),
            );
        }
    }

    /// Has the event method watch what the last turn waits for. Level-triggered methods need to
    /// be told again each time.
    ///
    /// # Errors
    ///
    /// The event method refused.
    pub fn watch(self) -> Result<(), EventError> {
        let flags: ngx_uint_t =
            if self.read().is_eof() { nginx_sys::NGX_CLOSE_EVENT as ngx_uint_t } else { 0 };

        // SAFETY: events of an open connection.
        let (read, write) = unsafe {
            (
                nginx_sys::ngx_handle_read_event(self.read().as_ptr(), flags),
                nginx_sys::ngx_handle_write_event(self.write().as_ptr(), 0),
            )
        };

        if read == code::OK && write == code::OK {
            Ok(())
        } else {
            Err(EventError)
        }
    }

    fn shutdown_socket(self) -> Shut {
        // SAFETY: an open socket.
        match unsafe { libc::shutdown(self.get().fd, libc::SHUT_WR) } {
            0 => Shut::Done,
            _ => Shut::Broken,
        }
    }
}

/// Reading and writing through pipes.
impl Connection {
    /// Whether the connection's bytes are those of its socket, unchanged: no TLS, and no module
    /// that reads or writes in nginx's place.
    fn is_plain(self) -> bool {
        // SAFETY: nginx sets its functions once, before there are connections.
        let io = unsafe { nginx_sys::ngx_io };
        let own = self.get();

        own.recv.map(|recv| recv as usize) == io.recv.map(|recv| recv as usize)
            && own.send.map(|send| send as usize) == io.send.map(|send| send as usize)
    }

    fn fill_pipe(self, pipe: &mut Pipe) -> Received {
        if !self.read().is_ready() {
            return Received::Blocked;
        }

        match pipe.fill(self.get().fd) {
            Ok(0) => Received::Eof,
            Ok(n) => {
                self.read().forget_available();
                Received::Bytes(n)
            }
            // A socket that can't be spliced is one to be read.
            Err(error) if is_passing(&error) || error.raw_os_error() == Some(libc::EINVAL) => {
                Received::Blocked
            }
            Err(error) => {
                self.tell(&error);
                Received::Broken
            }
        }
    }

    fn drain_pipe(self, pipe: &mut Pipe, len: usize) -> Sent {
        if !self.write().is_ready() {
            return Sent::Blocked;
        }

        match pipe.drain(self.get().fd, len) {
            Ok(n @ 1..) => {
                // SAFETY: an open connection; one thread, and no reference into it is held.
                unsafe { (*self.as_ptr()).sent += n as nginx_sys::off_t };
                Sent::Bytes(n)
            }
            Ok(_) => Sent::Broken,
            Err(error) if is_passing(&error) => {
                self.write().set_not_ready();
                Sent::Blocked
            }
            Err(error) => {
                self.tell(&error);
                Sent::Broken
            }
        }
    }

    /// Has nginx log an error of the connection, as it does for its own.
    fn tell(self, error: &std::io::Error) {
        let text = c"splice() failed".as_ptr().cast_mut();

        // SAFETY: an open connection; nginx only reads the text.
        unsafe {
            nginx_sys::ngx_connection_error(
                self.as_ptr(),
                error.raw_os_error().unwrap_or_default(),
                text,
            );
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

impl<P: AsMut<Pipe>> End<P> for Connection {
    fn ends_by_closing(&self) -> bool {
        !self.is_ssl()
    }

    fn can_splice(&self) -> bool {
        cfg!(target_os = "linux") && self.is_plain()
    }

    fn fill(&mut self, pipe: &mut P) -> Received {
        self.fill_pipe(pipe.as_mut())
    }

    fn drain(&mut self, pipe: &mut P, len: usize) -> Sent {
        self.drain_pipe(pipe.as_mut(), len)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let (Some(receive), true) = (self.get().recv, self.read().is_ready()) else {
            return Received::Blocked;
        };

        // Elsewhere than on Linux it tells a reset over TLS, see is_closed_by_reset().
        #[cfg(not(target_os = "linux"))]
        nginx_sys::ngx_set_socket_errno(0);

        // SAFETY: the connection's own receive function, an open connection, and a buffer with
        // its length.
        let n = unsafe { receive(self.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };

        match n {
            1.. => Received::Bytes(n as usize),
            0 if self.is_reset_over_ssl() => Received::Broken,
            0 => Received::Eof,
            code::AGAIN => Received::Blocked,
            _ => Received::Broken,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        let (Some(send), true) = (self.get().send, self.write().is_ready()) else {
            return Sent::Blocked;
        };

        // SAFETY: the connection's own send function, which only reads the bytes.
        let n = unsafe { send(self.as_ptr(), bytes.as_ptr().cast_mut(), bytes.len()) };

        match n {
            1.. => Sent::Bytes(n as usize),
            0 | code::AGAIN => Sent::Blocked,
            _ => Sent::Broken,
        }
    }

    fn shutdown(&mut self) -> Shut {
        if self.is_ssl() {
            self.send_close_notify()
        } else {
            self.shutdown_socket()
        }
    }
}

/// What differs for a connection over TLS.
#[cfg(ngx_feature = "ssl")]
impl Connection {
    /// Whether the connection is one over TLS.
    pub fn is_ssl(self) -> bool {
        !self.get().ssl.is_null()
    }

    /// OpenSSL takes in what stands in the socket, and tells bytes from a close_notify.
    fn peek_ssl(self) -> Peeked {
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
    fn is_reset_over_ssl(self) -> bool {
        // SAFETY: as in allow_partial_writes().
        let notified = unsafe {
            self.get().ssl.as_ref().is_none_or(|ssl| {
                let shutdown = nginx_sys::SSL_get_shutdown(ssl.connection);
                shutdown & nginx_sys::SSL_RECEIVED_SHUTDOWN as c_int != 0
            })
        };

        !notified && self.is_closed_by_reset()
    }

    /// After an end of file the system's side of a connection waits for us to close it; after a
    /// reset there is nothing left of it. The error itself went to OpenSSL.
    #[cfg(target_os = "linux")]
    fn is_closed_by_reset(self) -> bool {
        const TCP_CLOSE: u8 = 7;

        // The state is the first byte of a tcp_info.
        let mut state = 0u8;

        self.get_option(libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).is_ok() && state == TCP_CLOSE
    }

    #[cfg(not(target_os = "linux"))]
    fn is_closed_by_reset(self) -> bool {
        nginx_sys::ngx_socket_errno() == libc::ECONNRESET
    }

    /// Lets OpenSSL take a part of the bytes, and the rest from another place: the relay sends
    /// from the buffer that all tunnels share, and keeps what was not taken elsewhere.
    pub fn allow_partial_writes(self) {
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

    /// The half-close of TLS (RFC 8446, section 6.1): reading goes on.
    fn send_close_notify(self) -> Shut {
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

    fn forbid_close_notify(self) {
        // SAFETY: as in allow_partial_writes(); one thread, no other reference is held.
        if let Some(ssl) = unsafe { self.get().ssl.as_mut() } {
            ssl.set_no_send_shutdown(1);
            ssl.set_no_wait_shutdown(1);
        }
    }
}

/// An nginx without OpenSSL has no connections over TLS.
#[cfg(not(ngx_feature = "ssl"))]
impl Connection {
    /// Whether the connection is one over TLS.
    pub fn is_ssl(self) -> bool {
        false
    }

    fn peek_ssl(self) -> Peeked {
        Peeked::Nothing
    }

    fn is_reset_over_ssl(self) -> bool {
        false
    }

    /// Nothing to do without TLS.
    pub fn allow_partial_writes(self) {}

    fn send_close_notify(self) -> Shut {
        self.shutdown_socket()
    }

    fn forbid_close_notify(self) {}
}
