//! Owns the tests of the reader: what real clients send, what rustls makes of it, and what an attacker would send.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::preread::{KEPT_MAX, MESSAGE_MAX};
use super::retry::{Found, PASSED_MAX};
use super::{ClientHello, Malformed, Opening, Preread, Protocol, Retry, ALPN_MAX};

/// A ClientHello as it stands behind the header of its message, with these extensions.
fn body(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(number, data)| [number.to_be_bytes().to_vec(), vector(2, data)].concat())
        .collect();

    [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[9; 32]),
        &vector(2, &[0x13, 0x01, 0x13, 0x02]),
        &vector(1, &[0]),
        &vector(2, &list),
    ]
    .concat()
}

/// A ClientHello with this name, or none.
pub fn sample(name: Option<&str>) -> Vec<u8> {
    let extensions: Vec<_> = name.iter().map(|name| server_name(name.as_bytes())).collect();
    body(&extensions)
}

fn vector(width: usize, data: &[u8]) -> Vec<u8> {
    let len = data.len().to_be_bytes();
    [&len[len.len() - width..], data].concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    (0, vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| vector(1, protocol)).collect();
    (16, vector(2, &list))
}

fn versions(versions: &[u16]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    (43, vector(1, &list))
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1][..], &vector(3, body)].concat()
}

/// A message in records of `size` bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|fragment| record(22, fragment)).collect()
}

fn record(content_type: u8, fragment: &[u8]) -> Vec<u8> {
    [&[content_type, 3, 1][..], &vector(2, fragment)].concat()
}

fn read(extensions: &[(u16, Vec<u8>)]) -> Result<ClientHello, Malformed> {
    ClientHello::read(&body(extensions))
}

fn name_of(hello: &ClientHello) -> Option<&[u8]> {
    hello.server_name.as_ref().map(|name| name.as_bytes())
}

/// What some bytes are that come at once.
fn opening(bytes: &[u8]) -> Opening {
    let mut preread = Preread::default();
    assert!(preread.push(bytes).is_ok());
    preread.opening()
}

fn hello(bytes: &[u8]) -> ClientHello {
    match opening(bytes) {
        Opening::Tls(hello) => hello,
        other => panic!("no ClientHello, but {other:?}"),
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    let files = fs::read_dir(folder).map(|files| {
        files.flatten().map(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(file.path());
            (name, bytes.unwrap_or_default())
        })
    });

    let mut hellos: Vec<_> = files.map(Iterator::collect).unwrap_or_default();
    hellos.sort();
    hellos
}

#[test]
fn what_real_clients_send() {
    use Protocol::{Tls1, Tls12, Tls13};

    let expected: &[(&str, Option<&str>, &str, Protocol)] = &[
        ("chromium", Some("localhost"), "h2,http/1.1", Tls13),
        ("curl", Some("localhost"), "h2,http/1.1", Tls13),
        ("curl-http1", Some("localhost"), "http/1.1", Tls13),
        ("git", Some("localhost"), "h2,http/1.1", Tls13),
        ("ncat", Some("localhost"), "", Tls13),
        ("node", Some("localhost"), "", Tls13),
        ("openssl-address", None, "", Tls13),
        ("openssl-no-sni", None, "acme-tls/1", Tls13),
        ("openssl-tls10", Some("localhost"), "", Tls1),
        ("openssl-tls12", Some("localhost"), "", Tls12),
        ("openssl-tls13", Some("localhost"), "h2,http/1.1", Tls13),
        ("python", Some("localhost"), "http/1.1", Tls13),
        ("socat", Some("localhost"), "", Tls13),
        ("wget", Some("localhost"), "", Tls13),
    ];

    let corpus = corpus();

    for (file, name, alpn, protocol) in expected {
        let Some((_, bytes)) = corpus.iter().find(|(it, _)| it == file) else {
            panic!("no {file}");
        };

        let hello = hello(bytes);
        assert_eq!(name_of(&hello), name.map(str::as_bytes), "{file}");
        assert_eq!(hello.alpn.to_string(), *alpn, "{file}");
        assert_eq!(hello.protocol, Some(*protocol), "{file}");
    }
}

