//! Owns the answers that a client gets in place of a tunnel, and what is told of the reason.

use nginx_sys::{ngx_err_t, NGX_LOG_ERR};
use proxy_connect_core::proxy_status::ProxyError;

use crate::conf::ServerConf;
use crate::ffi::request::Request;
use crate::tunnel::Tunnel;

/// How many bytes of a reason a client is told at most.
const DETAILS_MAX: usize = 256;

/// An answer in place of a tunnel. The log has the reason already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    status: u16,
    error: Option<ProxyError>,
}

impl Failure {
    /// The client was too slow with its part.
    #[cfg(ngx_feature = "http_ssl")]
    pub const REQUEST_TIMEOUT: Self = Self::new(408, ProxyError::HttpRequestError);
    /// The client went away.
    pub const CLIENT_GONE: Self = Self { status: 499, error: None };
    /// This host has no memory, descriptor or connection left, or it is a bug. nginx's proxy answers
    /// with the same.
    pub const INTERNAL: Self = Self::new(500, ProxyError::ProxyInternalError);
    /// What the configuration comes to for this request is of no use.
    pub const MISCONFIGURED: Self = Self::new(502, ProxyError::ProxyConfigurationError);
    /// What says which parent a tunnel goes through is of no use.
    pub const NO_WAY: Self = Self::new(500, ProxyError::ProxyConfigurationError);
    /// The parent asks for the client's credentials.
    pub const CHALLENGED: Self = Self::new(407, ProxyError::HttpRequestDenied);
    /// The parent is this server.
    pub const LOOP: Self = Self::new(502, ProxyError::ProxyLoopDetected);
    /// The parent did not answer in time.
    pub const PARENT_TIMEOUT: Self = Self::new(504, ProxyError::HttpResponseTimeout);
    /// There is no TLS with the parent.
    pub const TLS: Self = Self::new(502, ProxyError::TlsProtocolError);
    /// The parent is not who it should be.
    pub const CERTIFICATE: Self = Self::new(502, ProxyError::TlsCertificateError);
    /// The parent closed the connection before it had answered.
    pub const INCOMPLETE: Self = Self::new(502, ProxyError::HttpResponseIncomplete);
    /// The upstream can't be reached.
    pub const UNAVAILABLE: Self = Self::new(502, ProxyError::DestinationUnavailable);
    /// There is no way to any address of the upstream's.
    pub const UNROUTABLE: Self = Self::new(502, ProxyError::DestinationIpUnroutable);
    /// The upstream was there, and closed at once.
    pub const TERMINATED: Self = Self::new(502, ProxyError::ConnectionTerminated);
    /// The upstream did not answer in time.
    pub const CONNECTION_TIMEOUT: Self = Self::new(504, ProxyError::ConnectionTimeout);
    /// The resolver did not answer in time.
    pub const DNS_TIMEOUT: Self = Self::new(504, ProxyError::DnsTimeout);

    /// An answer with its reason.
    pub const fn new(status: u16, error: ProxyError) -> Self {
        Self { status, error: Some(error) }
    }

    /// The name server answered with the error of this number, see `NGX_RESOLVE_FORMERR` and its like.
    pub fn dns(state: i32) -> Self {
        Self::new(502, ProxyError::DnsError(u8::try_from(state).unwrap_or(0)))
    }

    /// connect(2) failed with `errno`.
    pub fn connect(errno: ngx_err_t) -> Self {
        match errno {
            libc::ETIMEDOUT => Self::CONNECTION_TIMEOUT,
            libc::ECONNREFUSED => Self::new(502, ProxyError::ConnectionRefused),
            libc::ECONNRESET => Self::TERMINATED,
            libc::EHOSTUNREACH | libc::ENETUNREACH => Self::UNROUTABLE,
            _ => Self::UNAVAILABLE,
        }
    }

    /// The status.
    pub fn status(self) -> u16 {
        self.status
    }

    /// Whether a rule refuses what was asked for.
    pub fn is_refusal(self) -> bool {
        self.status == 403
    }

    /// The reason. `None` for a client that left.
    pub fn error(self) -> Option<ProxyError> {
        self.error
    }
}

/// Tells the log why there is no tunnel. The last such sentence is kept for the client where
/// `proxy_connect_proxy_status` has `details`.
pub fn explain(request: Request, errno: ngx_err_t, reason: std::fmt::Arguments<'_>) {
    request.connection().log().write(NGX_LOG_ERR, errno, reason);
    keep(request, reason);
}

/// Keeps a reason that the log has for the client, where the server tells it.
pub fn keep(request: Request, reason: std::fmt::Arguments<'_>) {
    if !ServerConf::of(&request).is_some_and(ServerConf::tells_details) {
        return;
    }

    if let Some(tunnel) = Tunnel::of(request) {
        let reason = reason.to_string();
        let reason = &reason.as_bytes()[..reason.len().min(DETAILS_MAX)];
        tunnel.details.set(request.pool().copy(reason).map(|reason| &*reason));
    }
}
