//! Owns the decision whether a CONNECT may go where it wants to: by its port and host when it sets out, and by
//! each address right before it is connected to.

use std::fmt;
use std::net::IpAddr;

use proxy_connect_core::addresses::{AddressIndex, Decision};
use proxy_connect_core::target::Authority;

use crate::conf::hosts::{Found, Host};
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi::addr::Addr;
use crate::ffi::log::Shown;
use crate::ffi::own;
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;
use crate::verdict::{refuse, Rule};

/// Checks port and host of the authority, before any name is resolved.
///
/// # Errors
///
/// 403 for what is not allowed, 500 where the system can't tell.
pub fn check(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    authority: &Authority<'_>,
) -> Result<(), Failure> {
    check_port(request, conf, tunnel, authority.port())?;

    match refusal_of_host(request, conf, authority.bare_host())? {
        Some(refusal) => {
            let reason = format_args!("the host \"{}\" {refusal}", Shown(authority.bare_host()));
            refuse(request, conf, tunnel, Rule::Host, reason)
        }
        None => Ok(()),
    }
}

/// Checks the port against `proxy_connect_allow`.
fn check_port(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    port: u16,
) -> Result<(), Failure> {
    if conf.allows(port) {
        return Ok(());
    }

    let reason = format_args!("port {port} is not allowed by \"proxy_connect_allow\"");
    refuse(request, conf, tunnel, Rule::Port, reason)
}

/// Why a host is refused. It is shown as what follows the host in a sentence, and names directive and value.
pub enum HostRefusal<'a> {
    /// A value of `proxy_connect_deny_host` matches.
    Denied(Found<'a>),
    /// No value of `proxy_connect_allow_host` matches.
    NotAllowed,
    /// It is an IP address, and neither is among `proxy_connect_allow_host`, nor does
    /// `proxy_connect_allow_address` allow it.
    AddrNotAllowed,
    /// A regular expression came to no end.
    Undecided,
}

impl fmt::Display for HostRefusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(found) => write!(f, "is denied by \"{found}\""),
            Self::NotAllowed => f.write_str("is not allowed by \"proxy_connect_allow_host\""),
            Self::AddrNotAllowed => f.write_str(
                "is an IP address, and not allowed by \"proxy_connect_allow_host\" or \
                 \"proxy_connect_allow_address\"",
            ),
            Self::Undecided => f.write_str(
                "is not allowed, a regular expression of \"proxy_connect_allow_host\" or \
                 \"proxy_connect_deny_host\" came to no end",
            ),
        }
    }
}

/// Why the lists of hosts refuse `host`, if they do. It is a name in lower case and without a dot at its end, or an
/// IP address without brackets: of an authority, or what a client asks for in TLS.
///
/// # Errors
///
/// 500 where the system can't tell, see [`own::has`].
pub fn refusal_of_host<'a>(
    request: Request,
    conf: &'a ServerConf,
    host: &'a [u8],
) -> Result<Option<HostRefusal<'a>>, Failure> {
    let (allowed, denied) = (conf.allowed_hosts(), conf.denied_hosts());

    if allowed.is_none() && denied.is_none() {
        return Ok(None);
    }

    // As the resolver's part reads it: what is no address there is a name.
    let addr = Addr::parse_ip(request.pool(), host, 0).and_then(|addr| addr.ip());
    let named = addr.map_or(Host::Name(host), Host::Addr);
    let log = request.connection().log();

    match denied.map(|list| list.find(named, log)) {
        Some(Ok(Some(found))) => return Ok(Some(HostRefusal::Denied(found))),
        Some(Err(_)) => return Ok(Some(HostRefusal::Undecided)),
        Some(Ok(None)) | None => {}
    }

    match (allowed.map(|list| list.find(named, log)), addr) {
        (None | Some(Ok(Some(_))), _) => Ok(None),
        (Some(Err(_)), _) => Ok(Some(HostRefusal::Undecided)),
        (Some(Ok(None)), None) => Ok(Some(HostRefusal::NotAllowed)),
        (Some(Ok(None)), Some(addr)) => {
            let is_allowed = is_allowed_addr(request, conf, addr)?;
            Ok((!is_allowed).then_some(HostRefusal::AddrNotAllowed))
        }
    }
}

