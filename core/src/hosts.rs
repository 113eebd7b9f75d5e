//! Owns the names that `proxy_connect_allow_host` and `proxy_connect_deny_host` speak of: how a value is
//! read, and whether a canonical name is among many thousand.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use thiserror::Error;

use crate::list;
use crate::target::{check_name, AuthorityError};

/// A list of names and addresses. A question costs a look for each label of the name, however long the
/// list is.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: HashMap<Box<[u8]>, Places, BuildHasherDefault<Fnv>>,
    addrs: HashSet<IpAddr>,
    /// How many labels the longest entry has that matches what is below it.
    labels_max: usize,
}

/// Where from a name on entries match.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    /// The name itself.
    exact: bool,
    /// The name, and all below it.
    suffix: bool,
    /// All below the name.
    wildcard: bool,
}

/// What one value of the directives names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// `name`, in its canonical form.
    Exact(Vec<u8>),
    /// `.suffix`: the name behind the dot, and all below it.
    Suffix(Vec<u8>),
    /// `*.suffix`: all below the name.
    Wildcard(Vec<u8>),
    /// An IP address.
    Addr(IpAddr),
    /// `~regex`, without the tilde.
    Regex(&'a [u8]),
}

/// The entry of a list that matches, as it is written but for its case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// `name`
    Exact(&'a [u8]),
    /// `.suffix`
    Suffix(&'a [u8]),
    /// `*.suffix`
    Wildcard(&'a [u8]),
    /// An IP address.
    Addr(IpAddr),
}

/// Why a value is refused. Each sentence follows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HostError {
    /// A byte that no host has.
    #[error("is not a name, \".suffix\", \"*.suffix\", \"~regex\" or an IP address")]
    Invalid,
    /// A label in the letters of its language.
    #[error("is an internationalised name, write its A-labels (\"xn--...\")")]
    ULabel,
    /// `all`
    #[error("is no name: without \"proxy_connect_allow_host\" all of them are allowed, and \"~.\" matches any")]
    All,
    /// A star in another place than in front.
    #[error("has a \"*\" elsewhere than in front as \"*.\", use \"~regex\"")]
    Star,
    /// Two dots in a row, or nothing else.
    #[error("has an empty label")]
    EmptyLabel,
    /// A label or a name that no CONNECT could have.
    #[error("is longer than a name or a label can be")]
    Long,
    /// A port behind the host.
    #[error("has a port, which \"proxy_connect_allow\" is for")]
    Port,
    /// A CIDR.
    #[error("is a network, which \"proxy_connect_allow_address\" and \"proxy_connect_deny_address\" are for")]
    Network,
    /// A URL.
    #[error("is a URL, write its host only")]
    Url,
    /// `~` alone.
    #[error("has no regular expression behind its \"~\"")]
    NoRegex,
    /// A file in a file.
    #[error("names a file, which can't stand in another one")]
    File,
}

impl<'a> Pattern<'a> {
    /// Reads one value of the directives. Names are lowered, and lose a dot at their end.
    ///
    /// # Errors
    ///
    /// [`HostError`] when it is none.
    pub fn read(value: &'a [u8]) -> Result<Self, HostError> {
        match value {
            b"all" => return Err(HostError::All),
            b"~" => return Err(HostError::NoRegex),
            [b'~', regex @ ..] => return Ok(Self::Regex(regex)),
            _ if value.starts_with(list::PREFIX) => return Err(HostError::File),
            _ => {}
        }

        if let Some(addr) = read_addr(value) {
            return Ok(Self::Addr(addr));
        }

        match value {
            [b'*', b'.', name @ ..] => read_name(name).map(Self::Wildcard),
            [b'.', name @ ..] => read_name(name).map(Self::Suffix),
            name => read_name(name).map(Self::Exact),
        }
    }
}

/// An IP address as nginx writes it, an IPv6 address with or without brackets.
fn read_addr(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));

    let addr = match literal {
        Some(literal) => IpAddr::V6(literal.parse().ok()?),
        None => text.parse().ok()?,
    };

    Some(addr.to_canonical())
}

fn read_name(name: &[u8]) -> Result<Vec<u8>, HostError> {
    check_name(name).map_err(|error| why(name, error))?;
    Ok(name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase())
}

/// Says what a person may have meant.
fn why(name: &[u8], error: AuthorityError) -> HostError {
    let has = |what: &[u8]| name.windows(what.len()).any(|window| window == what);

    match error {
        AuthorityError::EmptyLabel => HostError::EmptyLabel,
        AuthorityError::LongLabel | AuthorityError::LongName => HostError::Long,
        _ if !name.is_ascii() => HostError::ULabel,
        _ if has(b"://") => HostError::Url,
        _ if has(b"/")
            && read_addr(name.split(|&byte| byte == b'/').next().unwrap_or(b"")).is_some() =>
        {
            HostError::Network
        }
        _ if has(b"/") => HostError::Url,
        _ if has(b"*") => HostError::Star,
        _ if has(b":") => HostError::Port,
        _ => HostError::Invalid,
    }
}

