//! Owns the tests of the records that a ClientHello comes in, and of what is none.

use super::*;

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
