//! Owns the tests of a connection's bytes, with clients that say what they like.

use super::super::hpack::{write_number, write_string, Told};
use super::*;

mod parts;
mod properties;

/// What a connection made of its bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    /// What the core was shown.
    shown: Vec<u8>,
    /// What each stream got, in the order of what came: bytes, then windows and ends.
    data: Vec<(u32, Vec<u8>)>,
    padding: Vec<(u32, usize)>,
    ended: Vec<u32>,
    broken: Vec<u32>,
    connects: Vec<(u32, bool)>,
    /// How long blocks were, and are.
    lens: Vec<(usize, usize)>,
}

/// Who takes the CONNECTs that the core is shown.
type Takes = fn(u32) -> bool;

fn feed(incoming: &mut Incoming, made: &mut Made, bytes: &[u8], takes: Takes) {
    let bytes = &mut bytes.to_vec()[..];
    let mut at = 0;

    while at < bytes.len() || incoming.has_more() {
        let Part { len, what } = incoming.next(&mut bytes[at..]);
        let part = &bytes[at..at + len];
        at += len;

        match what {
            What::Passed => made.shown.extend(part),
            What::Taken => (),
            What::Data(stream) => match made.data.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, data)) => data.extend(part),
                None => made.data.push((stream, part.to_vec())),
            },
            What::Padding(stream) => match made.padding.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, padding)) => *padding += len,
                None => made.padding.push((stream, len)),
            },
            What::Ended(stream) => made.ended.push(stream),
            What::Broken(stream) => made.broken.push(stream),
        }

        let output = incoming.output().to_vec();

        // In two pieces.
        for piece in [&output[..output.len() / 2], &output[output.len() / 2..]] {
            made.shown.extend(piece);
            incoming.show(piece.len());
        }

        let stream = incoming.request.as_ref().map(|shown| shown.stream).filter(|&id| takes(id));

        if let Some(shown) = stream.and_then(|stream| incoming.take_request(stream)) {
            made.lens.push((shown.len, shown.said));

            if let Some(connect) = shown.connect {
                made.connects.push((shown.stream, connect.has_ended));
            }
        }
    }
}

fn connection() -> Connection {
    Connection { is_secure: true, server: b"-".to_vec(), keeps_server: false }
}

fn make_pieces(bytes: &[u8], size: usize, takes: Takes) -> Made {
    let (mut incoming, mut made) = (Incoming::new(connection()), Made::default());

    for piece in bytes.chunks(size) {
        feed(&mut incoming, &mut made, piece, takes);
    }

    made
}

fn make(frames: &[Vec<u8>]) -> Made {
    let bytes = [&PREFACE[..], &frames.concat()].concat();
    let made = make_pieces(&bytes, usize::MAX, |_| true);

    for size in [1, 2, 3, 7, 10] {
        assert_eq!(make_pieces(&bytes, size, |_| true), made, "in pieces of {size}");
    }

    Made { shown: made.shown[PREFACE.len()..].to_vec(), ..made }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&Frame { len: payload.len(), kind, flags, stream }.write()[..], payload].concat()
}

fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];

    for (name, value) in list {
        write_number(&mut block, 0x40, 6, 0).unwrap();
        write_string(&mut block, name.as_bytes()).unwrap();
        write_string(&mut block, value.as_bytes()).unwrap();
    }

    block
}

const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "a.example:443")];

fn connect(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &fields(&CONNECT))
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

/// The frames that the core was shown.
fn frames(mut shown: &[u8]) -> Vec<(Frame, Vec<u8>)> {
    let mut frames = vec![];

    while let Some((header, rest)) = shown.split_first_chunk::<HEADER>() {
        let frame = Frame::read(*header);
        let (payload, rest) = rest.split_at(frame.len);
        frames.push((frame, payload.to_vec()));
        shown = rest;
    }

    assert_eq!(shown, b"");
    frames
}

/// The fields in a block that the core was shown.
fn text(block: &[u8]) -> String {
    text_behind(&mut Decoder::default(), block)
}

/// The same for a core that has a table already.
fn text_behind(core: &mut Decoder, block: &[u8]) -> String {
    let mut text = vec![];
    let told = core.decode(block, |field| {
        text.push(format!("{}={}", field.name.escape_ascii(), field.value.escape_ascii()));
        Ok(())
    });
    assert_eq!(told, Ok(Told::All));
    text.join(" ")
}

const DISGUISED: &str = ":method=CONNEC :scheme=https :path=/ :authority=a.example:443";

