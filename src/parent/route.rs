//! Owns which way a tunnel takes: to its destination, through the parent that `proxy_connect_pass` names, or to a group
//! that `proxy_connect_address` does.

use proxy_connect_core::parent::way::{self, Scheme};
use proxy_connect_core::target::Authority;

use super::{Hop, Parent};
use crate::conf::parent::{Pass, Place};
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi::addr::{Addr, Named};
use crate::ffi::event::EventHandler;
use crate::ffi::log::Shown;
use crate::ffi::request::Request;
use crate::ffi::upstream::Group;
use crate::ffi::{boxed, list_of};
use crate::resolve::{destination_of, prefer, Destination, Target};
use crate::tunnel::Tunnel;

/// What `$proxy_connect_parent` says of a tunnel without one.
const DIRECT: &[u8] = b"direct";

/// Which way a tunnel takes.
pub enum Way {
    /// To its destination.
    Direct(Named),
    /// Through something else.
    Through(Box<Parent>),
}

/// Which way the tunnel of `request` takes; `H` hears of [`Alarm::Parent`].
///
/// # Errors
///
/// 500 where `proxy_connect_pass` comes to nothing that names a way, or there is no memory; 502 for
/// `proxy_connect_address` likewise.
pub fn way<H: EventHandler>(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    authority: &Authority<'_>,
) -> Result<Way, Failure> {
    if let Some(pass) = tunnel.overrides.pass.get().or_else(|| conf.pass()) {
        let text = pass.evaluate(request).ok_or(Failure::INTERNAL)?;

        match way::Way::read(text) {
            Ok(way::Way::Direct) => {}
            Ok(way::Way::Parent(name)) => {
                tunnel.parent.set(Some(told(request, name, text)?));
                tunnel.is_fixed.set(true);

                let hop = hop(request, conf, pass, name, text)?;
                return through::<H>(request, conf, authority, name, hop).map(Way::Through);
            }
            Err(error) => return Err(no_way(request, text, format_args!("{error}"))),
        }
    }

    tunnel.parent.set(Some(DIRECT));

    match Target::of(request, conf, authority)? {
        Target::Named(Destination { named, is_fixed }) => {
            tunnel.is_fixed.set(is_fixed);
            Ok(Way::Direct(named))
        }
        Target::Group(group) => {
            tunnel.is_fixed.set(true);
            let destination = Named::Name(Vec::new(), authority.port());
            let parent =
                Parent::new::<H>(request, None, b"", Hop::Group(group, None), destination)?;
            boxed(parent).map(Way::Through).ok_or(Failure::INTERNAL)
        }
    }
}

/// The way through the parent of that name, which is at `hop`.
fn through<H: EventHandler>(
    request: Request,
    conf: &ServerConf,
    authority: &Authority<'_>,
    name: way::Name<'_>,
    hop: Hop,
) -> Result<Box<Parent>, Failure> {
    let destination = destination_of(request, conf, authority)?.named;
    let host = request.pool().copy(name.bare_host()).ok_or(Failure::INTERNAL)?;
    let scheme = Some(name.scheme.unwrap_or_default());
    let parent = Parent::new::<H>(request, scheme, host, hop, destination)?;

    boxed(Parent { resolves: conf.pass_resolves(), ..parent }).ok_or(Failure::INTERNAL)
}

/// Tells the log that the value of `proxy_connect_pass` is of no use.
fn no_way(request: Request, text: &[u8], what: std::fmt::Arguments<'_>) -> Failure {
    let shown = Shown(text);
    explain(request, 0, format_args!("\"{shown}\", the value of \"proxy_connect_pass\", {what}"));
    Failure::NO_WAY
}

fn hop(
    request: Request,
    conf: &ServerConf,
    pass: &Pass,
    name: way::Name<'_>,
    text: &[u8],
) -> Result<Hop, Failure> {
    match pass.place() {
        Some(Place::Group(group)) => return Ok(Hop::Group(*group, None)),
        Some(Place::Addrs(addrs)) => {
            return prefer(request, conf, name.host, addrs).map(Hop::Addrs);
        }
        None => {}
    }

    if let (Some(group), None) = (Group::of_request(request, name.host), name.port) {
        group.note_as_parents();
        return Ok(Hop::Group(group, None));
    }

    if name.scheme.is_none() && name.port.is_none() {
        let what = "is no upstream, and no host with a scheme or a port";
        return Err(no_way(request, text, format_args!("{what}")));
    }

    let port = name.port.unwrap_or(name.scheme.unwrap_or_default().default_port());

    match Addr::parse_ip(request.pool(), name.bare_host(), port) {
        Some(addr) => prefer(request, conf, name.host, &[addr]).map(Hop::Addrs),
        None => {
            let host = list_of(name.host).map_err(|_| Failure::INTERNAL)?;
            Ok(Hop::Host(Named::Name(host, port)))
        }
    }
}

/// What `$proxy_connect_parent` tells: the name with the scheme.
fn told(request: Request, name: way::Name<'_>, text: &[u8]) -> Result<&'static [u8], Failure> {
    let prefix = if name.scheme.is_some() { "" } else { Scheme::default().prefix() };
    let mut told = list_of(prefix.as_bytes()).map_err(|_| Failure::INTERNAL)?;
    told.try_reserve(text.len()).map_err(|_| Failure::INTERNAL)?;
    told.extend_from_slice(text);

    request.pool().copy(&told).map(|told| &*told).ok_or(Failure::INTERNAL)
}
