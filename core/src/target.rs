//! Owns what a CONNECT may name: the authority of the request line and the ports that
//! `proxy_connect_allow` permits.

use std::ops::RangeInclusive;

use thiserror::Error;

/// Where a CONNECT request wants to go: authority-form of RFC 9112, section 3.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    host: &'a [u8],
    port: u16,
}

/// Why a request-target is no authority. Each sentence completes "client sent ...".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// Nothing stands before the colon.
    #[error("CONNECT with an empty host")]
    EmptyHost,
    /// A byte that no name, IPv4 address or IPv6 literal has.
    #[error("CONNECT with an invalid character in the host")]
    InvalidHost,
    /// Two dots in a row, or a dot alone.
    #[error("CONNECT with an empty label in the host")]
    EmptyLabel,
    /// An IPv6 literal without its closing bracket.
    #[error("CONNECT with an unclosed \"[\" in the host")]
    UnclosedBracket,
    /// Brackets around something else than an address, or with something behind them.
    #[error("CONNECT with an invalid IPv6 literal")]
    InvalidLiteral,
    /// Userinfo, which an authority of CONNECT never has.
    #[error("CONNECT with userinfo")]
    Userinfo,
    /// A scheme: absolute-form.
    #[error("CONNECT in absolute-form")]
    AbsoluteForm,
    /// A path.
    #[error("CONNECT with a path")]
    Path,
    /// Nothing stands behind the colon, or there is none.
    #[error("CONNECT without a port")]
    NoPort,
    /// Not a decimal number from 1 to 65535.
    #[error("CONNECT with an invalid port")]
    InvalidPort,
    /// The request line ends behind the authority: HTTP/0.9.
    #[error("CONNECT without an HTTP version")]
    NoVersion,
}

impl<'a> Authority<'a> {
    /// Checks the `host` and the `port` of an authority, as they stand in the request line.
    ///
    /// An IPv6 literal keeps its brackets; whether the address in it is one is left to the
    /// caller, who reads addresses as nginx does.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] says which part is wrong.
    pub fn new(host: &'a [u8], port: &[u8]) -> Result<Self, AuthorityError> {
        check_host(host)?;
        let port = check_port(port)?;

        Ok(Self { host, port })
    }

    /// The host as the client wrote it, an IPv6 literal with its brackets.
    pub fn host(&self) -> &'a [u8] {
        self.host
    }

    /// The host without the brackets of an IPv6 literal.
    pub fn bare_host(&self) -> &'a [u8] {
        match self.host {
            [b'[', literal @ .., b']'] => literal,
            name => name,
        }
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// What is wrong with the request line of a CONNECT that a core refused by itself.
///
/// `None` when it is no CONNECT, or when nothing is wrong with its authority.
pub fn complaint(line: &[u8]) -> Option<AuthorityError> {
    let (authority, version) = request_line(line)?;
    let (host, port) = split(authority);

    match Authority::new(host, port) {
        Err(error) => Some(error),
        Ok(_) if version.is_empty() => Some(AuthorityError::NoVersion),
        Ok(_) => None,
    }
}

/// The request-target and the HTTP version in the request line of a CONNECT, each empty when it is
/// missing. What follows the end of the line does not count.
///
/// `None` when it is no CONNECT.
pub fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(line.len());
    let mut words = line[..end].split(|&byte| byte == b' ').filter(|word| !word.is_empty());

    if words.next() != Some(b"CONNECT") {
        return None;
    }

    Some((words.next().unwrap_or_default(), words.next().unwrap_or_default()))
}

/// Splits an authority at the colon behind the host, or behind the bracket of an IPv6 literal.
/// The port is empty when there is none.
pub fn split(authority: &[u8]) -> (&[u8], &[u8]) {
    let literal = match authority {
        [b'[', ..] => authority.iter().position(|&byte| byte == b']').unwrap_or(authority.len()),
        _ => 0,
    };

    match authority[literal..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&authority[..literal + colon], &authority[literal + colon + 1..]),
        None => (authority, b""),
    }
}

fn check_host(host: &[u8]) -> Result<(), AuthorityError> {
    match host {
        [] => Err(AuthorityError::EmptyHost),
        [b'[', literal @ ..] => check_literal(literal),
        b"." => Err(AuthorityError::EmptyLabel),
        name => check_name(name),
    }
}

fn check_name(name: &[u8]) -> Result<(), AuthorityError> {
    if let Some(&byte) = name.iter().find(|&&byte| !is_name_byte(byte)) {
        return Err(stray(byte).unwrap_or(AuthorityError::InvalidHost));
    }

    if name.windows(2).any(|pair| pair == b"..") {
        return Err(AuthorityError::EmptyLabel);
    }

    Ok(())
}

/// Checks what follows the opening bracket.
fn check_literal(literal: &[u8]) -> Result<(), AuthorityError> {
    let len = literal.iter().take_while(|&&byte| is_literal_byte(byte)).count();

    match literal[len..] {
        [] => Err(AuthorityError::UnclosedBracket),
        [b']'] if len > 0 => Ok(()),
        [b']', b'/', ..] => Err(AuthorityError::Path),
        _ => Err(AuthorityError::InvalidLiteral),
    }
}

