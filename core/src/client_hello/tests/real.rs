//! Owns the tests with what real clients send.

use super::*;

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
