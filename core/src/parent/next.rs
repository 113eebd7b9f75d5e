//! Owns what has another parent be tried in the place of one that built no tunnel.

use super::Meaning;

/// Why a parent built no tunnel, in the words of `proxy_connect_next_upstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It can't be connected to, closed too early, or sent something invalid.
    Error,
    /// It did not answer in time.
    Timeout,
    /// It answered 403.
    Denied,
    /// It answered 502.
    Http502,
    /// It answered 503.
    Http503,
    /// It answered 504.
    Http504,
    /// It answered 407.
    Http407,
}

/// The conditions that have another one be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions(u8);

const ALL: [(Condition, &str); 7] = [
    (Condition::Error, "error"),
    (Condition::Timeout, "timeout"),
    (Condition::Denied, "denied"),
    (Condition::Http502, "http_502"),
    (Condition::Http503, "http_503"),
    (Condition::Http504, "http_504"),
    (Condition::Http407, "http_407"),
];

impl Condition {
    /// The condition of that name.
    pub fn named(name: &[u8]) -> Option<Self> {
        ALL.iter().find(|(_, own)| own.as_bytes() == name).map(|(condition, _)| *condition)
    }

    /// The condition that an answer meets. `None` for one that no other parent would change, or that opened a
    /// tunnel.
    pub fn of(meaning: Meaning) -> Option<Self> {
        match meaning {
            Meaning::Denied => Some(Self::Denied),
            Meaning::Unauthorised => Some(Self::Http407),
            Meaning::BadGateway => Some(Self::Http502),
            Meaning::Unavailable => Some(Self::Http503),
            Meaning::GatewayTimeout => Some(Self::Http504),
            Meaning::Opened | Meaning::Refused => None,
        }
    }

    /// Whether the parent is to blame, where another one is tried: `max_fails` counts it. nginx has it so with 403
    /// of an upstream, and what the parent thinks of our credentials says as little about it.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Denied | Self::Http407)
    }

    /// Whether it is one whatever the directive says, as with nginx.
    pub fn is_always_failure(self) -> bool {
        matches!(self, Self::Error | Self::Timeout)
    }
}

impl Conditions {
    /// `off`
    pub const NONE: Self = Self(0);

    /// The same and `condition`.
    #[must_use]
    pub const fn with(self, condition: Condition) -> Self {
        Self(self.0 | 1 << condition as u8)
    }

    /// Whether `condition` is one of them.
    pub fn has(self, condition: Condition) -> bool {
        self.0 & 1 << condition as u8 != 0
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self::NONE.with(Condition::Error).with(Condition::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_once() {
        for (condition, name) in ALL {
            assert_eq!(Condition::named(name.as_bytes()), Some(condition));
            assert!(Conditions::NONE.with(condition).has(condition));
            assert!(!Conditions::NONE.has(condition));
            assert_eq!(ALL.iter().filter(|(other, _)| *other == condition).count(), 1);
        }

        assert_eq!(Condition::named(b"http_500"), None);
        assert_eq!(Condition::named(b""), None);
    }

    #[test]
    fn an_error_and_a_timeout_are_the_default() {
        let default = ALL.map(|(condition, _)| Conditions::default().has(condition));
        assert_eq!(default, [true, true, false, false, false, false, false]);
    }

    #[test]
    fn an_answer_meets_its_own() {
        assert_eq!(Condition::of(Meaning::Opened), None);
        assert_eq!(Condition::of(Meaning::Refused), None);
        assert_eq!(Condition::of(Meaning::Unauthorised), Some(Condition::Http407));
        assert!(!Condition::Http407.is_failure());
        assert!(Condition::Http503.is_failure());
        assert!(!Condition::Http503.is_always_failure());
    }
}
