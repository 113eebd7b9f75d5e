//! Owns the tests of the relay, with ends that follow a script.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const BUFFER: usize = 64;

/// What an end does when it is read from, in order; after the script it blocks.
#[derive(Clone, Debug)]
enum Read {
    Bytes(Vec<u8>),
    Blocked,
    Eof,
    Broken,
}

/// What an end does when it is written to, in order; after the script it takes everything.
#[derive(Clone, Copy, Debug)]
enum Write {
    Bytes(usize),
    Blocked,
    Broken,
}

#[derive(Debug, Default)]
struct Mock {
    reads: VecDeque<Read>,
    writes: VecDeque<Write>,
    got: Vec<u8>,
    shut: usize,
    /// A call that a careful relay never makes.
    misuse: Option<&'static str>,
}

impl Mock {
    fn reading(reads: impl IntoIterator<Item = Read>) -> Self {
        Self { reads: reads.into_iter().collect(), ..Self::default() }
    }

    fn writing(mut self, writes: impl IntoIterator<Item = Write>) -> Self {
        self.writes = writes.into_iter().collect();
        self
    }
}

impl End for Mock {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self.reads.pop_front() {
            None | Some(Read::Blocked) => Received::Blocked,
            Some(Read::Broken) => Received::Broken,
            Some(Read::Eof) => {
                if self.reads.iter().any(|read| matches!(read, Read::Bytes(_))) {
                    self.misuse = Some("script reads after the end of file");
                }
                Received::Eof
            }
            Some(Read::Bytes(mut bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);

                if n < bytes.len() {
                    self.reads.push_front(Read::Bytes(bytes.split_off(n)));
                }

                Received::Bytes(n)
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        if bytes.is_empty() {
            self.misuse = Some("an empty send");
        }

        if self.shut > 0 {
            self.misuse = Some("a send after the shutdown");
        }

        let n = match self.writes.pop_front() {
            None => bytes.len(),
            Some(Write::Bytes(n)) => n.clamp(1, bytes.len()),
            Some(Write::Blocked) => return Sent::Blocked,
            Some(Write::Broken) => return Sent::Broken,
        };

        self.got.extend_from_slice(&bytes[..n]);
        Sent::Bytes(n)
    }

    fn shutdown(&mut self) -> Shut {
        match self.writes.pop_front() {
            Some(Write::Blocked) => return Shut::Blocked,
            Some(Write::Broken) => return Shut::Broken,
            _ => (),
        }

        self.shut += 1;
        Shut::Done
    }
}

fn turn(relay: &mut Relay, client: &mut Mock, upstream: &mut Mock) -> Turn {
    relay.turn(client, upstream, &mut [0; BUFFER], usize::MAX)
}

fn bytes(text: &str) -> Read {
    Read::Bytes(text.into())
}

#[test]
fn early_bytes_and_response_come_first() {
    let mut relay = Relay::new(b"early ".to_vec(), b"200 ".to_vec());
    let mut client = Mock::reading([bytes("late")]);
    let mut upstream = Mock::reading([bytes("hello")]);

    let turn = turn(&mut relay, &mut client, &mut upstream);

    assert_eq!(turn, Turn { next: Next::Wait, to_upstream: 10, to_client: 9 });
    assert_eq!(upstream.got, b"early late");
    assert_eq!(client.got, b"200 hello");
    assert_eq!(relay.held(), 0);
}

#[test]
fn an_end_of_file_is_a_half_close() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([bytes("question"), Read::Eof]);
    let mut upstream = Mock::default();

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"question"[..], 1));
    assert_eq!(client.shut, 0);

    upstream.reads = [bytes("answer"), Read::Eof].into();

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished));
    assert_eq!((client.got.as_slice(), client.shut), (&b"answer"[..], 1));
}

#[test]
fn a_shutdown_waits_for_the_data_before_it() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([bytes("abcdef"), Read::Eof]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((relay.held(), upstream.shut), (4, 0));

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((relay.held(), upstream.shut), (0, 1));
    assert_eq!(upstream.got, b"abcdef");
}

#[test]
fn a_blocked_shutdown_is_tried_again() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([Read::Eof]);
    let mut upstream = Mock::reading([Read::Eof]).writing([Write::Blocked]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished));
    assert_eq!((client.shut, upstream.shut), (1, 1));
}

#[test]
fn a_full_sink_stops_the_reading() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading((0..100).map(|_| Read::Bytes(vec![7; BUFFER])));
    let mut upstream = Mock::default().writing([Write::Bytes(10), Write::Blocked]);

    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(relay.held(), BUFFER - 10);
    assert_eq!(client.reads.len(), 99);
}

