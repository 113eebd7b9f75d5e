//! Owns what becomes of a field block on its way to the core that it may not have as it is: that of a CONNECT is said
//! again as one for a path, others without credentials.
//!
//! The core's own decoder gets the entries for its table that it may have, and no others: what refers to those is told in
//! full, all else stays as the client said it, Huffman code included. So the core's limits on fields work as they would.

use thiserror::Error;

use super::hpack::{
    write_bytes, write_number, write_string, Decoder, Field, Form, HpackError, Name, Told, HIDDEN,
};
use crate::target::{AuthorityError, AuthorityText};

/// The method that a CONNECT is shown to the core with. No method of a client's is taken for it: a CONNECT
/// is known by its stream.
pub const METHOD: &[u8] = b"CONNEC";

/// The bits of a literal field that is never indexed.
const NEVER_INDEXED: u8 = 0x10;

/// Those of one that becomes an entry of the table.
const INDEXED: u8 = 0x40;

/// What a connection is to the core.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Whether it is over TLS.
    pub is_secure: bool,
    /// A name that has the core stay with the server that the connection has. It is shown in place of an authority
    /// that is none.
    pub server: Vec<u8>,
    /// Whether that is the server of each CONNECT, whatever its authority.
    pub keeps_server: bool,
}

/// What became of a field block.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What a CONNECT names. `None` for any other block, and for one with too many fields, or too large ones:
    /// the core is shown one that it refuses with 400.
    pub named: Option<Result<AuthorityText, SectionError>>,
    /// The `:authority` of a CONNECT as it was sent, empty where there is none.
    pub authority: Vec<u8>,
    /// The values of `Proxy-Authorization`, which the core is shown as empty: its log has what it is shown.
    pub hidden: Vec<Vec<u8>>,
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
    /// A name that is none, with an upper-case letter say (RFC 9113, section 8.2.1).
    #[error("CONNECT with an invalid field name")]
    InvalidName,
    /// A value with a line break or a null character.
    #[error("CONNECT with an invalid field value")]
    InvalidValue,
    /// A field that is about a connection of HTTP/1 (RFC 9113, section 8.2.2).
    #[error("CONNECT with a connection-specific field")]
    ConnectionSpecific,
    /// A `Host` that says something else (RFC 9113, section 8.3.1).
    #[error("CONNECT with a \"Host\" other than its \":authority\"")]
    OtherHost,
    /// It announces a body.
    #[error("CONNECT with a body")]
    Body,
    /// Extended CONNECT (RFC 8441): nobody offered it.
    #[error("CONNECT with \":protocol\", which is not supported")]
    Protocol,
}

impl SectionError {
    /// Whether the request is malformed, an error of its stream (RFC 9113, section 8.1.1). Others are answered.
    pub fn is_malformed(self) -> bool {
        !matches!(self, Self::Authority(_) | Self::Body | Self::Protocol)
    }
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
    /// The values of `Host`.
    hosts: Vec<Vec<u8>>,
    /// What is wrong with the fields that are no pseudo-header fields.
    complaint: Option<SectionError>,
    hidden: Vec<Vec<u8>>,
}

/// Decodes `block` and says it again at the end of `said`, for a core to which its connection is what `connection` says.
///
/// # Errors
///
/// [`HpackError`]: the connection can't go on.
pub fn say_again(
    decoder: &mut Decoder,
    block: &[u8],
    connection: &Connection,
    said: &mut Vec<u8>,
) -> Result<Said, HpackError> {
    let begin = said.len();
    let mut seen = Seen::default();

    let told = decoder.decode_for_core(block, |field| {
        let is_shown = field.becomes_entry && may_be_shown(field.name);
        let start = said.len();

        if field.name == HIDDEN {
            say_literal(said, field.name, b"")?;
        } else {
            say(&field, is_shown, said)?;
        }

        seen.take(&field, (start, said.len()))?;
        Ok(is_shown)
    })?;

    if told == Told::Some {
        decoder.part();
        said.truncate(begin);
        say_literal(said, b":", b"")?;
        return Ok(Said::default());
    }

    if !seen.is_connect {
        return Ok(Said { hidden: seen.hidden, ..Said::default() });
    }

    let named = seen.named();

    if named.as_ref().is_err_and(|error| error.is_malformed()) {
        decoder.part();
    }

    seen.disguise(begin, said, connection, named.as_ref())?;
    Ok(Said { named: Some(named), authority: seen.authority, hidden: seen.hidden })
}

