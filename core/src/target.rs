//! Owns what a CONNECT names: the authority of the request line, in its one canonical form.

use std::io::Write;

use thiserror::Error;

/// The longest name, in bytes, without a dot at its end (RFC 1035, section 2.3.4: 255 with the lengths of
/// its labels).
const NAME_MAX: usize = 253;

/// The longest label of a name, in bytes.
const LABEL_MAX: usize = 63;

/// A colon and the digits of a port.
const PORT_MAX: usize = 6;

/// Where a CONNECT request wants to go: authority-form of RFC 9112, section 3.2.3, in its one canonical form.
/// The host is in lower case and has no dot at its end, the port no zeros in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a [u8],
    host_len: usize,
    port: u16,
}

/// The text of an [`Authority`], for those who have to find a place for it.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityText {
    bytes: [u8; NAME_MAX + PORT_MAX],
    /// Of host and port.
    len: usize,
    host_len: usize,
    port: u16,
}

/// Why a request-target is no authority. Each sentence completes "client sent ...", and begins with the
/// words that log parsers know.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// Nothing stands before the colon.
    #[error("invalid host in request line: it is empty")]
    EmptyHost,
    /// A byte that no name, IPv4 address or IPv6 literal has.
    #[error("invalid host in request line: it has a character that no host has")]
    InvalidHost,
    /// Two dots in a row, or a dot alone.
    #[error("invalid host in request line: it has an empty label")]
    EmptyLabel,
    /// A label that no name server could be asked for.
    #[error("invalid host in request line: it has a label of more than {LABEL_MAX} bytes")]
    LongLabel,
    /// A name that no name server could be asked for.
    #[error("invalid host in request line: it has more than {NAME_MAX} bytes")]
    LongName,
    /// An IPv6 literal without its closing bracket.
    #[error("invalid host in request line: it has a \"[\" that is not closed")]
    UnclosedBracket,
    /// Brackets around something else than an address, or with something behind them.
    #[error("invalid host in request line: it has no IPv6 address in its brackets")]
    InvalidLiteral,
    /// Userinfo, which an authority of CONNECT never has.
    #[error("invalid host in request line: it has userinfo before it")]
    Userinfo,
    /// A scheme: absolute-form.
    #[error("invalid host in request line: it is in absolute-form")]
    AbsoluteForm,
    /// A path.
    #[error("invalid host in request line: it has a path behind it")]
    Path,
    /// Nothing stands behind the colon, or there is none.
    #[error("no port in request line")]
    NoPort,
    /// Not a decimal number from 1 to 65535.
    #[error("invalid port in request line")]
    InvalidPort,
    /// The request line ends behind the authority: HTTP/0.9.
    #[error("no HTTP version in request line")]
    NoVersion,
}

impl AuthorityText {
    /// Reads what stands between the method and the HTTP version in a request line.
    ///
    /// An IPv6 literal keeps its brackets; whether the address in it is one is left to the caller, who
    /// reads addresses as nginx does.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] says which part is wrong.
    pub fn read(authority: &[u8]) -> Result<Self, AuthorityError> {
        let (host, port) = split(authority);

        if authority.contains(&b'@') && !port.starts_with(b"//") {
            return Err(AuthorityError::Userinfo);
        }

        check_host(host)?;
        let port = check_port(port)?;

        Ok(Self::write(host.strip_suffix(b".").unwrap_or(host), port))
    }

    /// `host` has [`NAME_MAX`] bytes at most.
    fn write(host: &[u8], port: u16) -> Self {
        let mut bytes = [0; NAME_MAX + PORT_MAX];

        for (place, byte) in bytes.iter_mut().zip(host) {
            *place = byte.to_ascii_lowercase();
        }

        let mut rest = &mut bytes[host.len()..];
        // There is room: PORT_MAX.
        let _ = write!(rest, ":{port}");
        let len = NAME_MAX + PORT_MAX - rest.len();

        Self { bytes, len, host_len: host.len(), port }
    }

    /// The text: `example.com:443`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The authority, whose text is at `place` now.
    pub fn at<'a>(&self, place: &'a [u8]) -> Authority<'a> {
        debug_assert_eq!(place, self.as_bytes());
        Authority { text: place, host_len: self.host_len, port: self.port }
    }
}

