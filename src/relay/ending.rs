//! Owns how a tunnel that stood ends: the word for it, its error, and what client and log learn of it.

use nginx_sys::{NGX_LOG_ERR, NGX_LOG_INFO};
use proxy_connect_core::proxy_status::ProxyError;
use proxy_connect_core::relay::{Outcome, Side};

use super::Standing;
use crate::ffi::client::Finish;
use crate::ffi::log::Log;

/// How a tunnel that is over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The relay is over.
    Relay(Outcome),
    /// No byte was moved within the data timeout.
    Timeout,
    /// The tunnel stood for as long as it may.
    Lifetime,
    /// An operator wants it closed.
    Operator,
    /// What the client sent first may not go on.
    Refused,
    /// It was no whole ClientHello when its time was over, which may not go on either.
    Late,
    /// A worker shutdown closes the connections.
    Shutdown,
    /// nginx can't watch the connections.
    Error,
}

impl Ending {
    /// Tells the log of an ending that is not the ends' own.
    pub fn log(self, log: Log, standing: &Standing) {
        match self {
            Self::Timeout => {
                log.write(NGX_LOG_INFO, libc::ETIMEDOUT, format_args!("connection timed out"));
            }
            Self::Relay(Outcome::Exceeded) => log.write(
                NGX_LOG_INFO,
                0,
                format_args!("the tunnel moved as many bytes as it may, so it is closed"),
            ),
            Self::Lifetime => log.write(
                NGX_LOG_INFO,
                0,
                format_args!("the tunnel stood for as long as it may, so it is closed"),
            ),
            Self::Operator => log.write(
                NGX_LOG_INFO,
                0,
                format_args!("an operator wants the tunnel closed, so it is"),
            ),
            Self::Relay(Outcome::OutOfMemory) => log.write(
                NGX_LOG_ERR,
                0,
                format_args!("no memory for {} bytes in flight", standing.relay.held()),
            ),
            _ => (),
        }
    }

    /// The word for it: `$proxy_connect_close_reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Relay(Outcome::Finished(Side::Client)) => "client_eof",
            Self::Relay(Outcome::Finished(Side::Upstream)) => "upstream_eof",
            Self::Relay(Outcome::Reset(Side::Client)) => "client_reset",
            Self::Relay(Outcome::Reset(Side::Upstream)) => "upstream_reset",
            Self::Timeout => "timeout",
            Self::Lifetime => "lifetime",
            Self::Relay(Outcome::Exceeded) => "quota",
            Self::Operator => "closed_by_operator",
            Self::Refused => "sni_mismatch",
            Self::Late => "preread_timeout",
            Self::Shutdown => "shutdown",
            Self::Relay(Outcome::OutOfMemory) | Self::Error => "error",
        }
    }

    /// The error of it: `$proxy_connect_error`. `None` where both sides had their say, the client left, or the
    /// configuration has the tunnel end.
    pub fn error(self) -> Option<ProxyError> {
        match self {
            Self::Relay(Outcome::Reset(Side::Upstream)) => Some(ProxyError::ConnectionTerminated),
            Self::Timeout => Some(ProxyError::ConnectionReadTimeout),
            Self::Refused | Self::Late => Some(ProxyError::HttpRequestDenied),
            Self::Relay(Outcome::OutOfMemory) | Self::Error => Some(ProxyError::ProxyInternalError),
            Self::Relay(_) | Self::Shutdown | Self::Lifetime | Self::Operator => None,
        }
    }

    /// Whether `side` is to have all that was sent before its connection is closed.
    pub(super) fn awaits(self, side: Side) -> bool {
        match self {
            Self::Refused | Self::Late => side == Side::Client,
            Self::Relay(Outcome::Exceeded) => true,
            ending => ending.survivor() == Some(side),
        }
    }

    /// The side that is left when the other one has reset its connection.
    pub(super) fn survivor(self) -> Option<Side> {
        match self {
            Self::Relay(Outcome::Reset(side)) => Some(side.other()),
            _ => None,
        }
    }

    /// What the client is to learn of it.
    pub fn finish(self) -> Finish {
        match self {
            Self::Relay(Outcome::Finished(_)) => Finish::Complete,
            Self::Relay(Outcome::Reset(Side::Upstream)) => Finish::Reset,
            Self::Relay(Outcome::OutOfMemory) | Self::Error | Self::Shutdown => Finish::Failed,
            _ => Finish::Cut,
        }
    }
}
