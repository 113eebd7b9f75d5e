//! Owns what a parent is told: where the tunnel is to lead, credentials, and fields of the configuration.

use proxy_connect_core::parent::connect::{self, basic, Reader};
use proxy_connect_core::parent::socks5::{self, Host};
use proxy_connect_core::parent::way::Scheme;
use proxy_connect_core::parent::Talk;

use crate::auth;
use crate::conf::parent::User;
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi::addr::Named;
use crate::ffi::list_of;
use crate::ffi::log::Shown;
use crate::ffi::request::Request;

const HOST: &[u8] = b"Host";
const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";

/// What a parent is sent first, and who reads what it says then.
pub struct Asking {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The conversation.
    pub talk: Talk,
}

/// What the parent of that scheme is told so that it builds the tunnel of `request`.
///
/// # Errors
///
/// 500 for what can't be told, or without memory; 502 for a destination that no parent can reach; 400 for a client
/// with two pairs of credentials.
pub fn ask(
    request: Request,
    conf: &ServerConf,
    scheme: Scheme,
    destination: &Named,
) -> Result<Asking, Failure> {
    if matches!(destination, Named::Addr(addr) if addr.is_unix()) {
        explain(
            request,
            0,
            format_args!(
                "a parent can't be asked for the unix socket of \"proxy_connect_address\""
            ),
        );
        return Err(Failure::MISCONFIGURED);
    }

    match scheme {
        Scheme::Http | Scheme::Https => connect(request, conf, destination),
        Scheme::Socks5 => socks5(request, conf, destination),
    }
}

fn connect(request: Request, conf: &ServerConf, destination: &Named) -> Result<Asking, Failure> {
    let authority = authority(destination)?;
    let mut written = connect::Request::to(&authority).map_err(|error| {
        unsayable(request, format_args!("the destination \"{}\" {error}", Shown(&authority)))
    })?;

    let has_own =
        |name: &[u8]| conf.pass_fields().iter().any(|field| field.name.eq_ignore_ascii_case(name));

    let mut add = |name: &[u8], value: &[u8]| {
        written.add(name, value).map_err(|error| {
            unsayable(request, format_args!("the value of the field \"{}\" {error}", Shown(name)))
        })
    };

    if !has_own(HOST) {
        add(HOST, &authority)?;
    }

    if !has_own(PROXY_AUTHORIZATION) {
        if let Some(credentials) = credentials(request, conf)? {
            add(PROXY_AUTHORIZATION, &credentials)?;
        }
    }

    for field in conf.pass_fields() {
        let value = field.value.evaluate(request).ok_or(Failure::INTERNAL)?;

        if !value.is_empty() {
            add(&field.name, value)?;
        }
    }

    let bytes = written.finish().map_err(|_| Failure::INTERNAL)?;
    Ok(Asking { bytes, talk: Talk::Connect(Reader::new(conf.pass_buffer_size())) })
}

/// The value of `Proxy-Authorization`, if there is one.
fn credentials(request: Request, conf: &ServerConf) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(user) = conf.pass_user() {
        let (name, password) = evaluate(request, user)?;

        return match basic(name, password) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(bad_user(request, &error)),
        };
    }

    if !conf.passes_auth() {
        return Ok(None);
    }

    match auth::for_proxy(request) {
        Ok(Some(value)) => list_of(value).map(Some).map_err(|_| Failure::INTERNAL),
        Ok(None) => Ok(None),
        Err(duplicate) => Err(duplicate),
    }
}

fn evaluate<'a>(request: Request, user: User) -> Result<(&'a [u8], &'a [u8]), Failure> {
    let evaluate = |value: crate::ffi::conf::ComplexValue| value.evaluate(request);
    evaluate(user.name).zip(evaluate(user.password)).ok_or(Failure::INTERNAL)
}

fn socks5(request: Request, conf: &ServerConf, destination: &Named) -> Result<Asking, Failure> {
    let (host, port) = match destination {
        Named::Name(name, port) => (Host::Name(name), *port),
        Named::Addr(addr) => (Host::Addr(addr.ip().ok_or(Failure::INTERNAL)?), addr.port()),
    };

    let user = match conf.pass_user() {
        Some(user) => Some(evaluate(request, user)?),
        None => None,
    };

    match socks5::Talk::begin(host, port, user) {
        Ok((talk, bytes)) => Ok(Asking { bytes, talk: Talk::Socks5(talk) }),
        Err(error) if user.is_some() => Err(bad_user(request, &error)),
        Err(error) => Err(unsayable(request, format_args!("the name of the destination {error}"))),
    }
}

/// What the user or the password is, the log is not told.
fn bad_user(request: Request, error: &dyn std::fmt::Display) -> Failure {
    unsayable(
        request,
        format_args!("the name or the password of \"proxy_connect_pass_user\" {error}"),
    )
}

fn unsayable(request: Request, reason: std::fmt::Arguments<'_>) -> Failure {
    explain(request, 0, format_args!("a parent can't be told: {reason}"));
    Failure::NO_WAY
}

/// Host and port with a colon between them.
fn authority(destination: &Named) -> Result<Vec<u8>, Failure> {
    match destination {
        Named::Addr(addr) => list_of(addr.text().as_bytes()).map_err(|_| Failure::INTERNAL),
        Named::Name(name, port) => {
            let port = format!(":{port}");
            let mut authority = list_of(name).map_err(|_| Failure::INTERNAL)?;
            authority.try_reserve(port.len()).map_err(|_| Failure::INTERNAL)?;
            authority.extend_from_slice(port.as_bytes());
            Ok(authority)
        }
    }
}
