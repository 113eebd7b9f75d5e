//! Owns the reasons why there is no tunnel, as RFC 9209 names them, and the `Proxy-Status` field that
//! tells them.

use std::fmt;

/// Why there is no tunnel, or why one broke: a proxy error type (RFC 9209, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The name server did not answer in time.
    DnsTimeout,
    /// The name server answered with an error, of this RCODE (RFC 1035, section 4.1.1); 0 where it is not
    /// known.
    DnsError(u8),
    /// The upstream can't be connected to.
    DestinationUnavailable,
    /// A rule keeps the proxy from connecting to the upstream's address.
    DestinationIpProhibited,
    /// There is no route to the upstream's address.
    DestinationIpUnroutable,
    /// The upstream refused the connection.
    ConnectionRefused,
    /// The upstream reset the connection.
    ConnectionTerminated,
    /// The upstream did not take the connection in time.
    ConnectionTimeout,
    /// Nothing came within the data timeout.
    ConnectionReadTimeout,
    /// The next proxy closed the connection before its answer was whole.
    HttpResponseIncomplete,
    /// The next proxy's answer has too large a header.
    HttpResponseHeaderSectionSize,
    /// The next proxy did not answer in time.
    HttpResponseTimeout,
    /// The next proxy does not speak the protocol.
    HttpProtocolError,
    /// The next proxy has a certificate that is not the one of its name.
    TlsCertificateError,
    /// The handshake with the next proxy failed.
    TlsProtocolError,
    /// The next proxy is this one.
    ProxyLoopDetected,
    /// The request is not one that can be read.
    HttpRequestError,
    /// A rule refuses the request.
    HttpRequestDenied,
    /// The proxy is not able to do what its configuration asks for.
    ProxyConfigurationError,
    /// The proxy lacks something, or has a bug.
    ProxyInternalError,
}

impl ProxyError {
    /// The token of the error type, as in the registry of RFC 9209.
    pub fn token(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::DnsError(_) => "dns_error",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionReadTimeout => "connection_read_timeout",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseHeaderSectionSize => "http_response_header_section_size",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::ProxyConfigurationError => "proxy_configuration_error",
            Self::ProxyInternalError => "proxy_internal_error",
        }
    }

    /// What a status says that stands in place of a tunnel where no other reason is known: nginx, or another
    /// module, gave it. `None` for one that is no failure, and for 499, of a client that left.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            499 => None,
            400 | 408 | 411..=414 | 417 | 431 | 494..=497 => Some(Self::HttpRequestError),
            500 => Some(Self::ProxyInternalError),
            400..=599 => Some(Self::HttpRequestDenied),
            _ => None,
        }
    }

    /// The name of the RCODE that goes with the error (RFC 9209, section 2.3.2), as RFC 8499, section 3 writes it.
    fn rcode(self) -> Option<&'static str> {
        match self {
            Self::DnsError(1) => Some("FORMERR"),
            Self::DnsError(2) => Some("SERVFAIL"),
            Self::DnsError(3) => Some("NXDOMAIN"),
            Self::DnsError(4) => Some("NOTIMP"),
            Self::DnsError(5) => Some("REFUSED"),
            _ => None,
        }
    }
}

/// One member of a `Proxy-Status` field (RFC 9209, section 2). It is shown as the field's value.
#[derive(Clone, Copy, Debug)]
pub struct ProxyStatus<'a> {
    /// The name of the proxy.
    pub name: &'a [u8],
    /// What went wrong.
    pub error: Option<ProxyError>,
    /// Where the proxy connected to.
    pub next_hop: Option<&'a [u8]>,
    /// A sentence about it.
    pub details: Option<&'a [u8]>,
}

/// Whether `name` can name a proxy: it is not empty, and all of it is visible ASCII or a space.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_in_string(*byte))
}