impl Seen {
    fn take(&mut self, field: &Field<'_>, place: (usize, usize)) -> Result<(), HpackError> {
        let Some(pseudo) = Pseudo::of(field.name) else {
            self.has_others = true;
            return self.take_other(field, place);
        };

        let count = &mut self.counts[pseudo as usize];
        *count = count.saturating_add(1);
        self.is_late |= self.has_others;
        self.cut(place)?;

        match pseudo {
            Pseudo::Method => self.is_connect |= field.value == b"CONNECT",
            Pseudo::Authority => self.authority = copy(field.value)?,
            _ => (),
        }

        Ok(())
    }

    fn take_other(&mut self, field: &Field<'_>, place: (usize, usize)) -> Result<(), HpackError> {
        if field.name == HIDDEN {
            push(&mut self.hidden, field.value)?;
        }

        // A CONNECT that is found to be one behind its fields is malformed.
        if !self.is_connect {
            return Ok(());
        }

        // The core makes a Host of :authority.
        if field.name == b"host" {
            push(&mut self.hosts, field.value)?;
        }

        if field.name == b"host" || field.name == b"content-length" {
            self.cut(place)?;
        }

        self.complaint = self.complaint.or_else(|| complaint(field));
        Ok(())
    }

    fn cut(&mut self, place: (usize, usize)) -> Result<(), HpackError> {
        self.cuts.try_reserve(1)?;
        self.cuts.push(place);
        Ok(())
    }

    fn has(&self, pseudo: Pseudo) -> bool {
        self.counts[pseudo as usize] > 0
    }

    fn named(&self) -> Result<AuthorityText, SectionError> {
        if self.is_late {
            return Err(SectionError::Late);
        }

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

        if !self.has(Pseudo::Authority) {
            return Err(SectionError::Missing);
        }

        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }

        let named = AuthorityText::read(&self.authority)?;

        if self.hosts.iter().any(|host| !self.is_named_by(host, &named)) {
            return Err(SectionError::OtherHost);
        }

        Ok(named)
    }

    fn is_named_by(&self, host: &[u8], named: &AuthorityText) -> bool {
        let is_same = |host: AuthorityText| host.as_bytes() == named.as_bytes();
        host == self.authority || AuthorityText::read(host).is_ok_and(is_same)
    }

    /// Makes the block that of a request for a path, with the authority that was judged. Of a malformed one
    /// nothing else is shown: the core would refuse it in its own way.
    fn disguise(
        &mut self,
        begin: usize,
        said: &mut Vec<u8>,
        connection: &Connection,
        named: Result<&AuthorityText, &SectionError>,
    ) -> Result<(), HpackError> {
        let others = copy(&said[begin..])?;
        said.truncate(begin);

        let authority = match named {
            Ok(named) if !connection.keeps_server => named.as_bytes(),
            _ => &connection.server,
        };

        say_value(said, 2, METHOD)?;
        // The static table has them.
        write_bytes(said, &[if connection.is_secure { 0x87 } else { 0x86 }, 0x84])?;
        say_value(said, 1, authority)?;

        if named.is_err_and(|error| error.is_malformed()) {
            self.hidden.clear();
            return Ok(());
        }

        let mut from = 0;

        for (start, end) in &self.cuts {
            write_bytes(said, &others[from..start - begin])?;
            from = end - begin;
        }

        Ok(write_bytes(said, &others[from..])?)
    }
}

/// What is wrong with a field of a CONNECT that is no pseudo-header field.
fn complaint(field: &Field<'_>) -> Option<SectionError> {
    let is_none =
        |&byte: &u8| !(0x21..0x7f).contains(&byte) || byte == b':' || byte.is_ascii_uppercase();

    if field.name.is_empty() || field.name.iter().any(is_none) {
        return Some(SectionError::InvalidName);
    }

    if field.value.iter().any(|byte| b"\0\r\n".contains(byte)) {
        return Some(SectionError::InvalidValue);
    }

    match field.name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Some(SectionError::ConnectionSpecific)
        }
        b"te" if !field.value.eq_ignore_ascii_case(b"trailers") => {
            Some(SectionError::ConnectionSpecific)
        }
        b"content-length" if field.value.iter().any(|&byte| byte != b'0') => {
            Some(SectionError::Body)
        }
        _ => None,
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

/// Whether the core may have an entry of this name: it is that of no field that is cut out of a CONNECT, or hidden.
fn may_be_shown(name: &[u8]) -> bool {
    !matches!(name, [b':', ..] | b"host" | b"content-length" | HIDDEN)
}

