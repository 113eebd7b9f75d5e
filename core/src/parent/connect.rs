//! Owns a CONNECT to a parent, and the reading of its answer (RFC 9110, section 9.3.6; RFC 9112).

use std::collections::TryReserveError;

use thiserror::Error;

use super::{append, has_control, Answer, Heard, Meaning, TalkError};
use crate::response;

/// What an answer of a parent begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// Fields that speak of the connection, or of a body, which a CONNECT has none of (RFC 9110, sections 7.6.1 and
/// 8.6): who wrote one would change where it ends.
const HOP_BY_HOP: [&[u8]; 9] = [
    b"connection",
    b"content-length",
    b"expect",
    b"keep-alive",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"proxy-connection",
];

/// A CONNECT that is being written.
#[derive(Debug)]
pub struct Request(Vec<u8>);

/// Why something can't be written. Each sentence follows it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// It would not end where it ends.
    #[error("has a control character")]
    Control,
    /// RFC 7617, section 2.
    #[error("has a colon, which no user of HTTP can have")]
    Colon,
    /// There is no memory.
    #[error("is too much for the memory")]
    NoMemory,
}

impl From<TryReserveError> for WriteError {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}

impl Request {
    /// A CONNECT to `authority`, a host and a port, without any field.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn to(authority: &[u8]) -> Result<Self, WriteError> {
        if authority.contains(&b' ') {
            return Err(WriteError::Control);
        }

        let mut request = Self(Vec::new());
        request.write(&[b"CONNECT ", authority, b" HTTP/1.1"])?;
        Ok(request)
    }

    /// Adds a field, whose name [`is_name`].
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.write(&[name, b": ", value])
    }

    /// The bytes, with the end of the header.
    ///
    /// # Errors
    ///
    /// [`WriteError`]
    pub fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        self.write(&[])?;
        Ok(self.0)
    }

    fn write(&mut self, line: &[&[u8]]) -> Result<(), WriteError> {
        if line.iter().any(|part| !is_value(part)) {
            return Err(WriteError::Control);
        }

        for part in line.iter().copied().chain([&b"\r\n"[..]]) {
            append(&mut self.0, part)?;
        }

        Ok(())
    }
}

/// Whether `text` can be the value of a field: a tab may be in it (RFC 9110, section 5.5).
pub fn is_value(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\t').all(|part| !has_control(part))
}

/// Whether `text` can be the name of a field (RFC 9110, section 5.6.2).
pub fn is_name(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token)
}

/// Whether a field is the connection's own, or tells of a body.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The value of `Proxy-Authorization` for a user: the scheme Basic (RFC 7617).
///
/// # Errors
///
/// [`WriteError`] for a user or a password that can't be told so.
pub fn basic(user: &[u8], password: &[u8]) -> Result<Vec<u8>, WriteError> {
    if user.contains(&b':') {
        return Err(WriteError::Colon);
    }

    if has_control(user) || has_control(password) {
        return Err(WriteError::Control);
    }

    let mut pair = Vec::new();
    append(&mut pair, user)?;
    append(&mut pair, b":")?;
    append(&mut pair, password)?;

    let mut value = Vec::new();
    append(&mut value, b"Basic ")?;
    base64(&mut value, &pair)?;
    Ok(value)
}

/// Appends `bytes` in Base64 (RFC 4648, section 4).
fn base64(text: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TryReserveError> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    text.try_reserve(bytes.len().div_ceil(3) * 4)?;

    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));

        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { digit } else { b'=' });
        }
    }

    Ok(())
}

/// Reads the answer to a CONNECT as it comes. Interim answers are skipped.
#[derive(Debug)]
pub struct Reader {
    /// What came so far, interim answers included.
    bytes: Vec<u8>,
    /// How much there may be.
    max: usize,
    /// Where the answer begins that is being read.
    begin: usize,
    /// Where the line begins that is being read.
    line: usize,
    status: Option<u16>,
}

