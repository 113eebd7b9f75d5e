//! Owns what becomes of a field block on its way to the core: each block is said again without a dynamic
//! table, and that of a CONNECT as one for a path.
//!
//! The core's own decoder gets no entry for its table and needs none: what refers to the connection's
//! table is told in full, all else stays as the client said it, Huffman code included. So the core's
//! limits on fields work as they would.

use thiserror::Error;

use super::hpack::{
    write_bytes, write_number, write_string, Decoder, Field, Form, HpackError, Name, Told,
};
use crate::target::{AuthorityError, AuthorityText};

/// The method that a CONNECT is shown to the core with. No method of a client's is taken for it: a CONNECT
/// is known by its stream.
pub const METHOD: &[u8] = b"CONNEC";

/// Who is shown in place of an authority that is none.
const NOBODY: &[u8] = b"-";

/// The bits of a literal field that is never indexed.
const NEVER_INDEXED: u8 = 0x10;

/// What a field block is.
// It is on the stack, for as long as a block is said again.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug)]
pub enum Section {
    /// Not that of a CONNECT.
    Other,
    /// That of a CONNECT, and what it names.
    Connect(Result<AuthorityText, SectionError>),
    /// One with too many fields, or too large ones. The core is shown one that it refuses with 400.
    TooLarge,
}

/// Why a CONNECT over HTTP/2 names nothing (RFC 9113, section 8.5). Each sentence completes "client sent ...".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SectionError {
    /// Its authority is none.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A pseudo-header field that a CONNECT never has.
    #[error("CONNECT with \":scheme\" or \":path\"")]
    Superfluous,
    /// A pseudo-header field twice.
    #[error("CONNECT with a pseudo-header field twice")]
    Repeated,
    /// A pseudo-header field behind another field.
    #[error("CONNECT with a pseudo-header field behind other fields")]
    Late,
    /// A pseudo-header field that nobody knows.
    #[error("CONNECT with an unknown pseudo-header field")]
    Unknown,
    /// No pseudo-header field for what it wants to be connected to.
    #[error("CONNECT without \":authority\"")]
    Missing,
    /// Extended CONNECT (RFC 8441): nobody offered it.
    #[error("CONNECT with \":protocol\", which is not supported")]
    Protocol,
}

/// The pseudo-header fields that a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Method,
    Authority,
    Scheme,
    Path,
    Protocol,
    Unknown,
}

/// What was seen of a block.
#[derive(Default)]
struct Seen {
    is_connect: bool,
    /// How often each pseudo-header field came, [`Pseudo`] being the place.
    counts: [u8; 6],
    is_late: bool,
    has_others: bool,
    /// The value of `:authority`.
    authority: Vec<u8>,
    /// What is no part of a CONNECT's block: from, to.
    cuts: Vec<(usize, usize)>,
    /// The value of `Host`, and where it was said.
    host: Option<(Vec<u8>, (usize, usize))>,
}

/// Decodes `block` and says it again at the end of `said`, for a connection over TLS if it `is_secure`.
///
/// # Errors
///
/// [`HpackError`]: the connection can't go on.
pub fn say_again(
    decoder: &mut Decoder,
    block: &[u8],
    is_secure: bool,
    said: &mut Vec<u8>,
) -> Result<Section, HpackError> {
    let begin = said.len();
    let mut seen = Seen::default();

    let told = decoder.decode(block, |field| {
        let start = said.len();
        say(&field, said)?;
        seen.take(&field, (start, said.len()))
    })?;

    if told == Told::Some {
        said.truncate(begin);
        say_literal(said, b":", b"")?;
        return Ok(Section::TooLarge);
    }

    if !seen.is_connect {
        return Ok(Section::Other);
    }

    let named = seen.named();
    seen.disguise(begin, said, is_secure, named.as_ref().ok())?;
    Ok(Section::Connect(named))
}

