//! Owns the configuration of a server, and how it takes from `http` what it does not set itself.
//! What the directives mean, their defaults and their readers lie beside it, a file for each family.
//!
//! | file | owns |
//! |---|---|
//! | [`access`] | `proxy_connect`, `proxy_connect_allow` |
//! | [`auth`] | `proxy_connect_auth` |
//! | [`addresses`] | `proxy_connect_allow_address`, `proxy_connect_deny_address`, `proxy_connect_allow_upstream` |
//! | [`hosts`] | `proxy_connect_allow_host`, `proxy_connect_deny_host` |
//! | [`timeouts`] | `proxy_connect_connect_timeout`, `..._data_timeout` and its other name, `..._send_timeout` |
//! | [`upstream`] | `proxy_connect_address` |
//! | [`bind`] | `proxy_connect_bind` |
//! | [`connecting`] | `proxy_connect_prefer`, `proxy_connect_proxy_protocol` |
//! | [`socket`] | `proxy_connect_socket_keepalive`, `..._sndbuf`, `..._rcvbuf`, `..._mark` |
//! | [`parent`] | `proxy_connect_pass` and its like, `proxy_connect_set_header`, `proxy_connect_next_upstream` and its like |
//! | [`parent_ssl`] | `proxy_connect_ssl_name` and its like |
//! | [`response`] | `proxy_connect_response` |
//! | [`transfer`] | `proxy_connect_splice`, `proxy_connect_send_lowat`, `proxy_connect_http2_window` |
//! | [`limits`] | `proxy_connect_tunnel_time`, `proxy_connect_max_bytes`, `proxy_connect_download_rate`, `..._upload_rate` |
//! | [`rate_zone`] | `proxy_connect_rate_zone` |
//! | [`server`] | `proxy_connect_server` |
//! | [`preread`] | `proxy_connect_verify_sni`, `proxy_connect_preread_timeout`, `proxy_connect_ssl_preread` |
//! | [`reasons`] | `proxy_connect_proxy_status`, `proxy_connect_report_only` |
//! | `read` | what the readers share |

pub mod access;
pub mod addresses;
pub mod auth;
pub mod bind;
pub mod connecting;
pub mod hosts;
pub mod limits;
pub mod parent;
pub mod parent_ssl;
pub mod preread;
pub mod rate_zone;
mod read;
pub mod reasons;
pub mod response;
pub mod server;
pub mod socket;
pub mod timeouts;
pub mod transfer;
pub mod upstream;

use std::ptr::NonNull;

use nginx_sys::ngx_http_core_srv_conf_t;
use ngx::http::HttpModuleConfExt;

use crate::ffi::conf::servers;
use crate::ffi::request::Request;

use access::Access;
use addresses::Addresses;
use auth::Auth;
use bind::LocalAddresses;
use connecting::Connecting;
use hosts::HostLists;
use limits::Limits;
use parent::Parents;
use parent_ssl::ParentSsl;
use preread::Preread;
use rate_zone::SharedRates;
use reasons::Reasons;
use response::Response;
use server::Server;
use socket::UpstreamSocket;
use timeouts::Timeouts;
use transfer::Transfer;
use upstream::Upstream;

/// What the directives of a `server` block, or of the `http` block, say.
#[derive(Debug, Default)]
pub struct ServerConf {
    access: Access,
    auth: Auth,
    addresses: Addresses,
    hosts: HostLists,
    timeouts: Timeouts,
    upstream: Upstream,
    local: LocalAddresses,
    connecting: Connecting,
    socket: UpstreamSocket,
    response: Response,
    transfer: Transfer,
    server: Server,
    reasons: Reasons,
    preread: Preread,
    limits: Limits,
    shared_rates: SharedRates,
    parents: Parents,
    parent_ssl: ParentSsl,
}

impl ServerConf {
    /// The configuration of the server that answers `request`.
    pub fn of(request: &Request) -> Option<&Self> {
        // SAFETY: the module creates ServerConf as its server configurations.
        unsafe { request.server_conf(crate::module()) }
    }

    /// All servers, and what each of them says.
    ///
    /// # Safety
    ///
    /// The servers of `of` must be read.
    pub unsafe fn all(
        of: &impl HttpModuleConfExt,
    ) -> impl Iterator<Item = (&'static ngx_http_core_srv_conf_t, NonNull<Self>)> {
        // SAFETY: the caller's promise; the module creates ServerConf as its server configurations.
        unsafe { servers(of, crate::module()) }
    }

    /// Whether any server is one of those.
    ///
    /// # Safety
    ///
    /// As for [`ServerConf::all`].
    pub unsafe fn any(of: &impl HttpModuleConfExt, is_one: impl Fn(&Self) -> bool) -> bool {
        // SAFETY: the caller's promise; nothing is written meanwhile.
        unsafe { Self::all(of).any(|(_, conf)| is_one(conf.as_ref())) }
    }

    /// Takes from `http` what this server does not set itself.
    ///
    /// # Errors
    ///
    /// A sentence about directives that undo each other.
    pub fn inherit(&mut self, http: &Self) -> Result<(), String> {
        self.auth.inherit(&http.auth);
        self.addresses.inherit(&http.addresses);
        self.hosts.inherit(&http.hosts);
        self.timeouts.inherit(&http.timeouts);
        self.upstream.inherit(&http.upstream);
        self.local.inherit(&http.local);
        self.connecting.inherit(&http.connecting);
        self.socket.inherit(&http.socket);
        self.response.inherit(&http.response);
        self.transfer.inherit(&http.transfer);
        self.server.inherit(&http.server);
        self.reasons.inherit(&http.reasons);
        self.preread.inherit(&http.preread);
        self.limits.inherit(&http.limits);
        self.shared_rates.inherit(&http.shared_rates);
        self.parents.inherit(&http.parents);
        self.parent_ssl.inherit(&http.parent_ssl);

        self.shared_rates.check()?;
        self.parents.check()?;
        connecting::check(self)?;
        addresses::check(self, http)
    }
}
