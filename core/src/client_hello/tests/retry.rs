//! Owns the tests of what comes behind a ClientHello: a second one, and early data.

use super::*;

#[test]
fn early_data_is_offered() {
    assert_eq!(read(&[(42, vec![])]).map(|hello| hello.has_early_data), Ok(true));
    assert_eq!(read(&[]).map(|hello| hello.has_early_data), Ok(false));
}

/// What is found behind a hello, and how many bytes may go on.
fn follow(has_early_data: bool, bytes: &[u8]) -> (Found, usize) {
    let mut retry = Retry::new(has_early_data);
    let Ok(found) = retry.push(bytes) else {
        panic!("no memory");
    };
    (found, retry.take_passed().map_or(0, |passed| passed.len()))
}

#[test]
fn a_second_hello_is_found() {
    let hello = record(22, &message(&sample(Some("b.example"))));
    let change = record(20, &[1]);
    let alert = record(21, &[1, 90]);
    let early = record(23, &[7; 100]);

    for before in [vec![], change.clone(), alert, [&change[..], &change[..]].concat()] {
        for has_early_data in [false, true] {
            let bytes = [&before[..], &hello[..]].concat();
            assert_eq!(follow(has_early_data, &bytes), (Found::Hello, before.len()));
        }
    }

    let bytes = [&early[..], &early, &change, &hello].concat();
    assert_eq!(follow(true, &bytes), (Found::Hello, 216));
    assert_eq!(follow(false, &bytes), (Found::Other, 0));
    // What no server should take is read as a hello, and found malformed.
    assert_eq!(follow(false, &record(22, &[])), (Found::Hello, 0));
}

#[test]
fn a_handshake_that_goes_on_is_no_second_hello() {
    // ClientKeyExchange, Certificate, and data.
    for other in [record(22, &[16, 0, 0, 1]), record(22, &[11]), vec![23], b"G".to_vec()] {
        assert_eq!(follow(false, &other), (Found::Other, 0));
    }

    let finished = [record(20, &[1]), record(23, &[7; 10])].concat();
    assert_eq!(follow(false, &finished), (Found::Other, 6));
}

#[test]
fn early_data_is_looked_through_as_far_as_servers_do() {
    let early = record(23, &[7; 10_000]).repeat(PASSED_MAX / 10_000 + 1);
    let hello = record(22, &message(&sample(Some("b.example"))));

    assert_eq!(follow(true, &early).0, Found::Other);
    assert_eq!(follow(true, &[&early[..60_030], &hello].concat()), (Found::Hello, 60_030));
}
