//! Owns the timeouts of a CONNECT.

use nginx_sys::ngx_msec_t;

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_msec;

/// Each of them without a directive: 60s.
const DEFAULT: ngx_msec_t = 60_000;

const CONNECT_TIMEOUT: &str = "proxy_connect_connect_timeout";
const DATA_TIMEOUT: &str = "proxy_connect_data_timeout";
const READ_TIMEOUT: &str = "proxy_connect_read_timeout";
const SEND_TIMEOUT: &str = "proxy_connect_send_timeout";

/// What a block says of them.
#[derive(Debug, Default)]
pub struct Timeouts {
    connect: Option<ngx_msec_t>,
    data: Option<NamedTimeout>,
    send: Option<ngx_msec_t>,
}

/// The data timeout in milliseconds, and which of its two directives set it.
#[derive(Clone, Copy, Debug)]
struct NamedTimeout {
    msec: ngx_msec_t,
    name: &'static str,
}

impl Timeouts {
    /// Takes from `http` what is not set here. The data timeout may have its other name there.
    pub fn inherit(&mut self, http: &Self) {
        self.connect = self.connect.or(http.connect);
        self.data = self.data.or(http.data);
        self.send = self.send.or(http.send);
    }
}

impl ServerConf {
    /// `proxy_connect_connect_timeout`, in milliseconds.
    pub fn connect_timeout(&self) -> ngx_msec_t {
        self.timeouts.connect.unwrap_or(DEFAULT)
    }

    /// `proxy_connect_data_timeout`, in milliseconds.
    pub fn data_timeout(&self) -> ngx_msec_t {
        self.timeouts.data.map_or(DEFAULT, |timeout| timeout.msec)
    }

    /// `proxy_connect_send_timeout`, in milliseconds. It does nothing but be read.
    pub fn send_timeout(&self) -> ngx_msec_t {
        self.timeouts.send.unwrap_or(DEFAULT)
    }
}

/// `proxy_connect_connect_timeout time`
pub struct ProxyConnectConnectTimeout;

impl Directive<ServerConf> for ProxyConnectConnectTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.timeouts.connect, || msec(CONNECT_TIMEOUT, arguments))
    }
}

/// `proxy_connect_data_timeout time`
pub struct ProxyConnectDataTimeout;

impl Directive<ServerConf> for ProxyConnectDataTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        data_timeout(conf, arguments, DATA_TIMEOUT)
    }
}

/// `proxy_connect_read_timeout time`, the deprecated name of `proxy_connect_data_timeout`
pub struct ProxyConnectReadTimeout;

impl Directive<ServerConf> for ProxyConnectReadTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        data_timeout(conf, arguments, READ_TIMEOUT)
    }
}

/// `proxy_connect_send_timeout time`, which does nothing
pub struct ProxyConnectSendTimeout;

impl Directive<ServerConf> for ProxyConnectSendTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.timeouts.send, || msec(SEND_TIMEOUT, arguments))?;

        arguments.conf().warn(format_args!(
            "the \"{SEND_TIMEOUT}\" directive does nothing, use \"{DATA_TIMEOUT}\""
        ));

        Ok(())
    }
}

/// The two names of one timeout: only one of them may stand in a block.
fn data_timeout(
    conf: &mut ServerConf,
    arguments: Arguments<'_>,
    name: &'static str,
) -> Result<(), Refused> {
    if let Some(other) = conf.timeouts.data.map(|timeout| timeout.name).filter(|&it| it != name) {
        return because(format!(
            "\"{name}\" directive is duplicate: it sets the same timeout as \"{other}\", which \
             stands in this block already, keep one of them"
        ));
    }

    once(&mut conf.timeouts.data, || Ok(NamedTimeout { msec: msec(name, arguments)?, name }))
}

/// Reads the time of the directive `name`, in milliseconds.
pub(super) fn msec(name: &str, arguments: Arguments<'_>) -> Result<ngx_msec_t, Refused> {
    let value = arguments.first();

    match parse_msec(value) {
        Some(msec) => Ok(msec),
        None => because(format!(
            "invalid time \"{}\" in the \"{name}\" directive, give one such as \"10s\"",
            Shown(value)
        )),
    }
}
