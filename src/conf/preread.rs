//! Owns what a block says of the first bytes of a client: whether they are read before they go on, and what is
//! asked of them.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::sni::Check;

use super::read::{because, flag, once};
use super::timeouts::msec;
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;

/// How long a client has for its ClientHello without a directive: 10s.
const DEFAULT_TIMEOUT: ngx_msec_t = 10_000;

const VERIFY_SNI: &str = "proxy_connect_verify_sni";
const PREREAD_TIMEOUT: &str = "proxy_connect_preread_timeout";
const SSL_PREREAD: &str = "proxy_connect_ssl_preread";

/// What is done with the first bytes.
#[derive(Debug, Default)]
pub struct Preread {
    /// `Some(None)` for `off`.
    verify_sni: Option<Option<Check>>,
    timeout: Option<ngx_msec_t>,
    ssl_preread: Option<bool>,
}

impl Preread {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.verify_sni = self.verify_sni.or(http.verify_sni);
        self.timeout = self.timeout.or(http.timeout);
        self.ssl_preread = self.ssl_preread.or(http.ssl_preread);
    }
}

impl ServerConf {
    /// Whether the first bytes of a client are read before they go on.
    pub fn prereads(&self) -> bool {
        self.verify_sni().is_some() || self.preread.ssl_preread.unwrap_or_default()
    }

    /// What is asked of them: `proxy_connect_verify_sni`. `None` for `off`.
    pub fn verify_sni(&self) -> Option<Check> {
        self.preread.verify_sni.flatten()
    }

    /// `proxy_connect_preread_timeout`, in milliseconds.
    pub fn preread_timeout(&self) -> ngx_msec_t {
        self.preread.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }
}

/// `proxy_connect_verify_sni off | on | strict`
pub struct ProxyConnectVerifySni;

impl Directive<ServerConf> for ProxyConnectVerifySni {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.preread.verify_sni, || match arguments.first() {
            b"off" => Ok(None),
            b"on" => Ok(Some(Check::On)),
            b"strict" => Ok(Some(Check::Strict)),
            other => because(format!(
                "invalid value \"{}\" in the \"{VERIFY_SNI}\" directive, it must be \"off\", \
                 \"on\" or \"strict\"",
                Shown(other)
            )),
        })
    }
}

/// `proxy_connect_preread_timeout time`
pub struct ProxyConnectPrereadTimeout;

impl Directive<ServerConf> for ProxyConnectPrereadTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.preread.timeout, || msec(PREREAD_TIMEOUT, arguments))
    }
}

/// `proxy_connect_ssl_preread on | off`
pub struct ProxyConnectSslPreread;

impl Directive<ServerConf> for ProxyConnectSslPreread {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.preread.ssl_preread, || flag(SSL_PREREAD, arguments))
    }
}
