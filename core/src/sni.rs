//! Owns whether the TLS in a tunnel goes where the CONNECT said: `proxy_connect_verify_sni`.

use thiserror::Error;

use crate::client_hello::{Malformed, Opening, ServerName};

/// What is asked of the first bytes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// TLS with a name has to have the right one. TLS without, and what is no TLS, passes.
    On,
    /// Nothing passes but TLS with the right name.
    Strict,
}

/// What the check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// The bytes may go on.
    Passes,
    /// They may if the lists of hosts allow this name: the CONNECT named an address.
    AsksLists(&'a ServerName),
    /// They may not.
    Refused(Reason<'a>),
}

/// Why the bytes may not go on. Each is a sentence about the client.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Reason<'a> {
    /// The name is not the CONNECT's.
    #[error("the client sent SNI \"{0}\"")]
    OtherName(&'a ServerName),
    /// TLS without a name.
    #[error("the client sent TLS without SNI")]
    NoName,
    /// No TLS.
    #[error("the client did not send TLS")]
    NotTls,
    /// TLS, it seems, that can't be read.
    #[error("the client sent {0}")]
    Malformed(Malformed),
}

impl Check {
    /// Judges what a client sent first into a tunnel to `host`, which is in canonical form, an IPv6 address without
    /// brackets.
    pub fn judge<'a>(self, opening: &'a Opening, host: &[u8], is_address: bool) -> Finding<'a> {
        match (opening, self) {
            // There is nothing that could go on.
            (Opening::Nothing, _) => Finding::Passes,
            (Opening::Malformed(why), _) => Finding::Refused(Reason::Malformed(*why)),
            (Opening::NotTls, Self::On) => Finding::Passes,
            (Opening::NotTls, Self::Strict) => Finding::Refused(Reason::NotTls),
            (Opening::Tls(hello), _) => {
                self.judge_name(hello.server_name.as_ref(), host, is_address)
            }
        }
    }

    fn judge_name<'a>(
        self,
        name: Option<&'a ServerName>,
        host: &[u8],
        is_address: bool,
    ) -> Finding<'a> {
        match (name, self) {
            (None, Self::On) => Finding::Passes,
            (None, Self::Strict) => Finding::Refused(Reason::NoName),
            (Some(name), _) if name.as_bytes() == host => Finding::Passes,
            (Some(name), _) if is_address => Finding::AsksLists(name),
            (Some(name), _) => Finding::Refused(Reason::OtherName(name)),
        }
    }

    /// The value of the directive.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Strict => "strict",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Check, Finding, Reason};
    use crate::client_hello::{ClientHello, Malformed, Opening, Preread};

    const CHECKS: [Check; 2] = [Check::On, Check::Strict];

    fn tls(name: Option<&str>) -> Opening {
        let hello = crate::client_hello::sample(name);
        ClientHello::read(&hello).map_or_else(Opening::Malformed, Opening::Tls)
    }

    fn passes(check: Check, opening: &Opening, host: &str) -> bool {
        check.judge(opening, host.as_bytes(), false) == Finding::Passes
    }

    #[test]
    fn the_name_of_the_connect_passes() {
        for spelling in ["a.example", "A.eXaMpLe", "a.example.", "A.EXAMPLE."] {
            for check in CHECKS {
                assert!(passes(check, &tls(Some(spelling)), "a.example"), "{spelling}");
            }
        }
    }

    #[test]
    fn another_name_does_not() {
        let others = [
            "b.example",
            "example",
            "x.a.example",
            "a.example.com",
            "a-example",
            "a.exampl",
            ".example",
        ];

        for name in others {
            for check in CHECKS {
                assert!(!passes(check, &tls(Some(name)), "a.example"), "{name}");
            }
        }
    }

    #[test]
    fn strict_takes_nothing_else() {
        for (opening, reason) in [(tls(None), Reason::NoName), (Opening::NotTls, Reason::NotTls)] {
            assert!(passes(Check::On, &opening, "a.example"));
            assert_eq!(
                Check::Strict.judge(&opening, b"a.example", false),
                Finding::Refused(reason)
            );
            assert_eq!(Check::Strict.judge(&opening, b"192.0.2.1", true), Finding::Refused(reason));
        }
    }

    #[test]
    fn what_is_malformed_passes_no_check() {
        let opening = Opening::Malformed(Malformed::Unfinished);

        for check in CHECKS {
            assert!(!passes(check, &opening, "a.example"));
        }
    }

    #[test]
    fn a_client_that_says_nothing_may_end() {
        for check in CHECKS {
            assert!(passes(check, &Preread::default().opening(), "a.example"));
        }
    }

    #[test]
    fn with_an_address_the_lists_are_asked() {
        for check in CHECKS {
            let opening = tls(Some("A.example"));
            let finding = check.judge(&opening, b"192.0.2.1", true);
            assert!(matches!(finding, Finding::AsksLists(name) if name.as_bytes() == b"a.example"));
            // Some clients name the address itself.
            let itself = tls(Some("192.0.2.1"));
            assert_eq!(check.judge(&itself, b"192.0.2.1", true), Finding::Passes);
        }
    }

    #[test]
    fn the_reason_is_a_sentence() {
        let opening = tls(Some("B.example."));
        let Finding::Refused(reason) = Check::On.judge(&opening, b"a.example", false) else {
            panic!("it passes");
        };
        assert_eq!(reason.to_string(), "the client sent SNI \"b.example\"");
    }

    proptest! {
        /// A name passes only if it is the same but for case and a dot at its end; and strict takes
        /// nothing that `on` does not.
        #[test]
        fn only_the_same_name_passes(host in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", name in "[a-cA-C]{1,2}(\\.[a-cA-C]{1,2}){0,2}\\.?") {
            let is_same = name.trim_end_matches('.').eq_ignore_ascii_case(&host);
            for check in CHECKS {
                prop_assert_eq!(passes(check, &tls(Some(&name)), &host), is_same);
            }
        }
    }
}
