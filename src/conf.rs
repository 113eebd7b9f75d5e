//! Owns the configuration of a server, and how it takes from `http` what it does not set itself.
//! What the directives mean, their defaults and their readers lie beside it, a file for each family.
//!
//! | file | owns |
//! |---|---|
//! | [`access`] | `proxy_connect`, `proxy_connect_allow` |
//! | [`auth`] | `proxy_connect_auth` |
//! | [`timeouts`] | `proxy_connect_connect_timeout`, `..._data_timeout` and its other name, `..._send_timeout` |
//! | [`upstream`] | `proxy_connect_address`, `proxy_connect_bind` |
//! | [`response`] | `proxy_connect_response` |
//! | [`transfer`] | `proxy_connect_splice`, `proxy_connect_send_lowat` |
//! | [`server`] | `proxy_connect_server` |
//! | `read` | what the readers share |

pub mod access;
pub mod auth;
mod read;
pub mod response;
pub mod server;
pub mod timeouts;
pub mod transfer;
pub mod upstream;

use crate::ffi::request::Request;

use access::Access;
use auth::Auth;
use response::Response;
use server::Server;
use timeouts::Timeouts;
use transfer::Transfer;
use upstream::Upstream;

/// What the directives of a `server` block, or of the `http` block, say.
#[derive(Debug, Default)]
pub struct ServerConf {
    access: Access,
    auth: Auth,
    timeouts: Timeouts,
    upstream: Upstream,
    response: Response,
    transfer: Transfer,
    server: Server,
}

impl ServerConf {
    /// The configuration of the server that answers `request`.
    pub fn of(request: &Request) -> Option<&Self> {
        // SAFETY: the module creates ServerConf as its server configurations.
        unsafe { request.server_conf(crate::module()) }
    }

    /// Takes from `http` what this server does not set itself.
    pub fn inherit(&mut self, http: &Self) {
        self.auth.inherit(&http.auth);
        self.timeouts.inherit(&http.timeouts);
        self.upstream.inherit(&http.upstream);
        self.response.inherit(&http.response);
        self.transfer.inherit(&http.transfer);
        self.server.inherit(&http.server);
    }
}
