//! Owns what a block says of connecting to an upstream: which family of addresses it prefers, and what the upstream is
//! told first of the client.

use proxy_connect_core::order::Preference;
use proxy_connect_core::proxy_protocol::Version;

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;

const PREFER: &str = "proxy_connect_prefer";
const PROXY_PROTOCOL: &str = "proxy_connect_proxy_protocol";

/// How upstreams are connected to.
#[derive(Debug, Default)]
pub struct Connecting {
    preference: Option<Preference>,
    proxy_protocol: Option<ProxyProtocol>,
}

/// `proxy_connect_proxy_protocol`.
#[derive(Clone, Debug)]
struct ProxyProtocol {
    /// `None` for `off`.
    version: Option<Version>,
    /// The file and the line.
    position: String,
}

impl Connecting {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.preference = self.preference.or(http.preference);
        self.proxy_protocol = self.proxy_protocol.take().or_else(|| http.proxy_protocol.clone());
    }
}

impl ServerConf {
    /// `proxy_connect_prefer`.
    pub fn preference(&self) -> Preference {
        self.connecting.preference.unwrap_or_default()
    }

    /// `proxy_connect_proxy_protocol`. `None` for no header.
    pub fn proxy_protocol(&self) -> Option<Version> {
        self.connecting.proxy_protocol.as_ref().and_then(|protocol| protocol.version)
    }

    /// Whether the operator has named what is connected to, for some tunnels at least: only these are told.
    fn names_its_upstream(&self) -> bool {
        self.address().is_some() || self.has_parent()
    }
}

/// Refuses a PROXY protocol header for upstreams that clients choose.
///
/// # Errors
///
/// A sentence that says what to do.
pub fn check(conf: &ServerConf) -> Result<(), String> {
    match &conf.connecting.proxy_protocol {
        Some(ProxyProtocol { version: Some(version), position })
            if conf.is_enabled() && !conf.names_its_upstream() =>
        {
            Err(format!(
                "\"{PROXY_PROTOCOL} {}\" in {position} would have every server that a client names get a header \
                 that it does not know: set \"proxy_connect_address\" or \"proxy_connect_pass\", or \"{PROXY_PROTOCOL} off\"",
                name(*version)
            ))
        }
        _ => Ok(()),
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    }
}

/// `proxy_connect_prefer ipv6 | ipv4 | ipv6_only | ipv4_only | off`
pub struct ProxyConnectPrefer;

impl Directive<ServerConf> for ProxyConnectPrefer {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.connecting.preference, || preference(arguments.first()))
    }
}

fn preference(value: &[u8]) -> Result<Preference, Refused> {
    match Preference::named(value) {
        Some(preference) => Ok(preference),
        None => because(format!(
            "invalid value \"{}\" in the \"{PREFER}\" directive, it must be \"ipv6\", \"ipv4\", \
             \"ipv6_only\", \"ipv4_only\" or \"off\"",
            Shown(value)
        )),
    }
}

/// `proxy_connect_proxy_protocol off | v1 | v2`
pub struct ProxyConnectProxyProtocol;

impl Directive<ServerConf> for ProxyConnectProxyProtocol {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.connecting.proxy_protocol, || {
            let version = version(arguments.first())?;
            Ok(ProxyProtocol { version, position: arguments.conf().position() })
        })
    }
}

fn version(value: &[u8]) -> Result<Option<Version>, Refused> {
    match value {
        b"off" => Ok(None),
        b"v1" => Ok(Some(Version::V1)),
        b"v2" => Ok(Some(Version::V2)),
        other => because(format!(
            "invalid value \"{}\" in the \"{PROXY_PROTOCOL}\" directive, it must be \"off\", \"v1\" or \
             \"v2\"",
            Shown(other)
        )),
    }
}
