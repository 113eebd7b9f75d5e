//! Owns how a CONNECT is shown to a parser that does not take all of them: as a request for a path, until
//! its target is read.
//!
//! `CONNECT host:443` is shown as `CONNEC /host:443`, with one byte for each, so that lines, buffers and
//! limits stay what they are. A parser keeps pointers to what it has seen and does not look again, so the
//! bytes are made what the client sent as soon as it has read on. [`Reading`] says what of the bytes that
//! were read may be shown next, and what has to be done before.

/// How a CONNECT begins.
pub const METHOD: &[u8; 8] = b"CONNECT ";

/// How it begins whether it is shown as it is or not. The parser takes this for its method.
pub const SHOWN_METHOD: &[u8; 6] = b"CONNEC";

/// How a PROXY protocol header of version 2 begins.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// How far the reading of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What comes before the first request: a TLS handshake, a PROXY protocol header.
    Preface,
    /// The beginning of a request, of whose method so many bytes were shown.
    Start(usize),
    /// [`SHOWN_METHOD`] was shown.
    Method,
    /// A space was shown in place of the "T", and maybe more behind it: the "T" may be put back. The last
    /// space is held, until it is known what follows.
    Spaces,
    /// A "/" was shown in place of the last space: both may be put back.
    Concealed,
    /// The request line is shown as it is.
    Line,
    /// All of the request line but its LF was shown: its target may be judged.
    LineEnd,
    /// The request line of a CONNECT was shown, the rest is as it is.
    Connect,
    /// A request that is no CONNECT.
    Other,
    /// One of which the header was read: another may follow it.
    Served,
}

use Reading::*;

impl Reading {
    /// What of `raw` may be shown now, in bytes from its beginning; they are changed where they have to be.
    /// `raw` is what was read and not shown, and not empty. 0 when nothing can be said without more of
    /// it, or without what [`Reading::LineEnd`] asks for.
    pub fn show(&mut self, raw: &mut [u8]) -> usize {
        match *self {
            Start(matched) => self.show_start(matched, raw),
            Method => self.show_method(raw),
            Spaces => self.show_spaces(raw),
            Concealed | Line => self.show_line(raw),
            LineEnd => {
                *self = Connect;
                1
            }
            Preface | Connect | Other | Served => raw.len(),
        }
    }

    /// Whether the bytes that follow are shown as they are.
    pub fn is_open(self) -> bool {
        matches!(self, Connect | Other | Served)
    }

    /// Whether bytes are shown to the parser that the client did not send.
    pub fn conceals(self) -> bool {
        matches!(self, Spaces | Concealed)
    }

    /// Whether `raw`, of so many bytes, which were read and not shown, waits for more.
    pub fn holds(self, raw: usize) -> bool {
        raw == 0 || raw == 1 && matches!(self, Method | Spaces)
    }

    /// The first request begins.
    pub fn begin(&mut self) {
        *self = Start(0);
    }

    /// Whether a request line is being read that is a CONNECT's, or may be.
    pub fn is_in_line(self) -> bool {
        matches!(self, Method | Spaces | Concealed | Line | LineEnd)
    }

    /// A CONNECT was answered, and its connection is kept: the next request begins.
    pub fn keep(&mut self) {
        if *self == Connect {
            self.begin();
        }
    }

    /// The parser refused what it was shown.
    pub fn give_up(&mut self) {
        *self = Other;
    }

    /// The header of the request was read to its end. Answers whether it is a CONNECT.
    pub fn take_request(&mut self) -> bool {
        if *self == Other {
            *self = Served;
        }

        *self == Connect
    }

    /// The request is over. Answers whether another may follow.
    pub fn next_request(&mut self) -> bool {
        let follows = *self == Served;

        if follows {
            self.begin();
        }

        follows
    }

    fn show_start(&mut self, mut matched: usize, raw: &[u8]) -> usize {
        for (place, &byte) in raw.iter().enumerate() {
            // nginx skips empty lines before a request.
            if matched == 0 && (byte == b'\r' || byte == b'\n') {
                continue;
            }

            if byte != METHOD[matched] {
                *self = Other;
                return raw.len();
            }

            matched += 1;

            if matched == SHOWN_METHOD.len() {
                *self = Method;
                return place + 1;
            }
        }

        *self = Start(matched);
        raw.len()
    }

