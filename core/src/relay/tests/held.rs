//! Owns the tests of a client that is held.

use super::*;

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
