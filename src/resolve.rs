//! Owns the way from an authority, or from `proxy_connect_address`, to the addresses of the
//! upstream.

use proxy_connect_core::order::{choose, Preference};
use proxy_connect_core::target::Authority;

use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi::addr::{is_unix, Addr, Named};
use crate::ffi::event::EventHandler;
use crate::ffi::list_of;
use crate::ffi::log::{Shown, Word};
use crate::ffi::request::Request;
use crate::ffi::resolver::{Lookup, ResolveError, StartError};
use crate::ffi::upstream::Group;

/// How many addresses of a name are taken at most. A name server may give thousands.
const ADDRS_MAX: usize = 16;

/// Where a tunnel without a parent is to lead.
pub enum Target {
    /// To an address, or the addresses of a name.
    Named(Destination),
    /// To one of a group of servers.
    Group(Group),
}

/// Where a tunnel is to lead, whoever builds it.
pub struct Destination {
    /// What names it.
    pub named: Named,
    /// Whether the operator has named it, not the client.
    pub is_fixed: bool,
}

/// A look-up of the upstream's name.
pub struct Resolving {
    lookup: Box<Lookup>,
    port: u16,
    preference: Preference,
}

/// How far the resolving is.
pub enum Resolution {
    /// The addresses, each once, with their ports, in the order to try them.
    Addresses(Vec<Addr>),
    /// The resolver will call.
    Waiting(Resolving),
}

impl Target {
    /// The upstream of a CONNECT to `authority`: what `proxy_connect_address` says, and without
    /// it, or where it is empty, the authority itself.
    ///
    /// # Errors
    ///
    /// 502 when `proxy_connect_address` names no address.
    pub fn of(
        request: Request,
        conf: &ServerConf,
        authority: &Authority<'_>,
    ) -> Result<Self, Failure> {
        let address = address(request, conf)?;

        match address.and_then(|address| Group::of_request(request, address)) {
            Some(group) => Ok(Self::Group(group)),
            None => destination(request, conf, authority, address).map(Self::Named),
        }
    }
}

/// Where a tunnel is to lead, whoever builds it.
///
/// # Errors
///
/// As for [`Target::of`].
pub fn destination_of(
    request: Request,
    conf: &ServerConf,
    authority: &Authority<'_>,
) -> Result<Destination, Failure> {
    destination(request, conf, authority, address(request, conf)?)
}

/// What `proxy_connect_address` says. `None` where that is nothing.
fn address<'a>(request: Request, conf: &ServerConf) -> Result<Option<&'a [u8]>, Failure> {
    let address = match conf.address() {
        Some(value) => value.evaluate(request).ok_or(Failure::INTERNAL)?,
        None => b"",
    };

    Ok(Some(address).filter(|address| !address.is_empty()))
}

fn destination(
    request: Request,
    conf: &ServerConf,
    authority: &Authority<'_>,
    address: Option<&[u8]>,
) -> Result<Destination, Failure> {
    let (Some(address), Some(value)) = (address, conf.address()) else {
        return Ok(Destination { named: named_by(request, authority)?, is_fixed: false });
    };

    // A variable may hold what a client has said.
    let parse = if is_unix(value.beginning()) { Named::parse } else { Named::parse_inet };

    let named = parse(request.pool(), address, authority.port()).map_err(|words| {
        let shown = Shown(address);
        let reason = format_args!("{words} in \"{shown}\", the value of \"proxy_connect_address\"");
        explain(request, 0, reason);
        Failure::MISCONFIGURED
    })?;

    Ok(Destination { named, is_fixed: true })
}

fn named_by(request: Request, authority: &Authority<'_>) -> Result<Named, Failure> {
    match Addr::parse_ip(request.pool(), authority.bare_host(), authority.port()) {
        Some(addr) => Ok(Named::Addr(addr)),
        None => {
            let name = list_of(authority.host()).map_err(|_| Failure::INTERNAL)?;
            Ok(Named::Name(name, authority.port()))
        }
    }
}