impl Seen {
    fn take(&mut self, field: &Field<'_>, place: (usize, usize)) -> Result<(), HpackError> {
        let Some(pseudo) = Pseudo::of(field.name) else {
            self.has_others = true;

            if field.name == b"host" && self.host.is_none() {
                self.host = Some((copy(field.value)?, place));
            }

            return Ok(());
        };

        let count = &mut self.counts[pseudo as usize];
        *count = count.saturating_add(1);
        self.is_late |= self.has_others;
        self.cuts.try_reserve(1)?;
        self.cuts.push(place);

        match pseudo {
            Pseudo::Method => self.is_connect |= field.value == b"CONNECT",
            Pseudo::Authority => self.authority = copy(field.value)?,
            _ => (),
        }

        Ok(())
    }

    fn has(&self, pseudo: Pseudo) -> bool {
        self.counts[pseudo as usize] > 0
    }

    fn named(&self) -> Result<AuthorityText, SectionError> {
        if self.has(Pseudo::Protocol) {
            return Err(SectionError::Protocol);
        }

        if self.has(Pseudo::Scheme) || self.has(Pseudo::Path) {
            return Err(SectionError::Superfluous);
        }

        if self.has(Pseudo::Unknown) {
            return Err(SectionError::Unknown);
        }

        if self.counts.iter().any(|&count| count > 1) {
            return Err(SectionError::Repeated);
        }

        if self.is_late {
            return Err(SectionError::Late);
        }

        if !self.has(Pseudo::Authority) {
            return Err(SectionError::Missing);
        }

        Ok(AuthorityText::read(&self.authority)?)
    }

    /// Makes the block that of a request for a path, with the authority that was judged.
    fn disguise(
        mut self,
        begin: usize,
        said: &mut Vec<u8>,
        is_secure: bool,
        named: Option<&AuthorityText>,
    ) -> Result<(), HpackError> {
        // The core has Host be what :authority is, to the letter, and makes one where there is none. A
        // CONNECT that names nothing is refused by us.
        if let Some((host, place)) = self.host.take() {
            if named.is_none() || host == self.authority {
                self.cuts.try_reserve(1)?;
                self.cuts.push(place);
                self.cuts.sort_unstable();
            }
        }

        let others = copy(&said[begin..])?;
        said.truncate(begin);

        say_value(said, 2, METHOD)?;
        // The static table has them.
        write_bytes(said, &[if is_secure { 0x87 } else { 0x86 }, 0x84])?;
        say_value(said, 1, named.map_or(NOBODY, AuthorityText::as_bytes))?;

        let mut from = 0;

        for (start, end) in self.cuts {
            write_bytes(said, &others[from..start - begin])?;
            from = end - begin;
        }

        Ok(write_bytes(said, &others[from..])?)
    }
}

impl Pseudo {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b":method" => Some(Self::Method),
            b":authority" => Some(Self::Authority),
            b":scheme" => Some(Self::Scheme),
            b":path" => Some(Self::Path),
            b":protocol" => Some(Self::Protocol),
            [b':', ..] => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// Says a field again without a dynamic table.
fn say(field: &Field<'_>, said: &mut Vec<u8>) -> Result<(), HpackError> {
    let (name, name_string, value_string) = match field.form {
        Form::Static(index) => return Ok(write_number(said, 0x80, 7, index.into())?),
        Form::Dynamic => return say_literal(said, field.name, field.value),
        Form::Literal(name, name_string, value_string) => (name, name_string, value_string),
    };

    match name {
        Name::Static(index) => write_number(said, NEVER_INDEXED, 4, index.into())?,
        Name::Dynamic => {
            write_number(said, NEVER_INDEXED, 4, 0)?;
            write_string(said, field.name)?;
        }
        Name::Literal => {
            write_number(said, NEVER_INDEXED, 4, 0)?;
            write_bytes(said, name_string)?;
        }
    }

    Ok(write_bytes(said, value_string)?)
}

fn say_literal(said: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), HpackError> {
    write_number(said, NEVER_INDEXED, 4, 0)?;
    write_string(said, name)?;
    Ok(write_string(said, value)?)
}

/// Says a field whose name is that of an entry of the static table.
fn say_value(said: &mut Vec<u8>, index: usize, value: &[u8]) -> Result<(), HpackError> {
    write_number(said, NEVER_INDEXED, 4, index)?;
    Ok(write_string(said, value)?)
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut copy = Vec::new();
    write_bytes(&mut copy, bytes)?;
    Ok(copy)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Fields {
        let mut fields = Vec::new();
        let told = decoder.decode(block, |field| {
            fields.push((field.name.to_vec(), field.value.to_vec()));
            Ok(())
        });
        assert_eq!(told, Ok(Told::All));
        fields
    }

    fn text(fields: &Fields) -> String {
        let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
            format!("{}={}", name.escape_ascii(), value.escape_ascii())
        };
        fields.iter().map(field).collect::<Vec<_>>().join(" ")
    }

