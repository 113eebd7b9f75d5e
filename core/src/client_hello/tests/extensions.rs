//! Owns the tests of what a ClientHello says: names, protocols, versions.

use super::*;

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
