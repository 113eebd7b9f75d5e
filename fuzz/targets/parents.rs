//! Fuzzes what a parent says, in pieces of sizes that the input gives, and the texts that name one. However it is
//! cut, an answer comes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::parent::connect::{self, Reader};
use proxy_connect_core::parent::socks5::{self, Host};
use proxy_connect_core::parent::way::Way;
use proxy_connect_core::parent::{Answer, Heard, Talk};

/// What a talk comes to that hears `bytes` in pieces of `size`: its answer without what came behind it, and whether
/// it is over.
fn hear(mut talk: Talk, mut bytes: &[u8], size: usize) -> (Option<Answer>, bool) {
    while !bytes.is_empty() {
        let wanted = talk.wants();
        assert!(wanted > 0);

        let (piece, rest) = bytes.split_at(bytes.len().min(wanted).min(size));
        bytes = rest;

        match talk.take(piece) {
            Ok(Heard::Answer(answer)) => {
                assert!(piece.ends_with(&answer.rest));
                return (Some(Answer { rest: Vec::new(), ..answer }), true);
            }
            Ok(Heard::More | Heard::Say(_)) => {}
            Err(_) => return (None, true),
        }
    }

    (None, false)
}

fn socks5(user: Option<(&[u8], &[u8])>) -> Option<Talk> {
    let begun = socks5::Talk::begin(Host::Name(b"a.example"), 443, user);
    begun.ok().map(|(talk, _)| Talk::Socks5(talk))
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };

    let size = usize::from(size).max(1);
    let connect = || Talk::Connect(Reader::new(512));

    assert_eq!(hear(connect(), bytes, size), hear(connect(), bytes, 1));

    for user in [None, Some((&b"user"[..], &b"password"[..]))] {
        if let (Some(one), Some(other)) = (socks5(user), socks5(user)) {
            assert_eq!(hear(one, bytes, size), hear(other, bytes, 1));
        }
    }

    if let Ok(Way::Parent(name)) = Way::read(bytes) {
        assert!(!name.host.is_empty() && name.port != Some(0));
    }

    // Whatever a value is, there is one header.
    if let Ok(mut request) = connect::Request::to(b"a.example:443") {
        let added = request.add(b"X", bytes).is_ok();
        let lines = 2 + usize::from(added);
        assert_eq!(request.finish().map(|text| text.iter().filter(|&&b| b == b'\n').count()), Ok(lines));
    }
});