fn check_port(port: &[u8]) -> Result<u16, AuthorityError> {
    match port {
        [] => Err(AuthorityError::NoPort),
        [b'/', ..] => Err(AuthorityError::AbsoluteForm),
        port => parse_port(port).ok_or_else(|| {
            let byte = port.iter().find(|byte| !byte.is_ascii_digit());
            byte.and_then(|&byte| stray(byte)).unwrap_or(AuthorityError::InvalidPort)
        }),
    }
}

/// What a byte that has no place in an authority tells of what the client meant.
fn stray(byte: u8) -> Option<AuthorityError> {
    match byte {
        b'@' => Some(AuthorityError::Userinfo),
        b'/' => Some(AuthorityError::Path),
        _ => None,
    }
}

fn is_literal_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// Letters, digits, "." and "-" as in nginx's absolute-form, and the "_" of names in use.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// A decimal port from 1 to 65535. Leading zeros do not matter, as in nginx's own ports.
fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }

    let port = digits.iter().try_fold(0u16, |port, &digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })?;

    (port != 0).then_some(port)
}

/// The ports that `proxy_connect_allow` permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `all`
    All,
    /// Ports and ranges, as listed.
    Listed(Vec<RangeInclusive<u16>>),
}

/// Why an argument of `proxy_connect_allow` is refused. Each sentence follows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PortsError {
    /// Neither a port, nor a range, nor `all`.
    #[error("is not a port from 1 to 65535, a range \"first-last\" of them, or \"all\"")]
    Invalid,
    /// The first port of a range is above its last.
    #[error("is a range whose first port is above its last")]
    Reversed,
}

impl Ports {
    /// No port yet.
    pub fn none() -> Self {
        Self::Listed(Vec::new())
    }

    /// Reads one argument of `proxy_connect_allow` into the list. `all` may stand beside others,
    /// before or behind them: it allows all.
    ///
    /// # Errors
    ///
    /// [`PortsError`] when the argument is neither `all`, a port, nor a range.
    pub fn add(&mut self, argument: &[u8]) -> Result<(), PortsError> {
        if argument == b"all" {
            *self = Self::All;
            return Ok(());
        }

        let range = parse_range(argument)?;

        if let Self::Listed(ranges) = self {
            ranges.push(range);
        }

        Ok(())
    }

    /// Whether a CONNECT to `port` is permitted.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Listed(ranges) => ranges.iter().any(|range| range.contains(&port)),
        }
    }
}

impl Default for Ports {
    /// https (443) and snews (563).
    fn default() -> Self {
        Self::Listed(vec![443..=443, 563..=563])
    }
}

