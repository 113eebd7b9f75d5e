//! Owns what holds whatever the ends do: the property tests of the relay.

use super::limits::{at_rates, under};
use super::*;

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

    /// The same of a client that has frames: what the upstream sends goes into them, in their order, and is not read before there is
    /// room; what the client sends goes on from where it lies, where the upstream takes it so. Nothing is held then.
    #[test]
    fn nothing_is_lost_in_frames(
        up in reads(),
        down in reads(),
        to_client in writes(),
        to_upstream in writes(),
        budget in 1usize..4 * BUFFER,
        header in 0usize..10,
        payload in 1usize..BUFFER,
        lends: bool,
        insists: bool,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        client.layout = Some(Layout { header, payload });
        client.lends = lends;
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        upstream.insists = insists;
        let mut relay = Relay::new(vec![], Splice::Auto);
        let mut worker = Worker::with_pipes(2);
        let (mut moved_up, mut moved_down) = (0, 0);
        let mut over = None;

        for _ in 0..10_000 {
            let turn = relay.turn(&mut client, &mut upstream, &mut worker, budget, None);
            moved_up += turn.to_upstream;
            moved_down += turn.to_client;
            prop_assert!(relay.held() == 0 || !lends || insists);
            prop_assert_eq!(relay.waits_for(Side::Client), client.blocked && client.shut == 0);

            if lends && !insists {
                prop_assert_eq!(relay.waits_for(Side::Upstream), upstream.blocked);
            }

            if let Next::Over(outcome) = turn.next {
                over = Some(outcome);
                break;
            }
        }

        prop_assert!(matches!(over, Some(Outcome::Finished(_))));
        prop_assert_eq!((moved_up, moved_down), (sent_up.len(), sent_down.len()));
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
        lends: bool,
        insists: bool,
    ) {
        let (sent_up, sent_down) = (content(&up), content(&down));
        let mut client = Mock::reading(up.into_iter().chain([Read::Eof])).writing(to_client);
        client.lends = lends;
        let mut upstream =
            Mock::reading(down.into_iter().chain([Read::Eof])).writing(to_upstream);
        upstream.insists = insists;
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
