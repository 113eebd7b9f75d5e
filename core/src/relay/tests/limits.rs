//! Owns the tests of quotas and rates.

use super::*;

pub(super) fn under(quota: Quota) -> Allowance {
    Allowance::new(quota)
}

pub(super) fn at_rates(upload: Option<u64>, download: Option<u64>) -> Allowance {
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