/// What rustls finds in a ClientHello: the name, in lower case, and the protocols.
fn of_rustls(mut bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = rustls::server::Acceptor::default();

    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;

        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let name = hello.server_name().map(str::to_ascii_lowercase);
            let alpn = hello.alpn().map(|alpn| alpn.map(<[u8]>::to_vec).collect());
            return Some((name, alpn.unwrap_or_default()));
        }
    }

    None
}

fn agrees_with_rustls(bytes: &[u8]) -> bool {
    let Some((name, alpn)) = of_rustls(bytes) else {
        return false;
    };

    let hello = hello(bytes);
    let words = alpn.into_iter().map(|word| String::from_utf8(word).unwrap_or_default());
    let words: Vec<_> = words.collect();

    name_of(&hello) == name.as_ref().map(|name| name.trim_end_matches('.').as_bytes())
        && (hello.alpn.to_string() == words.join(",") || words.len() > 10)
}

#[test]
#[cfg(not(miri))]
fn real_clients_are_read_as_rustls_reads_them() {
    let mut count = 0;

    for (file, bytes) in corpus() {
        // rustls wants extensions that clients of TLS 1.0 do not have, and no more records than it likes.
        if !["openssl-tls10", "openssl-fragments"].contains(&file.as_str()) {
            assert!(agrees_with_rustls(&bytes), "{file}");
            count += 1;
        }
    }

    assert!(count > 10);
}

/// A ClientHello that rustls makes.
fn by_rustls(name: &str, alpn: &[&str]) -> Option<Vec<u8>> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();

    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).ok()?;
    let mut client = rustls::ClientConnection::new(config.into(), name).ok()?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).ok()?;
    Some(bytes)
}

#[test]
#[cfg(not(miri))]
fn what_rustls_sends() {
    for (name, alpn) in
        [("a.example", &["h2", "http/1.1"][..]), ("A.Example", &[]), ("192.0.2.1", &[])]
    {
        let Some(bytes) = by_rustls(name, alpn) else {
            panic!("rustls makes none for {name}");
        };
        assert!(agrees_with_rustls(&bytes), "{name}");
        assert_eq!(hello(&bytes).protocol, Some(Protocol::Tls13));
    }
}

#[test]
fn a_real_hello_in_many_records() {
    let corpus = corpus();
    let Some((_, bytes)) = corpus.iter().find(|(file, _)| file == "openssl-fragments") else {
        panic!("it is not there");
    };

    assert!(bytes.len() > 16 * 1024);
    let hello = hello(bytes);
    assert_eq!(name_of(&hello), Some(&b"localhost"[..]));
    // Of a thousand protocols, the first.
    assert!(hello.alpn.to_string().starts_with("protocol-number-1,protocol-number-2,"));
    assert!(hello.alpn.as_bytes().len() <= ALPN_MAX);
    assert!(!hello.alpn.as_bytes().ends_with(b","));
}

#[test]
fn real_hellos_cut_anywhere_are_not_whole() {
    for (file, bytes) in corpus() {
        for len in (1..bytes.len()).step_by(if bytes.len() > 4000 { 101 } else { 1 }) {
            let mut preread = Preread::default();
            assert_eq!(preread.push(&bytes[..len]), Ok(false), "{file}, {len}");
            assert_eq!(
                preread.opening(),
                Opening::Malformed(Malformed::Unfinished),
                "{file}, {len}"
            );
        }
    }
}

#[test]
fn names() {
    for (name, canonical) in [
        ("a.example", "a.example"),
        ("A.ExAmPlE", "a.example"),
        ("a.example.", "a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_x.example", "_x.example"),
        ("192.0.2.1", "192.0.2.1"),
    ] {
        let hello = read(&[server_name(name.as_bytes())]);
        assert_eq!(hello.as_ref().ok().and_then(name_of), Some(canonical.as_bytes()), "{name}");
    }
}

#[test]
fn what_is_no_name() {
    let long_label = "a".repeat(64);
    let long_name = "a.".repeat(128);
    let names: &[&[u8]] = &[
        b"",
        b".",
        b"a..example",
        b".example",
        b"a b",
        b"a\0.example",
        b"a.example\0",
        b"a.example\n",
        b"a/b",
        b"a:443",
        b"[::1]",
        b"::1",
        "b\u{fc}cher.example".as_bytes(),
        b"\xff",
        b"a.example..",
        b"\"",
        long_label.as_bytes(),
        long_name.as_bytes(),
    ];

    for name in names {
        assert_eq!(read(&[server_name(name)]), Err(Malformed::Name), "{}", name.escape_ascii());
    }
}

