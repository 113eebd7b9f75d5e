//! Owns what a block says of the sockets of connections to upstreams.

use std::ffi::c_int;

use super::read::{because, flag, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_size;
use crate::ffi::socket::{has_net_raw, probe, SocketOptions, Unfit};

const KEEPALIVE: &str = "proxy_connect_socket_keepalive";
const SNDBUF: &str = "proxy_connect_socket_sndbuf";
const RCVBUF: &str = "proxy_connect_socket_rcvbuf";
const MARK: &str = "proxy_connect_socket_mark";

/// What the sockets are told. What is `Some(None)` is `off`.
#[derive(Debug, Default)]
pub struct UpstreamSocket {
    keepalive: Option<bool>,
    sndbuf: Option<Option<c_int>>,
    rcvbuf: Option<Option<c_int>>,
    mark: Option<Option<u32>>,
}

impl UpstreamSocket {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.keepalive = self.keepalive.or(http.keepalive);
        self.sndbuf = self.sndbuf.or(http.sndbuf);
        self.rcvbuf = self.rcvbuf.or(http.rcvbuf);
        self.mark = self.mark.or(http.mark);
    }
}

impl ServerConf {
    /// `proxy_connect_socket_keepalive`. `None` leaves it to `so_keepalive` of the `listen` directive.
    pub fn socket_keepalive(&self) -> Option<bool> {
        self.socket.keepalive
    }

    /// `proxy_connect_socket_sndbuf`, `..._rcvbuf` and `..._mark`.
    pub fn socket_options(&self) -> SocketOptions {
        let UpstreamSocket { rcvbuf, sndbuf, mark, .. } = self.socket;

        SocketOptions { rcvbuf: rcvbuf.flatten(), sndbuf: sndbuf.flatten(), mark: mark.flatten() }
    }
}

/// `proxy_connect_socket_keepalive on | off`
pub struct ProxyConnectSocketKeepalive;

impl Directive<ServerConf> for ProxyConnectSocketKeepalive {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.socket.keepalive, || flag(KEEPALIVE, arguments))
    }
}

/// `proxy_connect_socket_sndbuf size | off`
pub struct ProxyConnectSocketSndbuf;

impl Directive<ServerConf> for ProxyConnectSocketSndbuf {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let options = |size| SocketOptions { sndbuf: Some(size), ..SocketOptions::default() };
        once(&mut conf.socket.sndbuf, || size(SNDBUF, "net.core.wmem_max", arguments, options))
    }
}

/// `proxy_connect_socket_rcvbuf size | off`
pub struct ProxyConnectSocketRcvbuf;

impl Directive<ServerConf> for ProxyConnectSocketRcvbuf {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let options = |size| SocketOptions { rcvbuf: Some(size), ..SocketOptions::default() };
        once(&mut conf.socket.rcvbuf, || size(RCVBUF, "net.core.rmem_max", arguments, options))
    }
}

fn size(
    directive: &str,
    sysctl: &str,
    arguments: Arguments<'_>,
    options: impl FnOnce(c_int) -> SocketOptions,
) -> Result<Option<c_int>, Refused> {
    let value = arguments.first();

    if value == b"off" {
        return Ok(None);
    }

    let size = parse_size(value).and_then(|size| c_int::try_from(size).ok());

    let Some(size) = size.filter(|&size| size > 0) else {
        return because(format!(
            "invalid size \"{}\" in the \"{directive}\" directive, give one such as \"64k\", or \"off\"",
            Shown(value)
        ));
    };

    match probe(&options(size)) {
        Ok(()) => Ok(Some(size)),
        Err(Unfit::Limit(limit)) => because(format!(
            "\"{}\" in the \"{directive}\" directive is more than the system gives, which is {limit} bytes: raise \
             its limit (sysctl {sysctl} on Linux), or give less",
            Shown(value)
        )),
        Err(Unfit::Error(error)) => because(format!(
            "the system does not take \"{}\" of the \"{directive}\" directive: {error}",
            Shown(value)
        )),
    }
}

/// `proxy_connect_socket_mark number | off`
pub struct ProxyConnectSocketMark;

impl Directive<ServerConf> for ProxyConnectSocketMark {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.socket.mark, || mark(arguments))
    }
}

fn mark(arguments: Arguments<'_>) -> Result<Option<u32>, Refused> {
    let value = arguments.first();

    if value == b"off" {
        return Ok(None);
    }

    let Some(mark) = number(value) else {
        return because(format!(
            "invalid number \"{}\" in the \"{MARK}\" directive, give one from 1 to 4294967295, or from \"0x1\" to \
             \"0xffffffff\", or \"off\"",
            Shown(value)
        ));
    };

    if !cfg!(target_os = "linux") {
        return because(format!("\"{MARK}\" needs SO_MARK, which only Linux has"));
    }

    // The workers keep CAP_NET_RAW as for "transparent", which is enough for a mark since Linux 5.17. Without it to
    // keep nginx would end them.
    if has_net_raw() {
        arguments.conf().allow_transparent();
    }

    match probe(&SocketOptions { mark: Some(mark), ..SocketOptions::default() }) {
        Ok(()) => Ok(Some(mark)),
        Err(Unfit::Error(error)) => because(format!(
            "the system does not take \"{}\" of the \"{MARK}\" directive: {error}; start nginx as root, or with \
             CAP_NET_ADMIN",
            Shown(value)
        )),
        Err(Unfit::Limit(_)) => because("a bug: a mark has no limit"),
    }
}

/// Reads a mark, in decimal digits or behind "0x" in hexadecimal ones, as iptables and ip-rule have them.
fn number(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;

    let number = match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16)
        }
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse(),
        _ => return None,
    };

    number.ok().filter(|&number| number != 0)
}
