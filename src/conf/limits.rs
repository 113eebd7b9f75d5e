//! Owns what a block says of how much one tunnel may take.

use std::num::NonZeroU64;

use nginx_sys::NGX_LOG_ERR;
use proxy_connect_core::relay::{Quota, Rate, Side};

use super::read::{because, compile, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::request::Request;
use crate::ffi::variable::NoMemory;
use crate::ffi::{parse_msec, parse_offset};

/// What a tunnel may take.
#[derive(Debug, Default)]
pub struct Limits {
    tunnel_time: Option<Limit>,
    max_bytes: MaxBytes,
    download_rate: Option<Limit>,
    upload_rate: Option<Limit>,
}

/// `proxy_connect_max_bytes`, once for each way.
#[derive(Clone, Copy, Debug, Default)]
struct MaxBytes {
    up: Option<Limit>,
    down: Option<Limit>,
    both: Option<Limit>,
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

const MAX_BYTES: Kind = Kind {
    directive: "proxy_connect_max_bytes",
    noun: "size",
    example: "10g",
    parse: parse_offset,
};

const DOWNLOAD_RATE: Kind = rate("proxy_connect_download_rate");
const UPLOAD_RATE: Kind = rate("proxy_connect_upload_rate");

/// Bytes a second, as in ngx_stream_proxy_module.
const fn rate(directive: &'static str) -> Kind {
    Kind { directive, noun: "rate", example: "1m", parse: parse_offset }
}

impl Limits {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.tunnel_time = self.tunnel_time.or(http.tunnel_time);

        self.download_rate = self.download_rate.or(http.download_rate);
        self.upload_rate = self.upload_rate.or(http.upload_rate);

        // Who sets one of the ways sets all.
        if !self.max_bytes.is_set() {
            self.max_bytes = http.max_bytes;
        }
    }
}

impl MaxBytes {
    fn is_set(&self) -> bool {
        self.up.or(self.down).or(self.both).is_some()
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

    /// `proxy_connect_max_bytes` for the tunnel of `request`. `None` without a limit.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn quota(&self, request: Request) -> Result<Option<Quota>, NoMemory> {
        let read = |limit| Ok(value(limit, &MAX_BYTES, request)?.unwrap_or(u64::MAX));
        let MaxBytes { up, down, both } = self.limits.max_bytes;
        let quota = Quota { up: read(up)?, down: read(down)?, both: read(both)? };

        Ok(Some(quota).filter(|&quota| quota != Quota::NONE))
    }

    /// `proxy_connect_download_rate` and `proxy_connect_upload_rate` for the tunnel of `request`: how fast
    /// `source` is read. `None` without a limit.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn rate(&self, request: Request, source: Side) -> Result<Option<Rate>, NoMemory> {
        let rate = match source {
            Side::Client => value(self.limits.upload_rate, &UPLOAD_RATE, request)?,
            Side::Upstream => value(self.limits.download_rate, &DOWNLOAD_RATE, request)?,
        };

        Ok(rate.and_then(NonZeroU64::new).map(Rate::new))
    }
}

/// `proxy_connect_tunnel_time time`
pub struct ProxyConnectTunnelTime;

impl Directive<ServerConf> for ProxyConnectTunnelTime {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.limits.tunnel_time, || limit(&TUNNEL_TIME, arguments))
    }
}

/// `proxy_connect_max_bytes size [up | down | both]`
pub struct ProxyConnectMaxBytes;

impl Directive<ServerConf> for ProxyConnectMaxBytes {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let max_bytes = &mut conf.limits.max_bytes;

        let place = match arguments.iter().nth(1) {
            Some(b"up") => &mut max_bytes.up,
            Some(b"down") => &mut max_bytes.down,
            Some(b"both") | None => &mut max_bytes.both,
            Some(other) => {
                return because(format!(
                    "invalid parameter \"{}\" in the \"{}\" directive, it must be \"up\", \
                     \"down\" or \"both\"",
                    Shown(other),
                    MAX_BYTES.directive
                ))
            }
        };

        once(place, || limit(&MAX_BYTES, arguments))
    }
}

/// `proxy_connect_download_rate rate`
pub struct ProxyConnectDownloadRate;

impl Directive<ServerConf> for ProxyConnectDownloadRate {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.limits.download_rate, || limit(&DOWNLOAD_RATE, arguments))
    }
}

/// `proxy_connect_upload_rate rate`
pub struct ProxyConnectUploadRate;

impl Directive<ServerConf> for ProxyConnectUploadRate {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.limits.upload_rate, || limit(&UPLOAD_RATE, arguments))
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