#[test]
fn one_name_and_no_other() {
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &vector(2, name)].concat();
    let two = [entry(0, b"a.example"), entry(0, b"b.example")].concat();
    let other_kind = entry(1, b"a.example");
    let another_before = [entry(1, b"b.example"), entry(0, b"a.example")].concat();

    for list in [two, other_kind, another_before] {
        assert_eq!(read(&[(0, vector(2, &list))]), Err(Malformed::Name));
    }

    // An empty extension, an empty list, something behind the list.
    for data in [vec![], vec![0, 0], [server_name(b"a.example").1, vec![0]].concat()] {
        assert_eq!(read(&[(0, data)]), Err(Malformed::Lengths));
    }
}

#[test]
fn an_extension_twice() {
    let grease = (0x0a0a, vec![]);
    let same = [server_name(b"a.example"), grease, server_name(b"a.example")];
    assert_eq!(read(&same), Err(Malformed::Repeated));

    for (first, second) in
        [(alpn(&[b"h2"]), alpn(&[b"h3"])), (versions(&[0x304]), versions(&[0x303]))]
    {
        assert_eq!(read(&[first, second]), Err(Malformed::Repeated));
    }
}

#[test]
fn protocols_of_alpn() {
    let text = |protocols: &[&[u8]]| read(&[alpn(protocols)]).map(|hello| hello.alpn.to_string());

    assert_eq!(text(&[b"h2", b"http/1.1"]), Ok("h2,http/1.1".into()));
    // GREASE, and what would be two words or lines of a log.
    let odd: &[&[u8]] =
        &[b"\x0a\x0a", b"h2", b"a,b", b"a\"b", b"a\\b", b"a b", b"a\nb", b"\xff", b"", b"h3"];
    assert_eq!(text(odd), Ok("h2,h3".into()));

    let many: Vec<&[u8]> = vec![b"0123456789"; 100];
    assert_eq!(text(&many).map(|text| text.len()), Ok(23 * 11 - 1));
    // What does not fit is not skipped for something shorter.
    let long = [b'x'; 255];
    assert_eq!(text(&[&long, b"yy", b""]), Ok("x".repeat(255)));
    assert_eq!(text(&[b"y", &long, b"z"]), Ok("y".into()));
}

#[test]
fn versions_of_the_protocol() {
    let of = |list: &[u16]| read(&[versions(list)]).map(|hello| hello.protocol);

    assert_eq!(of(&[0x0a0a, 0x0304, 0x0303]), Ok(Some(Protocol::Tls13)));
    assert_eq!(of(&[0x0303, 0x0302, 0xfafa]), Ok(Some(Protocol::Tls12)));
    assert_eq!(of(&[0x0a0a, 0x7f1c]), Ok(None));
    // Without the extension the message's own version counts, which stops at 1.2.
    assert_eq!(read(&[]).map(|hello| hello.protocol), Ok(Some(Protocol::Tls12)));

    for (minor, protocol) in
        [(0, Protocol::Ssl3), (1, Protocol::Tls1), (2, Protocol::Tls11), (4, Protocol::Tls12)]
    {
        let mut body = body(&[]);
        body[1] = minor;
        assert_eq!(ClientHello::read(&body).map(|hello| hello.protocol), Ok(Some(protocol)));
    }

    let names = [Protocol::Ssl3, Protocol::Tls1, Protocol::Tls11, Protocol::Tls12, Protocol::Tls13];
    assert_eq!(names.map(Protocol::name), ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]);
}

#[test]
fn no_extensions_at_all() {
    let mut bare = body(&[]);
    bare.truncate(bare.len() - 2);

    let hello = ClientHello::read(&bare);
    assert_eq!(
        hello.map(|hello| (hello.server_name, hello.protocol)),
        Ok((None, Some(Protocol::Tls12)))
    );
}

#[test]
fn lengths_that_do_not_fit() {
    let whole = body(&[server_name(b"a.example"), alpn(&[b"h2"])]);
    let bare = body(&[]).len() - 2;

    for len in (0..whole.len()).filter(|&len| len != bare) {
        assert_eq!(ClientHello::read(&whole[..len]), Err(Malformed::Lengths), "{len}");
    }

    assert_eq!(ClientHello::read(&[&whole[..], &[0]].concat()), Err(Malformed::Lengths));
}

