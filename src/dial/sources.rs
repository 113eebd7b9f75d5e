//! Owns the local addresses that one CONNECT may go out from, and whose turn it is.

use std::rc::Rc;

use proxy_connect_core::sources::{count, number_of, pick, Source};

use crate::conf::bind::{self, Bind, Method, Value};
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi;
use crate::ffi::addr::Addr;
use crate::ffi::log::Shown;
use crate::ffi::peer::Local;
use crate::ffi::request::Request;

/// What `proxy_connect_bind` comes to for a request.
pub struct Sources {
    bind: Rc<Bind>,
    list: Vec<Source>,
    /// The number of the request's key, where the configuration has one.
    key: u128,
}

/// The addresses for `request`. `None` where the system chooses.
///
/// # Errors
///
/// 502 when a value is no address, 500 when there is no memory.
pub fn of(request: Request, conf: &ServerConf) -> Result<Option<Sources>, Failure> {
    let Some(bind) = conf.bind() else {
        return Ok(None);
    };

    let mut list = Vec::new();
    list.try_reserve_exact(bind.values.len()).map_err(|_| Failure::INTERNAL)?;

    for value in &bind.values {
        list.extend(source(request, value)?);
    }

    if list.is_empty() {
        return Ok(None);
    }

    let key = match bind.method {
        Method::Hash(key) => number_of(key.evaluate(request).ok_or(Failure::INTERNAL)?),
        Method::RoundRobin | Method::Random => 0,
    };

    Ok(Some(Sources { bind, list, key }))
}

fn source(request: Request, value: &Value) -> Result<Option<Source>, Failure> {
    let value = match value {
        Value::Fixed(source) => return Ok(Some(*source)),
        Value::Variable(value) => value.evaluate(request).ok_or(Failure::INTERNAL)?,
    };

    if value.is_empty() {
        return Ok(None);
    }

    match bind::read(request.pool(), value) {
        Some((source, _)) => Ok(Some(source)),
        None => {
            let message =
                format_args!("invalid address \"{}\" in \"proxy_connect_bind\"", Shown(value));
            explain(request, 0, message);
            Err(Failure::MISCONFIGURED)
        }
    }
}

impl Sources {
    /// Whether any of them is one with a port.
    pub fn has_port(&self) -> bool {
        self.list.iter().any(|source| source.port() != 0)
    }

    /// Whether the next one may be another.
    pub fn has_another(&self, addr: &Addr) -> bool {
        !matches!(self.bind.method, Method::Hash(_)) && count(&self.list, addr.is_ipv6()) > 1
    }

    /// The one whose turn it is to reach `addr`. `None` where there is none of its family, and the log was told.
    pub fn next_for(&self, request: Request, addr: &Addr) -> Option<Local> {
        let is_ipv6 = addr.is_ipv6();

        let number = match self.bind.method {
            Method::RoundRobin => self.bind.next_turn(is_ipv6),
            Method::Random => ffi::random(),
            Method::Hash(_) => self.key,
        };

        match pick(&self.list, is_ipv6, number) {
            Some((ip, port)) => Some(Local {
                addr: Addr::of(ip, port),
                transparent: self.bind.transparent,
                freebind: self.bind.freebind,
            }),
            None => {
                self.tell_unreachable(request, addr);
                None
            }
        }
    }

    fn tell_unreachable(&self, request: Request, addr: &Addr) {
        let addr = addr.text();
        let only = match self.list.as_slice() {
            [source] => source.only(),
            _ => None,
        };

        match only.map(|(ip, port)| Addr::of(ip, port).text()) {
            Some(local) => explain(
                request,
                0,
                format_args!("upstream connect failed (peer:{addr}), it can't be reached from {local}"),
            ),
            None => explain(
                request,
                0,
                format_args!(
                    "upstream connect failed (peer:{addr}), it can't be reached from any address of \
                     \"proxy_connect_bind\""
                ),
            ),
        }
    }
}
