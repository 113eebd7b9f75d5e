//! Owns the local addresses that connections to upstreams go out from.

use std::cell::Cell;
use std::rc::Rc;

use proxy_connect_core::addresses::Network;
use proxy_connect_core::sources::Source;

use super::read::{because, compile_one, once};
use super::upstream::Setting;
use super::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::pool::Pool;

const BIND: &str = "proxy_connect_bind";

/// `proxy_connect_bind`.
#[derive(Debug)]
pub struct Bind {
    /// The addresses as they are written.
    pub values: Vec<Value>,
    /// How one of them is chosen.
    pub method: Method,
    /// `transparent`: the address need not be one of this host.
    pub transparent: bool,
    /// `freebind`: nor need it be one yet.
    pub freebind: bool,
    turns: [Cell<u128>; 2],
}

/// One of the addresses.
#[derive(Debug)]
pub enum Value {
    /// An address, or those of a network.
    Fixed(Source),
    /// What variables come to: the same, or nothing.
    Variable(ComplexValue),
}

/// How one of several addresses is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Always the same for a key.
    Hash(ComplexValue),
}

impl Bind {
    /// The number of the next turn: each family of addresses has its own, and so has each worker.
    pub fn next_turn(&self, is_ipv6: bool) -> u128 {
        let turn = &self.turns[usize::from(is_ipv6)];
        turn.replace(turn.get().wrapping_add(1))
    }
}

/// What a block says of local addresses.
#[derive(Debug, Default)]
pub struct LocalAddresses {
    bind: Option<Setting<Rc<Bind>>>,
}

impl LocalAddresses {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.bind = self.bind.take().or_else(|| http.bind.clone());
    }
}

impl ServerConf {
    /// `proxy_connect_bind`.
    pub fn bind(&self) -> Option<Rc<Bind>> {
        Setting::value(self.local.bind.clone())
    }
}

/// `proxy_connect_bind address | CIDR ... [random | round_robin | hash=key] [transparent] [freebind] | off`
pub struct ProxyConnectBind;

impl Directive<ServerConf> for ProxyConnectBind {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.local.bind, || setting(arguments))
    }
}

fn setting(arguments: Arguments<'_>) -> Result<Setting<Rc<Bind>>, Refused> {
    if arguments.first() != b"off" {
        return bind(arguments).map(Rc::new).map(Setting::On);
    }

    match arguments.iter().nth(1) {
        None => Ok(Setting::Off),
        Some(other) => because(format!(
            "invalid parameter \"{}\" in the \"{BIND}\" directive, nothing may follow \"off\"",
            Shown(other)
        )),
    }
}

fn bind(arguments: Arguments<'_>) -> Result<Bind, Refused> {
    let mut bind = Bind {
        values: Vec::new(),
        method: Method::RoundRobin,
        transparent: false,
        freebind: false,
        turns: [Cell::new(0), Cell::new(0)],
    };
    let mut method = None;

    for argument in arguments.iter() {
        match argument {
            b"transparent" => bind.transparent = true,
            b"freebind" => bind.freebind = true,
            b"round_robin" => set_method(&mut method, argument, Method::RoundRobin)?,
            b"random" => set_method(&mut method, argument, Method::Random)?,
            [b'h', b'a', b's', b'h', b'=', key @ ..] => {
                set_method(&mut method, argument, hash(arguments, key)?)?;
            }
            _ => bind.values.push(value(arguments, argument)?),
        }
    }

    if bind.values.is_empty() {
        return because(format!(
            "no address in the \"{BIND}\" directive, give one before its parameters"
        ));
    }

    bind.method = method.unwrap_or(bind.method);
    check_system(arguments, &bind)?;
    Ok(bind)
}

fn set_method(place: &mut Option<Method>, argument: &[u8], method: Method) -> Result<(), Refused> {
    if place.is_some() {
        return because(format!(
            "\"{}\" in the \"{BIND}\" directive follows another way to choose an address, give one \
             of \"round_robin\", \"random\" and \"hash=KEY\"",
            Shown(argument)
        ));
    }

    *place = Some(method);
    Ok(())
}

fn hash(arguments: Arguments<'_>, key: &[u8]) -> Result<Method, Refused> {
    if key.is_empty() {
        return because(format!(
            "no key in \"hash=\" of the \"{BIND}\" directive, give a variable such as \
             \"hash=$remote_addr\""
        ));
    }

    compile_one(BIND, arguments, key).map(Method::Hash)
}

fn value(arguments: Arguments<'_>, argument: &[u8]) -> Result<Value, Refused> {
    let value = compile_one(BIND, arguments, argument)?;

    // A value with variables is read for each request.
    let Some(text) = value.constant().filter(|text| !text.is_empty()) else {
        return Ok(Value::Variable(value));
    };

    let conf = arguments.conf();

    match read(conf.pool(), text) {
        Some((source, None)) => Ok(Value::Fixed(source)),
        Some((source, Some(network))) => {
            conf.warn(format_args!(
                "\"{}\" in the \"{BIND}\" directive has low bits set, it is read as {network}",
                Shown(text)
            ));
            Ok(Value::Fixed(source))
        }
        None => because(format!(
            "invalid address \"{}\" in the \"{BIND}\" directive, give an IP address with an \
             optional port, or a CIDR; \"round_robin\", \"random\", \"hash=KEY\", \"transparent\" and \
             \"freebind\" may follow",
            Shown(text)
        )),
    }
}

/// Reads an address with an optional port, or a CIDR. With one that has bits set behind its prefix comes the network that
/// it is read as.
pub fn read(pool: Pool, text: &[u8]) -> Option<(Source, Option<Network>)> {
    if text.contains(&b'/') {
        return Source::network(text).ok();
    }

    let addr = Addr::parse_local(pool, text)?;
    Some((Source::addr(addr.ip()?, addr.port()), None))
}

fn check_system(arguments: Arguments<'_>, bind: &Bind) -> Result<(), Refused> {
    if bind.transparent && !arguments.conf().allow_transparent() {
        return because(format!(
            "\"transparent\" of the \"{BIND}\" directive needs nginx 1.11.0 or newer"
        ));
    }

    if bind.freebind && !cfg!(target_os = "linux") {
        return because(format!(
            "\"freebind\" of the \"{BIND}\" directive needs IP_FREEBIND, which only Linux has"
        ));
    }

    Ok(())
}
