//! Owns the tests of blocks of which a part has come, and maybe no more.

use super::*;
use crate::http2::incoming::fatal::INVALID_BLOCK;

/// A core that is shown nothing of a block would not wait for its end, but for another request.
#[test]
fn a_block_that_is_not_whole_is_announced() {
    let get = fields(&[(":method", "GET")]);
    let begun = frame(kind::HEADERS, 0, 1, &get[..3]);
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 1, &get[3..]);
    let bytes = [&PREFACE[..], &begun, &rest].concat();
    let whole = make_pieces(&bytes, usize::MAX, |_| true).shown;

    for cut in PREFACE.len() + HEADER..bytes.len() {
        let (mut incoming, mut made) = (Incoming::new(connection()), Made::default());
        feed(&mut incoming, &mut made, &bytes[..cut], |_| true);
        assert_eq!(made.shown, whole[..=PREFACE.len()], "{cut} bytes");
        feed(&mut incoming, &mut made, &bytes[cut..], |_| true);
        assert_eq!(made.shown, whole);
    }

    // Of trailers the core is shown nothing at all.
    let (mut incoming, mut made) = (Incoming::behind_preface(connection()), Made::default());
    feed(&mut incoming, &mut made, &connect(1), |_| true);
    let len = made.shown.len();
    feed(&mut incoming, &mut made, &begun, |_| true);
    assert_eq!(made.shown.len(), len);
}

/// A request whose block becomes an entry of the table, in frames, and another that refers to it.
fn late() -> (Vec<u8>, Vec<u8>) {
    let block = fields(&[(":method", "GET"), ("x-late", "value")]);
    let begun = frame(kind::HEADERS, 0, 1, &block[..9]);
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[9..]);
    let next =
        frame(kind::HEADERS, flag::END_HEADERS, 3, &[&fields(&CONNECT)[..], &[0xc0]].concat());

    ([begun, rest].concat(), next)
}

#[test]
fn a_block_that_takes_too_long_is_dropped() {
    let (late, next) = late();

    for cut in HEADER..late.len() {
        let (mut incoming, mut made) = (Incoming::behind_preface(connection()), Made::default());
        assert_eq!(incoming.expire(), None);

        feed(&mut incoming, &mut made, &late[..cut], |_| true);
        assert_eq!(incoming.awaited(), Some(1));
        assert_eq!(incoming.expire(), Some(1), "{cut} bytes");
        assert_eq!(incoming.awaited(), None);
        assert_eq!(incoming.expire(), None);

        made.shown.extend(incoming.output());
        incoming.show(incoming.output().len());
        feed(&mut incoming, &mut made, &[&late[cut..], &next].concat(), |_| true);

        let shown = frames(&made.shown);
        assert_eq!(shown.len(), 2, "{cut} bytes: {shown:?}");
        assert_eq!((shown[0].0.kind, shown[0].0.flags), (kind::PING, flag::ACK));
        assert!(text(&shown[1].1).contains("x-late=value"), "{}", text(&shown[1].1));
        assert_eq!(made.connects, [(3, false)]);
    }
}

/// The core may not have seen what it was told of, either.
#[test]
fn what_was_announced_may_not_be_shown_yet() {
    let (late, next) = late();
    let mut incoming = Incoming::behind_preface(connection());
    let mut made = Made::default();
    let mut begun = late[..12].to_vec();
    let mut at = 0;

    while at < begun.len() {
        at += incoming.next(&mut begun[at..]).len;
    }

    assert_eq!(incoming.output(), LENGTH);
    assert_eq!(incoming.expire(), Some(1));
    assert_eq!(incoming.output(), frame::pong());
    made.shown.extend(incoming.output());
    incoming.show(incoming.output().len());

    feed(&mut incoming, &mut made, &[&late[12..], &next].concat(), |_| true);
    assert_eq!(frames(&made.shown).len(), 2);
}

#[test]
fn the_late_block_of_no_new_stream_closes_the_connection() {
    for (before, stream) in [(vec![], 2), (connect(5), 3), (late().0, 1)] {
        let (mut incoming, mut made) = (Incoming::behind_preface(connection()), Made::default());
        feed(&mut incoming, &mut made, &before, |_| true);
        feed(&mut incoming, &mut made, &frame(kind::HEADERS, 0, stream, &[0x82]), |_| true);
        assert_eq!(incoming.expire(), None);

        made.shown.extend(incoming.output());
        assert_eq!(frames(&made.shown).last().map(|(frame, _)| *frame), Some(PROTOCOL_ERROR));
    }
}

/// Its end is not waited for.
#[test]
fn what_can_become_no_block_closes_the_connection() {
    for begun in
        [&[0xff; 4][..], &[0x82, 0x00, 0xff, 0xff, 0xff, 0xff], &[0x42, 0xff, 0xff, 0xff, 0xff]]
    {
        let bytes =
            [&Frame { len: 100, kind: kind::HEADERS, flags: 4, stream: 1 }.write()[..], begun];

        for size in [1, 2, 100] {
            let (mut incoming, mut made) =
                (Incoming::behind_preface(connection()), Made::default());
            bytes
                .concat()
                .chunks(size)
                .for_each(|piece| feed(&mut incoming, &mut made, piece, |_| true));

            let shown = frames(&made.shown);
            assert_eq!(shown.len(), 2, "{begun:?} in pieces of {size}");
            assert_eq!((shown[0].0.kind, &shown[0].1[..]), (kind::HEADERS, INVALID_BLOCK));
            assert_eq!(shown[1].0, PROTOCOL_ERROR);
        }
    }
}

/// However the bytes come, and whatever else is wrong.
#[test]
fn that_is_found_first() {
    let bad = [0x82, 0xff, 0xff, 0xff, 0xff];
    let padded = [&[2][..], &bad, &[0xff; 2]].concat();

    for frames_of in [
        &[frame(kind::HEADERS, 0, 1, &bad), data(1, 0, b"a")][..],
        &[frame(kind::HEADERS, flag::PADDED, 1, &padded), data(1, 0, b"a")],
        &[frame(kind::HEADERS, 0, 1, &[&bad[..], &[0x82; 70_000]].concat())],
        &[
            frame(kind::HEADERS, 0, 1, &bad[..3]),
            frame(kind::CONTINUATION, 0, 1, &bad[3..]),
            data(1, 0, b"a"),
        ],
    ] {
        let shown = frames(&make(frames_of).shown);
        assert_eq!((shown[0].0.kind, &shown[0].1[..]), (kind::HEADERS, INVALID_BLOCK));
    }
}

/// What may be padding is not looked at.
#[test]
fn padding_is_no_field() {
    let payload = [&[4][..], &fields(&[(":method", "GET")]), &[0xff; 4]].concat();
    let made = make(&[frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 1, &payload)]);
    assert_eq!(text(&frames(&made.shown)[0].1), ":method=GET");
}
