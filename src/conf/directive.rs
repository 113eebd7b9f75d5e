//! Owns the reading of the directives: each type is one, and refuses what it can't take with a
//! sentence that names the directive and the value.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::relay;
use proxy_connect_core::target::Ports;

use super::{Bind as BindConf, DataTimeout as DataTimeoutConf, ServerChoice, ServerConf, Setting};
use crate::ffi::addr::{Addr, Named};
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_msec;

/// `proxy_connect`
pub struct ProxyConnect;
/// `proxy_connect_allow all | port ... | port-range ...`
pub struct Allow;
/// `proxy_connect_connect_timeout time`
pub struct ConnectTimeout;
/// `proxy_connect_data_timeout time`
pub struct DataTimeout;
/// `proxy_connect_read_timeout time`, the deprecated name of `proxy_connect_data_timeout`
pub struct ReadTimeout;
/// `proxy_connect_send_timeout time`, which does nothing
pub struct SendTimeout;
/// `proxy_connect_address address | off`
pub struct Address;
/// `proxy_connect_bind address [transparent] | off`
pub struct Bind;
/// `proxy_connect_response response`
pub struct Response;
/// `proxy_connect_splice on | off | auto`
pub struct Splice;
/// `proxy_connect_server authority | connection`
pub struct Server;

const DATA_TIMEOUT: &str = "proxy_connect_data_timeout";
const READ_TIMEOUT: &str = "proxy_connect_read_timeout";

impl Directive<ServerConf> for ProxyConnect {
    fn set(conf: &mut ServerConf, _: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.proxy_connect, || Ok(()))
    }
}

impl Directive<ServerConf> for Allow {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.allow, || ports(arguments))
    }
}

impl Directive<ServerConf> for ConnectTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.connect_timeout, || msec("proxy_connect_connect_timeout", arguments))
    }
}

impl Directive<ServerConf> for DataTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        data_timeout(conf, arguments, false)
    }
}

impl Directive<ServerConf> for ReadTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        data_timeout(conf, arguments, true)
    }
}

impl Directive<ServerConf> for SendTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.send_timeout, || msec("proxy_connect_send_timeout", arguments))?;

        arguments.conf().warn(format_args!(
            "the \"proxy_connect_send_timeout\" directive does nothing, use \"{DATA_TIMEOUT}\""
        ));

        Ok(())
    }
}

impl Directive<ServerConf> for Address {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.address, || address(arguments))
    }
}

impl Directive<ServerConf> for Bind {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.bind, || bind(arguments))
    }
}

impl Directive<ServerConf> for Response {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.response, || {
            if arguments.first().is_empty() {
                return because("an empty \"proxy_connect_response\" would answer nothing");
            }

            compile("proxy_connect_response", arguments)
        })
    }
}

impl Directive<ServerConf> for Splice {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.splice, || splice(arguments))
    }
}

impl Directive<ServerConf> for Server {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.server, || match arguments.first() {
            b"authority" => Ok(ServerChoice::Authority),
            b"connection" => Ok(ServerChoice::Connection),
            other => because(format!(
                "invalid value \"{}\" in the \"proxy_connect_server\" directive, it must be \
                 \"authority\" or \"connection\"",
                Shown(other)
            )),
        })
    }
}

/// Fills `place` unless the directive stood before.
fn once<T>(
    place: &mut Option<T>,
    value: impl FnOnce() -> Result<T, Refused>,
) -> Result<(), Refused> {
    if place.is_some() {
        return Err(Refused::Duplicate);
    }

    *place = Some(value()?);
    Ok(())
}

fn because<T>(sentence: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Because(sentence.into()))
}

fn ports(arguments: Arguments<'_>) -> Result<Ports, Refused> {
    let mut ports = Ports::Listed(Vec::new());

    for argument in arguments.iter() {
        if let Err(error) = ports.add(argument, arguments.len() == 1) {
            return because(format!(
                "\"{}\" in the \"proxy_connect_allow\" directive {error}",
                Shown(argument)
            ));
        }
    }

    Ok(ports)
}

fn msec(name: &str, arguments: Arguments<'_>) -> Result<ngx_msec_t, Refused> {
    let value = arguments.first();

    match parse_msec(value) {
        Some(msec) => Ok(msec),
        None => because(format!(
            "invalid time \"{}\" in the \"{name}\" directive, give one such as \"10s\"",
            Shown(value)
        )),
    }
}

/// The two names of one timeout: only one of them may stand in a server.
fn data_timeout(
    conf: &mut ServerConf,
    arguments: Arguments<'_>,
    deprecated: bool,
) -> Result<(), Refused> {
    let (name, other) =
        if deprecated { (READ_TIMEOUT, DATA_TIMEOUT) } else { (DATA_TIMEOUT, READ_TIMEOUT) };

    if conf.data_timeout.is_some_and(|timeout| timeout.deprecated != deprecated) {
        return because(format!(
            "\"{name}\" sets the same timeout as \"{other}\", which stands in this server \
             already: keep one of them"
        ));
    }

    once(&mut conf.data_timeout, || {
        Ok(DataTimeoutConf { msec: msec(name, arguments)?, deprecated })
    })
}

fn compile(name: &str, arguments: Arguments<'_>) -> Result<ComplexValue, Refused> {
    match arguments.compile_first() {
        Some(value) => Ok(value),
        None => because(format!(
            "invalid value \"{}\" in the \"{name}\" directive",
            Shown(arguments.first())
        )),
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

fn bind(arguments: Arguments<'_>) -> Result<Setting<BindConf>, Refused> {
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
            "\"transparent\" of the \"proxy_connect_bind\" directive needs nginx 1.11.0 or newer"
                .to_owned(),
        );
    }

    Ok(Setting::On(BindConf { address, transparent }))
}

fn splice(arguments: Arguments<'_>) -> Result<relay::Splice, Refused> {
    match arguments.first() {
        b"off" => Ok(relay::Splice::Off),
        b"auto" => Ok(relay::Splice::Auto),
        b"on" if cfg!(target_os = "linux") => Ok(relay::Splice::On),
        b"on" => because(
            "\"proxy_connect_splice on\" needs splice(2), which only Linux has: set \"auto\"",
        ),
        other => because(format!(
            "invalid value \"{}\" in the \"proxy_connect_splice\" directive, it must be \"on\", \
             \"off\" or \"auto\"",
            Shown(other)
        )),
    }
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