/// Says a field again, as an entry of the core's table if it is one, and so that it becomes one if it is to.
fn say(field: &Field<'_>, becomes_entry: bool, said: &mut Vec<u8>) -> Result<(), HpackError> {
    let (name, name_string, value_string) = match field.form {
        Form::Static(index) => return Ok(write_number(said, 0x80, 7, index.into())?),
        Form::Dynamic(Some(index)) => return Ok(write_number(said, 0x80, 7, index)?),
        Form::Dynamic(None) => return say_literal(said, field.name, field.value),
        Form::Literal(name, name_string, value_string) => (name, name_string, value_string),
    };

    let (first, prefix) = if becomes_entry { (INDEXED, 6) } else { (NEVER_INDEXED, 4) };

    match name {
        Name::Static(index) => write_number(said, first, prefix, index.into())?,
        Name::Dynamic => {
            write_number(said, first, prefix, 0)?;
            write_string(said, field.name)?;
        }
        Name::Literal => {
            write_number(said, first, prefix, 0)?;
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

fn push(list: &mut Vec<Vec<u8>>, bytes: &[u8]) -> Result<(), HpackError> {
    list.try_reserve(1)?;
    list.push(copy(bytes)?);
    Ok(())
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

    fn connection(is_secure: bool) -> Connection {
        Connection { is_secure, server: b"-".to_vec(), keeps_server: false }
    }

    fn shown_to(connection: &Connection, request: &[(&str, &str)]) -> (Said, String) {
        let (mut block, mut said) = (vec![], vec![]);

        for (name, value) in request {
            say_literal(&mut block, name.as_bytes(), value.as_bytes()).unwrap();
        }

        let what = say_again(&mut Decoder::default(), &block, connection, &mut said).unwrap();
        (what, text(&decode(&mut Decoder::default(), &said)))
    }

    /// What the core is shown of a request that is said in plain literals.
    fn shown(request: &[(&str, &str)]) -> (Said, String) {
        shown_to(&connection(true), request)
    }

    fn error(request: &[(&str, &str)]) -> (Option<SectionError>, String) {
        let (said, shown) = shown(request);
        (said.named.unwrap().err(), shown)
    }

    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const AUTHORITY: (&str, &str) = (":authority", "a.example:443");

    #[test]
    fn a_connect_is_shown_as_a_request_for_a_path() {
        let (said, shown) = shown(&[
            (":authority", "A.Example.:0443"),
            CONNECT,
            ("proxy-authorization", "Basic eA=="),
            ("host", "A.Example.:0443"),
            ("host", "a.example:443"),
            ("content-length", "0"),
            ("cookie", "a=b"),
        ]);

        assert_eq!(said.named.unwrap().unwrap().as_bytes(), b"a.example:443");
        assert_eq!(said.authority, b"A.Example.:0443");
        assert_eq!(said.hidden, [b"Basic eA=="]);
        assert_eq!(
            shown,
            ":method=CONNEC :scheme=https :path=/ :authority=a.example:443 \
             proxy-authorization= cookie=a=b"
        );
    }

    #[test]
    fn credentials_of_others_are_hidden_too() {
        let credentials = [("proxy-authorization", "a"), ("x", "y"), ("proxy-authorization", "b")];
        let (said, shown) = shown(&[&[(":method", "GET")][..], &credentials].concat());
        assert!(said.named.is_none());
        assert_eq!(said.hidden, [b"a", b"b"]);
        assert_eq!(shown, ":method=GET proxy-authorization= x=y proxy-authorization=");
    }

    #[test]
    fn the_server_of_a_connection_may_be_kept() {
        let connection =
            Connection { server: b"own.example".to_vec(), keeps_server: true, ..connection(false) };
        let (said, shown) = shown_to(&connection, &[CONNECT, AUTHORITY, ("a", "b")]);
        assert!(matches!(said.named, Some(Ok(_))));
        assert_eq!(shown, ":method=CONNEC :scheme=http :path=/ :authority=own.example a=b");
    }

    const SHOWN: &str = ":method=CONNEC :scheme=https :path=/ :authority=-";

    #[test]
    fn a_malformed_connect_is_shown_without_its_fields() {
        let long = [CONNECT, AUTHORITY, ("proxy-authorization", "x")];

        for (request, expected) in [
            (&[CONNECT][..], SectionError::Missing),
            (&[CONNECT, AUTHORITY, (":path", "/")], SectionError::Superfluous),
            (&[CONNECT, (":scheme", "https"), AUTHORITY], SectionError::Superfluous),
            (&[CONNECT, AUTHORITY, AUTHORITY], SectionError::Repeated),
            (&[CONNECT, AUTHORITY, CONNECT], SectionError::Repeated),
            (&[(":method", "GET"), AUTHORITY, CONNECT], SectionError::Repeated),
            (&[CONNECT, ("a", "b"), AUTHORITY], SectionError::Late),
            (&[CONNECT, AUTHORITY, (":status", "200")], SectionError::Unknown),
            (&[CONNECT, AUTHORITY, ("host", "b.example:443")], SectionError::OtherHost),
            (&[CONNECT, AUTHORITY, ("host", "")], SectionError::OtherHost),
            (&[CONNECT, AUTHORITY, ("User-Agent", "x")], SectionError::InvalidName),
            (&[CONNECT, AUTHORITY, ("a b", "x")], SectionError::InvalidName),
            (&[CONNECT, AUTHORITY, ("a:b", "x")], SectionError::InvalidName),
            (&[CONNECT, AUTHORITY, ("\u{e4}", "x")], SectionError::InvalidName),
            (&[CONNECT, AUTHORITY, ("", "x")], SectionError::InvalidName),
            (&[CONNECT, AUTHORITY, ("a", "b\nc: d")], SectionError::InvalidValue),
            (&[CONNECT, AUTHORITY, ("a", "b\0")], SectionError::InvalidValue),
            (&[CONNECT, AUTHORITY, ("connection", "close")], SectionError::ConnectionSpecific),
            (&[CONNECT, AUTHORITY, ("proxy-connection", "x")], SectionError::ConnectionSpecific),
            (&[CONNECT, AUTHORITY, ("keep-alive", "1")], SectionError::ConnectionSpecific),
            (
                &[CONNECT, AUTHORITY, ("transfer-encoding", "chunked")],
                SectionError::ConnectionSpecific,
            ),
            (&[CONNECT, AUTHORITY, ("upgrade", "h2c")], SectionError::ConnectionSpecific),
            (&[CONNECT, AUTHORITY, ("te", "gzip")], SectionError::ConnectionSpecific),
            (&[long[0], long[1], long[2], ("te", "")], SectionError::ConnectionSpecific),
        ] {
            let (error, shown) = error(request);
            assert_eq!((error, shown.as_str()), (Some(expected), SHOWN));
            assert!(expected.is_malformed());
        }
    }

    #[test]
    fn other_connects_that_name_nothing_keep_their_fields() {
        for (request, expected) in [
            (
                &[CONNECT, (":authority", "a.example"), ("a", "b")][..],
                AuthorityError::NoPort.into(),
            ),
            (&[CONNECT, (":authority", "a/b:1"), ("a", "b")], AuthorityError::Path.into()),
            (&[CONNECT, AUTHORITY, ("content-length", "5"), ("a", "b")], SectionError::Body),
            (&[CONNECT, AUTHORITY, ("content-length", "x"), ("a", "b")], SectionError::Body),
            (
                &[
                    CONNECT,
                    (":protocol", "websocket"),
                    (":scheme", "https"),
                    (":path", "/"),
                    AUTHORITY,
                    ("a", "b"),
                ],
                SectionError::Protocol,
            ),
        ] {
            assert_eq!(error(request), (Some(expected), format!("{SHOWN} a=b")));
            assert!(!expected.is_malformed());
        }

        assert_eq!(
            error(&[CONNECT, AUTHORITY, ("te", "trailers"), ("content-length", "00")]).0,
            None
        );
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert!(shown(&[(":method", "connect"), AUTHORITY]).0.named.is_none());
        assert!(shown(&[(":method", "CONNEC"), AUTHORITY]).0.named.is_none());
    }

    #[test]
    fn too_much_is_shown_as_something_that_is_refused() {
        let value = "v".repeat(60_000);
        let (said, shown) = shown(&[CONNECT, AUTHORITY, ("a", &value), ("b", &value)]);
        assert!(said.named.is_none());
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

        say_again(&mut decoder, &block, &connection(false), &mut said).unwrap();
        let mut expected = block;
        expected[3] = 0x11;
        assert_eq!(said, expected);

        // What the table has is told in full.
        said.clear();
        say_again(&mut decoder, &[0xbe], &connection(false), &mut said).unwrap();
        assert_eq!(said, b"\x10\x0a:authority\x0fwww.example.com");
    }

    proptest! {
        /// The core sees what the client sent, whatever the client's table is.
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

                let what = say_again(&mut decoder, &bytes, &connection(true), &mut said);
                prop_assert!(what.is_ok_and(|what| what.named.is_none()));
                prop_assert_eq!(decode(&mut core, &said), expected);
            }
        }

        /// The same where what may pass passes, for a core with a table of its own; and of what passes nothing is to be
        /// hidden.
        #[test]
        fn others_stay_what_they_are_where_some_pass(blocks in proptest::collection::vec(
            proptest::collection::vec(("[a-d]|proxy-authorization|:method", "[a-c]{1,3}|CONNECT", 0u8..8), 1..12), 1..12
        )) {
            let mut encoder = httlib_hpack::Encoder::default();
            let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

            for block in blocks {
                let (mut bytes, mut said) = (vec![], vec![]);
                let mut expected: Fields =
                    block.iter().map(|(n, v, _)| (n.clone().into_bytes(), v.clone().into_bytes())).collect();
                let is_connect = expected.contains(&(b":method".to_vec(), b"CONNECT".to_vec()));
                let is_hidden = |(name, _): &(Vec<u8>, Vec<u8>)| name == HIDDEN;

                for (name, value, flags) in block {
                    let flags = (flags & 1) << 1 | (flags & 2) << 2 | (flags & 4) << 2;
                    encoder.encode((name.into_bytes(), value.into_bytes(), flags), &mut bytes).unwrap();
                }

                if decoder.pass(&mut bytes) == Ok(true) {
                    prop_assert!(!is_connect && !expected.iter().any(is_hidden));
                    prop_assert_eq!(decode(&mut core, &bytes), expected);
                    continue;
                }

                let what = say_again(&mut decoder, &bytes, &connection(true), &mut said).unwrap();
                prop_assert_eq!(what.named.is_some(), is_connect);
                let shown = decode(&mut core, &said);

                if !is_connect {
                    expected.iter_mut().filter(|field| is_hidden(field)).for_each(|(_, value)| value.clear());
                    prop_assert_eq!(shown, expected);
                }
            }
        }

        /// CONNECTs among requests, and credentials: whatever the tables have, the core sees each as it is to be seen.
        #[test]
        fn tables_stay_in_step_beside_connects(blocks in proptest::collection::vec((
            any::<bool>(), proptest::collection::vec(("[a-d]|proxy-authorization", "[a-c]{1,3}", 0u8..8), 0..6)
        ), 1..40), long in 1usize..900) {
            let mut encoder = httlib_hpack::Encoder::default();
            let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

            for (is_connect, fields) in blocks {
                let mut bytes = vec![];
                let head = [CONNECT, AUTHORITY].map(|(name, value)| (name.to_string(), value.to_string(), 1));
                let head = if is_connect { &head[..] } else { &[] };
                let mut expected: Fields = vec![];

                for (name, value, flags) in head.iter().chain(&fields) {
                    let value = if name == "d" { value.repeat(long) } else { value.clone() };
                    let flags = (flags & 1) << 1 | (flags & 2) << 2 | (flags & 4) << 2;
                    let field = (name.clone().into_bytes(), value.into_bytes());
                    encoder.encode((field.0.clone(), field.1.clone(), flags), &mut bytes).unwrap();
                    let is_hidden = field.0 == HIDDEN;
                    expected.push((field.0, if is_hidden { vec![] } else { field.1 }));
                }

                let mut said = bytes.clone();

                if decoder.pass(&mut said) == Ok(true) {
                    prop_assert!(!is_connect);
                } else {
                    said.clear();
                    let what = say_again(&mut decoder, &bytes, &connection(true), &mut said).unwrap();
                    prop_assert_eq!(what.named.is_some_and(|named| named.is_ok()), is_connect);
                }

                let mut shown = decode(&mut core, &said);

                if is_connect {
                    shown.drain(..4);
                    expected.drain(..2);
                }

                prop_assert_eq!(shown, expected);
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
            let (said, shown) = shown(&request);
            prop_assert!(matches!(said.named, Some(Ok(_))));
            let head = ":method=CONNEC :scheme=https :path=/ :authority=a.example:443";
            let expected = format!("{head} {}", text(&expected));
            prop_assert_eq!(shown.trim_end(), expected.trim_end());
        }

        #[test]
        fn any_bytes_are_shown_as_a_block_of_their_own(block: Vec<u8>) {
            let mut said = vec![];

            if say_again(&mut Decoder::default(), &block, &connection(true), &mut said).is_ok() {
                let told = Decoder::default().decode(&said, |_| Ok(()));
                prop_assert_eq!(told, Ok(Told::All));
            }
        }
    }
}
