//! Owns what a socket is asked and told with options: of the system, of TCP, and what nginx knows of
//! them.

use std::mem::size_of;

use libc::{c_int, linger, socklen_t};
use nginx_sys::ngx_err_t;

use super::Socket;

/// The state of a connection that was reset: of any other, the system's side waits for us to close it.
#[cfg(target_os = "linux")]
pub(super) const TCP_CLOSE: u8 = 7;

/// The keepalive of a listening socket: `so_keepalive` of the `listen` directive.
#[derive(Clone, Copy)]
pub struct Keepalive {
    idle: c_int,
    interval: c_int,
    count: c_int,
}

/// What the system knows of a low-water mark for sending: how much room a socket needs before it is
/// called writable.
#[allow(dead_code)]
pub enum SendLowat {
    /// Nothing: it is always the system's own.
    Unsupported,
    /// It takes any.
    Any,
    /// It takes what is less than so many bytes.
    Below(usize),
}

/// What nginx can do about it here.
#[cfg(not(target_os = "freebsd"))]
pub fn send_lowat() -> SendLowat {
    match nginx_sys::NGX_HAVE_SO_SNDLOWAT {
        0 => SendLowat::Unsupported,
        _ => SendLowat::Any,
    }
}

/// The buffer for sending has to be larger.
#[cfg(target_os = "freebsd")]
pub fn send_lowat() -> SendLowat {
    // SAFETY: a word that nginx writes once, before it reads its configuration.
    let space = unsafe { nginx_sys::ngx_freebsd_net_inet_tcp_sendspace };

    SendLowat::Below(usize::try_from(space).unwrap_or_default())
}

impl Socket {
    /// The error that a connection has run into, 0 for none.
    pub(in crate::ffi) fn take_socket_error(self) -> ngx_err_t {
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

    /// Whether the peer is there and has not acknowledged all that was sent: the system would drop
    /// that at a reset.
    #[cfg(target_os = "linux")]
    pub(super) fn has_unacknowledged(self) -> bool {
        let mut bytes: c_int = 0;

        // SAFETY: an open socket, and room for the one int that SIOCOUTQ answers with (tcp(7)).
        let rc = unsafe { libc::ioctl(self.get().fd, libc::TIOCOUTQ, &mut bytes) };

        rc == 0 && bytes > 0 && self.tcp_state().is_some_and(|state| state != TCP_CLOSE)
    }

    /// Elsewhere nothing is known of it.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn has_unacknowledged(self) -> bool {
        false
    }

    /// The state of a TCP connection. `None` for a unix socket, whose bytes outlive a close.
    #[cfg(target_os = "linux")]
    pub(super) fn tcp_state(self) -> Option<u8> {
        // It is the first byte of a tcp_info.
        let mut state = 0u8;

        self.get_option(libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).ok()?;
        Some(state)
    }

    /// Has the close that follows drop what was not sent, and tell the peer of a reset.
    pub(super) fn linger_for_nothing(self) {
        self.set_option(libc::SOL_SOCKET, libc::SO_LINGER, &linger { l_onoff: 1, l_linger: 0 });
    }

    /// The `so_keepalive` of the socket that accepted the connection, where it is switched on.
    pub(in crate::ffi) fn listening_keepalive(self) -> Option<Keepalive> {
        // SAFETY: a listening socket outlives what it accepted; null where there is none.
        let listening = unsafe { self.get().listening.as_ref()? };

        (listening.keepalive() == 1).then_some(Keepalive {
            idle: listening.keepidle,
            interval: listening.keepintvl,
            count: listening.keepcnt,
        })
    }

    /// Switches on TCP keepalive as a listening socket has it.
    pub fn set_keepalive(self, keepalive: Keepalive) {
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
    fn set_option<T>(self, level: c_int, option: c_int, value: &T) {
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
}
