//! Owns the tests of what the core is shown of field blocks.

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

/// A field, and how an encoder says it, in httlib's flags: Huffman code for its name and value, as an entry that the table
/// gets, as one that it never gets, as what the table has.
type Draft = (String, String, u8);

/// The block that an encoder makes of fields.
fn encode(encoder: &mut httlib_hpack::Encoder<'_>, fields: &[Draft]) -> Vec<u8> {
    let mut block = vec![];

    for ((name, value), (.., flags)) in said_in(fields).into_iter().zip(fields) {
        encoder.encode((name, value, *flags), &mut block).unwrap();
    }

    block
}

fn said_in(fields: &[Draft]) -> Fields {
    fields
        .iter()
        .map(|(name, value, _)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// The fields with their credentials empty.
fn without_credentials(mut fields: Fields) -> Fields {
    fields.iter_mut().filter(|(name, _)| name == HIDDEN).for_each(|(_, value)| value.clear());
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
        (&[CONNECT, AUTHORITY, ("transfer-encoding", "chunked")], SectionError::ConnectionSpecific),
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
        (&[CONNECT, (":authority", "a.example"), ("a", "b")][..], AuthorityError::NoPort.into()),
        (&[CONNECT, (":authority", "a/b:1"), ("a", "b")], AuthorityError::Path.into()),
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

    assert_eq!(error(&[CONNECT, AUTHORITY, ("te", "trailers"), ("content-length", "00")]).0, None);
}

#[test]
fn a_connect_with_a_body_names_what_it_names() {
    for (length, has_body) in [("5", true), ("x", true), ("0", false), ("00", false), ("", false)] {
        let (said, shown) = shown(&[CONNECT, AUTHORITY, ("content-length", length), ("a", "b")]);
        assert!(said.named.unwrap().is_ok());
        assert_eq!(
            (said.has_body, shown.ends_with("=a.example:443 a=b")),
            (has_body, true),
            "{shown}"
        );
    }

    // It may be malformed all the same.
    let malformed = [CONNECT, AUTHORITY, ("content-length", "5"), ("te", "gzip")];
    assert_eq!(error(&malformed).0, Some(SectionError::ConnectionSpecific));
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
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90,
        0xf4, 0xff,
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
        proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}", 0u8..32), 1..12), 1..6
    )) {
        let mut encoder = httlib_hpack::Encoder::default();
        let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

        for block in blocks {
            let (bytes, expected, mut said) = (encode(&mut encoder, &block), said_in(&block), vec![]);

            let what = say_again(&mut decoder, &bytes, &connection(true), &mut said);
            prop_assert!(what.is_ok_and(|what| what.named.is_none()));
            prop_assert_eq!(decode(&mut core, &said), expected);
        }
    }

    /// The same where what may pass passes, for a core with a table of its own; and of what passes nothing is to be
    /// hidden.
    #[test]
    fn others_stay_what_they_are_where_some_pass(blocks in proptest::collection::vec(
        proptest::collection::vec(("[a-d]|proxy-authorization|:method", "[a-c]{1,3}|CONNECT", 0u8..32), 1..12), 1..12
    )) {
        let mut encoder = httlib_hpack::Encoder::default();
        let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

        for block in blocks {
            let (mut bytes, expected, mut said) = (encode(&mut encoder, &block), said_in(&block), vec![]);
            let is_connect = expected.contains(&(b":method".to_vec(), b"CONNECT".to_vec()));

            if decoder.pass(&mut bytes) == Ok(true) {
                prop_assert!(!is_connect && !expected.iter().any(|(name, _)| name == HIDDEN));
                prop_assert_eq!(decode(&mut core, &bytes), expected);
                continue;
            }

            let what = say_again(&mut decoder, &bytes, &connection(true), &mut said).unwrap();
            prop_assert_eq!(what.named.is_some(), is_connect);
            let shown = decode(&mut core, &said);

            if !is_connect {
                prop_assert_eq!(shown, without_credentials(expected));
            }
        }
    }

    /// CONNECTs among requests, and credentials: whatever the tables have, the core sees each as it is to be seen.
    #[test]
    fn tables_stay_in_step_beside_connects(blocks in proptest::collection::vec((
        proptest::option::of(0u8..32), proptest::collection::vec(("[a-d]|proxy-authorization", "[a-c]{1,3}", 0u8..32), 0..6)
    ), 1..40), long in 1usize..900) {
        let mut encoder = httlib_hpack::Encoder::default();
        let (mut decoder, mut core) = (Decoder::default(), Decoder::default());

        for (connect, mut fields) in blocks {
            fields.iter_mut().filter(|(name, ..)| name == "d").for_each(|(_, value, _)| *value = value.repeat(long));

            let is_connect = connect.is_some();

            if let Some(flags) = connect {
                fields.splice(0..0, [CONNECT, AUTHORITY].map(|(name, value)| (name.to_owned(), value.to_owned(), flags)));
            }

            let bytes = encode(&mut encoder, &fields);
            let mut expected = without_credentials(said_in(&fields));
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