    fn show_method(&mut self, raw: &mut [u8]) -> usize {
        match raw {
            [b'T'] => 0,
            [first @ b'T', b' ', ..] => {
                *first = b' ';
                self.show_spaces(raw)
            }
            _ => {
                *self = Other;
                raw.len()
            }
        }
    }

    /// Shows spaces, of which `raw` has one at least at its beginning, up to what follows them.
    fn show_spaces(&mut self, raw: &mut [u8]) -> usize {
        match raw.iter().position(|&byte| byte != b' ') {
            Some(end) => {
                raw[end - 1] = b'/';
                *self = Concealed;
                end
            }
            None => {
                *self = Spaces;
                raw.len() - 1
            }
        }
    }

    fn show_line(&mut self, raw: &[u8]) -> usize {
        let end = raw.iter().position(|&byte| byte == b'\n');
        *self = if end.is_some() { LineEnd } else { Line };

        end.unwrap_or(raw.len())
    }
}

/// Shows the method of a request line that was concealed, as far as it was shown, as the client sent it.
/// `shown` is the line up to what the parser has read; what does not begin with a concealed method is left
/// alone.
pub fn reveal(reading: Reading, shown: &mut [u8]) {
    if !reading.conceals() || !shown.starts_with(SHOWN_METHOD) {
        return;
    }

    if let Some(byte @ b' ') = shown.get_mut(SHOWN_METHOD.len()) {
        *byte = b'T';
    }

    if let (Concealed, Some(byte @ b'/')) = (reading, shown.last_mut()) {
        *byte = b' ';
    }
}

