//! Fuzzes field blocks of HTTP/2: whatever a client says, what the core is shown is what was said but
//! for a CONNECT and credentials, and of a CONNECT it is a request for a path.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::http2::fields::{say_again, Connection, METHOD};
use proxy_connect_core::http2::hpack::{Decoder, Told};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };

    let connection =
        Connection { is_secure: first & 1 > 0, server: b"-".to_vec(), keeps_server: first & 2 > 0 };

    let (mut decoder, mut other, mut core) = Default::default();

    // Two blocks, of which the second one may refer to the first one's entries.
    let middle = usize::from(first >> 2).min(bytes.len());

    for block in [&bytes[..middle], &bytes[middle..]] {
        let mut shown = b"in front".to_vec();
        let Ok(said) = say_again(&mut decoder, block, &connection, &mut shown) else {
            return;
        };

        let (sent, told) = decode(&mut other, block);
        let (shown, _) = decode(&mut core, &shown[8..]);

        if told == Told::Some {
            assert!(said.named.is_none() && shown == [(b":".to_vec(), vec![])]);
        } else if let Some(named) = said.named {
            check_connect(&sent, &shown, named.is_err_and(|error| error.is_malformed()));
        } else {
            let (sent, hidden) = hide(sent);
            assert_eq!((shown, said.hidden), (sent, hidden));
        }
    }
});

fn check_connect(sent: &Fields, shown: &Fields, is_malformed: bool) {
    let names: Vec<_> = shown.iter().map(|(name, _)| &name[..]).collect();

    assert_eq!(names[..4], [&b":method"[..], b":scheme", b":path", b":authority"]);
    assert_eq!(shown[0].1, METHOD);
    assert!(names[4..].iter().all(|name| !name.starts_with(b":")));
    assert!(!is_malformed || names.len() == 4);
    assert!(sent.iter().any(|(name, value)| name == b":method" && value == b"CONNECT"));
}

/// What of fields is shown, and the credentials that are not.
fn hide(mut fields: Fields) -> (Fields, Vec<Vec<u8>>) {
    let mut hidden = Vec::new();

    for (name, value) in &mut fields {
        if name == b"proxy-authorization" {
            hidden.push(std::mem::take(value));
        }
    }

    (fields, hidden)
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> (Fields, Told) {
    let mut fields = Vec::new();

    let told = decoder.decode(block, |field| {
        fields.push((field.name.to_vec(), field.value.to_vec()));
        Ok(())
    });

    (fields, told.unwrap_or_else(|error| panic!("{error}")))
}
