//! Owns the tests of the relay, with ends that follow a script.

mod mock;

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

#[test]
fn what_is_held_does_not_reach_the_upstream() {
    let mut relay = Relay::new(b"early ".to_vec(), Splice::Off);
    assert_eq!(relay.hold(), b"early ");

    let mut client = Mock::reading([bytes("late"), Read::Eof]);
    let mut upstream = Mock::reading([bytes("hello"), Read::Eof]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    assert_eq!((client.got.as_slice(), client.shut), (&b"hello"[..], 1));
    assert_eq!((client.reads.len(), upstream.got.len(), upstream.shut), (2, 0, 0));
    assert!(!relay.waits_for(Side::Upstream));

    assert!(relay.release(b"early and more ".to_vec(), false).is_ok());
    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"early and more late"[..], 1));
    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Upstream)));
}

#[test]
fn an_end_of_file_that_was_read_elsewhere_comes_behind_what_was_held() {
    let mut relay = relay();
    relay.hold();
    let mut client = Mock::default();
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    turn(&mut relay, &mut client, &mut upstream);
    assert!(relay.release(b"held".to_vec(), true).is_ok());
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!((relay.held(), upstream.shut), (2, 0));

    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"held"[..], 1));

    upstream.reads = [bytes("answer"), Read::Eof].into();
    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Finished(Side::Client)));
    assert_eq!(client.got, b"answer");
}

#[test]
fn a_client_that_breaks_while_it_is_held_ends_the_tunnel() {
    // Where it is read from, and where it is sent to.
    for is_found in [true, false] {
        let mut relay = Relay::new(b"early".to_vec(), Splice::Off);
        relay.hold();
        let mut client = Mock::reading([bytes("unseen")]).writing([Write::Broken]);
        let mut upstream = Mock::default();

        if is_found {
            relay.break_client();
        } else {
            upstream.reads.push_back(bytes("for nobody"));
        }

        let last = turn(&mut relay, &mut client, &mut upstream);
        assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Client)));
        assert_eq!((upstream.got.len(), upstream.shut, client.reads.len()), (0, 0, 1));
    }
}

#[test]
fn what_a_held_client_was_let_pass_goes_on_alone() {
    let mut relay = relay();
    relay.hold();
    let mut client = Mock::reading([bytes("unseen")]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    assert!(relay.pass(b"first ".to_vec()).is_ok());
    turn(&mut relay, &mut client, &mut upstream);
    assert!(relay.waits_for(Side::Upstream));
    assert_eq!((upstream.got.as_slice(), client.reads.len()), (&b"fi"[..], 1));

    assert!(relay.pass(b"second ".to_vec()).is_ok());
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!((upstream.got.as_slice(), client.reads.len()), (&b"first second "[..], 1));

    assert!(relay.release(b"third ".to_vec(), false).is_ok());
    turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(upstream.got, b"first second third unseen");
}

#[test]
fn what_a_held_client_was_let_pass_is_delivered_when_it_breaks() {
    let mut relay = relay();
    relay.hold();
    let mut client = Mock::reading([bytes("unseen")]);
    let mut upstream = Mock::default().writing([Write::Bytes(2), Write::Blocked]);

    assert!(relay.pass(b"first".to_vec()).is_ok());
    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);
    relay.break_client();

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Client)));
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"first"[..], 0));
}

#[test]
fn an_upstream_that_breaks_ends_the_tunnel_of_a_client_that_is_held() {
    let mut relay = relay();
    relay.hold();
    let mut client = Mock::default().writing([Write::Bytes(1), Write::Blocked]);
    let mut upstream = Mock::reading([bytes("last words"), Read::Broken]);

    assert_eq!(turn(&mut relay, &mut client, &mut upstream).next, Next::Wait);

    let last = turn(&mut relay, &mut client, &mut upstream);
    assert_eq!(last.next, Next::Over(Outcome::Reset(Side::Upstream)));
    assert_eq!((client.got.as_slice(), upstream.got.len()), (&b"last words"[..], 0));
}

fn under(quota: Quota) -> Allowance {
    Allowance::new(quota)
}