#[test]
fn a_budget_ends_the_turn() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading((0..100).map(|_| Read::Bytes(vec![7; BUFFER])));
    let mut upstream = Mock::default();

    let turn = relay.turn(&mut client, &mut upstream, &mut [0; BUFFER], 3 * BUFFER);

    assert_eq!(turn.next, Next::Yield { client: true, upstream: false });
    assert_eq!(turn.to_upstream, 3 * BUFFER);
}

#[test]
fn a_reset_of_a_source_ends_both_directions() {
    for side in [Side::Client, Side::Upstream] {
        let mut relay = Relay::new(vec![], vec![]);
        let mut source = Mock::reading([bytes("last words"), Read::Broken]);
        let mut sink = Mock::default();

        let last = match side {
            Side::Client => turn(&mut relay, &mut source, &mut sink),
            Side::Upstream => turn(&mut relay, &mut sink, &mut source),
        };

        assert_eq!(last.next, Next::Over(Outcome::Reset(side)));
        assert_eq!(sink.got, b"last words");
        assert_eq!(sink.shut, 0);
    }
}

#[test]
fn what_a_broken_upstream_sent_before_is_delivered() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([bytes("more")]).writing([Write::Bytes(3), Write::Blocked]);
    let mut upstream = Mock::reading([bytes("the answer"), Read::Broken]).writing([Write::Broken]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!(relay.held(), 7);

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Upstream)));
    assert_eq!(client.got, b"the answer");
}

#[test]
fn the_end_of_a_broken_upstream_is_no_end_of_file() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([bytes("more")]);
    let mut upstream = Mock::reading([bytes("rest"), Read::Eof]).writing([Write::Broken]);

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Upstream)));
    assert_eq!((client.got.as_slice(), client.shut), (&b"rest"[..], 0));
}

#[test]
fn nothing_is_read_for_a_broken_sink() {
    let mut relay = Relay::new(vec![], vec![]);
    let mut client = Mock::reading([bytes("a"), bytes("b"), bytes("c")]);
    let mut upstream = Mock::default().writing([Write::Broken]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!(client.reads.len(), 2);
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(client.reads.len(), 2);
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let read = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..3 * BUFFER).prop_map(Read::Bytes),
        1 => Just(Read::Blocked),
    ];
    prop::collection::vec(read, 0..20)
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (1usize..2 * BUFFER).prop_map(Write::Bytes),
        1 => Just(Write::Blocked),
    ];
    prop::collection::vec(write, 0..60)
}

fn content(reads: &[Read]) -> Vec<u8> {
    let chunks = reads.iter().filter_map(|read| match read {
        Read::Bytes(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    chunks.flatten().copied().collect()
}

proptest! {
    /// However the bytes come in pieces and the ends block: all arrives, in order, once, with
    /// one end of file behind it, and no more than one buffer is held each way.
    #[test]
    fn nothing_is_lost(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        budget in 1usize..4 * BUFFER,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        let mut relay = Relay::new(vec![], vec![]);
        let (mut moved_up, mut moved_down) = (0, 0);
        let mut over = None;

        for _ in 0..10_000 {
            let turn = relay.turn(&mut client, &mut upstream, &mut [0; BUFFER], budget);
            moved_up += turn.to_upstream;
            moved_down += turn.to_client;
            prop_assert!(relay.held() <= 2 * BUFFER);

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }
        }

        prop_assert_eq!(over, Some(Outcome::Finished));
        prop_assert_eq!((moved_up, moved_down), (sent_up.len(), sent_down.len()));
        prop_assert_eq!((&upstream.got, upstream.shut), (&sent_up, 1));
        prop_assert_eq!((&client.got, client.shut), (&sent_down, 1));
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }

    /// Wherever an end breaks: the tunnel ends with that side's reset, and what was delivered
    /// before is a prefix of what was sent.
    #[test]
    fn a_break_anywhere_ends_the_tunnel(
        up in reads(),
        down in reads(),
        to_client in writes(),
        break_client in any::<bool>(),
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up);
        let mut upstream = Mock::reading(down).writing(to_client);
        let (broken, side) = if break_client {
            (&mut client, Side::Client)
        } else {
            (&mut upstream, Side::Upstream)
        };
        broken.reads.push_back(Read::Broken);
        let mut relay = Relay::new(vec![], vec![]);
        let mut over = None;

        for _ in 0..10_000 {
            if let Next::Over(outcome) = turn(&mut relay, &mut client, &mut upstream).next {
                over = Some(outcome);
                break;
            }
        }

        prop_assert_eq!(over, Some(Outcome::Reset(side)));
        prop_assert!(sent_up.starts_with(&upstream.got));
        prop_assert!(sent_down.starts_with(&client.got));
        let complete = if break_client {
            upstream.got == sent_up
        } else {
            client.got == sent_down
        };
        prop_assert!(complete, "bytes before the reset belong to the other side");
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }
}