#[test]
fn other_frames_pass() {
    let all: Vec<_> = [0u8, 2, 3, 4, 6, 7, 8, 10, 255]
        .iter()
        .map(|&kind| frame(kind, 0, 5, &vec![kind; usize::from(kind)]))
        .collect();

    assert_eq!(make(&all), Made { shown: all.concat(), ..Made::default() });
}

#[test]
fn a_connect_is_the_last_frame_of_its_stream() {
    let made = make(&[connect(1), data(1, 0, b"hello"), data(1, 0, b""), data(1, 1, b", world")]);
    let shown = frames(&made.shown);

    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].0.kind, shown[0].0.flags, shown[0].0.stream), (kind::HEADERS, 5, 1));
    assert_eq!(text(&shown[0].1), DISGUISED);
    assert_eq!(made.connects, [(1, false)]);
    assert_eq!(made.data, [(1, b"hello, world".to_vec())]);
    assert_eq!(made.ended, [1]);
}

#[test]
fn a_connect_may_be_all() {
    let flags = flag::END_HEADERS | flag::END_STREAM;
    let made = make(&[frame(kind::HEADERS, flags, 1, &fields(&CONNECT))]);
    assert_eq!(made.connects, [(1, true)]);
    assert_eq!(frames(&made.shown)[0].0.flags, flags);
}

#[test]
fn requests_beside_a_tunnel_are_whole() {
    let get = fields(&[(":method", "GET"), (":path", "/")]);
    let made = make(&[
        connect(1),
        frame(kind::HEADERS, flag::END_HEADERS, 3, &get),
        data(1, 0, b"one"),
        data(3, 0, b"three"),
        data(1, 1, b"one"),
        data(3, 1, b"three"),
    ]);

    let shown = frames(&made.shown);
    assert_eq!(text(&shown[1].1), ":method=GET :path=/");
    assert_eq!(shown[1].0.flags, flag::END_HEADERS);
    assert_eq!(
        shown[2..].iter().map(|(_, data)| &data[..]).collect::<Vec<_>>(),
        [b"three", b"three"]
    );
    assert_eq!(made.data, [(1, b"oneone".to_vec())]);
}

/// Entries of the table included, as long as nothing of it was kept from the core.
#[test]
fn requests_pass_as_they_are() {
    let requests = [
        frame(
            kind::HEADERS,
            5,
            1,
            &[&[0x82, 0x84][..], &fields(&[("a", "b"), ("c", "d")])].concat(),
        ),
        data(1, 0, b"body"),
        frame(kind::HEADERS, 5, 3, &[0x82, 0xbe, 0xbf]),
        frame(kind::HEADERS, 5, 5, &[&fields(&[("e", "f")])[..], &[0xc0, 0x82]].concat()),
        frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 7, &[0, 0, 0, 0, 7, 0x83, 0xc0]),
    ];

    let bytes = [&PREFACE[..], &requests.concat()].concat();
    let made = make_pieces(&bytes, usize::MAX, |_| true);
    assert_eq!(made, Made { shown: bytes.clone(), ..Made::default() });

    for size in [1, 2, 9, 10, 30] {
        assert_eq!(make_pieces(&bytes, size, |_| true), made, "in pieces of {size}");
    }
}

/// What was kept from the core is told in full, and nothing else.
#[test]
fn requests_behind_a_connect_are_what_they_are() {
    let get = frame(kind::HEADERS, 5, 5, &[0x82, 0xbe, 0xc0]);
    let others = frame(kind::HEADERS, 5, 7, &[0x82, 0xc0]);
    let first = frame(kind::HEADERS, 5, 1, &fields(&[("a", "b")]));
    let made = make(&[first, connect(3), get, others]);
    let (shown, mut core) = (frames(&made.shown), Decoder::default());

    assert_eq!(text_behind(&mut core, &shown[0].1), "a=b");
    assert_eq!(text_behind(&mut core, &shown[1].1), DISGUISED);
    assert_eq!(text_behind(&mut core, &shown[2].1), ":method=GET :authority=a.example:443 a=b");
    assert_eq!(shown[3].1, [0x82, 0xbe]);
    assert_eq!(text_behind(&mut core, &shown[3].1), ":method=GET a=b");
}

/// Bits that mean nothing don't matter, nor how they come.
#[test]
fn blocks_with_bits_of_no_meaning_are_shown_without() {
    let block = [0x82, 0x84, 0x86];

    for (flags, reserved) in [(0x44, 0), (0x04, 0x80), (0xd7, 0x80)] {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0, 0, block.len() as u8, kind::HEADERS, flags, reserved, 0, 0, 5]);
        bytes.extend(block);
        let whole = make_pieces(&bytes, bytes.len(), |_| true);

        assert_eq!(make_pieces(&bytes, 1, |_| true), whole);
        assert_eq!(whole.shown[PREFACE.len() + 4] & 0xd2, 0);
        assert!(whole.shown.ends_with(&block));
    }
}