#[test]
fn what_is_no_tls() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\0",
        b"\x13",
        b"\x19",
        b"\xff",
        // A ClientHello of SSL 2.0.
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(opening(bytes), Opening::NotTls);
        assert_eq!(opening(&bytes[..1]), Opening::NotTls);
    }
}

#[test]
fn tls_that_begins_with_something_else() {
    let hello = records(&message(&sample(Some("a.example"))), 4096);

    // Servers pass over some of them.
    for content_type in [20, 21, 23, 24] {
        let bytes = [record(content_type, &[1, 0]), hello.clone()].concat();
        assert_eq!(opening(&bytes), Opening::Malformed(Malformed::OtherRecord));
    }

    let message = message(&sample(Some("a.example")));
    let within =
        [record(22, &message[..9]), record(21, &[1, 0]), record(22, &message[9..])].concat();
    assert_eq!(opening(&within), Opening::Malformed(Malformed::OtherRecord));

    for other in [0, 2, 11, 16, 255] {
        let bytes = record(22, &[other, 0, 0, 0]);
        assert_eq!(opening(&bytes), Opening::Malformed(Malformed::OtherMessage));
        assert_eq!(
            opening(&[bytes, hello.clone()].concat()),
            Opening::Malformed(Malformed::OtherMessage)
        );
    }
}

#[test]
fn the_version_of_a_record_does_not_count() {
    for version in [[0, 0], [2, 0], [3, 0], [3, 4], [0xff, 0xff]] {
        let mut bytes = records(&message(&sample(Some("a.example"))), 4096);
        bytes[1..3].copy_from_slice(&version);
        assert_eq!(name_of(&hello(&bytes)), Some(&b"a.example"[..]));
    }
}

#[test]
fn records_of_other_lengths() {
    for bytes in [record(22, &[]), [22, 3, 1, 0x40, 1].to_vec(), [22, 3, 1, 0xff, 0xff].to_vec()] {
        assert_eq!(opening(&bytes), Opening::Malformed(Malformed::RecordLength));
    }

    // Between others, too.
    let message = message(&sample(Some("a.example")));
    let bytes = [record(22, &message[..9]), record(22, &[])].concat();
    assert_eq!(opening(&bytes), Opening::Malformed(Malformed::RecordLength));
}

/// A ClientHello with a name, whose message has that length.
fn padded(len: usize) -> Vec<u8> {
    let name = server_name(b"a.example");
    let short = message(&body(&[(21, vec![]), name.clone()])).len();
    message(&body(&[(21, vec![0; len - short]), name]))
}

#[test]
fn long_ones() {
    let longest = 1 << 14;

    for len in [255, 256, 16_384, 16_385, 20_000, MESSAGE_MAX] {
        for size in [1000, longest] {
            let bytes = records(&padded(len), size);
            assert_eq!(name_of(&hello(&bytes)), Some(&b"a.example"[..]), "{len}, {size}");
        }
    }

    for size in [1, 2, 3, 4, 5] {
        let bytes = records(&padded(20_000), size);
        assert_eq!(name_of(&hello(&bytes)), Some(&b"a.example"[..]), "{size}");
    }

    // Its length tells before it comes.
    let too_long = [&[1][..], &(MESSAGE_MAX - 3).to_be_bytes()[5..]].concat();
    assert_eq!(opening(&record(22, &too_long)), Opening::Malformed(Malformed::TooLong));
}

#[test]
fn no_more_is_kept_than_has_a_bound() {
    let mut preread = Preread::default();
    let bytes = records(&padded(MESSAGE_MAX), 1);
    let mut pushed = 0;

    for piece in bytes.chunks(1000) {
        pushed += piece.len();

        if preread.push(piece) == Ok(true) {
            break;
        }
    }

    assert_eq!(preread.opening(), Opening::Malformed(Malformed::TooLong));
    assert!((KEPT_MAX..KEPT_MAX + 1001).contains(&pushed));
}

#[test]
fn what_comes_behind_is_kept_and_not_read() {
    let bytes =
        [records(&message(&sample(Some("a.example"))), 4096), b"\x17\x03\x03 and more".to_vec()]
            .concat();
    let mut preread = Preread::default();

    assert_eq!(preread.push(&bytes), Ok(true));
    assert!(matches!(preread.opening(), Opening::Tls(_)));
    assert!(preread.is_tls());
    assert_eq!(preread.into_bytes(), bytes);
}

