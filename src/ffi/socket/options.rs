//! Owns what a socket is asked and told with options: of the system, of TCP, and what nginx knows of
//! them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, linger, socklen_t};
use nginx_sys::ngx_err_t;

use super::Socket;
use crate::ffi::connection::Connection;

/// The state of a connection that was reset: of any other, the system's side waits for us to close it.
#[cfg(target_os = "linux")]
pub(super) const TCP_CLOSE: u8 = 7;

/// The keepalive of a listening socket: `so_keepalive` of the `listen` directive. By default all of its times are the
/// system's.
#[derive(Clone, Copy, Default)]
pub struct Keepalive {
    idle: c_int,
    interval: c_int,
    count: c_int,
}

impl Keepalive {
    /// The `so_keepalive` of the `listen` directive that a connection came through, be it a stream's, where it is switched on.
    pub fn of_listening(connection: Connection) -> Option<Self> {
        // SAFETY: a listening socket outlives what it accepted; null where there is none.
        let listening = unsafe { connection.get().listening.as_ref()? };

        (listening.keepalive() == 1).then_some(Self {
            idle: listening.keepidle,
            interval: listening.keepintvl,
            count: listening.keepcnt,
        })
    }
}

/// What the socket of a connection to an upstream is told before it connects. What is not there is left to the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// SO_RCVBUF, in bytes.
    pub rcvbuf: Option<c_int>,
    /// SO_SNDBUF, in bytes.
    pub sndbuf: Option<c_int>,
    /// SO_MARK. Linux has it.
    pub mark: Option<u32>,
}

/// Why a socket can't be told something.
pub enum Unfit {
    /// The system's reason.
    Error(io::Error),
    /// The system takes no more than so many bytes.
    Limit(c_int),
}

/// Whether this process has CAP_NET_RAW: with it, and with it alone, it may have a raw socket.
pub fn has_net_raw() -> bool {
    open(libc::SOCK_RAW, libc::IPPROTO_ICMP).is_ok()
}

fn open(kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: it has no pointers.
    match unsafe { libc::socket(libc::AF_INET, kind, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a descriptor that is open and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Tries on a socket of its own whether the system would take `options`, as far as this process can tell.
///
/// # Errors
///
/// [`Unfit`] says why not.
pub fn probe(options: &SocketOptions) -> Result<(), Unfit> {
    let socket = open(libc::SOCK_STREAM, 0).map_err(Unfit::Error)?;
    let failed = |errno| Unfit::Error(io::Error::from_raw_os_error(errno));

    for (option, size) in [(libc::SO_RCVBUF, options.rcvbuf), (libc::SO_SNDBUF, options.sndbuf)] {
        let Some(size) = size else { continue };
        let mut taken: c_int = 0;

        set(socket.as_raw_fd(), libc::SOL_SOCKET, option, &size).map_err(failed)?;
        get(socket.as_raw_fd(), libc::SOL_SOCKET, option, &mut taken).map_err(failed)?;

        // Linux doubles it, for what it needs itself (socket(7)).
        let taken = if cfg!(target_os = "linux") { taken / 2 } else { taken };

        if taken < size {
            return Err(Unfit::Limit(taken));
        }
    }

    #[cfg(target_os = "linux")]
    if let Some(mark) = options.mark {
        set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, &mark).map_err(failed)?;
    }

    Ok(())
}

/// Sets an option of a socket.
///
/// # Errors
///
/// The system's reason.
pub(in crate::ffi) fn set<T>(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: &T,
) -> Result<(), ngx_err_t> {
    // SAFETY: a value of the option's type with its length, which the system only reads.
    let rc = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(fd, level, option, value, size_of::<T>() as socklen_t)
    };

    if rc == -1 {
        Err(nginx_sys::ngx_socket_errno())
    } else {
        Ok(())
    }
}

/// Reads an option of a socket, or the beginning of it, into `value`.
fn get<T>(fd: c_int, level: c_int, option: c_int, value: &mut T) -> Result<(), ngx_err_t> {
    let mut len = size_of::<T>() as socklen_t;

    // SAFETY: room for as many bytes as `len` says.
    let rc =
        unsafe { libc::getsockopt(fd, level, option, std::ptr::from_mut(value).cast(), &mut len) };

    if rc == -1 {
        Err(nginx_sys::ngx_socket_errno())
    } else {
        Ok(())
    }
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
        get(self.get().fd, level, option, value)
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

    /// Has the system keep at most so many bytes, and as many for what it needs itself, that were sent and not
    /// acknowledged.
    pub(in crate::ffi) fn set_sndbuf(self, size: c_int) {
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, &size);
    }

    /// A socket option that is worth a line, and no more, when it can't be set.
    fn set_option<T>(self, level: c_int, option: c_int, value: &T) {
        if let Err(errno) = set(self.get().fd, level, option, value) {
            self.log().write(
                nginx_sys::NGX_LOG_INFO,
                errno,
                format_args!("setsockopt({level}, {option}) failed, ignored"),
            );
        }
    }
}