impl Reader {
    /// Will read an answer of `max` bytes at most, with what comes in one piece with it.
    pub fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, begin: 0, line: 0, status: None }
    }

    /// How many bytes there is room for.
    pub fn room(&self) -> usize {
        self.max - self.bytes.len()
    }

    /// Takes the next bytes, no more than there is room for.
    ///
    /// # Errors
    ///
    /// [`TalkError`] for what is no answer.
    pub fn take(&mut self, piece: &[u8]) -> Result<Heard, TalkError> {
        let seen = self.bytes.len();
        append(&mut self.bytes, piece)?;
        let mut seen = seen;

        while let Some(length) = self.bytes[seen..].iter().position(|&byte| byte == b'\n') {
            let end = seen + length;
            seen = end + 1;

            if let Some(answer) = self.take_line(end)? {
                return Ok(Heard::Answer(answer));
            }
        }

        self.check_beginning()?;

        if self.room() == 0 {
            return Err(TalkError::TooLarge);
        }

        Ok(Heard::More)
    }

    /// Takes the line whose LF is at `end`.
    fn take_line(&mut self, end: usize) -> Result<Option<Answer>, TalkError> {
        let line = &self.bytes[self.line..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.line = end + 1;

        let Some(status) = self.status else {
            self.status = Some(status_of(line)?);
            return Ok(None);
        };

        if !line.is_empty() {
            return if is_value(line) { Ok(None) } else { Err(CONTROL) };
        }

        let begin = std::mem::replace(&mut self.begin, self.line);
        self.status = None;

        // RFC 9110, section 15.2. What 101 would switch to nobody has asked for.
        if (100..200).contains(&status) && status != 101 {
            return Ok(None);
        }

        let rest = copy(&self.bytes[self.line..])?;
        let header = copy(&self.bytes[begin..self.line])?;

        Ok(Some(Answer { meaning: meaning(status), code: Some(status), header, rest }))
    }

    /// Whether what came of a status line can become one.
    fn check_beginning(&self) -> Result<(), TalkError> {
        let beginning = &self.bytes[self.line..];
        let len = beginning.len().min(VERSION.len());

        match self.status {
            None if beginning[..len] != VERSION[..len] => Err(NO_HTTP),
            _ => Ok(()),
        }
    }
}

const NO_HTTP: TalkError = TalkError::Garbage("no status line of HTTP/1");
const CONTROL: TalkError = TalkError::Garbage("a control character in a header line");

fn status_of(line: &[u8]) -> Result<u16, TalkError> {
    response::status(line).filter(|_| line.starts_with(VERSION)).ok_or(NO_HTTP)
}

