//! Owns what a block says of which server answers a CONNECT.

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;

/// Which server answers.
#[derive(Debug, Default)]
pub struct Server {
    choice: Option<ServerChoice>,
}

/// By what the server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// The one that the authority names, as nginx chooses it.
    Authority,
    /// The one that the connection came to: by SNI over TLS, else the default server of the address.
    Connection,
}

impl Server {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.choice = self.choice.or(http.choice);
    }
}

impl ServerConf {
    /// Whether the server that a connection came to answers a CONNECT, whatever the authority names:
    /// `proxy_connect_server connection`.
    pub fn is_of_connection(&self) -> bool {
        self.server.choice == Some(ServerChoice::Connection)
    }

    /// `proxy_connect_server`, where it was said.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    pub fn server_choice(&self) -> Option<ServerChoice> {
        self.server.choice
    }
}

/// `proxy_connect_server authority | connection`
pub struct ProxyConnectServer;

impl Directive<ServerConf> for ProxyConnectServer {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.server.choice, || match arguments.first() {
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