fn at_rates(upload: Option<u64>, download: Option<u64>) -> Allowance {
    let mut allowance = under(Quota::NONE);

    for (source, rate) in [(Side::Client, upload), (Side::Upstream, download)] {
        if let Some(rate) = rate.and_then(NonZeroU64::new) {
            assert!(allowance.limit(source, Rate::new(rate)).is_ok());
        }
    }

    allowance
}

#[test]
fn not_a_byte_beyond_the_quota_leaves() {
    for splice in [Splice::Off, Splice::On] {
        let mut relay = Relay::new(vec![], splice);
        let mut allowance = under(Quota { up: 5, ..Quota::NONE });
        let mut client = Mock::reading([bytes("abc"), bytes("defg"), Read::Eof]);
        let mut upstream = Mock::default();
        let mut worker = Worker::with_pipes(2);

        let allowance = Some(&mut allowance);
        let last = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, allowance);
        assert_eq!(last.next, Next::Over(Outcome::Exceeded));
        assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"abcde"[..], 0));
        assert_eq!((worker.out, worker.tainted, client.misuse), (0, false, None));
    }
}

#[test]
fn a_quota_that_is_just_used_up_ends_nothing() {
    let mut relay = relay();
    let mut allowance = under(Quota { up: 3, down: 6, ..Quota::NONE });
    let mut client = Mock::reading([bytes("abc")]);
    let mut upstream = Mock::default();
    let mut worker = Worker::with_pipes(2);

    let mut go_on = |client: &mut Mock, upstream: &mut Mock| {
        relay.turn(client, upstream, &mut worker, usize::MAX, Some(&mut allowance)).next
    };

    assert_eq!(go_on(&mut client, &mut upstream), Next::Wait);
    client.reads.push_back(Read::Eof);
    assert_eq!(go_on(&mut client, &mut upstream), Next::Wait);
    assert_eq!((upstream.got.as_slice(), upstream.shut), (&b"abc"[..], 1));

    upstream.reads = [bytes("answer"), Read::Eof].into();
    assert_eq!(go_on(&mut client, &mut upstream), Next::Over(Outcome::Finished(Side::Client)));
    assert_eq!((client.got.as_slice(), client.shut), (&b"answer"[..], 1));
}

#[test]
fn what_is_held_when_a_quota_is_used_up_is_delivered() {
    let mut relay = relay();
    let mut allowance = under(Quota { both: 10, ..Quota::NONE });
    let mut client = Mock::reading([bytes("abcd")]).writing([Write::Bytes(2), Write::Blocked]);
    let mut upstream = Mock::reading([bytes("answer and more")]);
    let mut worker = Worker::with_pipes(2);

    let first =
        relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, Some(&mut allowance)).next;
    assert_eq!((first, relay.held()), (Next::Wait, 4));

    client.reads.push_back(bytes("one too many"));
    client.writes = [Write::Blocked].into();
    let next =
        relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, Some(&mut allowance)).next;
    assert_eq!((next, upstream.got.as_slice()), (Next::Wait, &b"abcd"[..]));
    assert!(relay.waits_for(Side::Client));

    let last =
        relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, Some(&mut allowance)).next;
    assert_eq!(last, Next::Over(Outcome::Exceeded));
    assert_eq!((client.got.as_slice(), client.shut), (&b"answer"[..], 0));
}

#[test]
fn what_was_read_elsewhere_counts() {
    let mut relay = Relay::new(b"early".to_vec(), Splice::Off);
    let mut allowance = under(Quota { up: 3, ..Quota::NONE });
    let mut early = relay.hold();
    early.truncate(allowance.charge(Side::Client, early.len()));
    assert!(relay.release(early, false).is_ok());
    relay.exceed();
    relay.begin_with(b"200".to_vec());

    let mut client = Mock::reading([bytes("late")]);
    let mut upstream = Mock::default();
    let mut worker = Worker::with_pipes(2);
    let last =
        relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, Some(&mut allowance));
    assert_eq!(last.next, Next::Over(Outcome::Exceeded));
    assert_eq!((upstream.got.as_slice(), client.got.as_slice()), (&b"ear"[..], &b"200"[..]));
}