/// Whether `proxy_connect_allow_address` says of an address that it is allowed.
fn is_allowed_addr(request: Request, conf: &ServerConf, addr: IpAddr) -> Result<bool, Failure> {
    let Some(rules) = conf.addresses() else {
        return Ok(false);
    };

    let decision = rules.judge(addr, |addr| is_own(request, addr))?;
    Ok(matches!(decision, Decision::Allowed(_)))
}

/// Checks an address right before a connect to it. Where it came from does not matter.
///
/// # Errors
///
/// 403 for one that is not allowed, 500 where the system can't tell or there is no memory.
pub fn check_addr(request: Request, addr: &Addr) -> Result<(), Failure> {
    let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
    let tunnel = Tunnel::of(request).ok_or(Failure::INTERNAL)?;

    if let Some(rules) = conf.addresses() {
        check_rules(request, conf, tunnel, rules, addr)?;
    }

    check_strings(request, conf, tunnel, addr)
}

/// Which rules are asked about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// All of them: it is the destination's, or one in its place.
    Rules,
    /// The one against this host's own, and that only where the address is this nginx itself: the operator has named
    /// it as a parent.
    Loop,
}

impl Guard {
    /// Checks an address right before a connect to it.
    ///
    /// # Errors
    ///
    /// As for [`check_addr`], and 502 for a loop.
    pub fn check(self, request: Request, addr: &Addr) -> Result<(), Failure> {
        match self {
            Self::Rules => check_addr(request, addr),
            Self::Loop => check_loop(request, addr),
        }
    }
}

fn check_loop(request: Request, addr: &Addr) -> Result<(), Failure> {
    let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;

    let Some(rule) = conf.addresses().and_then(AddressIndex::denial_of_own) else {
        return Ok(());
    };

    let is_loop = own::listens_at(addr).map_err(|error| {
        let reason =
            format_args!("whether {} is an address of this host can't be told", addr.text());
        explain(request, error.raw_os_error().unwrap_or(0), reason);
        Failure::INTERNAL
    })?;

    if !is_loop {
        return Ok(());
    }

    let reason = format_args!(
        "the parent {} is this nginx, and its addresses are denied by \"{} {}\"",
        addr.text(),
        rule.action().directive(),
        Shown(rule.value())
    );
    explain(request, 0, reason);
    Err(Failure::LOOP)
}

/// Checks an address against `proxy_connect_allow_address` and `proxy_connect_deny_address`.
fn check_rules(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    rules: &AddressIndex,
    addr: &Addr,
) -> Result<(), Failure> {
    let decision = match (addr.ip(), addr.unix_path()) {
        (Some(ip), _) => rules.judge(ip, |ip| is_own(request, ip))?,
        (None, Some(path)) => rules.judge_unix(|| Ok::<_, Failure>(own::listens_on(&path)))?,
        (None, None) => return Err(Failure::INTERNAL),
    };

    let Decision::Denied(rule) = decision else {
        return Ok(());
    };

    let reason = format_args!(
        "the address {} is denied by \"{} {}\"",
        addr.text(),
        rule.action().directive(),
        Shown(rule.value())
    );
    refuse(request, conf, tunnel, Rule::Address, reason)
}

/// Checks an address, which `$proxy_connect_last_addr` tells, against `proxy_connect_allow_upstream`.
fn check_strings(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    addr: &Addr,
) -> Result<(), Failure> {
    let Some(strings) = conf.upstream_strings() else {
        return Ok(());
    };

    for string in strings {
        let text = string.evaluate(request).ok_or(Failure::INTERNAL)?;

        if !matches!(text, b"" | b"0") {
            return Ok(());
        }
    }

    let reason = format_args!(
        "the address {} is not allowed by \"proxy_connect_allow_upstream\"",
        addr.text()
    );
    refuse(request, conf, tunnel, Rule::Upstream, reason)
}

fn is_own(request: Request, addr: IpAddr) -> Result<bool, Failure> {
    own::has(addr).map_err(|error| {
        let reason = format_args!("whether {addr} is an address of this host can't be told");
        explain(request, error.raw_os_error().unwrap_or(0), reason);
        Failure::INTERNAL
    })
}
