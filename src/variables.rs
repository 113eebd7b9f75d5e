//! Owns the variables: their names, what they tell, and what setting them does.

use std::cell::Cell;
use std::fmt;
use std::io::Write;

use nginx_sys::{ngx_conf_t, ngx_msec_t, NGX_LOG_ERR};
use proxy_connect_core::proxy_status::ProxyError;

use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::log::Shown;
use crate::ffi::parse_msec;
use crate::ffi::request::Request;
use crate::ffi::variable::{self, NoMemory};
use crate::reply;
use crate::tunnel::{Span, Tunnel};
use crate::{admit, answer};

/// A variable of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    ConnectHost,
    ConnectPort,
    ConnectAddr,
    ConnectTimeout,
    DataTimeout,
    ReadTimeout,
    SendTimeout,
    ResolveTime,
    ConnectTime,
    FirstByteTime,
    Response,
    BytesSent,
    BytesReceived,
    CloseReason,
    Duration,
    Error,
    Verdict,
    LastAddr,
    Sni,
    Alpn,
    SslProtocol,
    Parent,
    ParentStatus,
}

use Variable::*;

/// The variables, in an order that only this file knows.
const VARIABLES: [(Variable, &str); 23] = [
    (ConnectHost, "connect_host"),
    (ConnectPort, "connect_port"),
    (ConnectAddr, "connect_addr"),
    (ConnectTimeout, "proxy_connect_connect_timeout"),
    (DataTimeout, "proxy_connect_data_timeout"),
    (ReadTimeout, "proxy_connect_read_timeout"),
    (SendTimeout, "proxy_connect_send_timeout"),
    (ResolveTime, "proxy_connect_resolve_time"),
    (ConnectTime, "proxy_connect_connect_time"),
    (FirstByteTime, "proxy_connect_first_byte_time"),
    (Response, "proxy_connect_response"),
    (BytesSent, "proxy_connect_bytes_sent"),
    (BytesReceived, "proxy_connect_bytes_received"),
    (CloseReason, "proxy_connect_close_reason"),
    (Duration, "proxy_connect_duration"),
    (Error, "proxy_connect_error"),
    (Verdict, "proxy_connect_verdict"),
    (LastAddr, "proxy_connect_last_addr"),
    (Sni, "proxy_connect_sni"),
    (Alpn, "proxy_connect_alpn"),
    (SslProtocol, "proxy_connect_ssl_protocol"),
    (Parent, "proxy_connect_parent"),
    (ParentStatus, "proxy_connect_parent_status"),
];

/// What tells of work for a CONNECT that was not done.
const NONE: &str = "-";

/// Registers the variables. `None` when nginx refused one.
///
/// # Safety
///
/// `cf` must be the configuration that a preconfiguration hook got.
pub unsafe fn register(cf: *mut ngx_conf_t) -> Option<()> {
    for (index, (variable, name)) in VARIABLES.into_iter().enumerate() {
        let name = name.as_bytes();

        // SAFETY: the caller's promise.
        unsafe {
            // A patched core has the variables of the request line already. With the patch of
            // someone else they may have no value in a subrequest, and auth_request would let
            // pass what it should refuse.
            if variable.is_of_request_line() {
                variable::take_over::<Set>(cf, name, index)?;
            } else {
                variable::register::<Set>(cf, name, index, variable.is_settable())?;
            }
        }
    }

    Some(())
}

/// Does what is to be done about variables when all are known. Those that are made out of
/// `$proxy_connect_last_addr` follow it from one address to the next, where a server asks them. `None` when there is no
/// memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        variable::make_room(cf)?;

        if ServerConf::any(cf.as_ref()?, |server| server.upstream_strings().is_some()) {
            variable::follow(cf)?;
        }
    }

    Some(())
}

impl Variable {
    fn is_of_request_line(self) -> bool {
        matches!(self, ConnectHost | ConnectPort)
    }

    /// Whether it has no value, and not an empty one, for a request that is no CONNECT.
    fn needs_connect(self) -> bool {
        matches!(
            self,
            ConnectHost
                | ConnectPort
                | ConnectAddr
                | LastAddr
                | Response
                | Sni
                | Alpn
                | SslProtocol
        )
    }

    fn is_settable(self) -> bool {
        matches!(self, ConnectTimeout | DataTimeout | ReadTimeout | SendTimeout | Response)
    }
}

struct Set;

impl variable::Variables for Set {
    fn get(request: Request, index: usize) -> Result<Option<&'static [u8]>, NoMemory> {
        match VARIABLES.get(index) {
            Some((variable, _)) => get(request.main(), *variable),
            None => Ok(None),
        }
    }

    fn set(request: Request, index: usize, value: &[u8]) {
        let Some((variable, name)) = VARIABLES.get(index) else {
            return;
        };

        // A request that is no CONNECT has no tunnel to set anything for.
        if let Some(tunnel) = Tunnel::of(request) {
            set(request.main(), tunnel, *variable, name, value);
        }
    }
}

