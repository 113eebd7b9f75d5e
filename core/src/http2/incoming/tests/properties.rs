//! Owns the properties of a connection's bytes, with clients that do one thing after another.

use proptest::prelude::*;

use super::*;

/// What a client does next.
#[derive(Clone, Debug)]
enum Act {
    Connect { padding: u8, priority: bool, cut: usize },
    Get { cut: usize },
    Data { stream: usize, len: usize, padding: Option<u8>, last: bool },
    Other { kind: u8, len: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0u8..9, any::<bool>(), 0usize..80).prop_map(|(padding, priority, cut)| Act::Connect { padding, priority, cut }),
        1 => (0usize..40).prop_map(|cut| Act::Get { cut }),
        6 => (0usize..8, 0usize..300, proptest::option::of(0u8..20), proptest::bool::weighted(0.1))
            .prop_map(|(stream, len, padding, last)| Act::Data { stream, len, padding, last }),
        1 => (10u8..20, 0usize..40).prop_map(|(kind, len)| Act::Other { kind, len }),
    ]
}

/// A client, and what is to become of what it sends.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    next: u32,
    /// Each stream, whether it is a CONNECT's, its bytes, whether it has ended.
    streams: Vec<(u32, bool, Vec<u8>, bool)>,
    others: usize,
}

impl Model {
    fn headers(&mut self, list: &[(&str, &str)], padding: u8, priority: bool, cut: usize) {
        let block = fields(list);
        let cut = cut.min(block.len());
        let stream = 2 * self.next + 1;
        self.next += 1;

        let is_whole = cut == block.len();
        let mut payload = if padding > 0 { vec![padding - 1] } else { vec![] };
        payload.extend(if priority { &[0u8; 5][..] } else { &[] });
        payload.extend(&block[..cut]);
        payload.extend(vec![0; usize::from(padding.saturating_sub(1))]);

        let flags = [
            (padding > 0, flag::PADDED),
            (priority, flag::PRIORITY),
            (is_whole, flag::END_HEADERS),
        ];
        let flags = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum();
        self.bytes.extend(frame(kind::HEADERS, flags, stream, &payload));

        if !is_whole {
            self.bytes.extend(frame(kind::CONTINUATION, flag::END_HEADERS, stream, &block[cut..]));
        }

        self.streams.push((stream, list.len() == 2 && list[0].1 == "CONNECT", vec![], false));
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Connect { padding, priority, cut } => {
                self.headers(&CONNECT, padding, priority, cut)
            }
            Act::Get { cut } => self.headers(&[(":method", "GET"), (":path", "/a")], 0, false, cut),
            Act::Other { kind, len } => {
                self.others += 1;
                self.bytes.extend(frame(kind, 0, 0, &vec![kind; len]));
            }
            Act::Data { stream, len, padding, last } => {
                let place = stream.min(self.streams.len().saturating_sub(1));
                let Some((stream, _, all, ended)) = self.streams.get_mut(place).filter(|s| !s.3)
                else {
                    return;
                };

                let bytes: Vec<u8> = (0..len).map(|n| (n + all.len()) as u8).collect();
                all.extend(&bytes);
                *ended = last;

                let mut flags = u8::from(last);
                let mut payload = vec![];

                if let Some(padding) = padding {
                    flags |= flag::PADDED;
                    payload.push(padding);
                    payload.extend(&bytes);
                    payload.extend(vec![0; usize::from(padding)]);
                } else {
                    payload = bytes;
                }

                self.bytes.extend(frame(kind::DATA, flags, *stream, &payload));
            }
        }
    }
}

proptest! {
    /// Whatever the frames and the cuts between reads: tunnels get their bytes, the core all others, in frames
    /// that are whole.
    #[test]
    fn tunnels_get_their_bytes_and_the_core_the_others(
        acts in proptest::collection::vec(act(), 0..40), size in 1usize..200
    ) {
        let mut model = Model { bytes: PREFACE.to_vec(), ..Model::default() };
        acts.into_iter().for_each(|act| model.act(act));

        let made = make_pieces(&model.bytes, size, |_| true);
        let shown = frames(&made.shown[PREFACE.len()..]);

        prop_assert_eq!(shown.iter().filter(|(frame, _)| frame.kind >= 10).count(), model.others);

        for (stream, is_connect, bytes, ended) in model.streams {
            let got: Vec<u8> = made.data.iter().filter(|(of, _)| *of == stream).flat_map(|(_, b)| b.clone()).collect();
            let headers = shown.iter().find(|(f, _)| f.kind == kind::HEADERS && f.stream == stream);
            let (headers, _) = headers.unwrap();

            if is_connect {
                prop_assert_eq!(got, bytes);
                prop_assert_eq!(made.ended.contains(&stream), ended);
                prop_assert!(headers.has(flag::END_STREAM));
                prop_assert!(!shown.iter().any(|(f, _)| f.kind == kind::DATA && f.stream == stream));
            } else {
                prop_assert!(got.is_empty() && !headers.has(flag::END_STREAM));
            }
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes: Vec<u8>, size in 1usize..50) {
        make_pieces(&[&PREFACE[..], &bytes].concat(), size, |stream| stream % 4 == 1);
    }
}
