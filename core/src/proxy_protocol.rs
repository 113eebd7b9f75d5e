//! Owns the header of the PROXY protocol, as an upstream gets it before anything else: "The PROXY protocol,
//! Versions 1 & 2", by HAProxy Technologies, and nginx's ngx_proxy_protocol_write().

use std::collections::TryReserveError;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Text, section 2.1.
    V1,
    /// Binary, section 2.2.
    V2,
}

/// What the header tells.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address and that of this host which it came to. `None` where one of them has no
    /// IP address.
    pub endpoints: Option<(SocketAddr, SocketAddr)>,
    /// The host that the client asked for. The first version can't tell it.
    pub authority: &'a [u8],
}

/// What a header of the second version begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The version, and the command: LOCAL, or PROXY for another.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The family and the transport, which is TCP.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The TLV of the host that the client asked for (section 2.2.2).
const PP2_TYPE_AUTHORITY: u8 = 0x02;

/// The longest that a host may be in a header; a name of DNS is never longer than 255 bytes.
const AUTHORITY_MAX: usize = 1024;

/// The longest header: the second version with two addresses of IPv6, their ports and a host.
const HEADER_MAX: usize = SIGNATURE.len() + 4 + 36 + 3 + AUTHORITY_MAX;

/// The header. A host that is too long to be one is left out.
///
/// # Errors
///
/// No memory.
pub fn header(version: Version, origin: &Origin<'_>) -> Result<Vec<u8>, TryReserveError> {
    let endpoints = origin.endpoints.map(|(client, server)| of_one_family(client, server));
    let mut header = Vec::new();
    header.try_reserve_exact(HEADER_MAX)?;

    match version {
        Version::V1 => write_v1(&mut header, endpoints),
        Version::V2 => write_v2(&mut header, endpoints, origin.authority),
    }

    Ok(header)
}

/// Both as addresses of one family: where they differ, of IPv6 (RFC 4291, section 2.5.5.2). They do where the
/// client's address is one that another proxy has told.
fn of_one_family(client: SocketAddr, server: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    };

    match client.is_ipv4() == server.is_ipv4() {
        true => (client, server),
        false => (mapped(client), mapped(server)),
    }
}

fn write_v1(header: &mut Vec<u8>, endpoints: Option<(SocketAddr, SocketAddr)>) {
    let Some((client, server)) = endpoints else {
        header.extend(b"PROXY UNKNOWN\r\n");
        return;
    };

    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), server.ip());

    // Writing to memory that is there does not fail.
    let _ = write!(header, "PROXY {family} {from} {to} {} {}\r\n", client.port(), server.port());
}

fn write_v2(header: &mut Vec<u8>, endpoints: Option<(SocketAddr, SocketAddr)>, authority: &[u8]) {
    let (command, family) = match endpoints {
        None => (LOCAL, UNSPEC),
        Some((client, _)) if client.is_ipv4() => (PROXY, TCP4),
        Some(_) => (PROXY, TCP6),
    };

    header.extend(SIGNATURE);
    header.extend([command, family, 0, 0]);
    let start = header.len();

    if let Some((client, server)) = endpoints {
        for addr in [client, server] {
            match addr.ip() {
                IpAddr::V4(ip) => header.extend(ip.octets()),
                IpAddr::V6(ip) => header.extend(ip.octets()),
            }
        }

        header.extend(client.port().to_be_bytes());
        header.extend(server.port().to_be_bytes());
    }

    if (1..=AUTHORITY_MAX).contains(&authority.len()) {
        header.push(PP2_TYPE_AUTHORITY);
        header.extend(be(authority.len()));
        header.extend(authority);
    }

    let len = be(header.len() - start);
    header[start - len.len()..start].copy_from_slice(&len);
}

