//! Owns the tests of the relay, with ends that follow a script.

mod held;
mod limits;
mod mock;
mod properties;

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use mock::{Mock, Pipe, Read, Worker, Write, BUFFER};

fn relay() -> Relay<Pipe> {
    Relay::new(vec![], Splice::Off)
}

fn turn(relay: &mut Relay<Pipe>, client: &mut Mock, upstream: &mut Mock) -> Turn {
    relay.turn(client, upstream, &mut Worker::with_pipes(2), usize::MAX, None)
}

fn bytes(text: &str) -> Read {
    Read::Bytes(text.into())
}

#[test]
fn early_bytes_and_response_come_first() {
    let mut relay = Relay::new(b"early ".to_vec(), Splice::Off);
    relay.begin_with(b"200 ".to_vec());

    let mut client = Mock::reading([bytes("late")]);
    let mut upstream = Mock::reading([bytes("hello")]);

    let turn = turn(&mut relay, &mut client, &mut upstream);

    assert_eq!(turn, Turn { next: Next::Wait, to_upstream: 10, to_client: 9, from_upstream: 5 });
    assert_eq!(upstream.got, b"early late");
    assert_eq!(client.got, b"200 hello");
    assert_eq!(relay.held(), 0);
}

#[test]
fn an_end_of_file_is_a_half_close() {
    let mut relay = relay();
    let mut client = Mock::reading([bytes("question"), Read::Eof]);
    let mut upstream = Mock::default();

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"question"[..], 1));
    assert_eq!(client.shut, 0);

    upstream.reads = [bytes("answer"), Read::Eof].into();

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Client)));
    assert_eq!((client.got.as_slice(), client.shut), (&b"answer"[..], 1));
}

#[test]
fn a_shutdown_waits_for_the_data_before_it() {
    let mut relay = relay();
    let mut client = Mock::reading([bytes("abcdef"), Read::Eof]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((relay.held(), upstream.shut), (4, 0));
    assert!(relay.waits_for(Side::Upstream) && !relay.waits_for(Side::Client));

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((relay.held(), upstream.shut), (0, 1));
    assert_eq!(upstream.got, b"abcdef");
}

#[test]
fn a_blocked_shutdown_is_tried_again() {
    let mut relay = relay();
    let mut client = Mock::reading([Read::Eof]);
    let mut upstream = Mock::reading([Read::Eof]).writing([Write::Blocked]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert!(relay.waits_for(Side::Upstream) && !relay.waits_for(Side::Client));
    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Client)));
    assert_eq!((client.shut, upstream.shut), (1, 1));
}

#[test]
fn a_full_sink_stops_the_reading() {
    let mut relay = relay();
    let mut client = Mock::reading((0..100).map(|_| Read::Bytes(vec![7; BUFFER])));
    let mut upstream = Mock::default().writing([Write::Bytes(10), Write::Blocked]);

    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(relay.held(), BUFFER - 10);
    assert_eq!(client.reads.len(), 99);
}

#[test]
fn a_budget_ends_the_turn() {
    let mut relay = relay();
    let mut client = Mock::reading((0..100).map(|_| Read::Bytes(vec![7; BUFFER])));
    let mut upstream = Mock::default();

    let turn = relay.turn(&mut client, &mut upstream, &mut Worker::with_pipes(0), 3 * BUFFER, None);

    assert_eq!(turn.next, Next::Yield { client: true, upstream: false });
    assert_eq!(turn.to_upstream, 3 * BUFFER);
}

#[test]
fn a_reset_of_a_source_ends_both_directions() {
    for side in [Side::Client, Side::Upstream] {
        let mut relay = relay();
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
    let mut relay = relay();
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
    let mut relay = relay();
    let mut client = Mock::reading([bytes("more")]);
    let mut upstream = Mock::reading([bytes("rest"), Read::Eof]).writing([Write::Broken]);

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Upstream)));
    assert_eq!((client.got.as_slice(), client.shut), (&b"rest"[..], 0));
}