fn meaning(status: u16) -> Meaning {
    match status {
        // A tunnel begins behind the header whatever that says of a body.
        200..=299 => Meaning::Opened,
        403 => Meaning::Denied,
        407 => Meaning::Unauthorised,
        502 => Meaning::BadGateway,
        503 => Meaning::Unavailable,
        504 => Meaning::GatewayTimeout,
        _ => Meaning::Refused,
    }
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>, TryReserveError> {
    let mut list = Vec::new();
    append(&mut list, bytes)?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Heard, TalkError> {
        let mut reader = Reader::new(8192);
        let mut heard = Heard::More;

        for piece in pieces {
            assert_eq!(heard, Heard::More);
            heard = reader.take(piece)?;
        }

        Ok(heard)
    }

    fn answer(pieces: &[&[u8]]) -> Answer {
        match read(pieces) {
            Ok(Heard::Answer(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_written() {
        let mut request = Request::to(b"a.example:443").unwrap();
        request.add(b"Host", b"a.example:443").unwrap();
        request.add(b"X", b"a\tb").unwrap();

        assert_eq!(
            request.finish().unwrap(),
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nX: a\tb\r\n\r\n"
        );
    }

    #[test]
    fn nothing_ends_a_line_early() {
        assert_eq!(Request::to(b"a:1\r\nX: y").unwrap_err(), WriteError::Control);
        assert_eq!(Request::to(b"a:1 HTTP/1.0").unwrap_err(), WriteError::Control);

        for value in [&b"a\r\nb"[..], b"a\nb", b"\0", b"\x7f", b"\x1b[0m"] {
            assert_eq!(Request::to(b"a:1").unwrap().add(b"X", value), Err(WriteError::Control));
            assert_eq!(basic(b"user", value), Err(WriteError::Control));
        }
    }

    #[test]
    fn credentials_are_those_of_the_rfc() {
        assert_eq!(
            basic(b"Aladdin", b"open sesame").unwrap(),
            b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(basic(b"a", b"bc").unwrap(), b"Basic YTpiYw==");
        assert_eq!(basic(b"a", b"b").unwrap(), b"Basic YTpi");
        assert_eq!(basic(b"", b"").unwrap(), b"Basic Og==");
        assert_eq!(basic(b"\xff\xfe", b"\xfb").unwrap(), b"Basic //46+w==");
        assert_eq!(basic(b"a:b", b"c"), Err(WriteError::Colon));
        assert_eq!(basic(b"a", b"c:d").unwrap(), b"Basic YTpjOmQ=");
    }

    #[test]
    fn fields_are_known() {
        assert!(is_name(b"X-Token_1"));
        assert!(!is_name(b""));
        assert!(!is_name(b"X:"));
        assert!(!is_name(b"X Y"));
        assert!(is_hop_by_hop(b"Transfer-Encoding"));
        assert!(is_hop_by_hop(b"CONTENT-LENGTH"));
        assert!(!is_hop_by_hop(b"Proxy-Authorization"));
    }

    #[test]
    fn a_tunnel_begins_behind_the_header() {
        let answer = answer(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"]);
        assert_eq!(answer.meaning, Meaning::Opened);
        assert_eq!(answer.code, Some(200));
        assert_eq!(answer.header, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(answer.rest, b"hello\r\n\r\n");
    }

    #[test]
    fn answers_are_told_apart() {
        for (text, meaning) in [
            ("HTTP/1.0 200\n\n", Meaning::Opened),
            ("HTTP/1.1 299 Odd\r\n\r\n", Meaning::Opened),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", Meaning::Denied),
            ("HTTP/1.1 407 Credentials\r\n\r\n", Meaning::Unauthorised),
            ("HTTP/1.1 502 Bad\r\n\r\n", Meaning::BadGateway),
            ("HTTP/1.1 503 Busy\r\n\r\n", Meaning::Unavailable),
            ("HTTP/1.1 504 Late\r\n\r\n", Meaning::GatewayTimeout),
            ("HTTP/1.1 302 Found\r\n\r\n", Meaning::Refused),
            ("HTTP/1.1 101 Switching\r\n\r\n", Meaning::Refused),
        ] {
            assert_eq!(answer(&[text.as_bytes()]).meaning, meaning, "{text}");
        }
    }

    #[test]
    fn interim_answers_are_skipped() {
        let answer = answer(&[
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n",
            b"\r\nHTTP/1.1 200 OK\r\nB: c\r\n\r\nx",
        ]);
        assert_eq!(answer.header, b"HTTP/1.1 200 OK\r\nB: c\r\n\r\n");
        assert_eq!(answer.rest, b"x");
    }

    #[test]
    fn garbage_is_known_by_its_first_byte() {
        for text in [
            &b"x"[..],
            b"HTTQ",
            b"HTTP/2",
            b"\r\n",
            b"\x16\x03\x01",
            b"HTTP/1.1 2x0 OK\r\n",
            b"HTTP/1.1\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nX",
        ] {
            assert_eq!(read(&[text]), Err(NO_HTTP), "{}", text.escape_ascii());
        }

        assert_eq!(read(&[b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n"]), Err(CONTROL));
        assert_eq!(read(&[b"HTTP/1.1 200 OK\r\nA: a\rb\r\n\r\n"]), Err(CONTROL));
    }

    #[test]
    fn the_room_is_for_all_of_it() {
        let text = b"HTTP/1.1 200 OK\r\n\r\n";

        let mut reader = Reader::new(text.len());
        assert!(matches!(reader.take(text), Ok(Heard::Answer(_))));

        let mut reader = Reader::new(text.len() - 1);
        assert_eq!(reader.take(&text[..text.len() - 1]), Err(TalkError::TooLarge));

        // Interim answers do not go on for ever.
        let mut reader = Reader::new(100);
        let mut result = Ok(Heard::More);

        while result == Ok(Heard::More) {
            let piece = &b"HTTP/1.1 100 C\r\n\r\n"[..];
            result = reader.take(&piece[..piece.len().min(reader.room())]);
        }

        assert_eq!(result, Err(TalkError::TooLarge));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            interim in 0usize..3,
            fields in prop::collection::vec("[A-Za-z-]{1,9}: [ -~]{0,20}", 0..20),
            rest in prop::collection::vec(any::<u8>(), 0..50),
            sizes in prop::collection::vec(1usize..40, 1..8),
        ) {
            let mut text = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(interim);
            let begin = text.len();
            text.extend(b"HTTP/1.1 200 OK\r\n");
            fields.iter().for_each(|field| text.extend(format!("{field}\r\n").bytes()));
            text.extend(b"\r\n");
            let end = text.len();
            text.extend(&rest);

            let mut reader = Reader::new(8192);
            let mut sizes = sizes.iter().cycle();
            let mut place = 0;

            let answer = loop {
                let next = (place + sizes.next().unwrap()).min(text.len());
                let heard = reader.take(&text[place..next]);
                place = next;

                match heard {
                    Ok(Heard::Answer(answer)) => break answer,
                    other => prop_assert_eq!(other, Ok(Heard::More)),
                }
            };

            prop_assert!(place >= end);
            prop_assert_eq!(answer.header, &text[begin..end]);
            prop_assert_eq!(answer.rest, &text[end..place]);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..400), max in 1usize..300) {
            let mut reader = Reader::new(max);

            for byte in bytes {
                prop_assert!(reader.room() > 0);
                if !matches!(reader.take(&[byte]), Ok(Heard::More)) {
                    break;
                }
            }
        }

        #[test]
        fn what_is_written_has_one_header(
            authority in "[ -~]{1,20}",
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
        ) {
            let Ok(mut request) = Request::to(authority.as_bytes()) else {
                return Ok(());
            };

            let written = values.iter().filter(|value| request.add(b"X", value).is_ok()).count();
            let bytes = request.finish().unwrap();
            let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(lines, written + 2);
            prop_assert!(bytes.ends_with(b"\r\n\r\n"));
        }
    }
}
