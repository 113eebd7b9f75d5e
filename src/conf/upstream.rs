//! Owns where a CONNECT leads to in place of its authority.

use super::read::{because, compile, once};
use super::ServerConf;
use crate::ffi::addr::Named;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;

/// What a block says of the upstream.
#[derive(Debug, Default)]
pub struct Upstream {
    address: Option<Setting<ComplexValue>>,
}

/// A directive that takes a value or `off`.
#[derive(Clone, Copy, Debug)]
pub enum Setting<T> {
    /// `off`: as if the directive were not there, nor in `http`.
    Off,
    /// The value.
    On(T),
}

impl Upstream {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.address = self.address.or(http.address);
    }
}

impl<T> Setting<T> {
    /// The value, if there is one.
    pub fn value(setting: Option<Self>) -> Option<T> {
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
