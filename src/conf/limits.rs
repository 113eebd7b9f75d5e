//! Owns what a block says of how much one tunnel may take.

use nginx_sys::NGX_LOG_ERR;

use super::read::{because, compile, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_msec;
use crate::ffi::request::Request;
use crate::ffi::variable::NoMemory;

/// What a tunnel may take.
#[derive(Debug, Default)]
pub struct Limits {
    tunnel_time: Option<Limit>,
}

/// A limit as its directive has it. 0 is none.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// The same for each tunnel.
    Fixed(u64),
    /// Read anew for each tunnel.
    Variable(ComplexValue),
}

/// What kind of limit a directive sets.
struct Kind {
    directive: &'static str,
    /// What its value is called.
    noun: &'static str,
    example: &'static str,
    parse: fn(&[u8]) -> Option<u64>,
}

const TUNNEL_TIME: Kind = Kind {
    directive: "proxy_connect_tunnel_time",
    noun: "time",
    example: "8h",
    parse: |text| parse_msec(text).and_then(|msec| u64::try_from(msec).ok()),
};

impl Limits {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.tunnel_time = self.tunnel_time.or(http.tunnel_time);
    }
}

impl ServerConf {
    /// `proxy_connect_tunnel_time` for the tunnel of `request`, in milliseconds. `None` without a limit.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn tunnel_time(&self, request: Request) -> Result<Option<u64>, NoMemory> {
        value(self.limits.tunnel_time, &TUNNEL_TIME, request)
    }
}

/// `proxy_connect_tunnel_time time`
pub struct ProxyConnectTunnelTime;

impl Directive<ServerConf> for ProxyConnectTunnelTime {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.limits.tunnel_time, || limit(&TUNNEL_TIME, arguments))
    }
}

/// Reads the first argument of a directive.
fn limit(kind: &Kind, arguments: Arguments<'_>) -> Result<Limit, Refused> {
    let value = compile(kind.directive, arguments)?;

    let Some(text) = value.constant() else {
        return Ok(Limit::Variable(value));
    };

    match (kind.parse)(text) {
        Some(limit) => Ok(Limit::Fixed(limit)),
        None => because(format!(
            "invalid {} \"{}\" in the \"{}\" directive, give one such as \"{}\", or \"0\" for no \
             limit",
            kind.noun,
            Shown(text),
            kind.directive,
            kind.example
        )),
    }
}

/// What a limit comes to for the tunnel of `request`. Without one, with 0, with an empty value, and with one
/// that can't be read, there is none; the log is told of the last.
fn value(limit: Option<Limit>, kind: &Kind, request: Request) -> Result<Option<u64>, NoMemory> {
    let read = match limit {
        None => return Ok(None),
        Some(Limit::Fixed(limit)) => Some(limit),
        Some(Limit::Variable(value)) => {
            let text = value.evaluate(request).ok_or(NoMemory)?;

            if text.is_empty() {
                return Ok(None);
            }

            let read = (kind.parse)(text);

            if read.is_none() {
                request.connection().log().write(
                    NGX_LOG_ERR,
                    0,
                    format_args!(
                        "invalid {} \"{}\" of \"{}\", the tunnel goes without that limit",
                        kind.noun,
                        Shown(text),
                        kind.directive
                    ),
                );
            }

            read
        }
    };

    Ok(read.filter(|&limit| limit > 0))
}
