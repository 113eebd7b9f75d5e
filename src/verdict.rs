//! Owns what comes of a rule that refuses: the CONNECT is, or the log is told that it would have been.

use std::fmt;

use nginx_sys::{NGX_LOG_ERR, NGX_LOG_WARN};
use proxy_connect_core::proxy_status::ProxyError;

use crate::conf::ServerConf;
use crate::failure::{self, Failure};
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The port of the authority: `proxy_connect_allow`.
    Port,
    /// The host of the authority: `proxy_connect_allow_host`, `proxy_connect_deny_host`.
    Host,
    /// An address that is about to be connected to: `proxy_connect_allow_address`,
    /// `proxy_connect_deny_address`.
    Address,
    /// The same, by strings with variables: `proxy_connect_allow_upstream`.
    Upstream,
    /// The name that the client asks for in TLS: `proxy_connect_verify_sni`.
    Sni,
}

/// What the rules say of a CONNECT: `$proxy_connect_verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None of them refused it.
    Allowed,
    /// This one did.
    Denied(Rule),
    /// This one would have, without `proxy_connect_report_only`.
    Reported(Rule),
}

/// Refuses the CONNECT of `request`; `reason` names directive and value. With `proxy_connect_report_only`
/// it is only told.
///
/// # Errors
///
/// 403, unless it is only told.
pub fn refuse(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    rule: Rule,
    reason: fmt::Arguments<'_>,
) -> Result<(), Failure> {
    if conf.reports_only() && rule.is_reported() {
        // The first is the one that would have ended it.
        if !matches!(tunnel.verdict.get(), Some(Verdict::Reported(_))) {
            tunnel.verdict.set(Some(Verdict::Reported(rule)));
        }

        let message = format_args!("{reason}, let pass by \"proxy_connect_report_only\"");
        request.connection().log().write(NGX_LOG_WARN, 0, message);
        return Ok(());
    }

    tunnel.verdict.set(Some(Verdict::Denied(rule)));
    request.connection().log().write(rule.level(), 0, reason);
    failure::keep(request, reason);
    Err(Failure::new(403, rule.error()))
}

/// Notes that no rule is left. One that refused an address has left others.
pub fn allow(tunnel: &Tunnel) {
    if !matches!(tunnel.verdict.get(), Some(Verdict::Reported(_))) {
        tunnel.verdict.set(Some(Verdict::Allowed));
    }
}

impl Rule {
    /// Whether `proxy_connect_report_only` is for it. The ports are the one rule that every server has.
    fn is_reported(self) -> bool {
        self != Self::Port
    }

    fn error(self) -> ProxyError {
        match self {
            Self::Port | Self::Host | Self::Sni => ProxyError::HttpRequestDenied,
            Self::Address | Self::Upstream => ProxyError::DestinationIpProhibited,
        }
    }

    /// At which level the log is told. A tunnel that stands already ends with a warning, whoever is to blame.
    fn level(self) -> u32 {
        match self {
            Self::Sni => NGX_LOG_WARN,
            Self::Port | Self::Host | Self::Address | Self::Upstream => NGX_LOG_ERR,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Host => "host",
            Self::Address => "address",
            Self::Upstream => "upstream",
            Self::Sni => "sni",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(rule) => write!(f, "denied:{}", rule.word()),
            Self::Reported(rule) => write!(f, "reported:{}", rule.word()),
        }
    }
}
