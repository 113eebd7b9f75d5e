//! Owns what a block says of refusals: whether they are enforced, and what of their reason is told.

use proxy_connect_core::proxy_status::is_name;

use super::read::{because, flag, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;

const PROXY_STATUS: &str = "proxy_connect_proxy_status";
const REPORT_ONLY: &str = "proxy_connect_report_only";

/// What is done with a reason.
#[derive(Debug, Default)]
pub struct Reasons {
    proxy_status: Option<ProxyStatus>,
    report_only: Option<bool>,
}

/// `proxy_connect_proxy_status`.
#[derive(Debug)]
struct ProxyStatus {
    /// `None` for `off`. The configuration lives as long as its servers.
    name: Option<&'static [u8]>,
    details: bool,
}

impl Reasons {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        if let (None, Some(http)) = (&self.proxy_status, &http.proxy_status) {
            self.proxy_status = Some(ProxyStatus { ..*http });
        }

        self.report_only = self.report_only.or(http.report_only);
    }
}

impl ServerConf {
    /// The name that `Proxy-Status` has, where it is sent.
    pub fn proxy_status(&self) -> Option<&'static [u8]> {
        self.reasons.proxy_status.as_ref().and_then(|status| status.name)
    }

    /// Whether `Proxy-Status` has the reason in words and the upstream's address.
    pub fn tells_details(&self) -> bool {
        self.reasons.proxy_status.as_ref().is_some_and(|status| status.details)
    }

    /// Whether refusals by lists are only told to the log: `proxy_connect_report_only`.
    pub fn reports_only(&self) -> bool {
        self.reasons.report_only.unwrap_or_default()
    }
}

/// `proxy_connect_proxy_status off | name [details]`
pub struct ProxyConnectProxyStatus;

impl Directive<ServerConf> for ProxyConnectProxyStatus {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.reasons.proxy_status, || proxy_status(arguments))
    }
}

fn proxy_status(arguments: Arguments<'_>) -> Result<ProxyStatus, Refused> {
    let name = arguments.first();

    let details = match arguments.iter().nth(1) {
        None => false,
        Some(b"details") if name != b"off" => true,
        Some(other) => {
            return because(format!(
                "invalid parameter \"{}\" in the \"{PROXY_STATUS}\" directive, it may only be \
                 \"details\" behind a name",
                Shown(other)
            ))
        }
    };

    if name == b"off" {
        return Ok(ProxyStatus { name: None, details });
    }

    if !is_name(name) {
        return because(format!(
            "invalid name \"{}\" in the \"{PROXY_STATUS}\" directive, it must be visible ASCII",
            Shown(name)
        ));
    }

    match arguments.conf().pool().copy(name) {
        Some(name) => Ok(ProxyStatus { name: Some(name), details }),
        None => because("no memory is left"),
    }
}

/// `proxy_connect_report_only on | off`
pub struct ProxyConnectReportOnly;

impl Directive<ServerConf> for ProxyConnectReportOnly {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.reasons.report_only, || flag(REPORT_ONLY, arguments))
    }
}