fn get(request: Request, variable: Variable) -> Result<Option<&'static [u8]>, NoMemory> {
    if variable.is_of_request_line() {
        let Some(Ok(authority)) = admit::authority(&request) else {
            return Ok(None);
        };

        return match variable {
            ConnectHost => keep(request, authority.host()),
            _ => keep(request, authority.port_text()),
        };
    }

    if !request.was_connect() || admit::is_anothers(request) {
        return Ok(if variable.needs_connect() { None } else { Some(b"") });
    }

    let Some(conf) = ServerConf::of(&request) else {
        return Ok(None);
    };

    // One that was refused before any other phase has none.
    let tunnel = Tunnel::of(request);
    let set = tunnel.map(|tunnel| &tunnel.overrides);

    match variable {
        ConnectAddr => match tunnel.and_then(|tunnel| tunnel.addr.get()) {
            Some(addr) => keep(request, addr.text().as_bytes()),
            None => Ok(None),
        },
        LastAddr => {
            variable::note_passing();

            match tunnel.and_then(|tunnel| tunnel.addr.get()) {
                Some(addr) => bare_addr(request, &addr),
                None => Ok(None),
            }
        }
        ConnectTimeout => {
            timeout(request, set.map(|set| &set.connect_timeout), conf.connect_timeout())
        }
        DataTimeout | ReadTimeout => {
            timeout(request, set.map(|set| &set.data_timeout), conf.data_timeout())
        }
        SendTimeout => timeout(request, set.map(|set| &set.send_timeout), conf.send_timeout()),
        ResolveTime => time(request, tunnel.map(|tunnel| &tunnel.times.resolve)),
        ConnectTime => time(request, tunnel.map(|tunnel| &tunnel.times.connect)),
        FirstByteTime => time(request, tunnel.map(|tunnel| &tunnel.times.first_byte)),
        Duration => time(request, tunnel.map(|tunnel| &tunnel.times.duration)),
        BytesSent => number(request, tunnel.map_or(0, |tunnel| tunnel.counted.get().sent)),
        BytesReceived => number(request, tunnel.map_or(0, |tunnel| tunnel.counted.get().received)),
        CloseReason => {
            let reason = tunnel.and_then(|tunnel| tunnel.close_reason.get());
            Ok(Some(reason.unwrap_or(NONE).as_bytes()))
        }
        Error => Ok(Some(answer::error_of(request).map_or("", ProxyError::token).as_bytes())),
        Verdict => match tunnel.and_then(|tunnel| tunnel.verdict.get()) {
            Some(verdict) => show(request, format_args!("{verdict}")),
            None => Ok(Some(NONE.as_bytes())),
        },
        Parent => {
            Ok(Some(tunnel.and_then(|tunnel| tunnel.parent.get()).unwrap_or(NONE.as_bytes())))
        }
        ParentStatus => match tunnel.and_then(|tunnel| tunnel.parent_status.get()) {
            Some(status) => number(request, status.into()),
            None => Ok(Some(NONE.as_bytes())),
        },
        Sni => Ok(tunnel.and_then(|tunnel| tunnel.hello.server_name())),
        Alpn => Ok(tunnel.and_then(|tunnel| tunnel.hello.alpn())),
        SslProtocol => Ok(tunnel.and_then(|tunnel| tunnel.hello.protocol())),
        Response => match tunnel {
            Some(tunnel) => reply::text(request, conf, tunnel.overrides.response.get())
                .map(Some)
                .map_err(|_| NoMemory),
            None => Ok(None),
        },
        ConnectHost | ConnectPort => Ok(None),
    }
}

fn set(request: Request, tunnel: &Tunnel, variable: Variable, name: &str, value: &[u8]) {
    let overrides = &tunnel.overrides;

    let timeout = match variable {
        ConnectTimeout => &overrides.connect_timeout,
        DataTimeout | ReadTimeout => &overrides.data_timeout,
        SendTimeout => &overrides.send_timeout,
        Response => {
            let value = request.pool().copy(value).filter(|value| !value.is_empty());
            overrides.response.set(value.map(|value| &*value));
            return;
        }
        _ => return,
    };

    // An empty value is none: the configured one holds.
    if value.is_empty() {
        timeout.set(None);
        return;
    }

    match parse_msec(value) {
        Some(msec) => timeout.set(Some(msec)),
        None => request.connection().log().write(
            NGX_LOG_ERR,
            0,
            format_args!(
                "invalid time \"{}\" set for ${name}, what held before still does",
                Shown(value)
            ),
        ),
    }
}

/// A timeout in milliseconds: what was set for the request, or what is configured.
fn timeout(
    request: Request,
    set: Option<&Cell<Option<ngx_msec_t>>>,
    configured: ngx_msec_t,
) -> Result<Option<&'static [u8]>, NoMemory> {
    number(request, set.and_then(Cell::get).unwrap_or(configured) as u64)
}

/// An address without its port, as `geo` reads it; an IPv4 address in an IPv6 one as that of IPv4.
fn bare_addr(request: Request, addr: &Addr) -> Result<Option<&'static [u8]>, NoMemory> {
    match addr.ip() {
        Some(ip) => show(request, format_args!("{}", ip.to_canonical())),
        None => keep(request, addr.text().as_bytes()),
    }
}

/// A time in seconds with milliseconds, "-" for work that was not done.
fn time(request: Request, span: Option<&Span>) -> Result<Option<&'static [u8]>, NoMemory> {
    match span.and_then(Span::msec) {
        Some(msec) => show(request, format_args!("{}.{:03}", msec / 1000, msec % 1000)),
        None => Ok(Some(NONE.as_bytes())),
    }
}

/// A number without its unit.
fn number(request: Request, number: u64) -> Result<Option<&'static [u8]>, NoMemory> {
    show(request, format_args!("{number}"))
}

fn show(request: Request, text: fmt::Arguments<'_>) -> Result<Option<&'static [u8]>, NoMemory> {
    // An IPv6 address has 39 bytes at most, what else is shown less.
    let mut buffer = [0; 48];
    let mut rest = &mut buffer[..];
    rest.write_fmt(text).map_err(|_| NoMemory)?;

    let left = rest.len();
    let len = buffer.len() - left;
    keep(request, &buffer[..len])
}

fn keep(request: Request, text: &[u8]) -> Result<Option<&'static [u8]>, NoMemory> {
    match request.pool().copy(text) {
        Some(text) => Ok(Some(text)),
        None => Err(NoMemory),
    }
}
