//! Owns what is done to the socket of a peer between socket(2) and connect(2), where nginx's own
//! ngx_event_connect_peer() has no place for it.
//!
//! That function hands the connection to the event method right before it connects, on any system, if the method
//! takes whole connections, as epoll does. For the time of the call this module stands in for that part of the method,
//! does its work, and lets the method have its turn.

use std::cell::Cell;

use nginx_sys::{ngx_connection_t, ngx_err_t, ngx_int_t, ngx_peer_connection_t};

use super::addr::Addr;
use super::boundary::guard;
use super::code;
use super::connection::Connection;
use super::log::Log;
#[cfg(target_os = "linux")]
use super::socket::set_option;

/// What is to be done.
#[derive(Clone, Copy, Default)]
pub struct Preparation {
    /// SO_MARK.
    pub mark: Option<u32>,
    /// The local address to bind to, be it this host's or not (IP_FREEBIND).
    pub freebind: Option<Addr>,
}

/// It could not be done.
#[derive(Clone, Copy)]
pub struct Unprepared {
    /// The system's reason.
    pub errno: ngx_err_t,
    /// The option that can't be set, unless it is the address that can't be bound to.
    pub option: Option<&'static str>,
}

/// How the event method takes a connection: `add_conn` of an ngx_event_actions_t.
type AddConnection = Option<unsafe extern "C" fn(*mut ngx_connection_t) -> ngx_int_t>;

/// A connect that is being made.
#[derive(Clone, Copy)]
struct Pending {
    preparation: Preparation,
    /// What stands in for the event method at other times.
    method: AddConnection,
}

thread_local! {
    static PENDING: Cell<Option<Pending>> = const { Cell::new(None) };
    static DONE: Cell<Option<Result<(), Unprepared>>> = const { Cell::new(None) };
}

/// Connects to a peer as ngx_event_connect_peer() does, and answers with the same.
///
/// # Errors
///
/// [`Unprepared`]; there is no connection.
///
/// # Safety
///
/// As for ngx_event_connect_peer().
pub unsafe fn connect_prepared(
    pc: *mut ngx_peer_connection_t,
    preparation: Preparation,
) -> Result<ngx_int_t, Unprepared> {
    if preparation.mark.is_none() && preparation.freebind.is_none() {
        // SAFETY: the caller's promise.
        return Ok(unsafe { nginx_sys::ngx_event_connect_peer(pc) });
    }

    // SAFETY: the caller's promise. The event method's functions are a table of the process that only its one thread
    // uses, and this puts back what was there.
    let rc = unsafe {
        let method = nginx_sys::ngx_event_actions.add_conn;
        PENDING.set(Some(Pending { preparation, method }));
        nginx_sys::ngx_event_actions.add_conn = Some(prepare_and_add);

        let rc = nginx_sys::ngx_event_connect_peer(pc);

        nginx_sys::ngx_event_actions.add_conn = method;
        rc
    };

    PENDING.set(None);

    match (DONE.take(), rc) {
        (Some(prepared), _) => prepared.map(|()| rc),
        // A core that connects in another way.
        (None, code::OK | code::AGAIN) => {
            Err(Unprepared { errno: 0, option: Some("an option before connect()") })
        }
        // It came to nothing before.
        (None, _) => Ok(rc),
    }
}

unsafe extern "C" fn prepare_and_add(connection: *mut ngx_connection_t) -> ngx_int_t {
    let prepare = || {
        let Some(pending) = PENDING.take() else {
            return code::ERROR;
        };

        // What follows in ngx_event_connect_peer() depends on whether the method takes connections.
        // SAFETY: as in connect_prepared().
        unsafe { nginx_sys::ngx_event_actions.add_conn = pending.method };

        // SAFETY: nginx passes a connection that it has just made.
        let prepared = unsafe { Connection::from_ptr(connection) }
            .map_or(Ok(()), |connection| prepare(connection, &pending.preparation));

        DONE.set(Some(prepared));

        match (prepared, pending.method) {
            (Err(_), _) => code::ERROR,
            (Ok(()), None) => code::OK,
            // SAFETY: what nginx itself would call.
            (Ok(()), Some(add)) => unsafe { add(connection) },
        }
    };

    guard(Log::of_cycle(), prepare, || code::ERROR)
}

#[cfg(target_os = "linux")]
fn prepare(connection: Connection, preparation: &Preparation) -> Result<(), Unprepared> {
    let fd = connection.get().fd;

    if let Some(mark) = preparation.mark {
        set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, &mark)
            .map_err(|errno| Unprepared { errno, option: Some("SO_MARK") })?;
    }

    let Some(mut addr) = preparation.freebind else {
        return Ok(());
    };

    // For sockets of IPv6, too, as IP_BIND_ADDRESS_NO_PORT is.
    set_option(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, &1)
        .map_err(|errno| Unprepared { errno, option: Some("IP_FREEBIND") })?;

    if addr.port() == 0 {
        // As nginx does, so that connections to different peers can share a port. An older system lacks it.
        let _ = set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1);
    }

    // SAFETY: an open socket, and an address with its length.
    match unsafe { libc::bind(fd, addr.as_mut_ptr().cast(), addr.len()) } {
        0 => Ok(()),
        _ => Err(Unprepared { errno: nginx_sys::ngx_socket_errno(), option: None }),
    }
}

/// Nothing of it is there; the configuration says so.
#[cfg(not(target_os = "linux"))]
fn prepare(_: Connection, _: &Preparation) -> Result<(), Unprepared> {
    Ok(())
}