impl Hosts {
    /// Adds a pattern. `false` for a regular expression, which belongs elsewhere.
    pub fn add(&mut self, pattern: Pattern<'_>) -> bool {
        match pattern {
            Pattern::Exact(name) => self.place(name).exact = true,
            Pattern::Suffix(name) => self.below(name).suffix = true,
            Pattern::Wildcard(name) => self.below(name).wildcard = true,
            Pattern::Addr(addr) => {
                self.addrs.insert(addr);
            }
            Pattern::Regex(_) => return false,
        }

        true
    }

    fn place(&mut self, name: Vec<u8>) -> &mut Places {
        match self.names.entry(name.into_boxed_slice()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Places::default()),
        }
    }

    fn below(&mut self, name: Vec<u8>) -> &mut Places {
        self.labels_max = self.labels_max.max(labels(&name));
        self.place(name)
    }

    /// The entry that matches a canonical name: the name itself first, then what it is below, from the longest
    /// on.
    pub fn find<'a>(&self, name: &'a [u8]) -> Option<Match<'a>> {
        if let Some(places) = self.names.get(name) {
            if places.exact {
                return Some(Match::Exact(name));
            }
            if places.suffix {
                return Some(Match::Suffix(name));
            }
        }

        self.find_above(name)
    }

    fn find_above<'a>(&self, name: &'a [u8]) -> Option<Match<'a>> {
        let mut above = self.longest_above(name)?;

        loop {
            match self.names.get(above) {
                Some(Places { suffix: true, .. }) => return Some(Match::Suffix(above)),
                Some(Places { wildcard: true, .. }) => return Some(Match::Wildcard(above)),
                _ => above = behind_dot(above)?,
            }
        }
    }

    /// The longest name above `name` that there may be an entry for.
    fn longest_above<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        let last = self.labels_max.checked_sub(1)?;
        let mut dots = name.iter().enumerate().rev().filter(|(_, &byte)| byte == b'.');

        match dots.nth(last) {
            Some((dot, _)) => Some(&name[dot + 1..]),
            None => behind_dot(name),
        }
    }

    /// The entry that is this IP address.
    pub fn find_addr(&self, addr: IpAddr) -> Option<Match<'static>> {
        let addr = addr.to_canonical();
        self.addrs.contains(&addr).then_some(Match::Addr(addr))
    }
}

fn behind_dot(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().position(|&byte| byte == b'.')?;
    Some(&name[dot + 1..])
}

fn labels(name: &[u8]) -> usize {
    1 + name.iter().filter(|&&byte| byte == b'.').count()
}

impl fmt::Display for Match<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{}", name.escape_ascii()),
            Self::Suffix(name) => write!(f, ".{}", name.escape_ascii()),
            Self::Wildcard(name) => write!(f, "*.{}", name.escape_ascii()),
            Self::Addr(addr) => write!(f, "{addr}"),
        }
    }
}