/// Begins to resolve what is `named`; `H` hears of an answer that takes time.
///
/// # Errors
///
/// 502 when there is no resolver or the name has no addresses, or none that `proxy_connect_prefer` admits, 504 when the
/// resolver's time ran out.
pub fn begin<H: EventHandler>(request: Request, named: Named) -> Result<Resolution, Failure> {
    let preference = ServerConf::of(&request).map(ServerConf::preference).unwrap_or_default();

    let (name, port) = match named {
        Named::Addr(addr) => {
            if !addr.is_unix() && !preference.admits(addr.is_ipv6()) {
                return Err(not_admitted(request, addr.text().as_bytes(), preference));
            }

            let addrs = list_of(&[addr]).map_err(|_| Failure::INTERNAL)?;
            return Ok(Resolution::Addresses(addrs));
        }
        Named::Name(name, port) => (name, port),
    };

    request.connection().log().set_action(c"resolving the upstream's name");

    match Lookup::start::<H>(request, &name) {
        Ok(lookup) => Resolving { lookup, port, preference }.proceed(request),
        Err(StartError::NoResolver) => {
            explain(request, 0, format_args!("no resolver defined to resolve {}", Word(&name)));
            Err(Failure::MISCONFIGURED)
        }
        Err(StartError::Failed) => {
            explain(
                request,
                0,
                format_args!("the resolver could not ask for \"{}\"", Shown(&name)),
            );
            Err(Failure::INTERNAL)
        }
    }
}

impl Resolving {
    /// Takes the resolver's answer, if it is there.
    ///
    /// # Errors
    ///
    /// As for [`begin`].
    pub fn proceed(mut self, request: Request) -> Result<Resolution, Failure> {
        match self.lookup.take() {
            None => Ok(Resolution::Waiting(self)),
            Some(Ok(mut addrs)) => {
                choose(&mut addrs, ADDRS_MAX, self.preference, Addr::is_ipv6);

                if addrs.is_empty() {
                    return Err(not_admitted(request, self.lookup.name(), self.preference));
                }

                with_port(&addrs, self.port).map(Resolution::Addresses)
            }
            Some(Err(error)) => Err(self.failed(request, &error)),
        }
    }

    fn failed(&self, request: Request, error: &ResolveError) -> Failure {
        explain(
            request,
            0,
            format_args!(
                "{} could not be resolved ({}: {})",
                Word(self.lookup.name()),
                error.state,
                error.words
            ),
        );

        if error.is_timeout() {
            Failure::DNS_TIMEOUT
        } else {
            Failure::dns(error.state)
        }
    }
}

/// The addresses of `host`, which are known already, in the order that `proxy_connect_prefer` says.
///
/// # Errors
///
/// 502 where it admits none of them, 500 without memory.
pub fn prefer(
    request: Request,
    conf: &ServerConf,
    host: &[u8],
    addrs: &[Addr],
) -> Result<Vec<Addr>, Failure> {
    let mut addrs = list_of(addrs).map_err(|_| Failure::INTERNAL)?;
    choose(&mut addrs, ADDRS_MAX, conf.preference(), Addr::is_ipv6);

    if addrs.is_empty() {
        return Err(not_admitted(request, host, conf.preference()));
    }

    Ok(addrs)
}

/// Tells the log that nothing of what `upstream` names may be tried.
fn not_admitted(request: Request, upstream: &[u8], preference: Preference) -> Failure {
    let (upstream, name) = (Word(upstream), preference.name());
    explain(
        request,
        0,
        format_args!("{upstream} has no address that \"proxy_connect_prefer {name}\" admits"),
    );
    Failure::UNROUTABLE
}

/// A copy of `addrs` with their port, and without the room of those that were not chosen.
fn with_port(addrs: &[Addr], port: u16) -> Result<Vec<Addr>, Failure> {
    let mut addrs = list_of(addrs).map_err(|_| Failure::INTERNAL)?;

    for addr in &mut addrs {
        *addr = addr.with_port(port);
    }

    Ok(addrs)
}
