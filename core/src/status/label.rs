//! Owns the words that things are counted by. None of them is a client's to choose.

use crate::proxy_status::ProxyError;

/// The version of HTTP that a CONNECT came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, and what is older.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

/// How many there are.
pub const VERSIONS: usize = 4;

/// What became of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tunnel stood.
    Established,
    /// The port is not allowed.
    DeniedPort,
    /// The host is not allowed.
    DeniedHost,
    /// Its addresses are not allowed.
    DeniedAddress,
    /// The same, by strings with variables.
    DeniedUpstream,
    /// Credentials are missing, or wrong: 401 or 407.
    Unauthorized,
    /// `limit_conn` or `limit_req` refused it: 429, or 503.
    Limited,
    /// Something else refused it, nginx's access rules say.
    Denied,
    /// The client left before.
    ClientGone,
    /// It was answered, by `return` say, in place of a tunnel.
    Answered,
    /// It failed.
    Failed(ProxyError),
}

/// The outcomes that are no failures, in the order of their places.
const PLAIN: [(Outcome, &str); 10] = [
    (Outcome::Established, "established"),
    (Outcome::DeniedPort, "denied_port"),
    (Outcome::DeniedHost, "denied_host"),
    (Outcome::DeniedAddress, "denied_address"),
    (Outcome::DeniedUpstream, "denied_upstream"),
    (Outcome::Unauthorized, "unauthorized"),
    (Outcome::Limited, "limited"),
    (Outcome::Denied, "denied"),
    (Outcome::ClientGone, "client_gone"),
    (Outcome::Answered, "answered"),
];

/// How many there is room for.
pub const OUTCOMES: usize = PLAIN.len() + ProxyError::TOKENS.len();

/// The words for how a tunnel ends: `$proxy_connect_close_reason`; `worker_lost` is that of a worker that was killed.
pub const CLOSE_REASONS: [&str; 13] = [
    "client_eof",
    "upstream_eof",
    "client_reset",
    "upstream_reset",
    "timeout",
    "lifetime",
    "quota",
    "sni_mismatch",
    "preread_timeout",
    "shutdown",
    "closed_by_operator",
    "worker_lost",
    "error",
];

impl Version {
    /// All of them, in the order of their places.
    pub const ALL: [Self; VERSIONS] = [Self::Http10, Self::Http11, Self::Http2, Self::Http3];

    /// Its number, as in `$server_protocol` behind the slash.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2.0",
            Self::Http3 => "3.0",
        }
    }

    pub(super) fn place(self) -> usize {
        self as usize
    }
}

impl Outcome {
    /// The outcome of a CONNECT without a tunnel that was answered with `status`, for this reason.
    pub fn of_answer(status: u16, error: Option<ProxyError>) -> Self {
        match (status, error) {
            (499, _) => Self::ClientGone,
            (401 | 407, _) => Self::Unauthorized,
            (429 | 503, Some(ProxyError::HttpRequestDenied) | None) => Self::Limited,
            (_, Some(ProxyError::HttpRequestDenied)) => Self::Denied,
            (_, Some(error)) => Self::Failed(error),
            (_, None) => Self::Answered,
        }
    }

    pub(super) fn place(self) -> usize {
        let plain = || PLAIN.iter().position(|(outcome, _)| *outcome == self);

        match self {
            Self::Failed(error) => PLAIN.len() + error.place(),
            _ => plain().unwrap_or(PLAIN.len() - 1),
        }
    }
}

/// The word for the outcome in a place.
pub fn outcome_at(place: usize) -> &'static str {
    match PLAIN.get(place) {
        Some((_, word)) => word,
        None => ProxyError::TOKENS.get(place - PLAIN.len()).copied().unwrap_or("unknown"),
    }
}

/// The place of a word of [`CLOSE_REASONS`]; that of the last for any other.
pub fn close_reason_place(word: &str) -> usize {
    let place = CLOSE_REASONS.iter().position(|reason| *reason == word);
    place.unwrap_or(CLOSE_REASONS.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_outcome_has_a_place_and_a_word_of_its_own() {
        let words: BTreeSet<_> = (0..OUTCOMES).map(outcome_at).collect();
        assert_eq!(words.len(), OUTCOMES);

        for (outcome, word) in PLAIN {
            assert_eq!(outcome_at(outcome.place()), word);
        }

        let failed = Outcome::Failed(ProxyError::DnsError(3));
        assert_eq!(outcome_at(failed.place()), "dns_error");
    }

    #[test]
    fn an_answer_tells_the_outcome() {
        let denied = Some(ProxyError::HttpRequestDenied);

        assert_eq!(Outcome::of_answer(407, denied), Outcome::Unauthorized);
        assert_eq!(Outcome::of_answer(503, denied), Outcome::Limited);
        assert_eq!(Outcome::of_answer(403, denied), Outcome::Denied);
        assert_eq!(Outcome::of_answer(499, None), Outcome::ClientGone);
        assert_eq!(Outcome::of_answer(302, None), Outcome::Answered);

        let timeout = ProxyError::ConnectionTimeout;
        assert_eq!(Outcome::of_answer(504, Some(timeout)), Outcome::Failed(timeout));
    }

    #[test]
    fn an_unknown_close_reason_is_an_error() {
        assert_eq!(CLOSE_REASONS[close_reason_place("quota")], "quota");
        assert_eq!(CLOSE_REASONS[close_reason_place("nonsense")], "error");
    }
}
