//! Owns the answers that a client gets in place of a tunnel.

/// An answer in place of a tunnel. The log has the reason already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(u16);

impl Failure {
    /// The port is not allowed.
    pub const FORBIDDEN: Self = Self(403);
    /// The client was too slow with its part.
    #[cfg(ngx_feature = "http_ssl")]
    pub const REQUEST_TIMEOUT: Self = Self(408);
    /// The client went away.
    pub const CLIENT_GONE: Self = Self(499);
    /// This host has no memory, descriptor or connection left, or it is a bug. nginx's proxy answers
    /// with the same.
    pub const INTERNAL: Self = Self(500);
    /// The upstream can't be reached.
    pub const BAD_GATEWAY: Self = Self(502);
    /// The resolver or the upstream did not answer in time.
    pub const GATEWAY_TIMEOUT: Self = Self(504);

    /// The status.
    pub fn status(self) -> u16 {
        self.0
    }
}