#[test]
fn nothing_is_read_for_a_broken_sink() {
    let mut relay = relay();
    let mut client = Mock::reading([bytes("a"), bytes("b"), bytes("c")]);
    let mut upstream = Mock::default().writing([Write::Broken]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!(client.reads.len(), 2);
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(client.reads.len(), 2);
}

fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn small_messages_are_copied() {
    // A message may be small and fill the buffer.
    for message in [b"ping".to_vec(), stream(BUFFER)] {
        let mut relay = Relay::new(vec![], Splice::Auto);
        let reads = [Read::Bytes(message.clone()), Read::Blocked];
        let mut client = Mock::reading(reads.into_iter().cycle().take(100));
        let mut upstream = Mock::default();

        for _ in 0..50 {
            turn(&mut relay, &mut client, &mut upstream);
        }

        assert_eq!((upstream.got.len(), upstream.piped), (50 * message.len(), 0));
    }
}

#[test]
fn two_full_reads_that_were_sent_bring_a_pipe() {
    let mut relay = Relay::new(vec![], Splice::Auto);
    let all = stream(10 * BUFFER);
    let mut client = Mock::reading([Read::Bytes(all.clone())]);
    let mut upstream = Mock::default();

    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!((upstream.got, upstream.piped), (all, 8 * BUFFER));
}

#[test]
fn a_sink_that_does_not_take_a_full_read_brings_no_pipe() {
    let mut relay = Relay::new(vec![], Splice::Auto);
    let mut client = Mock::reading((0..4).map(|_| Read::Bytes(stream(BUFFER))));
    let writes = [Write::Bytes(BUFFER), Write::Bytes(1), Write::Blocked];
    let mut upstream = Mock::default().writing(writes.into_iter().cycle().take(12));

    for _ in 0..4 {
        turn(&mut relay, &mut client, &mut upstream);
    }

    assert_eq!(upstream.piped, 0);
}

#[test]
fn messages_that_are_worth_a_pipe_keep_to_it() {
    const MESSAGE: usize = 32 * 1024;

    let mut relay = Relay::new(vec![], Splice::Auto);
    let (mut client, mut upstream) = (Mock::default(), Mock::default());

    for _ in 0..3 {
        client.reads = [Read::Bytes(stream(MESSAGE)), Read::Blocked].into();
        turn(&mut relay, &mut client, &mut upstream);

        // The answer, which is none of this direction's affair.
        upstream.reads = [bytes("pong"), Read::Blocked].into();
        turn(&mut relay, &mut client, &mut upstream);
    }

    assert_eq!((upstream.got.len(), upstream.piped), (3 * MESSAGE, 3 * MESSAGE - 2 * BUFFER));
    assert_eq!(client.got.len(), 3 * 4);
    // Whether there is more than such a message is not asked with a pipe.
    assert_eq!(client.fills, 3);
}

#[test]
fn a_large_burst_keeps_to_pipes_and_a_small_one_ends_them() {
    let mut relay = Relay::new(vec![], Splice::Auto);
    let mut client = Mock::reading([Read::Bytes(stream(200 * 1024)), Read::Blocked]);
    let mut upstream = Mock::default();

    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(upstream.piped, 200 * 1024 - 2 * BUFFER);

    client.reads = [bytes("small"), Read::Blocked].into();
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(upstream.piped, 200 * 1024 - 2 * BUFFER + 5);

    client.reads = [bytes("small again"), Read::Blocked].into();
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(upstream.piped, 200 * 1024 - 2 * BUFFER + 5);
}

#[test]
fn without_pipes_everything_is_copied() {
    let mut relay = Relay::new(vec![], Splice::On);
    let all = stream(10 * BUFFER);
    let mut client = Mock::reading([Read::Bytes(all.clone()), Read::Eof]);
    let mut upstream = Mock::reading([Read::Eof]);

    let last = relay.turn(&mut client, &mut upstream, &mut Worker::with_pipes(0), usize::MAX, None);

    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Client)));
    assert_eq!((upstream.got, upstream.piped), (all, 0));
}

#[test]
fn a_pipe_takes_two_ends_that_work_with_it() {
    for needs in [(true, false), (false, true), (true, true)] {
        let mut relay = Relay::new(vec![], Splice::On);
        let mut worker = Worker::with_pipes(2);
        let all = stream(10 * BUFFER);
        let mut client = Mock::reading([Read::Bytes(all.clone()), Read::Eof]);
        let mut upstream = Mock::default();
        (client.needs_copies, upstream.needs_copies) = needs;

        relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
        assert_eq!((upstream.got, upstream.piped, upstream.shut), (all, 0, 1));
        assert_eq!((client.fills, worker.out), (0, 0));
    }
}

#[test]
fn a_pipe_is_held_only_while_its_bytes_wait() {
    let mut relay = Relay::new(vec![], Splice::On);
    let mut worker = Worker::with_pipes(2);
    let mut client = Mock::reading([bytes("abcdef"), Read::Eof]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
    assert_eq!((worker.out, relay.held(), upstream.shut), (1, 4, 0));

    relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
    assert_eq!((worker.out, worker.tainted, upstream.shut), (0, false, 1));
    assert_eq!(upstream.got, b"abcdef");
}

#[test]
fn a_pipe_with_bytes_for_a_broken_sink_is_never_used_again() {
    let mut relay = Relay::new(vec![], Splice::On);
    let mut worker = Worker::with_pipes(2);
    let mut client = Mock::reading([bytes("secret")]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Broken]);

    relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
    assert_eq!((worker.out, worker.tainted, relay.held()), (1, false, 0));
}

#[test]
fn a_pipe_keeps_what_a_source_sent_before_it_broke() {
    let mut relay = Relay::new(vec![], Splice::On);
    let mut worker = Worker::with_pipes(1);
    let mut client = Mock::default().writing([Write::Bytes(3), Write::Blocked]);
    let mut upstream = Mock::reading([bytes("the answer"), Read::Broken]);

    let first = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
    assert_eq!(first.next, Next::Wait);

    let last = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Upstream)));
    assert_eq!(client.got, b"the answer");
}

#[test]
fn the_last_end_of_file_needs_no_shutdown_where_closing_tells_it() {
    for ends_by_closing in [true, false] {
        let mut relay = relay();
        let mut client = Mock { ends_by_closing, ..Mock::reading([Read::Eof]) };
        let mut upstream = Mock { ends_by_closing, ..Mock::reading([bytes("rest"), Read::Eof]) };

        let last = turn(&mut relay, &mut client, &mut upstream);
        assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Client)));
        assert_eq!((upstream.shut, client.shut), (1, usize::from(!ends_by_closing)));
        assert_eq!(client.got, b"rest");
    }
}

#[test]
fn who_came_to_the_end_first_is_told() {
    let mut relay = relay();
    let mut client = Mock::default();
    let mut upstream = Mock::reading([Read::Eof]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    client.reads.push_back(Read::Eof);

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Upstream)));
}
