//! Owns whether a server takes `Proxy-Authorization` for its users' credentials.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;

/// What a server does about credentials for a proxy.
#[derive(Debug, Default)]
pub struct Auth {
    scope: Option<Scope>,
    connect_locations: Option<NonNull<*mut c_void>>,
}

/// The requests whose credentials are those for a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// None.
    #[default]
    Off,
    /// Each CONNECT.
    Connect,
    /// Each request.
    All,
}

impl Auth {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.scope = self.scope.or(http.scope);
    }
}

impl ServerConf {
    /// `proxy_connect_auth`.
    pub fn auth(&self) -> Scope {
        self.auth.scope.unwrap_or_default()
    }

    /// What stands in the place of the server's own table of location configurations for a CONNECT; `None`
    /// where its own will do.
    pub fn connect_locations(&self) -> Option<NonNull<*mut c_void>> {
        self.auth.connect_locations
    }

    /// Sets it, at the start.
    pub fn set_connect_locations(&mut self, table: NonNull<*mut c_void>) {
        self.auth.connect_locations = Some(table);
    }
}

/// `proxy_connect_auth on | off | always`
pub struct ProxyConnectAuth;

impl Directive<ServerConf> for ProxyConnectAuth {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.auth.scope, || match arguments.first() {
            b"off" => Ok(Scope::Off),
            b"on" => Ok(Scope::Connect),
            b"always" => Ok(Scope::All),
            other => because(format!(
                "invalid value \"{}\" in the \"proxy_connect_auth\" directive, it must be \"on\", \
                 \"off\" or \"always\"",
                Shown(other)
            )),
        })
    }
}