fn parse_range(argument: &[u8]) -> Result<RangeInclusive<u16>, PortsError> {
    let mut ends = argument.splitn(2, |&byte| byte == b'-');

    let first = ends.next().and_then(parse_port).ok_or(PortsError::Invalid)?;
    let last = ends.next().map_or(Some(first), parse_port).ok_or(PortsError::Invalid)?;

    if first > last {
        return Err(PortsError::Reversed);
    }

    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(arguments: &[&[u8]]) -> Result<Ports, PortsError> {
        let mut ports = Ports::none();

        for argument in arguments {
            ports.add(argument)?;
        }

        Ok(ports)
    }

    #[test]
    fn reads_names_and_addresses() {
        for host in
            [&b"example.com"[..], b"a", b"127.0.0.1", b"127.0.0.01", b"my_host-1", b"[::1]", b"x."]
        {
            let authority = Authority::new(host, b"443").map(|a| (a.host(), a.port()));
            assert_eq!(authority, Ok((host, 443)));
        }
    }

    #[test]
    fn bares_an_ipv6_literal() {
        assert_eq!(Authority::new(b"[::1]", b"1").map(|a| a.bare_host()), Ok(&b"::1"[..]));
        assert_eq!(Authority::new(b"a.b", b"1").map(|a| a.bare_host()), Ok(&b"a.b"[..]));
    }

    #[test]
    fn splits_behind_the_host() {
        for (authority, host, port) in [
            (&b"a.b:443"[..], &b"a.b"[..], &b"443"[..]),
            (b"[::1]:443", b"[::1]", b"443"),
            (b"[::1]", b"[::1]", b""),
            (b"[::1:443", b"[::1:443", b""),
            (b"a", b"a", b""),
            (b":1", b"", b"1"),
            (b"a:1:2", b"a", b"1:2"),
            (b"", b"", b""),
        ] {
            assert_eq!(split(authority), (host, port));
        }
    }

    #[test]
    fn refuses_hosts() {
        use AuthorityError::*;

        for (host, error) in [
            (&b""[..], EmptyHost),
            (b"[]", InvalidLiteral),
            (b"[::1", UnclosedBracket),
            (b"[", UnclosedBracket),
            (b"[::1]/", Path),
            (b".", EmptyLabel),
            (b"a..b", EmptyLabel),
            (b"[fe80::1%eth0]", InvalidLiteral),
            (b"[::1]x", InvalidLiteral),
            (b"::1", InvalidHost),
            (b"user@host", Userinfo),
            (b"host/path", Path),
            (b"ho st", InvalidHost),
            (b"ho\0st", InvalidHost),
            (b"h\xc3\xb6st", InvalidHost),
            (b"%41", InvalidHost),
            (b"http://host", InvalidHost),
        ] {
            assert_eq!(Authority::new(host, b"443"), Err(error));
        }
    }

    #[test]
    fn refuses_ports() {
        assert_eq!(Authority::new(b"host", b""), Err(AuthorityError::NoPort));

        for port in [&b"0"[..], b"00", b"65536", b"99999999999", b"http", b"-1", b"+1", b" 1"] {
            assert_eq!(Authority::new(b"host", port), Err(AuthorityError::InvalidPort));
        }
    }

    #[test]
    fn explains_what_a_core_refused() {
        use AuthorityError::*;

        for (line, wrong) in [
            (&b"CONNECT a HTTP/1.1\r\n"[..], Some(NoPort)),
            (b"CONNECT a: HTTP/1.1", Some(NoPort)),
            (b"CONNECT [::1] HTTP/1.1\n", Some(NoPort)),
            (b"CONNECT u@a:1 HTTP/1.1\r\nHost: a\r\n", Some(Userinfo)),
            (b"CONNECT a:x HTTP/1.1\r\n", Some(InvalidPort)),
            (b"CONNECT http://a/ HTTP/1.1\r\n", Some(AbsoluteForm)),
            (b"CONNECT a:1/ HTTP/1.1\r\n", Some(Path)),
            (b"CONNECT u:1@a:1 HTTP/1.1\r\n", Some(Userinfo)),
            (b"CONNECT [::1:1 HTTP/1.1\r\n", Some(UnclosedBracket)),
            (b"CONNECT :1 HTTP/1.1\r\n", Some(EmptyHost)),
            (b"CONNECT \r\n", Some(EmptyHost)),
            (b"CONNECT a:1\r\n", Some(NoVersion)),
            (b"CONNECT a:1 HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n", None),
            (b"", None),
        ] {
            assert_eq!(complaint(line), wrong, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn allows_what_is_listed() {
        let ports = listed(&[b"443", b"1000-2000", b"65535"]);
        let ports = ports.as_ref();

        for (port, allowed) in [
            (443, true),
            (444, false),
            (999, false),
            (1000, true),
            (2000, true),
            (2001, false),
            (65535, true),
        ] {
            assert_eq!(ports.map(|p| p.contains(port)), Ok(allowed), "{port}");
        }
    }

    #[test]
    fn allows_by_default_https_and_snews() {
        let ports = Ports::default();
        let allowed: Vec<u16> = (1..=u16::MAX).filter(|&port| ports.contains(port)).collect();
        assert_eq!(allowed, [443, 563]);
    }

    #[test]
    fn all_is_all_beside_others_too() {
        for arguments in [
            &[&b"all"[..]][..],
            &[b"all", b"443"],
            &[b"443", b"all"],
            &[b"1-2", b"all", b"443"],
            &[b"all", b"all"],
        ] {
            assert_eq!(listed(arguments), Ok(Ports::All));
        }
    }

    #[test]
    fn refuses_bad_lists() {
        assert_eq!(listed(&[b"2000-1000"]), Err(PortsError::Reversed));
        assert_eq!(listed(&[b"all", b"2000-1000"]), Err(PortsError::Reversed));
        assert_eq!(listed(&[b"all", b"0"]), Err(PortsError::Invalid));
        assert_eq!(listed(&[b"0", b"all"]), Err(PortsError::Invalid));

        for argument in [
            &b""[..],
            b"0",
            b"65536",
            b"https",
            b"1-",
            b"-1",
            b"1-2-3",
            b"0-10",
            b"1-65536",
            b"ALL",
        ] {
            assert_eq!(listed(&[argument]), Err(PortsError::Invalid));
        }
    }

    proptest! {
        #[test]
        fn takes_every_port_that_is_one(port in 1u16..) {
            let digits = port.to_string();
            prop_assert_eq!(
                Authority::new(b"host", digits.as_bytes()).map(|a| a.port()),
                Ok(port)
            );
        }

        #[test]
        fn never_panics_and_never_takes_port_0(host: Vec<u8>, port: Vec<u8>) {
            if let Ok(authority) = Authority::new(&host, &port) {
                prop_assert!(authority.port() > 0);
                prop_assert!(authority.host().iter().all(u8::is_ascii_graphic));
            }
        }

        #[test]
        fn a_range_holds_what_lies_within(a in 1u16.., b in 1u16.., port in 1u16..) {
            let (first, last) = (a.min(b), a.max(b));
            let ports = listed(&[format!("{first}-{last}").as_bytes()]);
            prop_assert_eq!(ports.map(|p| p.contains(port)), Ok(first <= port && port <= last));
        }
    }
}