#[test]
fn a_throttled_source_is_left_alone_until_its_time() {
    let mut allowance = at_rates(Some(100), None);
    let mut relay = relay();
    let mut client = Mock::reading([Read::Bytes(vec![7; 25]), Read::Eof]);
    let mut upstream = Mock::reading([bytes("a longer answer"), Read::Eof]);
    let mut worker = Worker::with_pipes(2);

    // What may be read at once, and what could be made up for, come first; then 10 bytes every 100 ms.
    for (msec, got, wake) in
        [(1000, 10, 1050), (1049, 10, 1050), (1050, 20, 1150), (1149, 20, 1150), (1150, 25, 0)]
    {
        allowance.set_now(Instant::of_msec(msec));
        let allowed = Some(&mut allowance);
        let turn = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, allowed);
        assert_eq!((upstream.got.len(), client.got.len()), (got, 15), "after {msec} ms");
        assert_eq!(matches!(turn.next, Next::Over(_)), wake == 0);
        assert_eq!(allowance.is_throttled(Side::Client), wake > 0);
        assert!(!allowance.is_throttled(Side::Upstream));
        assert_eq!(allowance.wake().map_or(0, Instant::to_msec), wake);
    }

    assert_eq!((upstream.shut, client.shut), (1, 1));
    assert_eq!((client.misuse, upstream.misuse), (None, None));
}

/// The most that one read of a script gives, in bytes.
const LARGEST: usize = 3 * BUFFER;