impl<'a> Authority<'a> {
    /// Host and port with a colon between them.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The host, an IPv6 literal with its brackets.
    pub fn host(&self) -> &'a [u8] {
        &self.text[..self.host_len]
    }

    /// The host without the brackets of an IPv6 literal.
    pub fn bare_host(&self) -> &'a [u8] {
        match self.host() {
            [b'[', literal @ .., b']'] => literal,
            name => name,
        }
    }

    /// Whether the host is an IPv6 literal.
    pub fn has_literal(&self) -> bool {
        self.host().starts_with(b"[")
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The digits of the port.
    pub fn port_text(&self) -> &'a [u8] {
        &self.text[self.host_len + 1..]
    }
}

/// Reads the authority in the request line of a CONNECT. What follows the end of the line does not count.
///
/// # Errors
///
/// [`AuthorityError`] says what is wrong with it.
pub fn read_line(line: &[u8]) -> Result<AuthorityText, AuthorityError> {
    let (authority, version) = request_line(line).unwrap_or_default();
    let text = AuthorityText::read(authority)?;

    if version.is_empty() {
        return Err(AuthorityError::NoVersion);
    }

    Ok(text)
}

/// What is wrong with the request line of a CONNECT that a core refused by itself.
///
/// `None` when it is no CONNECT, or when nothing is wrong with its authority.
pub fn complaint(line: &[u8]) -> Option<AuthorityError> {
    request_line(line)?;
    read_line(line).err()
}

/// The request-target and the HTTP version in the request line of a CONNECT, each empty when it is
/// missing. What follows the end of the line does not count.
///
/// `None` when it is no CONNECT.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(line.len());
    let mut words = line[..end].split(|&byte| byte == b' ').filter(|word| !word.is_empty());

    if words.next() != Some(b"CONNECT") {
        return None;
    }

    Some((words.next().unwrap_or_default(), words.next().unwrap_or_default()))
}

/// Splits an authority at the colon behind the host, or behind the bracket of an IPv6 literal.
/// The port is empty when there is none.
fn split(authority: &[u8]) -> (&[u8], &[u8]) {
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
        [b'[', ..] if host.len() > NAME_MAX => Err(AuthorityError::LongName),
        [b'[', literal @ ..] => check_literal(literal),
        name => check_name(name),
    }
}

/// Whether a name server could be asked for `name`, which may have a dot at its end.
pub(crate) fn check_name(name: &[u8]) -> Result<(), AuthorityError> {
    if let Some(&byte) = name.iter().find(|&&byte| !is_name_byte(byte)) {
        return Err(if byte == b'/' { AuthorityError::Path } else { AuthorityError::InvalidHost });
    }

    let name = name.strip_suffix(b".").unwrap_or(name);

    if name.len() > NAME_MAX {
        return Err(AuthorityError::LongName);
    }

    name.split(|&byte| byte == b'.').try_for_each(check_label)
}