impl fmt::Display for ProxyStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_token(self.name) {
            self.name.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))?;
        } else {
            write!(f, "{}", Quoted(self.name))?;
        }

        if let Some(error) = self.error {
            write!(f, "; error={}", error.token())?;

            if let Some(rcode) = error.rcode() {
                write!(f, "; rcode=\"{rcode}\"")?;
            }
        }

        if let Some(next_hop) = self.next_hop {
            write!(f, "; next-hop={}", Quoted(next_hop))?;
        }

        match self.details {
            Some(details) => write!(f, "; details={}", Quoted(details)),
            None => Ok(()),
        }
    }
}

/// Bytes as a String of structured fields (RFC 8941, section 3.3.3). What such a string can't hold is left
/// out.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;

        for byte in self.0.iter().copied().filter(|byte| is_in_string(*byte)) {
            let escape = if matches!(byte, b'"' | b'\\') { "\\" } else { "" };
            write!(f, "{escape}{}", char::from(byte))?;
        }

        f.write_str("\"")
    }
}

fn is_in_string(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Whether `text` is a Token of structured fields (RFC 8941, section 3.3.4).
fn is_token(text: &[u8]) -> bool {
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(byte);

    match text {
        [first, rest @ ..] => {
            (first.is_ascii_alphabetic() || *first == b'*') && rest.iter().all(is_rest)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: ProxyStatus<'_> =
        ProxyStatus { name: b"proxy.example", error: None, next_hop: None, details: None };

    #[test]
    fn a_name_is_a_token_where_it_can_be() {
        assert_eq!(PLAIN.to_string(), "proxy.example");
        assert_eq!(ProxyStatus { name: b"my \"proxy\"", ..PLAIN }.to_string(), r#""my \"proxy\"""#);
        assert_eq!(ProxyStatus { name: b"1st", ..PLAIN }.to_string(), "\"1st\"");
    }

    #[test]
    fn parameters_stand_behind_the_name() {
        let status = ProxyStatus {
            error: Some(ProxyError::DnsError(3)),
            details: Some(b"a \"b\" \r\n c"),
            ..PLAIN
        };

        assert_eq!(
            status.to_string(),
            r#"proxy.example; error=dns_error; rcode="NXDOMAIN"; details="a \"b\"  c""#
        );

        let status = ProxyStatus { next_hop: Some(b"[::1]:443"), ..PLAIN };
        assert_eq!(status.to_string(), r#"proxy.example; next-hop="[::1]:443""#);
    }

    #[test]
    fn an_unknown_rcode_is_not_told() {
        let status = ProxyStatus { error: Some(ProxyError::DnsError(0)), ..PLAIN };
        assert_eq!(status.to_string(), "proxy.example; error=dns_error");
    }

    #[test]
    fn a_status_tells_what_it_can() {
        assert_eq!(ProxyError::of_status(200), None);
        assert_eq!(ProxyError::of_status(302), None);
        assert_eq!(ProxyError::of_status(400), Some(ProxyError::HttpRequestError));
        assert_eq!(ProxyError::of_status(405), Some(ProxyError::HttpRequestDenied));
        assert_eq!(ProxyError::of_status(407), Some(ProxyError::HttpRequestDenied));
        assert_eq!(ProxyError::of_status(499), None);
        assert_eq!(ProxyError::of_status(500), Some(ProxyError::ProxyInternalError));
        assert_eq!(ProxyError::of_status(503), Some(ProxyError::HttpRequestDenied));
    }

    proptest! {
        #[test]
        fn nothing_gets_out_of_a_string(
            name in prop::collection::vec(any::<u8>(), 0..20),
            details in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let status = ProxyStatus { name: &name, details: Some(&details), ..PLAIN }.to_string();
            prop_assert!(status.bytes().all(is_in_string));

            // Quotes that are not escaped come in pairs: two for the details, two for a name in quotes.
            let mut rest = status.bytes();
            let mut quotes = 0;

            while let Some(byte) = rest.next() {
                match byte {
                    b'\\' => { rest.next(); }
                    b'"' => quotes += 1,
                    _ => (),
                }
            }

            prop_assert_eq!(quotes, if is_token(&name) { 2 } else { 4 });
        }
    }
}