fn splices() -> impl Strategy<Value = Splice> {
    prop_oneof![Just(Splice::Off), Just(Splice::Auto), Just(Splice::On)]
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let read = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..LARGEST).prop_map(Read::Bytes),
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
    /// one end of file behind it, and no more than one buffer is held each way. An end that did not
    /// take what it was given is waited for, and no other.
    #[test]
    fn nothing_is_lost(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        budget in 1usize..4 * BUFFER,
        splice in splices(),
        pipes in 0usize..3,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        let mut relay = Relay::new(vec![], splice);
        let mut worker = Worker::with_pipes(pipes);
        let (mut moved_up, mut moved_down, mut heard) = (0, 0, 0);
        let mut over = None;

        for _ in 0..10_000 {
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, budget, None);
            moved_up += turn.to_upstream;
            moved_down += turn.to_client;
            heard += turn.from_upstream;
            prop_assert!(relay.held() <= 2 * LARGEST);
            prop_assert_eq!(relay.waits_for(Side::Client), client.blocked);
            prop_assert_eq!(relay.waits_for(Side::Upstream), upstream.blocked);

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }
        }

        prop_assert!(matches!(over, Some(Outcome::Finished(_))));
        prop_assert_eq!((moved_up, moved_down), (sent_up.len(), sent_down.len()));
        prop_assert_eq!(heard, sent_down.len());
        prop_assert_eq!((worker.out, worker.tainted), (0, false));
        prop_assert_eq!((&upstream.got, upstream.shut), (&sent_up, 1));
        prop_assert_eq!((&client.got, client.shut), (&sent_down, 1));
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }

    /// However long a client is held, and however much of it was read elsewhere meanwhile: none of it reaches the
    /// upstream before it is released, and all of it does then, in order, once, with one end of file behind it.
    #[test]
    fn what_is_held_is_not_lost(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        budget in 1usize..4 * BUFFER,
        splice in splices(),
        turns in 0usize..20,
        elsewhere in 0usize..30,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        let mut relay = Relay::new(vec![], splice);
        let mut worker = Worker::with_pipes(2);
        let unread = client.reads.len();
        relay.hold();

        for _ in 0..turns {
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, budget, None);
            prop_assert!(!matches!(turn.next, Next::Over(_)));
        }

        prop_assert_eq!((client.reads.len(), upstream.got.len(), upstream.shut), (unread, 0, 0));

        let read: Vec<_> = client.reads.drain(..elsewhere.min(unread)).collect();
        assert!(relay.release(content(&read), client.reads.is_empty()).is_ok());

        let mut over = None;

        for _ in 0..10_000 {
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, budget, None);

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }
        }

        prop_assert!(matches!(over, Some(Outcome::Finished(_))));
        prop_assert_eq!((&upstream.got, upstream.shut), (&sent_up, 1));
        prop_assert_eq!((&client.got, client.shut), (&sent_down, 1));
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }

    /// However the bytes come in pieces and the ends block: what a quota has room for arrives, in order, and not a
    /// byte more. The tunnel ends where there is more, and else as without a quota.
    #[test]
    fn a_quota_is_kept_to_the_byte(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        budget in 1usize..4 * BUFFER,
        splice in splices(),
        of_up in prop::option::of(0u64..20 * BUFFER as u64),
        of_down in prop::option::of(0u64..20 * BUFFER as u64),
        of_both in prop::option::of(0u64..20 * BUFFER as u64),
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        let [up, down, both] = [of_up, of_down, of_both].map(|quota| quota.unwrap_or(u64::MAX));
        let mut allowance = under(Quota { up, down, both });
        let mut relay = Relay::new(vec![], splice);
        let mut worker = Worker::with_pipes(2);
        let mut over = None;

        for _ in 0..10_000 {
            let allowance = Some(&mut allowance);
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, budget, allowance);
            // An end of file that could not be passed on need not be any more.
            prop_assert!(relay.is_exceeded() || relay.waits_for(Side::Client) == client.blocked);

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }
        }

        let (got_up, got_down) = (upstream.got.len() as u64, client.got.len() as u64);
        let fits = sent_up.len() as u64 <= up
            && sent_down.len() as u64 <= down
            && (sent_up.len() + sent_down.len()) as u64 <= both;

        prop_assert!(sent_up.starts_with(&upstream.got) && sent_down.starts_with(&client.got));

        if fits {
            prop_assert!(matches!(over, Some(Outcome::Finished(_))));
            prop_assert_eq!((upstream.got, upstream.shut), (sent_up, 1));
            prop_assert_eq!((client.got, client.shut), (sent_down, 1));
        } else {
            prop_assert_eq!(over, Some(Outcome::Exceeded));
            prop_assert!(got_up <= up && got_down <= down && got_up + got_down <= both);
            prop_assert!(got_up == up || got_down == down || got_up + got_down == both);
        }

        prop_assert_eq!((worker.out, worker.tainted), (0, false));
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }

    /// However slowly the ends may be read: all arrives, in order, as soon as the rates have it and no sooner.
    #[test]
    fn a_rate_delays_and_loses_nothing(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        splice in splices(),
        upload in prop::option::of(1u64..100_000),
        download in prop::option::of(1u64..100_000),
        late in 0u64..200,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        let mut allowance = at_rates(upload, download);
        let mut relay = Relay::new(vec![], splice);
        let mut worker = Worker::with_pipes(2);
        let (begin, mut now) = (1_000_000, 1_000_000);
        let mut over = None;

        for _ in 0..100_000 {
            allowance.set_now(Instant::of_msec(now));
            let allowed = Some(&mut allowance);
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, allowed);

            for (got, rate) in [(&upstream.got, upload), (&client.got, download)] {
                // With what could be made up for, and what may be read at once.
                let most = rate.map_or(u64::MAX, |rate| rate * (now - begin + 150) / 1000 + 2);
                prop_assert!(got.len() as u64 <= most, "{} bytes after {} ms", got.len(), now - begin);
            }

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }

            if let Some(wake) = allowance.wake() {
                now = now.max(wake.to_msec() + late);
            }
        }

        prop_assert!(matches!(over, Some(Outcome::Finished(_))));
        prop_assert_eq!((&upstream.got, upstream.shut), (&sent_up, 1));
        prop_assert_eq!((&client.got, client.shut), (&sent_down, 1));
        prop_assert_eq!((worker.out, worker.tainted), (0, false));
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
        splice in splices(),
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
        let mut relay = Relay::new(vec![], splice);
        let mut worker = Worker::with_pipes(2);
        let mut over = None;

        for _ in 0..10_000 {
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, usize::MAX, None);

            if let Next::Over(outcome) = turn.next {
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
        prop_assert!(!worker.tainted);
        prop_assert_eq!((client.misuse, upstream.misuse), (None, None));
    }
}
