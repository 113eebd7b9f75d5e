//! Owns a way that takes its time: a relay in front of a peer that holds all bytes, both ways, for as long as they
//! would take. The kernel's own is no part of every kernel.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// How much is read at once, in bytes, and how many pieces may be on their way.
const READ: usize = 64 * 1024;
const PIECES: usize = 2048;

type Piece = (Instant, Vec<u8>);

/// Relays from one port of 127.0.0.1 to another, with `delay` each way, until it is killed.
pub fn run(port: u16, target: u16, delay: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;

    for client in listener.incoming() {
        let client = client?;
        let server = TcpStream::connect(("127.0.0.1", target))?;

        client.set_nodelay(true)?;
        server.set_nodelay(true)?;

        pass(client.try_clone()?, server.try_clone()?, delay);
        pass(server, client, delay);
    }

    Ok(())
}

fn pass(from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, receiver) = sync_channel(PIECES);

    // A connection that breaks ends both.
    thread::spawn(move || drop(read(from, &sender, delay)));
    thread::spawn(move || drop(write(to, &receiver)));
}

fn read(mut from: TcpStream, sender: &SyncSender<Piece>, delay: Duration) -> io::Result<()> {
    loop {
        let mut piece = vec![0; READ];
        let len = from.read(&mut piece)?;
        piece.truncate(len);

        if len == 0 || sender.send((Instant::now() + delay, piece)).is_err() {
            return Ok(());
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<Piece>) -> io::Result<()> {
    for (due, piece) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&piece)?;
    }

    to.shutdown(Shutdown::Write)
}