/// The length of the PROXY protocol header that `bytes` begin with, as nginx reads it: of version 1 up to
/// the first CRLF. `None` when it is not whole, which nginx refuses.
pub fn proxy_header(bytes: &[u8]) -> Option<usize> {
    let len = match bytes.strip_prefix(PROXY_V2) {
        Some([_, _, high, low, ..]) => {
            PROXY_V2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        Some(_) => return None,
        None if bytes.starts_with(b"PROXY ") => {
            bytes.windows(2).position(|pair| pair == b"\r\n")? + 2
        }
        None => return None,
    };

    (len <= bytes.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02";

    /// A parser that is shown a connection's bytes: what it saw of them, what its buffer has in the end,
    /// and the line that was there to be judged.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Parser {
        saw: Vec<u8>,
        has: Vec<u8>,
        judged: Option<Vec<u8>>,
    }

    /// Shows `pieces` as they come.
    fn parse(pieces: &[&[u8]]) -> (Parser, Reading) {
        let mut reading = Start(0);
        let mut parser = Parser::default();
        let mut raw = Vec::new();

        for piece in pieces {
            raw.extend_from_slice(piece);

            loop {
                let blank = parser.has.iter().take_while(|&&byte| byte < b' ').count();
                reveal(reading, &mut parser.has[blank..]);

                if reading == LineEnd {
                    parser.judged = Some(parser.has[blank..].to_vec());
                }

                if raw.is_empty() {
                    break;
                }

                match reading.show(&mut raw) {
                    0 if reading == LineEnd => (),
                    0 => {
                        assert!(reading.holds(raw.len()));
                        break;
                    }
                    shown => {
                        parser.saw.extend_from_slice(&raw[..shown]);
                        parser.has.extend(raw.drain(..shown));
                    }
                }
            }
        }

        (parser, reading)
    }

    #[test]
    fn shows_a_path_in_place_of_an_authority() {
        for (sent, saw) in [
            (
                &b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n"[..],
                &b"CONNEC /a:1 HTTP/1.1\r\nHost: a\r\n"[..],
            ),
            (b"CONNECT    a:1 HTTP/1.0\n\n", b"CONNEC    /a:1 HTTP/1.0\n\n"),
            (b"\r\n\nCONNECT a_b:1 HTTP/1.1\r\n", b"\r\n\nCONNEC /a_b:1 HTTP/1.1\r\n"),
            (b"CONNECT \r\n", b"CONNEC /\r\n"),
        ] {
            let (parser, reading) = parse(&[sent]);
            assert_eq!(parser.saw, saw, "{}", sent.escape_ascii());
            assert_eq!(parser.has, sent);
            assert_eq!(reading, Connect);

            let line = sent.trim_ascii_start().split(|&byte| byte == b'\n').next();
            assert_eq!(parser.judged.as_deref(), line);
        }
    }

    #[test]
    fn leaves_other_requests_alone() {
        for sent in [
            &b"GET / HTTP/1.1\r\n\r\nCONNECT a:1 HTTP/1.1\r\n"[..],
            b"CONNECTS a:1 HTTP/1.1\r\n",
            b"CONNEC /a:1 HTTP/1.1\r\n",
            b"CONNECT\ta:1 HTTP/1.1\r\n",
            b"CONNECT\r\n",
            b"connect a:1 HTTP/1.1\r\n",
            b"COPY / HTTP/1.1\r\n",
            b" CONNECT a:1 HTTP/1.1\r\n",
        ] {
            let (parser, reading) = parse(&[sent]);
            assert_eq!(parser.saw, sent, "{}", sent.escape_ascii());
            assert_eq!(parser.has, sent);
            assert_eq!((reading, parser.judged), (Other, None));
        }
    }

    #[test]
    fn a_line_without_end_is_never_judged() {
        let (parser, reading) = parse(&[b"CONNECT a:1 HTTP/1.1"]);
        assert_eq!((reading, parser.judged), (Line, None));
        assert_eq!(parser.has, b"CONNECT a:1 HTTP/1.1");
    }

    #[test]
    fn nothing_stays_concealed_while_bytes_are_awaited() {
        for sent in [&b"CONNECT "[..], b"CONNECT    ", b"CONNECT  a"] {
            let (parser, reading) = parse(&[sent]);
            assert!(sent.starts_with(&parser.has), "{reading:?}: {}", parser.has.escape_ascii());
        }
    }

    #[test]
    fn one_request_follows_another() {
        let mut reading = Start(0);
        assert_eq!(reading.show(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec()), 18);
        assert!(!reading.next_request());
        assert!(!reading.take_request());
        assert_eq!(reading, Served);
        assert!(reading.next_request());
        assert_eq!(reading, Start(0));

        let (_, mut reading) = parse(&[b"CONNECT a:1 HTTP/1.1\n"]);
        assert!(reading.take_request());
        assert!(!reading.next_request());
        assert_eq!(reading, Connect);
        reading.keep();
        assert_eq!(reading, Start(0));
    }

    #[test]
    fn reveals_only_what_was_concealed() {
        for (reading, shown) in [
            (Concealed, &b"GET /x /"[..]),
            (Concealed, b""),
            (Line, b"CONNEC /"),
            (Other, b"CONNEC /"),
        ] {
            let mut line = shown.to_vec();
            reveal(reading, &mut line);
            assert_eq!(line, shown);
        }
    }

    #[test]
    fn knows_where_a_proxy_header_ends() {
        for header in [V1, V2, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN\nCONNECT a:1\r\n"] {
            let with_more = [header, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(proxy_header(&with_more), Some(header.len()));
            assert_eq!(proxy_header(header), Some(header.len()));
            assert_eq!(proxy_header(&header[..header.len() - 1]), None);
        }

        for bytes in [&b""[..], b"PROXY", b"CONNECT a:1 HTTP/1.1\r\n", &V2[..13]] {
            assert_eq!(proxy_header(bytes), None);
        }
    }

    proptest! {
        /// However a connection's bytes are cut, the parser sees the same, has what the client sent, and
        /// the same line is judged.
        #[test]
        fn cuts_change_nothing(
            blank in "[\r\n]{0,4}",
            method in "(CONNECT|CONNEC|CONNECTS|GET)",
            spaces in " {1,5}",
            rest in "[a-z_:/ ]{0,12}",
            end in "\r?\n?",
            behind in "[A-Z \n]{0,6}",
            cuts in prop::collection::vec(0usize..50, 0..8),
        ) {
            let sent = [blank, method, spaces, rest, end, behind].concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (sent.len() + 1)).collect();
            cuts.sort_unstable();

            let mut pieces = Vec::new();
            let mut from = 0;

            for cut in cuts.into_iter().chain([sent.len()]) {
                pieces.push(&sent[from..cut]);
                from = cut;
            }

            let whole = parse(&[&sent]);
            prop_assert_eq!(&parse(&pieces), &whole);
            prop_assert!(sent.starts_with(&whole.0.has));
            prop_assert!(whole.0.has.len() + 1 >= sent.len());
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, pieces in 1usize..5) {
            let size = bytes.len() / pieces + 1;
            let (parser, _) = parse(&bytes.chunks(size).collect::<Vec<_>>());
            prop_assert!(bytes.starts_with(&parser.has));
            let _ = proxy_header(&bytes);
        }
    }
}
