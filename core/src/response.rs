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
