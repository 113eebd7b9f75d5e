//! Owns the properties of what is read of any bytes, however they come.

use super::*;

fn host() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9_-]{1,20}){0,5}"
}

/// Extensions that nobody reads here, of any length.
fn others() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let other = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..300));
    let other = other.prop_map(|(number, data)| {
        (if [0, 16, 43].contains(&number) { 0x0a0a } else { number }, data)
    });
    prop::collection::vec(other, 0..20)
}

proptest! {
    /// Whatever comes, in whatever pieces: there is an answer, no panic, and all bytes are kept as they came.
    #[test]
    fn anything_has_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..100) {
        let mut preread = Preread::default();

        for piece in bytes.chunks(size) {
            prop_assert!(preread.push(piece).is_ok());
        }

        let _ = preread.opening();
        let _ = ClientHello::read(&bytes);
        prop_assert_eq!(preread.into_bytes(), bytes);
    }

    /// A hello is read the same however it is cut into records and segments, and is whole with its last byte.
    #[test]
    fn however_it_is_cut(
        name in host(),
        protocols in prop::collection::vec("[a-z0-9/.]{1,20}", 0..5),
        before in others(),
        behind in others(),
        in_record in 1usize..400,
        in_segment in 1usize..400,
    ) {
        let words: Vec<_> = protocols.iter().map(String::as_bytes).collect();
        let mut extensions = before;
        extensions.extend([server_name(name.as_bytes()), alpn(&words)]);
        extensions.extend(behind);

        let bytes = records(&message(&body(&extensions)), in_record);
        let mut preread = Preread::default();
        let mut pushed = 0;

        for piece in bytes.chunks(in_segment) {
            pushed += piece.len();
            prop_assert_eq!(preread.push(piece), Ok(pushed == bytes.len()));
        }

        let Opening::Tls(hello) = preread.opening() else {
            return Err(TestCaseError::fail(format!("{:?}", preread.opening())));
        };

        let canonical = name.to_ascii_lowercase();
        prop_assert_eq!(name_of(&hello), Some(canonical.as_bytes()));
        prop_assert_eq!(hello.alpn.to_string(), protocols.join(","));
        prop_assert_eq!(preread.into_bytes(), bytes);
    }

    /// However what follows a hello is cut: all up to a second one goes on, in order, and no byte of that.
    #[test]
    fn a_second_hello_stays(
        before in prop::collection::vec((20u8..25, prop::collection::vec(any::<u8>(), 0..200)), 0..10),
        size in 1usize..300,
    ) {
        let before: Vec<u8> = before
            .iter()
            .filter(|(content_type, _)| *content_type != 22)
            .flat_map(|(content_type, data)| record(*content_type, data))
            .collect();
        let hello = record(22, &message(&sample(Some("b.example"))));
        let mut retry = Retry::new(true);
        let (mut passed, mut found) = (Vec::new(), Found::Nothing);

        for piece in [&before[..], &hello[..]].concat().chunks(size) {
            let is_over = found != Found::Nothing;
            let now = retry.push(piece);
            found = if is_over { found } else { now.unwrap_or(Found::Other) };
            passed.extend(retry.take_passed().unwrap_or_default());
        }

        prop_assert_eq!(found, Found::Hello);
        prop_assert_eq!(passed, before);
        prop_assert_eq!(retry.into_bytes(), hello);
    }

    /// Whatever follows a hello: no panic, and all bytes are there, in order.
    #[test]
    fn anything_may_follow(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1usize..100, early in any::<bool>()) {
        let mut retry = Retry::new(early);
        let mut all = Vec::new();

        for piece in bytes.chunks(size) {
            prop_assert!(retry.push(piece).is_ok());
            all.extend(retry.take_passed().unwrap_or_default());
        }

        all.extend(retry.into_bytes());
        prop_assert_eq!(all, bytes);
    }

    /// A byte that is changed anywhere in a real hello leads to no panic, and never to a name that is none.
    #[test]
    fn a_changed_byte_is_harmless(which in 0usize..15, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let corpus = corpus();
        let mut bytes = corpus[which % corpus.len()].1.clone();
        let place = place.index(bytes.len());
        bytes[place] = byte;

        if let Opening::Tls(hello) = opening(&bytes) {
            let name = hello.server_name.map(|name| name.to_string()).unwrap_or_default();
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)));
            prop_assert!(hello.alpn.as_bytes().iter().all(u8::is_ascii_graphic));
        }
    }

    /// Where this reader finds a name, rustls does not find another one.
    #[test]
    #[cfg(not(miri))]
    fn no_server_finds_another_name(which in 0usize..15, places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let corpus = corpus();
        let mut bytes = corpus[which % corpus.len()].1.clone();

        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }

        if let (Opening::Tls(hello), Some((Some(name), _))) = (opening(&bytes), of_rustls(&bytes)) {
            let ours = hello.server_name.map(|name| name.to_string());
            prop_assert_eq!(ours, Some(name.trim_end_matches('.').to_owned()));
        }
    }
}
