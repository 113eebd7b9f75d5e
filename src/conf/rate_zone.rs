//! Owns what a block says of rates that its tunnels share.

use std::num::NonZeroU64;

use proxy_connect_core::relay::{Rate, Side};

use super::read::{because, compile, zone_size};
use super::ServerConf;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_offset;
use crate::ffi::rate_zone::RateZone;

const NAME: &str = "proxy_connect_rate_zone";

/// The rates that tunnels share.
#[derive(Debug, Default)]
pub struct SharedRates(Vec<SharedRate>);

/// A rate that all tunnels of a key share.
#[derive(Clone, Debug)]
pub struct SharedRate {
    /// What the key is for a request. With an empty one it shares nothing.
    pub key: ComplexValue,
    /// Where the keys are kept.
    pub zone: RateZone,
    upload: Option<Rate>,
    download: Option<Rate>,
    /// The file and the line of the directive.
    position: String,
}

impl SharedRate {
    /// How fast the `source`s of all tunnels of a key may be read together.
    pub fn rate(&self, source: Side) -> Option<Rate> {
        match source {
            Side::Client => self.upload,
            Side::Upstream => self.download,
        }
    }
}

impl SharedRates {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&http.0);
        }
    }

    /// Whether each zone has its size.
    ///
    /// # Errors
    ///
    /// A sentence about one that has none.
    pub fn check(&self) -> Result<(), String> {
        match self.0.iter().find(|rate| rate.zone.size() == 0) {
            None => Ok(()),
            Some(rate) => {
                let zone = Shown(rate.zone.name());
                Err(format!(
                    "unknown zone \"{zone}\" in the \"{NAME}\" directive in {}, give it a size there or \
                     in another one: \"zone={zone}:1m\"",
                    rate.position
                ))
            }
        }
    }
}

impl ServerConf {
    /// `proxy_connect_rate_zone`.
    pub fn shared_rates(&self) -> &[SharedRate] {
        &self.shared_rates.0
    }
}

/// `proxy_connect_rate_zone key zone=name[:size] [download=rate] [upload=rate]`
pub struct ProxyConnectRateZone;

impl Directive<ServerConf> for ProxyConnectRateZone {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        conf.shared_rates.0.push(shared_rate(arguments)?);
        Ok(())
    }
}

fn shared_rate(arguments: Arguments<'_>) -> Result<SharedRate, Refused> {
    let key = compile(NAME, arguments)?;
    let (mut zone, mut upload, mut download) = (None, None, None);

    for argument in arguments.iter().skip(1) {
        let (name, value) = match argument.iter().position(|&byte| byte == b'=') {
            Some(at) => (&argument[..at], &argument[at + 1..]),
            None => (argument, &b""[..]),
        };

        match name {
            b"zone" => set(&mut zone, argument, self::zone(value))?,
            b"upload" => set(&mut upload, argument, rate(argument, value))?,
            b"download" => set(&mut download, argument, rate(argument, value))?,
            _ => {
                return because(format!(
                    "invalid parameter \"{}\" in the \"{NAME}\" directive, it must be \"zone=\", \
                     \"upload=\" or \"download=\"",
                    Shown(argument)
                ))
            }
        }
    }

    if upload.is_none() && download.is_none() {
        return because(format!(
            "no rate in the \"{NAME}\" directive, give one such as \"download=10m\", or \"upload=1m\""
        ));
    }

    let Some((name, size)) = zone else {
        return because(format!(
            "no zone in the \"{NAME}\" directive, give one such as \"zone=users:1m\""
        ));
    };

    let Some(zone) = RateZone::named(arguments.conf(), name, size) else {
        return because(format!(
            "the zone \"{}\" in the \"{NAME}\" directive can't be had",
            Shown(name)
        ));
    };

    Ok(SharedRate { key, zone, upload, download, position: arguments.conf().position() })
}

/// Takes a parameter that may stand once.
fn set<T>(
    place: &mut Option<T>,
    argument: &[u8],
    value: Result<T, Refused>,
) -> Result<(), Refused> {
    match place.replace(value?) {
        None => Ok(()),
        Some(_) => because(format!(
            "duplicate parameter \"{}\" in the \"{NAME}\" directive",
            Shown(argument)
        )),
    }
}

/// `name`, or `name:size`; the size is 0 without one.
fn zone(value: &[u8]) -> Result<(&[u8], usize), Refused> {
    if value.is_empty() || value.starts_with(b":") {
        return because(format!(
            "invalid zone \"{}\" in the \"{NAME}\" directive, give one such as \"zone=users:1m\"",
            Shown(value)
        ));
    }

    let (name, size) = zone_size(NAME, value, RateZone::least())?;
    Ok((name, size.unwrap_or_default()))
}

fn rate(argument: &[u8], value: &[u8]) -> Result<Rate, Refused> {
    match parse_offset(value).and_then(NonZeroU64::new) {
        Some(rate) => Ok(Rate::new(rate)),
        None => because(format!(
            "invalid rate \"{}\" in the \"{NAME}\" directive, give one such as \"10m\", in bytes a second",
            Shown(argument)
        )),
    }
}
