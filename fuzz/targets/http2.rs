//! Fuzzes the bytes of a connection of HTTP/2: whatever comes, the core is shown the same however it comes in
//! pieces, and blocks that a decoder of its own understands, also where some came too late.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::http2::fields::Connection;
use proxy_connect_core::http2::frame::{kind, Frame, HEADER, PREFACE};
use proxy_connect_core::http2::hpack::Decoder;
use proxy_connect_core::http2::incoming::{Incoming, What};

fuzz_target!(|bytes: &[u8]| {
    let bytes = [&PREFACE[..], bytes].concat();
    let (shown, data) = run(&bytes, bytes.len(), false);

    assert_eq!(run(&bytes, 1, false), (shown.clone(), data.clone()));
    assert_eq!(run(&bytes, 7, false), (shown.clone(), data));
    check(&shown[PREFACE.len()..]);
    check(&run(&bytes, 7, true).0[PREFACE.len()..]);
});

/// What the core is shown, and what streams get. Some blocks are late.
fn run(bytes: &[u8], size: usize, may_be_late: bool) -> (Vec<u8>, Vec<u8>) {
    let mut incoming =
        Incoming::new(Connection { is_secure: true, server: b"-".to_vec(), keeps_server: false });
    let (mut shown, mut data) = (Vec::new(), Vec::new());
    // The first byte of a frame may be shown before the others.
    let mut begun = 0;

    for mut piece in bytes.to_vec().chunks_mut(size) {
        while !piece.is_empty() || incoming.has_more() {
            let part = incoming.next(piece);
            let (bytes, rest) = std::mem::take(&mut piece).split_at_mut(part.len);
            piece = rest;

            match part.what {
                What::Passed => shown.extend_from_slice(bytes),
                What::Data(_) => data.extend_from_slice(bytes),
                What::Ended(stream) if stream % 3 == 0 => incoming.close(stream),
                _ => (),
            }

            let output = incoming.output().to_vec();
            let begin = shown.len() - begun;
            shown.extend(&output);
            incoming.show(output.len());

            if !output.is_empty() {
                begun = usize::from(begun == 0 && output.len() == 1);
            }

            // The core refuses some.
            if let Some(stream) = shown.get(begin + 8).filter(|&&stream| stream % 5 > 0) {
                incoming.take_request(u32::from(*stream));
            }
        }

        if may_be_late && incoming.awaited().is_some_and(|stream| stream % 4 == 3) {
            incoming.expire();
            let output = incoming.output().to_vec();
            shown.extend(&output);
            incoming.show(output.len());
            begun = 0;
        }
    }

    (shown, data)
}

fn check(mut shown: &[u8]) {
    let mut core = Decoder::default();
    let is_dying = shown.ends_with(&[0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    while let Some((header, rest)) = shown.split_first_chunk::<HEADER>() {
        let frame = Frame::read(*header);

        let Some((payload, rest)) = rest.split_at_checked(frame.len) else {
            return;
        };

        if frame.kind == kind::HEADERS && !is_dying {
            let block = if frame.has(0x20) { &payload[5..] } else { payload };

            // The core closes the connection.
            if core.decode(block, |_| Ok(())).is_err() {
                return;
            }
        }

        shown = rest;
    }
}
