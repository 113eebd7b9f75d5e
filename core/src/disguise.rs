//! Owns finding a CONNECT at the beginning of a request, and the eight bytes that are shown to a
//! parser which knows absolute-form only.

/// How a CONNECT begins.
pub const METHOD: &[u8; 8] = b"CONNECT ";

/// What the parser is shown in its place: a method, a space, and the scheme of absolute-form.
pub const DISGUISE: &[u8; 8] = b"CON a://";

/// More bytes than this before a method are not waited through.
pub const HELD_MAX: usize = 64;

/// How a PROXY protocol header of version 2 begins.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the bytes at the beginning of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A CONNECT, whose method begins here.
    Connect(usize),
    /// What may become one, from here on; at most [`HELD_MAX`] bytes.
    Unclear(usize),
    /// Something else.
    Other,
}

/// Bytes that were read and may be the beginning of a CONNECT. A parser that works on pieces
/// does not look again at what it has seen once.
#[derive(Clone, Debug)]
pub struct Held {
    bytes: [u8; HELD_MAX],
    len: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { bytes: [0; HELD_MAX], len: 0 }
    }
}

impl Held {
    /// Keeps `bytes`; what goes beyond [`HELD_MAX`] is not kept.
    pub fn keep(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(HELD_MAX);
        self.bytes[..len].copy_from_slice(&bytes[..len]);
        self.len = len;
    }

    /// Moves what is kept to the beginning of `buffer`, which has room for [`HELD_MAX`] bytes,
    /// and says how much that was.
    pub fn release(&mut self, buffer: &mut [u8]) -> usize {
        let len = std::mem::take(&mut self.len);
        buffer[..len].copy_from_slice(&self.bytes[..len]);
        len
    }
}

/// Looks at the beginning of a request, behind a PROXY protocol header if one is due.
pub fn beginning(bytes: &[u8], proxy_protocol: bool) -> Beginning {
    let header = if proxy_protocol { proxy_header(bytes) } else { 0 };
    let request = &bytes[header..];

    // nginx skips empty lines before a request.
    let blank = request.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    let line = &request[blank..];

    if line.starts_with(METHOD) {
        Beginning::Connect(header + blank)
    } else if !request.is_empty() && METHOD.starts_with(line) && request.len() <= HELD_MAX {
        Beginning::Unclear(header)
    } else {
        Beginning::Other
    }
}

/// Puts the disguise in the place of the method that begins at `at`.
pub fn disguise(bytes: &mut [u8], at: usize) {
    bytes[at..at + METHOD.len()].copy_from_slice(DISGUISE);
}

/// The length of a PROXY protocol header; 0 when it is not whole, which nginx refuses.
fn proxy_header(bytes: &[u8]) -> usize {
    if let Some(rest) = bytes.strip_prefix(PROXY_V2) {
        let [_, _, high, low, ..] = rest else {
            return 0;
        };

        let len = PROXY_V2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low]));
        return if len <= bytes.len() { len } else { 0 };
    }

    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) if bytes.starts_with(b"PROXY ") => end + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n";
    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02";

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn finds_a_connect() {
        for (bytes, found) in [
            (&b"CONNECT a:1 HTTP/1.1\r\n"[..], Beginning::Connect(0)),
            (b"CONNECT ", Beginning::Connect(0)),
            (b"\r\n\nCONNECT a:1", Beginning::Connect(3)),
            (b"CONNECT", Beginning::Unclear(0)),
            (b"C", Beginning::Unclear(0)),
            (b"\r\n", Beginning::Unclear(0)),
            (b"\r\nCONN", Beginning::Unclear(0)),
            (b"CONNECTS a:1", Beginning::Other),
            (b"COPY /", Beginning::Other),
            (b"connect a:1", Beginning::Other),
            (b"CON a://h", Beginning::Other),
            (b"GET / HTTP/1.1\r\n\r\nCONNECT a:1", Beginning::Other),
            (b"", Beginning::Other),
        ] {
            assert_eq!(beginning(bytes, false), found, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn looks_behind_a_proxy_header() {
        for header in [V1, V2] {
            let len = header.len();

            for (request, found) in [
                (&b"CONNECT a:1"[..], Beginning::Connect(len)),
                (b"CONN", Beginning::Unclear(len)),
                (b"GET /", Beginning::Other),
                (b"", Beginning::Other),
            ] {
                assert_eq!(beginning(&joined(&[header, request]), true), found);
            }

            assert_eq!(beginning(&joined(&[header, b"CONNECT "]), false), Beginning::Other);
        }
    }

    #[test]
    fn leaves_half_a_proxy_header_to_nginx() {
        assert_eq!(beginning(&V1[..20], true), Beginning::Other);
        assert_eq!(beginning(&V2[..20], true), Beginning::Other);
        assert_eq!(beginning(&V2[..13], true), Beginning::Other);
    }

    #[test]
    fn gives_up_on_empty_lines_without_end() {
        assert_eq!(beginning(&[b'\n'; HELD_MAX], false), Beginning::Unclear(0));
        assert_eq!(beginning(&[b'\n'; HELD_MAX + 1], false), Beginning::Other);
    }

    #[test]
    fn a_disguise_changes_eight_bytes() {
        let mut line = b"\nCONNECT h:443 HTTP/1.1\r\n".to_vec();
        disguise(&mut line, 1);
        assert_eq!(line, b"\nCON a://h:443 HTTP/1.1\r\n");
    }

    proptest! {
        /// However a CONNECT is cut, each piece before the last byte of its method is held, and
        /// then it is found.
        #[test]
        fn is_found_in_pieces(blank in "[\r\n]{0,8}", cut in 1usize..8) {
            let bytes = joined(&[blank.as_bytes(), METHOD, b"a:1 HTTP/1.1"]);
            let cut = (blank.len() + cut).min(bytes.len());
            let mut held = Held::default();

            prop_assert_eq!(beginning(&bytes[..cut], false), Beginning::Unclear(0));
            held.keep(&bytes[..cut]);

            let mut buffer = [0; 128];
            let len = held.release(&mut buffer);
            prop_assert_eq!(&buffer[..len], &bytes[..cut]);
            prop_assert_eq!(held.release(&mut buffer), 0);
            prop_assert_eq!(beginning(&bytes, false), Beginning::Connect(blank.len()));
        }

        #[test]
        fn never_panics_and_holds_little(bytes: Vec<u8>, proxy_protocol: bool) {
            match beginning(&bytes, proxy_protocol) {
                Beginning::Connect(at) => prop_assert!(bytes[at..].starts_with(METHOD)),
                Beginning::Unclear(at) => prop_assert!(bytes.len() - at <= HELD_MAX),
                Beginning::Other => (),
            }
        }
    }
}
