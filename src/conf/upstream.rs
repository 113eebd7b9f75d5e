//! Owns where a CONNECT leads to in place of its authority, and from which local address.

use super::read::{because, compile, once};
use super::ServerConf;
use crate::ffi::addr::{Addr, Named};
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;

/// What a block says of the upstream.
#[derive(Debug, Default)]
pub struct Upstream {
    address: Option<Setting<ComplexValue>>,
    local: Option<Setting<LocalAddress>>,
}

/// A directive that takes a value or `off`.
#[derive(Clone, Copy, Debug)]
enum Setting<T> {
    /// `off`: as if the directive were not there, nor in `http`.
    Off,
    /// The value.
    On(T),
}

/// `proxy_connect_bind`.
#[derive(Clone, Copy, Debug)]
pub struct LocalAddress {
    /// The local address.
    pub address: ComplexValue,
    /// `transparent`: the address need not be one of this host.
    pub transparent: bool,
}

impl Upstream {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.address = self.address.or(http.address);
        self.local = self.local.or(http.local);
    }
}

impl<T> Setting<T> {
    fn value(setting: Option<Self>) -> Option<T> {
        match setting {
            Some(Self::On(value)) => Some(value),
            Some(Self::Off) | None => None,
        }
    }
}

impl ServerConf {
    /// `proxy_connect_address`.
    pub fn address(&self) -> Option<ComplexValue> {
        Setting::value(self.upstream.address)
    }

    /// `proxy_connect_bind`.
    pub fn bind(&self) -> Option<LocalAddress> {
        Setting::value(self.upstream.local)
    }
}

/// `proxy_connect_address address | off`
pub struct ProxyConnectAddress;

impl Directive<ServerConf> for ProxyConnectAddress {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.upstream.address, || address(arguments))
    }
}

fn address(arguments: Arguments<'_>) -> Result<Setting<ComplexValue>, Refused> {
    if arguments.first() == b"off" {
        return Ok(Setting::Off);
    }

    let value = compile("proxy_connect_address", arguments)?;

    // A value with variables is read for each request.
    if let Some(text) = value.constant().filter(|text| !text.is_empty()) {
        if let Err(words) = Named::parse(arguments.conf().pool(), text, 443) {
            return because(format!(
                "{words} in \"{}\" of the \"proxy_connect_address\" directive",
                Shown(text)
            ));
        }
    }

    Ok(Setting::On(value))
}

/// `proxy_connect_bind address [transparent] | off`
pub struct ProxyConnectBind;

impl Directive<ServerConf> for ProxyConnectBind {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.upstream.local, || local(arguments))
    }
}

fn local(arguments: Arguments<'_>) -> Result<Setting<LocalAddress>, Refused> {
    let transparent = transparent(arguments)?;

    if arguments.first() == b"off" {
        return Ok(Setting::Off);
    }

    let address = compile("proxy_connect_bind", arguments)?;

    if let Some(text) = address.constant().filter(|text| !text.is_empty()) {
        if Addr::parse_local(arguments.conf().pool(), text).is_none() {
            return because(format!(
                "invalid address \"{}\" in the \"proxy_connect_bind\" directive, give an IP \
                 address with an optional port",
                Shown(text)
            ));
        }
    }

    if transparent && !arguments.conf().allow_transparent() {
        return because(
            "\"transparent\" of the \"proxy_connect_bind\" directive needs nginx 1.11.0 or newer",
        );
    }

    Ok(Setting::On(LocalAddress { address, transparent }))
}

fn transparent(arguments: Arguments<'_>) -> Result<bool, Refused> {
    match arguments.iter().nth(1) {
        None => Ok(false),
        Some(b"transparent") if arguments.first() != b"off" => Ok(true),
        Some(other) => because(format!(
            "invalid parameter \"{}\" in the \"proxy_connect_bind\" directive, only \
             \"transparent\" may follow an address",
            Shown(other)
        )),
    }
}
