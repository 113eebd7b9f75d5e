//! Fuzzes the first bytes of a client: they are the same however they come in pieces, are kept as they came, and
//! what is told of them is safe to log.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::client_hello::{ClientHello, Opening, Preread};
use proxy_connect_core::sni::{Check, Finding};

fuzz_target!(|bytes: &[u8]| {
    let _ = ClientHello::read(bytes);

    let whole = preread(bytes, bytes.len().max(1));
    let opening = whole.opening();
    assert_eq!(preread(bytes, 1).opening(), opening);
    assert_eq!(preread(bytes, 7).opening(), opening);
    assert_eq!(whole.into_bytes(), bytes);

    if let Opening::Tls(hello) = opening {
        assert!(hello.alpn.as_bytes().iter().all(u8::is_ascii_graphic));

        if let Some(name) = hello.server_name {
            let name = name.as_bytes();
            assert!(name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')));
            assert_eq!(Check::Strict.judge(&opening, name, false), Finding::Passes);
            assert_ne!(Check::On.judge(&opening, b"another.example", false), Finding::Passes);
        }
    } else {
        assert_eq!(matches!(opening, Opening::Nothing), bytes.is_empty());
        assert!(bytes.is_empty() || Check::Strict.judge(&opening, b"a.example", false) != Finding::Passes);
    }
});

fn preread(bytes: &[u8], size: usize) -> Preread {
    let mut preread = Preread::default();

    for piece in bytes.chunks(size) {
        assert!(preread.push(piece).is_ok());
    }

    preread
}
