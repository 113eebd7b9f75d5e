//! Owns whether a server takes CONNECT, and to which ports. Both stand in `server` only: a proxy is
//! opened where it listens.

use proxy_connect_core::ports::Ports;

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::request::Request;

/// What a server lets in.
#[derive(Debug, Default)]
pub struct Access {
    is_enabled: bool,
    ports: Option<Ports>,
}

impl ServerConf {
    /// Whether the server that answers `request` takes CONNECT.
    pub fn takes_connect(request: &Request) -> bool {
        Self::of(request).is_some_and(Self::is_enabled)
    }

    /// Whether the server takes CONNECT: `proxy_connect`.
    pub fn is_enabled(&self) -> bool {
        self.access.is_enabled
    }

    /// Whether a CONNECT may go to `port`: `proxy_connect_allow`.
    pub fn allows(&self, port: u16) -> bool {
        match &self.access.ports {
            Some(ports) => ports.contains(port),
            None => Ports::default().contains(port),
        }
    }
}

/// `proxy_connect`. It may stand more than once in a server: in a file that it includes, too.
pub struct ProxyConnect;

impl Directive<ServerConf> for ProxyConnect {
    fn set(conf: &mut ServerConf, _: Arguments<'_>) -> Result<(), Refused> {
        conf.access.is_enabled = true;
        Ok(())
    }
}

/// `proxy_connect_allow all | port ... | port-range ...`
pub struct ProxyConnectAllow;

impl Directive<ServerConf> for ProxyConnectAllow {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.access.ports, || ports(arguments))
    }
}

fn ports(arguments: Arguments<'_>) -> Result<Ports, Refused> {
    let mut ports = Ports::none();

    for argument in arguments.iter() {
        if let Err(error) = ports.add(argument) {
            return because(format!(
                "\"{}\" in the \"proxy_connect_allow\" directive {error}",
                Shown(argument)
            ));
        }
    }

    Ok(ports)
}