#[test]
fn nothing_at_all() {
    let mut preread = Preread::default();
    assert_eq!((preread.opening(), preread.is_tls()), (Opening::Nothing, false));
    assert_eq!(preread.push(b""), Ok(false));
    assert_eq!(preread.opening(), Opening::Nothing);
}

#[test]
fn more_in_the_record_of_a_hello() {
    let message = message(&sample(Some("a.example")));
    let second = [&message[..], &message[..]].concat();

    assert_eq!(opening(&record(22, &second)), Opening::Malformed(Malformed::Trailing));
    assert_eq!(opening(&records(&second, 50)), Opening::Malformed(Malformed::Trailing));
    // In records of its own it is behind the first.
    let both = [record(22, &message), record(22, &message)].concat();
    assert!(matches!(opening(&both), Opening::Tls(_)));
}

#[test]
fn where_a_hello_ends() {
    let hello = records(&message(&sample(Some("a.example"))), 20);
    let behind = record(20, &[1]);
    let mut preread = Preread::default();

    assert_eq!(preread.push(&[&hello[..], &behind[..]].concat()), Ok(true));
    assert_eq!(preread.split(), (&hello[..], &behind[..]));
}

#[test]
fn early_data_is_offered() {
    assert_eq!(read(&[(42, vec![])]).map(|hello| hello.has_early_data), Ok(true));
    assert_eq!(read(&[]).map(|hello| hello.has_early_data), Ok(false));
}

/// What is found behind a hello, and how many bytes may go on.
fn follow(has_early_data: bool, bytes: &[u8]) -> (Found, usize) {
    let mut retry = Retry::new(has_early_data);
    let Ok(found) = retry.push(bytes) else {
        panic!("no memory");
    };
    (found, retry.take_passed().map_or(0, |passed| passed.len()))
}

#[test]
fn a_second_hello_is_found() {
    let hello = record(22, &message(&sample(Some("b.example"))));
    let change = record(20, &[1]);
    let alert = record(21, &[1, 90]);
    let early = record(23, &[7; 100]);

    for before in [vec![], change.clone(), alert, [&change[..], &change[..]].concat()] {
        for has_early_data in [false, true] {
            let bytes = [&before[..], &hello[..]].concat();
            assert_eq!(follow(has_early_data, &bytes), (Found::Hello, before.len()));
        }
    }

    let bytes = [&early[..], &early, &change, &hello].concat();
    assert_eq!(follow(true, &bytes), (Found::Hello, 216));
    assert_eq!(follow(false, &bytes), (Found::Other, 0));
    // What no server should take is read as a hello, and found malformed.
    assert_eq!(follow(false, &record(22, &[])), (Found::Hello, 0));
}

#[test]
fn a_handshake_that_goes_on_is_no_second_hello() {
    // ClientKeyExchange, Certificate, and data.
    for other in [record(22, &[16, 0, 0, 1]), record(22, &[11]), vec![23], b"G".to_vec()] {
        assert_eq!(follow(false, &other), (Found::Other, 0));
    }

    let finished = [record(20, &[1]), record(23, &[7; 10])].concat();
    assert_eq!(follow(false, &finished), (Found::Other, 6));
}

#[test]
fn early_data_is_looked_through_as_far_as_servers_do() {
    let early = record(23, &[7; 10_000]).repeat(PASSED_MAX / 10_000 + 1);
    let hello = record(22, &message(&sample(Some("b.example"))));

    assert_eq!(follow(true, &early).0, Found::Other);
    assert_eq!(follow(true, &[&early[..60_030], &hello].concat()), (Found::Hello, 60_030));
}

fn host() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9_-]{1,20}){0,5}"
}

/// Extensions that nobody reads here, of any length.
fn others() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let other = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..300));
    let other = other.prop_map(|(number, data)| {
        (if [0, 16, 43].contains(&number) { 0x0a0a } else { number }, data)
    });
    prop::collection::vec(other, 0..20)
}

