//! Owns this module's peers with rules: what each of them checks for a CONNECT. Its clients pass all of them.

use std::fmt::Write;

/// The host that the clients name: it is checked as a name, and leads to the origin server all the same.
pub const HOST: &str = "a.bench.example";

/// Few rules, and many.
const FEW: usize = 10;
const MANY: usize = 10_000;

/// What a CONNECT is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rules {
    /// Nothing: what the others are compared with.
    None,
    /// Few networks.
    FewAddresses,
    /// Many networks.
    ManyAddresses,
    /// All groups of addresses.
    Special,
    /// Few names.
    FewHosts,
    /// Many names.
    ManyHosts,
    /// Few regular expressions.
    FewRegexes,
    /// The name that the client asks for in TLS.
    Sni,
}

impl Rules {
    /// All, in the order of the table.
    pub const ALL: [Rules; 8] = [
        Rules::None,
        Rules::FewAddresses,
        Rules::ManyAddresses,
        Rules::Special,
        Rules::FewHosts,
        Rules::ManyHosts,
        Rules::FewRegexes,
        Rules::Sni,
    ];

    /// The name on the command line and in the CSV.
    pub fn id(self) -> &'static str {
        match self {
            Rules::None => "rules-none",
            Rules::FewAddresses => "rules-addresses-10",
            Rules::ManyAddresses => "rules-addresses-10000",
            Rules::Special => "rules-special",
            Rules::FewHosts => "rules-hosts-10",
            Rules::ManyHosts => "rules-hosts-10000",
            Rules::FewRegexes => "rules-regexes-10",
            Rules::Sni => "rules-sni",
        }
    }

    /// The name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Rules::None => "this module, no rules",
            Rules::FewAddresses => "this module, 10 networks",
            Rules::ManyAddresses => "this module, 10,000 networks",
            Rules::Special => "this module, deny special",
            Rules::FewHosts => "this module, 10 names",
            Rules::ManyHosts => "this module, 10,000 names",
            Rules::FewRegexes => "this module, 10 regular expressions",
            Rules::Sni => "this module, SNI checked",
        }
    }

    /// The directives.
    pub fn directives(self) -> String {
        match self {
            Rules::None => String::new(),
            Rules::FewAddresses => networks(FEW),
            Rules::ManyAddresses => networks(MANY),
            // The origin server is on this host.
            Rules::Special => "proxy_connect_allow_address 127.0.0.1; \
                               proxy_connect_deny_address special;"
                .into(),
            Rules::FewHosts => list("proxy_connect_deny_host", FEW, |n| format!("n{n}.example")),
            Rules::ManyHosts => list("proxy_connect_deny_host", MANY, |n| format!("n{n}.example")),
            Rules::FewRegexes => {
                list("proxy_connect_deny_host", FEW, |n| format!("\"~^n{n}-[a-z]+\\.example$\""))
            }
            Rules::Sni => "proxy_connect_verify_sni strict;".into(),
        }
    }
}

/// So many networks, none of which is the origin server's.
fn networks(count: usize) -> String {
    list("proxy_connect_deny_address", count, |n| {
        format!("{}.{}.{}.0/24", 1 + n % 100, n / 100 % 256, n % 251)
    })
}

fn list(directive: &str, count: usize, value: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{directive} {};", value(n));
        text
    })
}