fn check_label(label: &[u8]) -> Result<(), AuthorityError> {
    match label.len() {
        0 => Err(AuthorityError::EmptyLabel),
        1..=LABEL_MAX => Ok(()),
        _ => Err(AuthorityError::LongLabel),
    }
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
        port => {
            parse_port(port).ok_or_else(|| match port.iter().find(|byte| !byte.is_ascii_digit()) {
                Some(b'/') => AuthorityError::Path,
                _ => AuthorityError::InvalidPort,
            })
        }
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
pub(crate) fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }

    let port = digits.iter().try_fold(0u16, |port, &digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })?;

    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(authority: &[u8]) -> Result<(Vec<u8>, u16), AuthorityError> {
        let text = AuthorityText::read(authority)?;
        let authority = text.at(text.as_bytes());

        let port = authority.port().to_string();
        let parts = [authority.host(), b":", port.as_bytes()].concat();
        assert_eq!(authority.text(), parts);
        assert_eq!(authority.port_text(), port.as_bytes());

        Ok((authority.host().to_vec(), authority.port()))
    }

    #[test]
    fn a_name_is_one_name() {
        for (authority, host, port) in [
            (&b"example.com:443"[..], &b"example.com"[..], 443),
            (b"EXAMPLE.com:443", b"example.com", 443),
            (b"example.com.:0443", b"example.com", 443),
            (b"a:00000000000000000025", b"a", 25),
            (b"x.:1", b"x", 1),
            (b"127.0.0.1:65535", b"127.0.0.1", 65535),
            (b"127.0.0.01:1", b"127.0.0.01", 1),
            (b"my_Host-1:1", b"my_host-1", 1),
            (b"[::1]:443", b"[::1]", 443),
            (b"[2001:DB8::A]:01", b"[2001:db8::a]", 1),
        ] {
            assert_eq!(read(authority), Ok((host.to_vec(), port)), "{}", authority.escape_ascii());
        }
    }

    #[test]
    fn bares_an_ipv6_literal() {
        for (authority, bare, is_literal) in
            [(&b"[::1]:1"[..], &b"::1"[..], true), (b"a.b:1", b"a.b", false)]
        {
            let text = AuthorityText::read(authority);
            let authority = text.as_ref().map(|text| text.at(text.as_bytes()));
            assert_eq!(authority.map(|a| (a.bare_host(), a.has_literal())), Ok((bare, is_literal)));
        }
    }

    #[test]
    fn a_name_has_an_end() {
        let label = "a".repeat(63);
        let name = [&label[..61], &label, &label, &label].join(".");
        assert_eq!(name.len(), NAME_MAX);

        for (host, error) in [
            (name.clone(), None),
            (format!("{name}."), None),
            (format!("a{name}"), Some(AuthorityError::LongName)),
            (label.clone(), None),
            (format!("a{label}.b"), Some(AuthorityError::LongLabel)),
            (format!("b.a{label}."), Some(AuthorityError::LongLabel)),
            (format!("[{}]", "0".repeat(NAME_MAX)), Some(AuthorityError::LongName)),
        ] {
            assert_eq!(read(format!("{host}:1").as_bytes()).err(), error, "{host}");
        }
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
            (b"host/path", Path),
            (b"ho st", InvalidHost),
            (b"ho\0st", InvalidHost),
            (b"h\xc3\xb6st", InvalidHost),
            (b"%41", InvalidHost),
            (b"..", EmptyLabel),
            (b".a", EmptyLabel),
            (b"a..", EmptyLabel),
        ] {
            assert_eq!(check_host(host), Err(error), "{}", host.escape_ascii());
        }
    }

    #[test]
    fn refuses_ports() {
        assert_eq!(check_port(b""), Err(AuthorityError::NoPort));

        for port in [&b"0"[..], b"00", b"65536", b"99999999999", b"http", b"-1", b"+1", b" 1"] {
            assert_eq!(check_port(port), Err(AuthorityError::InvalidPort));
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
            (b"CONNECT u:p@a:1 HTTP/1.1\r\n", Some(Userinfo)),
            (b"CONNECT @a:1 HTTP/1.1\r\n", Some(Userinfo)),
            (b"CONNECT http://u:p@a/ HTTP/1.1\r\n", Some(AbsoluteForm)),
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

    proptest! {
        #[test]
        fn takes_every_port_that_is_one(port in 1u16..) {
            prop_assert_eq!(
                read(format!("host:{port}").as_bytes()).map(|(_, port)| port),
                Ok(port)
            );
        }

        /// What is read once reads as itself.
        #[test]
        fn is_canonical(authority in "(\\[[0-9A-Fa-f:.]{1,9}\\]|[A-Za-z0-9._-]{1,20}):[0-9]{1,7}") {
            if let Ok(text) = AuthorityText::read(authority.as_bytes()) {
                let again = AuthorityText::read(text.as_bytes());
                prop_assert_eq!(again.as_ref().map(AuthorityText::as_bytes), Ok(text.as_bytes()));
                prop_assert!(!text.as_bytes().iter().any(u8::is_ascii_uppercase));
            }
        }

        #[test]
        fn never_panics_and_never_takes_port_0(authority: Vec<u8>) {
            if let Ok((host, port)) = read(&authority) {
                prop_assert!(port > 0);
                prop_assert!(host.iter().all(u8::is_ascii_graphic));
            }
        }
    }
}