#[test]
fn blocks_may_come_in_pieces_with_padding_and_priority() {
    let block = fields(&CONNECT);
    let first = [&[3u8, 0, 0, 0, 0, 7][..], &block[..10], &[0; 3]].concat();
    let made = make(&[
        frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &first),
        frame(kind::CONTINUATION, 0, 1, b""),
        frame(kind::CONTINUATION, 0, 1, &block[10..20]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block[20..]),
        frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 3, &[&[0u8][..], &block].concat()),
    ]);

    let shown = frames(&made.shown);
    assert_eq!(shown[0].0.flags, flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY);
    assert_eq!(shown[0].1[..5], [0, 0, 0, 0, 7]);
    assert_eq!(text(&shown[0].1[5..]), DISGUISED);
    assert_eq!(text(&shown[1].1), DISGUISED);
    assert_eq!(made.connects, [(1, false), (3, false)]);
}

#[test]
fn padding_counts_for_the_window_alone() {
    let made = make(&[
        connect(1),
        data(1, flag::PADDED, b"\x03abc\0\0\0"),
        data(1, flag::PADDED, b"\x00d"),
        data(1, flag::PADDED | flag::END_STREAM, b"\x02\0\0"),
    ]);

    assert_eq!(made.data, [(1, b"abcd".to_vec())]);
    assert_eq!(made.padding, [(1, 8)]);
    assert_eq!(made.ended, [1]);
}

#[test]
fn trailers_end_a_tunnel() {
    let trailer = fields(&[("a", "b")]);
    let ends = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailer);
    let broken = frame(kind::HEADERS, flag::END_HEADERS, 3, &trailer);
    let made = make(&[connect(1), connect(3), ends, broken]);

    assert_eq!(frames(&made.shown).len(), 2);
    assert_eq!((made.ended, made.broken), (vec![1], vec![3]));
}

/// The table is the connection's: what trailers put into it is what later requests mean.
#[test]
fn trailers_are_decoded() {
    let trailer = fields(&[("name", "value")]);
    let made = make(&[
        connect(1),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &trailer),
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &[0x82, 0xbe]),
    ]);

    assert_eq!(text(&frames(&made.shown)[1].1), ":method=GET name=value");
    assert_eq!(made.lens[1], (2, 1 + 1 + 1 + 4 + 1 + 5));
}

/// Nor do they end the connection when they were on their way as their stream was closed.
#[test]
fn trailers_behind_the_end_are_decoded_too() {
    let (mut incoming, mut made) = (Incoming::new(connection()), Made::default());
    feed(&mut incoming, &mut made, &[&PREFACE[..], &connect(1)].concat(), |_| true);
    incoming.close(1);
    made.shown.clear();

    let trailer = fields(&[("name", "value")]);
    let flags = flag::END_HEADERS | flag::END_STREAM;
    let get = frame(kind::HEADERS, flags, 3, &[0x82, 0xbe]);
    feed(
        &mut incoming,
        &mut made,
        &[frame(kind::HEADERS, flags, 1, &trailer), get].concat(),
        |_| true,
    );

    let shown = frames(&made.shown);
    assert_eq!((shown.len(), shown[0].0.stream), (1, 3));
    assert_eq!(text(&shown[0].1), ":method=GET name=value");
}

#[test]
fn the_preface_may_be_over() {
    let (mut incoming, mut made) = (Incoming::behind_preface(connection()), Made::default());
    feed(&mut incoming, &mut made, &connect(1), |_| true);
    assert_eq!(made.connects, [(1, false)]);
}

#[test]
fn what_the_core_refused_is_the_cores() {
    let bytes =
        [&PREFACE[..], &connect(1), &data(1, 0, b"a"), &connect(3), &data(3, 0, b"b")].concat();
    let made = make_pieces(&bytes, usize::MAX, |stream| stream == 3);
    let shown = frames(&made.shown[PREFACE.len()..]);

    assert_eq!(shown[1], (Frame { len: 1, kind: kind::DATA, flags: 0, stream: 1 }, b"a".to_vec()));
    assert_eq!(shown.len(), 3);
    assert_eq!(made.data, [(3, b"b".to_vec())]);
}

