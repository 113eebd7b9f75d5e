//! Owns the reading of a `proxy_connect_response` text: which status it announces.

/// The status code in the status line of `response` (RFC 9112, section 4).
///
/// Returns `None` when the text does not begin with `HTTP/<digit>.<digit> <three digits>`, the
/// status lying within 100 to 599.
pub fn status(response: &[u8]) -> Option<u16> {
    let rest = response.strip_prefix(b"HTTP/")?;

    let [major, b'.', minor, b' ', code @ ..] = rest else {
        return None;
    };

    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return None;
    }

    let (code, after) = code.split_at_checked(3)?;

    if !matches!(after.first(), None | Some(b' ' | b'\r' | b'\n')) {
        return None;
    }

    let code = decimal(code)?;
    (100..600).contains(&code).then_some(code)
}

/// The fields in the header of `response`, for a version of HTTP whose answers are no text: without those that
/// speak of the connection (RFC 9113, section 8.2.2) or of a body, which a tunnel has none of.
pub fn fields(response: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = response.split(|&byte| byte == b'\n').skip(1);

    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
        .filter(|(name, value)| is_field(name, value) && !is_of_connection(name))
}

fn is_field(name: &[u8], value: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty()
        && name.iter().all(is_token)
        && !value.iter().any(|&byte| matches!(byte, 0 | b'\r'))
}

fn is_of_connection(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    ];

    NAMES.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn decimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_fields() {
        let told = |text| fields(text).collect::<Vec<_>>();

        assert_eq!(
            told(b"HTTP/1.1 200 OK\r\nProxy-agent: nginx \r\nX-A:b\r\nConnection: close\r\n\r\nX-B: c\r\n"),
            [(&b"Proxy-agent"[..], &b"nginx"[..]), (b"X-A", b"b")]
        );
        assert_eq!(
            told(b"HTTP/1.1 200 OK\nno field\n: empty\na b: c\nX: \n\n"),
            [(&b"X"[..], &b""[..])]
        );
        assert_eq!(told(b"HTTP/1.1 200 OK"), []);
        assert_eq!(told(b""), []);
    }

    #[test]
    fn reads_the_status_line() {
        assert_eq!(status(b"HTTP/1.1 200 Connection Established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1 200\r\nProxy-agent: nginx\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 299 Odd\r\n\r\n"), Some(299));
        assert_eq!(status(b"HTTP/1.1 403"), Some(403));
    }

    #[test]
    fn refuses_what_is_no_status_line() {
        for text in [
            &b""[..],
            b"hello",
            b"HTTP/1.1",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 2x0 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 600 OK",
            b"HTTP/11 200 OK",
            b"http/1.1 200 OK",
        ] {
            assert_eq!(status(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