proptest! {
    /// Whatever comes, in whatever pieces: there is an answer, no panic, and all bytes are kept as they came.
    #[test]
    fn anything_has_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..100) {
        let mut preread = Preread::default();

        for piece in bytes.chunks(size) {
            prop_assert!(preread.push(piece).is_ok());
        }

        let _ = preread.opening();
        let _ = ClientHello::read(&bytes);
        prop_assert_eq!(preread.into_bytes(), bytes);
    }

    /// A hello is read the same however it is cut into records and segments, and is whole with its last byte.
    #[test]
    fn however_it_is_cut(
        name in host(),
        protocols in prop::collection::vec("[a-z0-9/.]{1,20}", 0..5),
        before in others(),
        behind in others(),
        in_record in 1usize..400,
        in_segment in 1usize..400,
    ) {
        let words: Vec<_> = protocols.iter().map(String::as_bytes).collect();
        let mut extensions = before;
        extensions.extend([server_name(name.as_bytes()), alpn(&words)]);
        extensions.extend(behind);

        let bytes = records(&message(&body(&extensions)), in_record);
        let mut preread = Preread::default();
        let mut pushed = 0;

        for piece in bytes.chunks(in_segment) {
            pushed += piece.len();
            prop_assert_eq!(preread.push(piece), Ok(pushed == bytes.len()));
        }

        let Opening::Tls(hello) = preread.opening() else {
            return Err(TestCaseError::fail(format!("{:?}", preread.opening())));
        };

        let canonical = name.to_ascii_lowercase();
        prop_assert_eq!(name_of(&hello), Some(canonical.as_bytes()));
        prop_assert_eq!(hello.alpn.to_string(), protocols.join(","));
        prop_assert_eq!(preread.into_bytes(), bytes);
    }

    /// However what follows a hello is cut: all up to a second one goes on, in order, and no byte of that.
    #[test]
    fn a_second_hello_stays(
        before in prop::collection::vec((20u8..25, prop::collection::vec(any::<u8>(), 0..200)), 0..10),
        size in 1usize..300,
    ) {
        let before: Vec<u8> = before
            .iter()
            .filter(|(content_type, _)| *content_type != 22)
            .flat_map(|(content_type, data)| record(*content_type, data))
            .collect();
        let hello = record(22, &message(&sample(Some("b.example"))));
        let mut retry = Retry::new(true);
        let (mut passed, mut found) = (Vec::new(), Found::Nothing);

        for piece in [&before[..], &hello[..]].concat().chunks(size) {
            let is_over = found != Found::Nothing;
            let now = retry.push(piece);
            found = if is_over { found } else { now.unwrap_or(Found::Other) };
            passed.extend(retry.take_passed().unwrap_or_default());
        }

        prop_assert_eq!(found, Found::Hello);
        prop_assert_eq!(passed, before);
        prop_assert_eq!(retry.into_bytes(), hello);
    }

    /// Whatever follows a hello: no panic, and all bytes are there, in order.
    #[test]
    fn anything_may_follow(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..100, early in any::<bool>()) {
        let mut retry = Retry::new(early);
        let mut all = Vec::new();

        for piece in bytes.chunks(size) {
            prop_assert!(retry.push(piece).is_ok());
            all.extend(retry.take_passed().unwrap_or_default());
        }

        all.extend(retry.into_bytes());
        prop_assert_eq!(all, bytes);
    }

    /// A byte that is changed anywhere in a real hello leads to no panic, and never to a name that is none.
    #[test]
    fn a_changed_byte_is_harmless(which in 0usize..15, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let corpus = corpus();
        let mut bytes = corpus[which % corpus.len()].1.clone();
        let place = place.index(bytes.len());
        bytes[place] = byte;

        if let Opening::Tls(hello) = opening(&bytes) {
            let name = hello.server_name.map(|name| name.to_string()).unwrap_or_default();
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)));
            prop_assert!(hello.alpn.as_bytes().iter().all(u8::is_ascii_graphic));
        }
    }

    /// Where this reader finds a name, rustls does not find another one.
    #[test]
    #[cfg(not(miri))]
    fn no_server_finds_another_name(which in 0usize..15, places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let corpus = corpus();
        let mut bytes = corpus[which % corpus.len()].1.clone();

        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }

        if let (Opening::Tls(hello), Some((Some(name), _))) = (opening(&bytes), of_rustls(&bytes)) {
            let ours = hello.server_name.map(|name| name.to_string());
            prop_assert_eq!(ours, Some(name.trim_end_matches('.').to_owned()));
        }
    }
}