    /// What the core is shown of a request that is said in plain literals.
    fn shown(request: &[(&str, &str)]) -> (Section, String) {
        let (mut block, mut said) = (vec![], vec![]);

        for (name, value) in request {
            say_literal(&mut block, name.as_bytes(), value.as_bytes()).unwrap();
        }

        let section = say_again(&mut Decoder::default(), &block, true, &mut said).unwrap();
        (section, text(&decode(&mut Decoder::default(), &said)))
    }

    fn error(request: &[(&str, &str)]) -> (Option<SectionError>, String) {
        match shown(request) {
            (Section::Connect(named), shown) => (named.err(), shown),
            (section, _) => panic!("{section:?}"),
        }
    }

    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const AUTHORITY: (&str, &str) = (":authority", "a.example:443");

    #[test]
    fn a_connect_is_shown_as_a_request_for_a_path() {
        let (section, shown) = shown(&[
            (":authority", "A.Example.:0443"),
            CONNECT,
            ("proxy-authorization", "Basic eA=="),
            ("host", "A.Example.:0443"),
            ("cookie", "a=b"),
        ]);

        assert!(
            matches!(section, Section::Connect(Ok(name)) if name.as_bytes() == b"a.example:443")
        );
        assert_eq!(
            shown,
            ":method=CONNEC :scheme=https :path=/ :authority=a.example:443 \
             proxy-authorization=Basic eA== cookie=a=b"
        );
    }

    #[test]
    fn another_host_is_left_to_the_core() {
        let (_, shown) = shown(&[CONNECT, AUTHORITY, ("host", "b.example:443")]);
        assert!(shown.ends_with(" :authority=a.example:443 host=b.example:443"), "{shown}");
    }