/// FNV-1a: names are short, and only the configuration puts any in.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(values: &[&str]) -> Hosts {
        let mut hosts = Hosts::default();

        for value in values {
            let pattern = Pattern::read(value.as_bytes()).unwrap_or_else(|e| panic!("{value} {e}"));
            assert!(hosts.add(pattern), "{value}");
        }

        hosts
    }

    fn found(hosts: &Hosts, name: &str) -> Option<String> {
        hosts.find(name.as_bytes()).map(|found| found.to_string())
    }

    #[test]
    fn finds_what_matches() {
        let hosts = hosts(&[
            "a.example",
            ".b.example",
            "*.c.example",
            "x.b.example",
            ".net",
            "*.y.c.example",
        ]);

        for (name, entry) in [
            ("a.example", Some("a.example")),
            ("x.a.example", None),
            ("aa.example", None),
            ("example", None),
            ("b.example", Some(".b.example")),
            ("x.b.example", Some("x.b.example")),
            ("y.x.b.example", Some(".b.example")),
            ("xb.example", None),
            ("c.example", None),
            ("x.c.example", Some("*.c.example")),
            ("z.y.c.example", Some("*.y.c.example")),
            ("y.c.example", Some("*.c.example")),
            ("net", Some(".net")),
            ("a.b.c.d.e.f.net", Some(".net")),
            ("a.example.net.org", None),
            ("", None),
        ] {
            assert_eq!(found(&hosts, name).as_deref(), entry, "{name}");
        }

        assert_eq!(found(&Hosts::default(), "a.example"), None);
    }

    #[test]
    fn a_name_may_be_listed_in_several_ways() {
        let all = hosts(&["*.a.example", "a.example", ".a.example"]);
        assert_eq!(found(&all, "a.example").as_deref(), Some("a.example"));
        assert_eq!(found(&all, "x.a.example").as_deref(), Some(".a.example"));

        let wildcard = hosts(&["*.a.example", "a.example"]);
        assert_eq!(found(&wildcard, "x.a.example").as_deref(), Some("*.a.example"));
    }

    #[test]
    fn reads_canonical_forms() {
        let name = |name: &str| name.as_bytes().to_vec();

        for (value, pattern) in [
            ("A.Example.", Pattern::Exact(name("a.example"))),
            (".A.Example.", Pattern::Suffix(name("a.example"))),
            ("*.A.Example.", Pattern::Wildcard(name("a.example"))),
            ("xn--bcher-kva.example", Pattern::Exact(name("xn--bcher-kva.example"))),
            ("a_b.example", Pattern::Exact(name("a_b.example"))),
            ("127.1", Pattern::Exact(name("127.1"))),
            ("~^A$", Pattern::Regex(b"^A$")),
            ("192.0.2.1", Pattern::Addr(IpAddr::from([192, 0, 2, 1]))),
            ("::ffff:192.0.2.1", Pattern::Addr(IpAddr::from([192, 0, 2, 1]))),
            ("[::1]", Pattern::Addr(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))),
            ("::1", Pattern::Addr(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]))),
        ] {
            assert_eq!(Pattern::read(value.as_bytes()), Ok(pattern), "{value}");
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = ["x".repeat(60).as_str()].repeat(5).join(".");
        let label = "x".repeat(64);

        for (value, error) in [
            ("", HostError::EmptyLabel),
            ("all", HostError::All),
            ("~", HostError::NoRegex),
            ("file:a", HostError::File),
            (".", HostError::EmptyLabel),
            ("*.", HostError::EmptyLabel),
            ("*", HostError::Star),
            ("a.*.example", HostError::Star),
            ("*a.example", HostError::Star),
            ("..example", HostError::EmptyLabel),
            ("a..example", HostError::EmptyLabel),
            ("b\u{fc}cher.example", HostError::ULabel),
            (".b\u{fc}cher.example", HostError::ULabel),
            ("a.example:443", HostError::Port),
            ("192.0.2.1:443", HostError::Port),
            ("[::1]:443", HostError::Port),
            ("10.0.0.0/8", HostError::Network),
            ("2001:db8::/32", HostError::Network),
            ("https://a.example/", HostError::Url),
            ("a.example/x", HostError::Url),
            ("a example", HostError::Invalid),
            ("user@a.example", HostError::Invalid),
            (&long, HostError::Long),
            (&label, HostError::Long),
        ] {
            assert_eq!(Pattern::read(value.as_bytes()), Err(error), "{value}");
        }
    }

    #[test]
    fn addresses_are_the_same_in_any_spelling() {
        let hosts = hosts(&["192.0.2.1", "2001:db8:0:0::1"]);
        let found = |addr: &str| addr.parse().ok().and_then(|addr| hosts.find_addr(addr)).is_some();

        assert!(found("192.0.2.1"));
        assert!(found("::ffff:192.0.2.1"));
        assert!(found("2001:DB8::1"));
        assert!(!found("192.0.2.2"));
        assert!(hosts.find(b"192.0.2.1").is_none());
    }

    #[test]
    fn a_regex_belongs_elsewhere() {
        assert!(!Hosts::default().add(Pattern::Regex(b"a")));
    }

    fn some_name() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{1,2}", 1..5).prop_map(|labels| labels.join("."))
    }

    /// Whether an entry matches, in the plainest way.
    fn matches_plainly(entry: &str, name: &str) -> bool {
        match entry.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None if entry.starts_with('.') => name.ends_with(entry) || name == &entry[1..],
            None => name == entry,
        }
    }

    proptest! {
        #[test]
        fn finds_as_a_list_read_in_full(
            entries in prop::collection::vec((0usize..3, some_name()), 0..12),
            names in prop::collection::vec(some_name(), 1..20),
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(kind, name)| format!("{}{name}", ["", ".", "*."][kind]))
                .collect();
            let hosts = hosts(&entries.iter().map(String::as_str).collect::<Vec<_>>());

            for name in names {
                let found = found(&hosts, &name);
                let any = entries.iter().any(|entry| matches_plainly(entry, &name));
                prop_assert_eq!(found.is_some(), any, "{} {:?}", name, entries);

                if let Some(entry) = found {
                    prop_assert!(entries.contains(&entry) && matches_plainly(&entry, &name));
                }
            }
        }

        #[test]
        fn takes_any_bytes(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut hosts = Hosts::default();
            if let Ok(pattern) = Pattern::read(&value) {
                hosts.add(pattern);
            }
            let _ = hosts.find(&value);
        }
    }
}