/// A length that is less than [`HEADER_MAX`], as it goes out.
fn be(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told<'a>(client: &str, server: &str, authority: &'a str) -> Origin<'a> {
        let endpoints = client.parse().ok().zip(server.parse().ok());
        Origin { endpoints, authority: authority.as_bytes() }
    }

    fn made(version: Version, origin: &Origin<'_>) -> Vec<u8> {
        header(version, origin).unwrap_or_default()
    }

    fn line(origin: &Origin<'_>) -> String {
        String::from_utf8_lossy(&made(Version::V1, origin)).into_owned()
    }

    #[test]
    fn the_first_version_is_a_line() {
        let origin = told("192.0.2.1:56324", "192.0.2.9:443", "a.example");
        assert_eq!(line(&origin), "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n");

        let origin = told("[2001:db8::1]:56324", "[2001:db8::9]:443", "");
        assert_eq!(line(&origin), "PROXY TCP6 2001:db8::1 2001:db8::9 56324 443\r\n");

        let origin = Origin { endpoints: None, authority: b"a.example" };
        assert_eq!(line(&origin), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn addresses_of_two_families_are_of_ipv6() {
        let origin = told("[2001:db8::1]:1", "192.0.2.9:3128", "");
        assert_eq!(line(&origin), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.9 1 3128\r\n");

        let origin = told("192.0.2.9:1", "[2001:db8::1]:3128", "");
        assert_eq!(line(&origin), "PROXY TCP6 ::ffff:192.0.2.9 2001:db8::1 1 3128\r\n");
    }

    #[test]
    fn the_second_version_is_binary() {
        let origin = told("192.0.2.1:56324", "192.0.2.9:443", "a.example");
        let mut expected = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".to_vec();
        expected.extend([0x21, 0x11, 0, 24, 192, 0, 2, 1, 192, 0, 2, 9, 0xdc, 0x04, 0x01, 0xbb]);
        expected.extend(b"\x02\x00\x09a.example");
        assert_eq!(made(Version::V2, &origin), expected);

        let origin = Origin { endpoints: None, authority: b"" };
        assert_eq!(made(Version::V2, &origin)[12..], [0x20, 0, 0, 0]);
    }

    #[test]
    fn a_host_that_is_too_long_is_left_out() {
        for (len, told) in [(AUTHORITY_MAX, true), (AUTHORITY_MAX + 1, false), (100_000, false)] {
            let authority = vec![b'a'; len];
            let origin = Origin { endpoints: None, authority: &authority };
            assert_eq!(made(Version::V2, &origin).len(), if told { 16 + 3 + len } else { 16 });
        }
    }

    fn ends<E>(
        client: Result<IpAddr, E>,
        client_port: u16,
        server: Result<IpAddr, E>,
        server_port: u16,
    ) -> Option<(SocketAddr, SocketAddr)> {
        Some(((client.ok()?, client_port).into(), (server.ok()?, server_port).into()))
    }

    /// What a reader of the second version makes of it: the endpoints and the authority.
    fn read(header: &[u8]) -> (Option<(SocketAddr, SocketAddr)>, Vec<u8>) {
        assert_eq!(header[..12], SIGNATURE);
        let len = usize::from(u16::from_be_bytes([header[14], header[15]]));
        let block = &header[16..];
        assert_eq!(block.len(), len);

        let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
        let (endpoints, tlvs) = match (header[12], header[13]) {
            (LOCAL, UNSPEC) => (None, block),
            (PROXY, TCP4) => {
                let ip = |at: usize| <[u8; 4]>::try_from(&block[at..at + 4]).map(IpAddr::from);
                (ends(ip(0), port(8), ip(4), port(10)), &block[12..])
            }
            (PROXY, TCP6) => {
                let ip = |at: usize| <[u8; 16]>::try_from(&block[at..at + 16]).map(IpAddr::from);
                (ends(ip(0), port(32), ip(16), port(34)), &block[36..])
            }
            other => panic!("{other:?}"),
        };

        match tlvs {
            [] => (endpoints, Vec::new()),
            [PP2_TYPE_AUTHORITY, high, low, host @ ..] => {
                assert_eq!(host.len(), usize::from(u16::from_be_bytes([*high, *low])));
                (endpoints, host.to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    fn any_endpoint() -> impl Strategy<Value = SocketAddr> {
        any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn what_is_told_is_read(
            endpoints in prop::option::of((any_endpoint(), any_endpoint())),
            authority in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let origin = Origin { endpoints, authority: &authority };
            let expected = endpoints.map(|(client, server)| of_one_family(client, server));

            prop_assert_eq!(read(&made(Version::V2, &origin)), (expected, authority.clone()));

            // Section 2.1: 107 bytes are the longest.
            let line = line(&origin);
            prop_assert!(line.len() <= 107 && line.ends_with("\r\n"));

            if let Some((client, server)) = expected {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let words: Vec<_> = line.trim_end().split(' ').collect();
                let (client_ip, server_ip) = (client.ip().to_string(), server.ip().to_string());
                let (client_port, server_port) = (client.port().to_string(), server.port().to_string());
                prop_assert_eq!(
                    words,
                    ["PROXY", family, &client_ip, &server_ip, &client_port, &server_port]
                );
            }
        }
    }
}