    #[test]
    fn a_connect_that_names_nothing() {
        for (request, expected) in [
            (&[CONNECT][..], SectionError::Missing),
            (&[CONNECT, (":authority", "a.example")], AuthorityError::NoPort.into()),
            (&[CONNECT, (":authority", "a/b:1")], AuthorityError::Path.into()),
            (&[CONNECT, AUTHORITY, (":path", "/")], SectionError::Superfluous),
            (&[CONNECT, (":scheme", "https"), AUTHORITY], SectionError::Superfluous),
            (&[CONNECT, AUTHORITY, AUTHORITY], SectionError::Repeated),
            (&[CONNECT, AUTHORITY, CONNECT], SectionError::Repeated),
            (&[(":method", "GET"), AUTHORITY, CONNECT], SectionError::Repeated),
            (&[CONNECT, ("a", "b"), AUTHORITY], SectionError::Late),
            (&[CONNECT, AUTHORITY, (":status", "200")], SectionError::Unknown),
            (
                &[
                    CONNECT,
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":path", "/"),
                    AUTHORITY,
                ],
                SectionError::Protocol,
            ),
        ] {
            let (error, shown) = error(request);
            assert_eq!(error, Some(expected));
            assert!(
                shown.starts_with(":method=CONNEC :scheme=https :path=/ :authority=-"),
                "{shown}"
            );
        }
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert!(matches!(shown(&[(":method", "connect"), AUTHORITY]).0, Section::Other));
        assert!(matches!(shown(&[(":method", "CONNEC"), AUTHORITY]).0, Section::Other));
    }

    #[test]
    fn too_much_is_shown_as_something_that_is_refused() {
        let value = "v".repeat(60_000);
        let (section, shown) = shown(&[CONNECT, AUTHORITY, ("a", &value), ("b", &value)]);
        assert!(matches!(section, Section::TooLarge));
        assert_eq!(shown, ":=");
    }

    #[test]
    fn strings_stay_as_they_were_said() {
        // RFC 7541, appendix C.6.1 has Huffman code; C.4.1's block: an index, and a name of the static table.
        let block = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab,
            0x90, 0xf4, 0xff,
        ];
        let mut decoder = Decoder::default();
        let mut said = vec![];

        say_again(&mut decoder, &block, false, &mut said).unwrap();
        let mut expected = block;
        expected[3] = 0x11;
        assert_eq!(said, expected);

        // What the table has is told in full.
        said.clear();
        say_again(&mut decoder, &[0xbe], false, &mut said).unwrap();
        assert_eq!(said, b"\x10\x0a:authority\x0fwww.example.com");
    }

    proptest! {
        /// The core sees what the client sent, whatever the client's table is, and its own stays empty.
        #[test]
        fn others_stay_what_they_are(blocks in proptest::collection::vec(
            proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}", 0u8..8), 1..12), 1..6
        )) {
            let mut encoder = httlib_hpack::Encoder::default();
            let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

            for block in blocks {
                let (mut bytes, mut said) = (vec![], vec![]);
                let expected: Fields =
                    block.iter().map(|(n, v, _)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();

                for (name, value, flags) in block {
                    let flags = (flags & 1) << 1 | (flags & 2) << 2 | (flags & 4) << 2;
                    encoder.encode((name.into_bytes(), value.into_bytes(), flags), &mut bytes).unwrap();
                }

                let section = say_again(&mut decoder, &bytes, true, &mut said);
                prop_assert!(matches!(section, Ok(Section::Other)));
                prop_assert_eq!(decode(&mut core, &said), expected);
                prop_assert!(core.decode(&[0xbe], |_| Ok(())).is_err());
                core = Decoder::default();
            }
        }

        /// A CONNECT's fields come through in their order, but for what it is disguised by.
        #[test]
        fn the_fields_of_a_connect_come_through(
            fields in proptest::collection::vec(("x[a-z-]{1,12}", "[ -~]{0,40}"), 0..12), first: bool, at in 0usize..12
        ) {
            let mut request: Vec<(&str, &str)> =
                if first { vec![CONNECT, AUTHORITY] } else { vec![AUTHORITY, CONNECT] };
            request.extend(fields.iter().map(|(name, value)| (&name[..], &value[..])));
            request.insert((2 + at).min(request.len()), ("host", AUTHORITY.1));

            let expected = fields.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();
            let (section, shown) = shown(&request);
            prop_assert!(matches!(section, Section::Connect(Ok(_))));
            let head = ":method=CONNEC :scheme=https :path=/ :authority=a.example:443";
            let expected = format!("{head} {}", text(&expected));
            prop_assert_eq!(shown.trim_end(), expected.trim_end());
        }

        #[test]
        fn any_bytes_are_shown_as_a_block_of_their_own(block: Vec<u8>) {
            let mut said = vec![];

            if say_again(&mut Decoder::default(), &block, true, &mut said).is_ok() {
                let told = Decoder::default().decode(&said, |_| Ok(()));
                prop_assert_eq!(told, Ok(Told::All));
            }
        }
    }
}
