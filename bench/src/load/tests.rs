//! Owns the tests of the load.

use super::open::{judge_reply, Reply};
use super::*;

#[test]
fn jobs_survive_the_wire() {
    for job in [Job::Down, Job::Up, Job::Both, Job::Ping] {
        assert_eq!(Job::of_byte(job.byte()), Some(job));
    }

    assert_eq!(Job::of_byte(b'x'), None);
}

#[test]
fn replies() {
    assert_eq!(judge_reply(b"HTTP/1.1 200 OK\r\nA: b\r\n"), Reply::Incomplete);
    assert_eq!(judge_reply(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"), Reply::Standing);
    assert_eq!(judge_reply(b"HTTP/1.0 200 Connection established\r\n\r\n"), Reply::Standing);
    assert_eq!(judge_reply(b"HTTP/1.1 403 Forbidden\r\n\r\n"), Reply::Refused);
    assert_eq!(judge_reply(b""), Reply::Incomplete);
}

/// Client straight to origin server, over real sockets.
fn direct() -> io::Result<(Route, Socket)> {
    let listener = Socket::listen(0)?;
    let port = listener.port()?;

    Ok((Route { port, authority: None, hello: Vec::new(), tls: None, http2: false }, listener))
}

#[test]
fn bulk_moves_bytes_the_right_way() -> io::Result<()> {
    for (job, down, up) in
        [(Job::Down, true, false), (Job::Up, false, true), (Job::Both, true, true)]
    {
        let (route, listener) = direct()?;
        let mut load = Load::new(&route, &listener, 0)?;

        load.open(2, job, Duration::from_secs(5))?;
        load.run(Duration::from_secs(5), |load| {
            (!down || load.moved.down > 1 << 20) && (!up || load.moved.up > 1 << 20)
        })?;

        assert_eq!(load.moved.down > 1 << 20, down, "{job:?}");
        assert_eq!(load.moved.up > 1 << 20, up, "{job:?}");
        load.finish();
    }

    Ok(())
}

#[test]
fn pings_come_back_whole() -> io::Result<()> {
    let (route, listener) = direct()?;
    let mut load = Load::new(&route, &listener, 100_000)?;

    load.open(40, Job::Ping, Duration::from_secs(5))?;
    load.ping_each_once(Duration::from_secs(5))?;

    assert_eq!(load.moved.pings, 40);
    assert_eq!(load.latency.count(), 40);
    assert_eq!(load.moved.down, 4_000_000);
    assert_eq!(load.moved.up, 4_000_000);

    load.finish();
    Ok(())
}

#[test]
fn churn_opens_and_closes() -> io::Result<()> {
    let (route, listener) = direct()?;
    let mut load = Load::new(&route, &listener, 0)?;

    load.churn(100, Duration::from_secs(5))?;

    assert_eq!(load.opened, 100);
    assert_eq!(load.origins, 0);
    Ok(())
}

#[test]
fn a_closed_port_is_a_failure() -> io::Result<()> {
    let (mut route, listener) = direct()?;
    // A port that is bound but not listened to is not handed out again.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    route.port = closed;

    let mut load = Load::new(&route, &listener, 0)?;
    assert!(load.open(1, Job::Ping, Duration::from_secs(2)).is_err());
    Ok(())
}
