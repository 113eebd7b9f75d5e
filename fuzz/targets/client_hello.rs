//! Fuzzes the first bytes of a client: they are the same however they come in pieces, are kept as they came, and
//! what is told of them is safe to log. Behind a first ClientHello a second one is found in whatever pieces it comes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::client_hello::retry::Found;
use proxy_connect_core::client_hello::{ClientHello, Opening, Preread, Retry};
use proxy_connect_core::sni::{Check, Finding};

fuzz_target!(|bytes: &[u8]| {
    let _ = ClientHello::read(bytes);

    let whole = preread(bytes, bytes.len().max(1));
    let opening = whole.opening();
    assert_eq!(preread(bytes, 1).opening(), opening);
    assert_eq!(preread(bytes, 7).opening(), opening);
    assert_eq!(whole.into_bytes(), bytes);

    for has_early_data in [false, true] {
        assert_eq!(behind(bytes, 1, has_early_data), behind(bytes, bytes.len().max(1), has_early_data));
    }

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

/// How many bytes go on before something is found, and what that is.
fn behind(bytes: &[u8], size: usize, has_early_data: bool) -> (usize, Found) {
    let mut retry = Retry::new(has_early_data);
    let mut passed = Vec::new();

    for piece in bytes.chunks(size) {
        let found = retry.push(piece).unwrap_or(Found::Other);
        passed.extend(retry.take_passed().unwrap_or_default());

        if found != Found::Nothing {
            return (passed.len(), found);
        }
    }

    let len = passed.len();
    passed.extend(retry.into_bytes());
    assert_eq!(passed, bytes);
    (len, Found::Nothing)
}
