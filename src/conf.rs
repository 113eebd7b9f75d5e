//! Owns the configuration of a server: what the directives mean, their defaults, and how a
//! server inherits what it does not set.

pub mod directive;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::relay::Splice;
use proxy_connect_core::target::Ports;

use crate::ffi::conf::ComplexValue;
use crate::ffi::request::Request;

/// `proxy_connect_data_timeout` without the directive: 60s.
const DATA_TIMEOUT: ngx_msec_t = 60_000;

/// What the directives of a `server` block say.
#[derive(Debug, Default)]
pub struct ServerConf {
    proxy_connect: Option<()>,
    allow: Option<Ports>,
    connect_timeout: Option<ngx_msec_t>,
    data_timeout: Option<DataTimeout>,
    send_timeout: Option<ngx_msec_t>,
    address: Option<Setting<ComplexValue>>,
    bind: Option<Setting<Bind>>,
    response: Option<ComplexValue>,
    splice: Option<Splice>,
    server: Option<ServerChoice>,
}

/// `proxy_connect_server`: which server answers a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// The one that the authority names, as nginx chooses it.
    Authority,
    /// The one that the connection came to: by SNI over TLS, else the default server of the address.
    Connection,
}

/// A directive that takes a value or `off`.
#[derive(Clone, Copy, Debug)]
pub enum Setting<T> {
    /// `off`: as if the directive were not there.
    Off,
    /// The value.
    On(T),
}

/// The data timeout, and which of its two names set it.
#[derive(Clone, Copy, Debug)]
struct DataTimeout {
    msec: ngx_msec_t,
    deprecated: bool,
}

/// `proxy_connect_bind`.
#[derive(Clone, Copy, Debug)]
pub struct Bind {
    /// The local address.
    pub address: ComplexValue,
    /// `transparent`: the address need not be one of this host.
    pub transparent: bool,
}

impl ServerConf {
    /// The configuration of the server that answers `request`.
    pub fn of(request: &Request) -> Option<&Self> {
        // SAFETY: the module creates ServerConf as its server configurations.
        unsafe { request.server_conf(crate::module()) }
    }

    /// Whether the server that answers `request` takes CONNECT.
    pub fn takes_connect(request: &Request) -> bool {
        Self::of(request).is_some_and(Self::is_enabled)
    }

    /// Whether the server takes CONNECT: `proxy_connect`.
    pub fn is_enabled(&self) -> bool {
        self.proxy_connect.is_some()
    }

    /// Whether a CONNECT may go to `port`: `proxy_connect_allow`.
    pub fn allows(&self, port: u16) -> bool {
        match &self.allow {
            Some(ports) => ports.contains(port),
            None => Ports::default().contains(port),
        }
    }

    /// `proxy_connect_connect_timeout`, in milliseconds. Without it the system decides.
    pub fn connect_timeout(&self) -> Option<ngx_msec_t> {
        self.connect_timeout
    }

    /// `proxy_connect_data_timeout`, in milliseconds.
    pub fn data_timeout(&self) -> ngx_msec_t {
        self.data_timeout.map_or(DATA_TIMEOUT, |timeout| timeout.msec)
    }

    /// `proxy_connect_send_timeout`, in milliseconds. It does nothing but be read.
    pub fn send_timeout(&self) -> ngx_msec_t {
        self.send_timeout.unwrap_or(DATA_TIMEOUT)
    }

    /// `proxy_connect_address`.
    pub fn address(&self) -> Option<ComplexValue> {
        Setting::value(self.address)
    }

    /// `proxy_connect_bind`.
    pub fn bind(&self) -> Option<Bind> {
        Setting::value(self.bind)
    }

    /// `proxy_connect_response`.
    pub fn response(&self) -> Option<ComplexValue> {
        self.response
    }

    /// `proxy_connect_splice`.
    pub fn splice(&self) -> Splice {
        self.splice.unwrap_or_default()
    }

    /// Whether the server that a connection came to answers a CONNECT, whatever the authority names:
    /// `proxy_connect_server connection`.
    pub fn is_of_connection(&self) -> bool {
        self.server == Some(ServerChoice::Connection)
    }

    /// `proxy_connect_server`, where it was said.
    pub fn server_choice(&self) -> Option<ServerChoice> {
        self.server
    }

    /// Takes from `parent` what this server does not set itself.
    pub fn inherit(&mut self, parent: &Self) {
        self.proxy_connect = self.proxy_connect.or(parent.proxy_connect);
        self.allow = self.allow.take().or_else(|| parent.allow.clone());
        self.connect_timeout = self.connect_timeout.or(parent.connect_timeout);
        self.data_timeout = self.data_timeout.or(parent.data_timeout);
        self.send_timeout = self.send_timeout.or(parent.send_timeout);
        self.address = self.address.or(parent.address);
        self.bind = self.bind.or(parent.bind);
        self.response = self.response.or(parent.response);
        self.splice = self.splice.or(parent.splice);
        self.server = self.server.or(parent.server);
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
