//! Owns what is said to a parent, another proxy that is to build a tunnel in our place, and what its answer means.
//!
//! | file | owns |
//! |---|---|
//! | [`way`] | which parent a text names |
//! | [`connect`] | a CONNECT to a parent, and its answer (RFC 9110, section 9.3.6) |
//! | [`socks5`] | the same in SOCKS (RFC 1928, RFC 1929) |
//! | [`next`] | what has another parent be tried |

pub mod connect;
pub mod next;
pub mod socks5;
pub mod way;

use std::collections::TryReserveError;

use thiserror::Error;

use crate::proxy_status::ProxyError;

/// A conversation with a parent: which bytes of it come next, and what they mean.
#[derive(Debug)]
pub enum Talk {
    /// An HTTP proxy, which has been sent a CONNECT.
    Connect(connect::Reader),
    /// A SOCKS server, which has been sent a greeting.
    Socks5(socks5::Talk),
}

/// What comes of a piece of a parent's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// More of them have to come.
    More,
    /// The parent is to be sent these.
    Say(Vec<u8>),
    /// It has answered.
    Answer(Answer),
}

/// The answer of a parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it comes to.
    pub meaning: Meaning,
    /// The status of an HTTP answer, the REP field of a SOCKS reply. `None` where a SOCKS server did not get so
    /// far.
    pub code: Option<u16>,
    /// The header of an HTTP answer, from its status line on.
    pub header: Vec<u8>,
    /// What came behind the answer: the first bytes of the tunnel.
    pub rest: Vec<u8>,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// The tunnel stands.
    Opened,
    /// A rule of the parent's refuses the destination: 403.
    Denied,
    /// The parent asks for credentials, or for other ones: 407.
    Unauthorised,
    /// The parent can't reach the destination: 502.
    BadGateway,
    /// The parent has no room: 503.
    Unavailable,
    /// The destination did not answer the parent: 504.
    GatewayTimeout,
    /// There is no tunnel, for some other reason.
    #[default]
    Refused,
}

/// Why what a parent says is no answer. Each sentence follows the parent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TalkError {
    /// It does not speak the protocol.
    #[error("sent an invalid answer: {0}")]
    Garbage(&'static str),
    /// The header of its answer does not end.
    #[error("sent too large an answer, raise \"proxy_connect_pass_buffer_size\"")]
    TooLarge,
    /// There is no memory for it.
    #[error("sent an answer that there is no memory for")]
    NoMemory,
}

impl From<TryReserveError> for TalkError {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}

impl Talk {
    /// How many bytes may be read next at most: those behind them may belong to another. It is not 0.
    pub fn wants(&self) -> usize {
        match self {
            Self::Connect(reader) => reader.room(),
            Self::Socks5(talk) => talk.wants(),
        }
    }

    /// Takes the next bytes of the parent, no more than [`Talk::wants`].
    ///
    /// # Errors
    ///
    /// [`TalkError`] for what is no answer. Nothing may follow it.
    pub fn take(&mut self, piece: &[u8]) -> Result<Heard, TalkError> {
        match self {
            Self::Connect(reader) => reader.take(piece),
            Self::Socks5(talk) => talk.take(piece),
        }
    }
}

impl TalkError {
    /// The same in the words of RFC 9209.
    pub fn error(&self) -> ProxyError {
        match self {
            Self::Garbage(_) => ProxyError::HttpProtocolError,
            Self::TooLarge => ProxyError::HttpResponseHeaderSectionSize,
            Self::NoMemory => ProxyError::ProxyInternalError,
        }
    }
}

impl Answer {
    /// Why there is no tunnel, in the words of RFC 9209.
    pub fn error(&self) -> ProxyError {
        match (self.meaning, self.code) {
            (Meaning::Denied, _) => ProxyError::HttpRequestDenied,
            (Meaning::Unauthorised, _) => ProxyError::ProxyConfigurationError,
            (
                _,
                Some(socks5::NETWORK_UNREACHABLE | socks5::HOST_UNREACHABLE | socks5::TTL_EXPIRED),
            ) => ProxyError::DestinationIpUnroutable,
            (_, Some(socks5::CONNECTION_REFUSED)) => ProxyError::ConnectionRefused,
            _ => ProxyError::DestinationUnavailable,
        }
    }
}

/// Whether `text` has a byte that would end it, or more, where it is written: a control character.
pub fn has_control(text: &[u8]) -> bool {
    text.iter().any(|byte| byte.is_ascii_control())
}

/// Appends `bytes`.
fn append(list: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TryReserveError> {
    list.try_reserve(bytes.len())?;
    list.extend_from_slice(bytes);
    Ok(())
}