#[test]
fn what_comes_for_a_closed_stream_is_the_cores() {
    let (mut incoming, mut made) = (Incoming::new(connection()), Made::default());
    feed(&mut incoming, &mut made, &[&PREFACE[..], &connect(1)].concat(), |_| true);
    incoming.close(1);
    made.shown.clear();
    feed(&mut incoming, &mut made, &data(1, 1, b"late"), |_| true);

    assert_eq!(made.shown, data(1, 1, b"late"));
    assert_eq!(made.data, []);
}

/// A frame of which the core has not seen the header stays ours to its end.
#[test]
fn a_stream_may_be_closed_within_a_frame() {
    let (mut incoming, mut made) = (Incoming::new(connection()), Made::default());
    let bytes = [&PREFACE[..], &connect(1), &data(1, 1, b"late")].concat();
    let (first, last) = bytes.split_at(bytes.len() - 2);
    feed(&mut incoming, &mut made, first, |_| true);
    incoming.close(1);
    feed(&mut incoming, &mut made, last, |_| true);

    assert_eq!(frames(&made.shown[PREFACE.len()..]).len(), 1);
    assert_eq!(made.data, [(1, b"late".to_vec())]);
    assert_eq!(made.ended, [1]);
}

/// What the core closes a connection for with PROTOCOL_ERROR.
const PROTOCOL_ERROR: Frame = Frame { len: 4, kind: kind::RST_STREAM, flags: 0, stream: 0 };

#[test]
fn a_block_that_grows_much_has_a_continuation() {
    let entry = fields(&[(":method", "GET"), ("host", &"v".repeat(126))]);
    let block = [entry, vec![0xbe; 498]].concat();
    let shown = frames(&make(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &block)]).shown);

    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].0.kind, shown[0].0.flags, shown[0].0.len), (kind::HEADERS, 0, 0xffff));
    assert_eq!((shown[1].0.kind, shown[1].0.flags), (kind::CONTINUATION, flag::END_HEADERS));

    let whole = [&shown[0].1[..], &shown[1].1].concat();
    assert_eq!(text(&whole).matches(" host=v").count(), 499);
}

#[test]
fn what_breaks_the_protocol_closes_the_connection() {
    let begun = frame(kind::HEADERS, 0, 1, &[0x82]);
    let many: Vec<_> = (0..65).map(|_| frame(kind::CONTINUATION, 0, 1, b"")).collect();

    for bad in [
        &[begun.clone(), frame(kind::DATA, 0, 1, b"a")][..],
        &[begun.clone(), frame(6, 0, 0, &[0; 8])],
        &[begun.clone(), frame(kind::CONTINUATION, flag::END_HEADERS, 3, b"a")],
        &[frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"a")],
        &[frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, &[2, 0])],
        &[frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, b"")],
        &[frame(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS, 1, &[0; 4])],
        &[frame(kind::HEADERS, flag::END_HEADERS, 1, &[0; 70_000])],
        &[connect(1), data(1, flag::PADDED, b"")],
        &[connect(1), data(1, flag::PADDED, b"\x01")],
        &[vec![begun.clone()], many].concat(),
    ] {
        let made = make(&[bad, &[connect(5)]].concat());
        assert_eq!(frames(&made.shown).last().map(|(frame, _)| *frame), Some(PROTOCOL_ERROR));
        assert!(!made.connects.iter().any(|(stream, _)| *stream == 5));
    }
}

#[test]
fn a_block_that_is_none_closes_the_connection() {
    let made = make(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xbe]), connect(3)]);
    let shown = frames(&made.shown);
    assert_eq!(shown[0], (Frame { len: 1, kind: kind::HEADERS, flags: 5, stream: 1 }, vec![0x80]));
    assert_eq!(shown[1].0, PROTOCOL_ERROR);
    assert_eq!(shown.len(), 2);

    let made = make(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x40, 5]), connect(3)]);
    assert_eq!(frames(&made.shown)[0].1, [0x10]);
}

/// It has the size of the table to the byte.
#[test]
fn an_entry_may_be_as_large_as_the_table() {
    let (name, value) = ("n".repeat(2016), "v".repeat(2048));
    let flags = flag::END_HEADERS | flag::END_STREAM;
    let first = frame(kind::HEADERS, flags, 1, &fields(&[(&name, &value)]));
    let made = make(&[first, frame(kind::HEADERS, flags, 3, &[0xbe])]);
    let (shown, mut core) = (frames(&made.shown), Decoder::default());
    text_behind(&mut core, &shown[0].1);
    assert_eq!(text_behind(&mut core, &shown[1].1), format!("{name}={value}"));
}

#[test]
fn another_preface_is_the_cores() {
    let bytes = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nand all that follows";
    assert_eq!(make_pieces(bytes, 3, |_| true).shown, bytes);
}
