//! Owns the texts that say which way a tunnel takes: `direct`, or the name of a parent.

use std::net::Ipv6Addr;

use thiserror::Error;

/// Which way a tunnel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// To its destination.
    Direct,
    /// Through a parent.
    Parent(Name<'a>),
}

/// What is spoken with a parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1.
    #[default]
    Http,
    /// The same over TLS.
    Https,
    /// SOCKS, version 5.
    Socks5,
}

/// What names a parent, or a group of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// What is spoken with it, `None` where the text does not say it.
    pub scheme: Option<Scheme>,
    /// Its host, an IPv6 literal with its brackets.
    pub host: &'a [u8],
    /// Its port, `None` where the text has none.
    pub port: Option<u16>,
}

/// Why a text names no way. Each sentence follows the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WayError {
    /// There is none.
    #[error("is empty, write \"direct\" for tunnels without a parent")]
    Empty,
    /// A scheme that is not known.
    #[error("has an unknown scheme, write \"http://\", \"https://\" or \"socks5://\"")]
    Scheme,
    /// A path, a query, or the like.
    #[error("has something behind the host and its port, leave that out")]
    Path,
    /// Credentials.
    #[error("has credentials in it, give them with \"proxy_connect_pass_user\"")]
    Userinfo,
    /// A byte that no host has, or brackets around something else than an IPv6 address.
    #[error("has no host, or one with a character that none has")]
    Host,
    /// Not a decimal number from 1 to 65535.
    #[error("has an invalid port")]
    Port,
}

impl Scheme {
    /// How it is written, with what follows it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
            Self::Socks5 => "socks5://",
        }
    }

    /// The port of a parent that is named without one: that of the scheme (RFC 9110, section 4.2), or the one
    /// that IANA has for SOCKS.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

impl<'a> Way<'a> {
    /// Reads `direct`, or the name of a parent: `[http://|https://|socks5://]HOST[:PORT]`.
    ///
    /// # Errors
    ///
    /// [`WayError`] for anything else.
    pub fn read(text: &'a [u8]) -> Result<Self, WayError> {
        match text {
            b"" => Err(WayError::Empty),
            b"direct" => Ok(Self::Direct),
            _ => Name::read(text).map(Self::Parent),
        }
    }
}

impl<'a> Name<'a> {
    fn read(text: &'a [u8]) -> Result<Self, WayError> {
        let (scheme, place) = split_scheme(text)?;

        if place.contains(&b'@') {
            return Err(WayError::Userinfo);
        }

        if place.iter().any(|byte| b"/?#".contains(byte)) {
            return Err(WayError::Path);
        }

        let (host, port) = split_port(place);
        check_host(host)?;

        Ok(Self { scheme, host, port: port.map(read_port).transpose()? })
    }

    /// The host without the brackets of an IPv6 literal.
    pub fn bare_host(&self) -> &'a [u8] {
        match self.host {
            [b'[', literal @ .., b']'] => literal,
            name => name,
        }
    }
}

fn split_scheme(text: &[u8]) -> Result<(Option<Scheme>, &[u8]), WayError> {
    const MARK: &[u8] = b"://";

    let Some(end) = text.windows(MARK.len()).position(|bytes| bytes == MARK) else {
        return Ok((None, text));
    };

    let scheme = [Scheme::Http, Scheme::Https, Scheme::Socks5].into_iter().find(|scheme| {
        let prefix = scheme.prefix().as_bytes();
        text[..end + MARK.len()].eq_ignore_ascii_case(prefix)
    });

    Ok((Some(scheme.ok_or(WayError::Scheme)?), &text[end + MARK.len()..]))
}

/// Splits at the colon behind the host, or behind the bracket of an IPv6 literal.
fn split_port(place: &[u8]) -> (&[u8], Option<&[u8]>) {
    let literal = place.iter().position(|&byte| byte == b']').unwrap_or(0);

    match place[literal..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&place[..literal + colon], Some(&place[literal + colon + 1..])),
        None => (place, None),
    }
}

fn check_host(host: &[u8]) -> Result<(), WayError> {
    let is_host = match host {
        [b'[', literal @ .., b']'] => {
            std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        name => !name.is_empty() && name.iter().all(|byte| is_of_name(*byte)),
    };

    is_host.then_some(()).ok_or(WayError::Host)
}

/// A group may have a name that no host could have.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"\\[]".contains(&byte)
}

fn read_port(digits: &[u8]) -> Result<u16, WayError> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());

    port.filter(|&port| is_number && port != 0).ok_or(WayError::Port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Way<'_>, WayError> {
        Way::read(text.as_bytes())
    }

    fn parent(scheme: Option<Scheme>, host: &str, port: Option<u16>) -> Result<Way<'_>, WayError> {
        Ok(Way::Parent(Name { scheme, host: host.as_bytes(), port }))
    }

    #[test]
    fn reads_names() {
        assert_eq!(read("direct"), Ok(Way::Direct));
        assert_eq!(read("parents"), parent(None, "parents", None));
        assert_eq!(read("my_group.1"), parent(None, "my_group.1", None));
        assert_eq!(read("proxy.example:3128"), parent(None, "proxy.example", Some(3128)));
        assert_eq!(read("HTTP://p:1"), parent(Some(Scheme::Http), "p", Some(1)));
        assert_eq!(read("https://p"), parent(Some(Scheme::Https), "p", None));
        assert_eq!(read("socks5://[::1]:9050"), parent(Some(Scheme::Socks5), "[::1]", Some(9050)));
        assert_eq!(read("[::1]"), parent(None, "[::1]", None));
        assert_eq!(read("http://direct"), parent(Some(Scheme::Http), "direct", None));
    }

    #[test]
    fn refuses_what_names_none() {
        for (text, error) in [
            ("", WayError::Empty),
            ("ftp://p", WayError::Scheme),
            ("://p", WayError::Scheme),
            ("socks4://p", WayError::Scheme),
            ("http://p/", WayError::Path),
            ("http://p:1/x", WayError::Path),
            ("p?x", WayError::Path),
            ("http://u:p@p:1", WayError::Userinfo),
            ("http://", WayError::Host),
            ("http://:1", WayError::Host),
            ("http://[::1", WayError::Host),
            ("http://[x]:1", WayError::Host),
            ("http://[::1]x", WayError::Host),
            ("a b", WayError::Host),
            ("a\nb", WayError::Host),
            ("caf\u{e9}", WayError::Host),
            ("p:", WayError::Port),
            ("p:0", WayError::Port),
            ("p:65536", WayError::Port),
            ("p:+1", WayError::Port),
            ("::1", WayError::Host),
            ("unix:x", WayError::Port),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_can_be_written(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Way::Parent(name)) = Way::read(&text) {
                prop_assert!(!name.host.is_empty());
                prop_assert!(name.host.iter().all(u8::is_ascii_graphic));
                prop_assert!(!name.host.contains(&b'/') && !name.host.contains(&b'@'));
                prop_assert!(name.port != Some(0));
            }
        }
    }
}
