//! Owns what a block says of the zone in which its tunnels are counted.

use super::read::{because, once, zone_size};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::status_zone::{self, StatusZone, NAME_MAX};

const NAME: &str = "proxy_connect_status_zone";

/// The zone. `Some(None)` for `off`.
#[derive(Debug, Default)]
pub struct Status(Option<Option<StatusZone>>);

impl Status {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.0 = self.0.or(http.0);
    }
}

impl ServerConf {
    /// `proxy_connect_status_zone`. `None` where nothing is counted.
    pub fn status_zone(&self) -> Option<StatusZone> {
        self.status.0.flatten()
    }
}

/// `proxy_connect_status_zone name[:size] | off`
pub struct ProxyConnectStatusZone;

impl Directive<ServerConf> for ProxyConnectStatusZone {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.status.0, || match arguments.first() {
            b"off" => Ok(None),
            value => zone(arguments, value).map(Some),
        })
    }
}

fn zone(arguments: Arguments<'_>, value: &[u8]) -> Result<StatusZone, Refused> {
    let (name, size) = zone_size(NAME, value, status_zone::LEAST)?;

    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);

    let name = match std::str::from_utf8(name) {
        Ok(name) if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| is_plain(&b)) => name,
        _ => {
            return because(format!(
                "invalid zone \"{}\" in the \"{NAME}\" directive, its name takes letters, digits, \"-\", \"_\" \
                 and \".\", {NAME_MAX} of them at most, as in \"tunnels:1m\"",
                Shown(value)
            ))
        }
    };

    let Some(zone) = StatusZone::named(arguments.conf(), name) else {
        return because("no memory is left");
    };

    match (zone.size(), size) {
        (_, None) => (),
        (None, Some(size)) => zone.set_size(size),
        (Some(before), Some(size)) if before == size => (),
        (Some(before), Some(_)) => {
            return because(format!(
                "the size of the zone \"{}\" in the \"{NAME}\" directive conflicts with {before} bytes that it \
                 was given before, give it one size only",
                Shown(value)
            ))
        }
    }

    Ok(zone)
}
