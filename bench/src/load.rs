//! Owns the load: one thread and one epoll that are all clients and all origin servers of a cell.
//!
//! A client opens a tunnel and sends one byte, the job. The origin server answers with one byte, and
//! from then on both do the job.

mod job;
mod open;
mod pace;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::http2::{Connection, News};
use crate::stats::Histogram;
use crate::sys::{would_block, Epoll, Socket, READ, WRITE};
use crate::wire::{Wire, CHUNK};

pub use job::Job;
use pace::Pace;

/// How many tunnels are being opened at the same time.
const OPENING: usize = 32;

/// The token of the origin server's listening socket.
const LISTENER: u64 = u64::MAX;

/// Tokens of connections of HTTP/2 have this bit, and their place behind it.
const CONNECTION: u64 = 1 << 63;

/// How a peer is reached.
#[derive(Clone)]
pub struct Route {
    /// Where clients connect to.
    pub port: u16,
    /// What the client asks for with CONNECT, if it does.
    pub authority: Option<String>,
    /// A ClientHello that the client sends in place of the job, of messages; empty for none.
    pub hello: Vec<u8>,
    /// TLS between client and peer.
    pub tls: Option<Arc<ClientConfig>>,
    /// Whether tunnels are streams of HTTP/2.
    pub http2: bool,
}

enum State {
    Connecting,
    Handshake,
    /// The answer to the CONNECT as far as it has come.
    Reply(Vec<u8>),
    /// A client waits for the origin server's one byte.
    Ack,
    /// An origin server waits for the job.
    Job,
    Open,
}

struct Side {
    wire: Wire,
    client: bool,
    state: State,
    job: Job,
    /// Bytes still to be sent of what is being sent; u64::MAX without end.
    out: u64,
    /// Bytes still to come of a message.
    need: u64,
    since: Instant,
    interest: u32,
    /// What it has received.
    received: u64,
}

/// What was moved, for the caller to compare before and after.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    /// Bytes that clients have received.
    pub down: u64,
    /// Bytes that origin servers have received.
    pub up: u64,
    /// Messages that went and came back.
    pub pings: u64,
}

/// The load of one cell.
pub struct Load<'a> {
    route: Route,
    listener: &'a Socket,
    epoll: Epoll,
    slots: Vec<Option<Side>>,
    connections: Vec<Shared>,
    generations: Vec<u32>,
    free: Vec<usize>,
    chunk: Vec<u8>,
    scratch: Vec<u8>,
    job: Job,
    to_open: usize,
    opening: usize,
    origins: usize,
    /// Tunnels that stood.
    pub opened: usize,
    /// Handshakes of TLS that took up a session of before.
    pub resumed: usize,
    /// Whether a tunnel that stands is closed at once.
    churn: bool,
    /// Nothing that happens now is a failure.
    closing: bool,
    /// The size of a message.
    size: u64,
    /// Whether a message that came back is followed by the next.
    repeat: bool,
    /// Clients that have yet to send their one message.
    queue: VecDeque<usize>,
    /// What was moved.
    pub moved: Moved,
    /// When a client received something last.
    pub came: Instant,
    /// At what pace origin servers send, where it is not as fast as can be.
    pace: Option<Pace>,
    /// Times of the messages.
    pub latency: Histogram,
    failure: Option<io::Error>,
}

/// A connection of HTTP/2, and what is watched of it.
struct Shared {
    connection: Rc<RefCell<Connection>>,
    interest: u32,
}

fn failed(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

impl<'a> Load<'a> {
    /// Nothing is opened yet. `size` is that of messages.
    pub fn new(route: &Route, listener: &'a Socket, size: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(listener.as_raw_fd(), LISTENER, READ)?;

        Ok(Load {
            route: route.clone(),
            listener,
            epoll,
            slots: Vec::new(),
            connections: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            chunk: vec![0x55; CHUNK],
            scratch: vec![0; CHUNK],
            job: Job::Ping,
            to_open: 0,
            opening: 0,
            origins: 0,
            opened: 0,
            resumed: 0,
            churn: false,
            closing: false,
            size: size as u64,
            repeat: false,
            queue: VecDeque::new(),
            moved: Moved::default(),
            came: Instant::now(),
            pace: None,
            latency: Histogram::default(),
            failure: None,
        })
    }

    /// Opens tunnels for a job, and returns when all of them stand.
    pub fn open(&mut self, count: usize, job: Job, limit: Duration) -> io::Result<()> {
        let target = self.opened + count;
        self.job = job;
        self.to_open = count;
        self.open_more()?;

        if self.run(limit, |load| load.opened >= target)? {
            Ok(())
        } else {
            Err(failed(format!(
                "only {} of {target} tunnels stood after {} s",
                self.opened,
                limit.as_secs()
            )))
        }
    }

    /// Opens tunnels and closes each as soon as it stands.
    pub fn churn(&mut self, count: usize, limit: Duration) -> io::Result<()> {
        self.churn = true;
        self.open(count, Job::Ping, limit)?;
        // Until the peer has closed its side towards the origin server too.
        self.run(Duration::from_secs(2), |load| load.origins == 0)?;
        Ok(())
    }

    /// Lets all clients with the job Ping send message after message.
    pub fn start_pings(&mut self) -> io::Result<()> {
        self.repeat = true;
        self.each_ping_client(|load, index| load.ping(index))
    }

    /// Lets all clients send one message, a few at a time, and waits for all the answers.
    pub fn ping_each_once(&mut self, limit: Duration) -> io::Result<()> {
        self.repeat = false;
        let target = self.moved.pings + self.opened as u64;
        let mut queue = VecDeque::new();

        self.each_ping_client(|_, index| {
            queue.push_back(index);
            Ok(())
        })?;

        self.queue = queue;

        for _ in 0..OPENING {
            self.next_in_queue()?;
        }

        if self.run(limit, |load| load.moved.pings >= target)? {
            Ok(())
        } else {
            Err(failed("not all messages came back"))
        }
    }

    /// Goes on for a time.
    pub fn run_for(&mut self, time: Duration) -> io::Result<()> {
        if self.pace.is_some() {
            return self.run_paced(time);
        }

        self.run(time, |_| false).map(|_| ())
    }

    /// What each client has received.
    pub fn shares(&self) -> Vec<u64> {
        let clients = self.slots.iter().flatten().filter(|side| side.client);
        clients.map(|side| side.received).collect()
    }

    /// Closes all, and waits until the peer has closed too.
    pub fn finish(mut self) {
        self.closing = true;
        self.to_open = 0;
        self.repeat = false;

        for index in 0..self.slots.len() {
            if self.slots[index].as_ref().is_some_and(|side| side.client) {
                self.drop_side(index);
            }
        }

        // A peer that does not close in time has lost its connections by the drop of all this.
        let _ = self.run(Duration::from_secs(1), |load| load.origins == 0);

        let sockets = self.slots.iter().flatten().filter_map(|side| side.wire.socket());
        sockets.for_each(|socket| drop(socket.reset_at_close()));

        for shared in &self.connections {
            let connection = shared.connection.borrow();
            let _ = connection.wire().socket().map(Socket::reset_at_close);
        }
    }

    fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> io::Result<bool> {
        let end = Instant::now() + limit;

        loop {
            if done(self) {
                return Ok(true);
            }

            let now = Instant::now();
            if now >= end {
                return Ok(false);
            }

            self.flush_connections()?;

            // epoll_wait counts in milliseconds: one more, so that it does not spin at the end.
            let count = self.epoll.wait(Some(end - now + Duration::from_millis(1)))?;

            // All that can be read comes first.
            for interest in [!WRITE, WRITE] {
                for event in 0..count {
                    let (token, ready) = self.epoll.event(event);

                    if ready & interest != 0 {
                        self.dispatch(token, ready & interest)?;
                    }
                }
            }

            if let Some(error) = self.failure.take() {
                return Err(error);
            }
        }
    }

    /// Has all that gathered for connections of HTTP/2 go out, and watches for what they wait for.
    fn flush_connections(&mut self) -> io::Result<()> {
        for (place, shared) in self.connections.iter_mut().enumerate() {
            let mut connection = shared.connection.borrow_mut();
            let interest = if connection.waits()? { READ | WRITE } else { READ };

            if let (true, Some(fd)) = (interest != shared.interest, connection.wire().fd()) {
                shared.interest = interest;
                self.epoll.modify(fd, CONNECTION | place as u64, interest)?;
            }
        }

        Ok(())
    }

    fn dispatch_connection(&mut self, place: usize, ready: u32) -> io::Result<()> {
        let connection = self.connections[place].connection.clone();
        let mut news = News::default();

        if ready & !WRITE != 0 {
            let read = connection.borrow_mut().read(&mut self.scratch, job::READ_BUDGET);

            match read {
                Ok(more) => news = more,
                Err(_) if self.closing => return Ok(()),
                Err(error) => return Err(error),
            }
        }

        if ready & WRITE != 0 {
            let more = connection.borrow_mut().writable()?;
            news.writable.extend(more.writable);
        }

        for (slots, ready) in [(news.readable, READ), (news.writable, WRITE)] {
            for index in slots {
                if self.slots[index].is_some() {
                    if let Err(error) = self.advance(index, ready) {
                        self.fail(index, error);
                    }
                }
            }
        }

        Ok(())
    }

    fn dispatch(&mut self, token: u64, ready: u32) -> io::Result<()> {
        if token == LISTENER {
            return self.accept();
        }

        if token & CONNECTION != 0 {
            return self.dispatch_connection((token & !CONNECTION) as usize, ready);
        }

        let index = (token & 0xffff_ffff) as usize;

        if self.token(index) != token || self.slots[index].is_none() {
            return Ok(());
        }

        if let Err(error) = self.advance(index, ready) {
            self.fail(index, error);
        }

        Ok(())
    }

    fn fail(&mut self, index: usize, error: io::Error) {
        let Some(side) = &self.slots[index] else {
            return;
        };

        // An origin server's side may be one that only looked whether the peer listens, or one of
        // a tunnel that is being closed.
        if side.client && !self.closing && self.failure.is_none() {
            self.failure = Some(error);
        }

        self.drop_side(index);
    }

    fn insert(
        &mut self,
        wire: Wire,
        client: bool,
        state: State,
        interest: u32,
    ) -> io::Result<usize> {
        let index = self.free_slot();
        self.put(index, wire, client, state, interest)?;
        Ok(index)
    }

    fn free_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            self.slots.len() - 1
        })
    }

    fn put(
        &mut self,
        index: usize,
        wire: Wire,
        client: bool,
        state: State,
        interest: u32,
    ) -> io::Result<()> {
        let side = Side {
            wire,
            client,
            state,
            job: self.job,
            out: 0,
            need: 0,
            since: Instant::now(),
            interest,
            received: 0,
        };

        if let Some(fd) = side.wire.fd() {
            self.epoll.add(fd, self.token(index), interest)?;
        }

        self.slots[index] = Some(side);
        Ok(())
    }

    fn token(&self, index: usize) -> u64 {
        u64::from(self.generations[index] & 0x7fff_ffff) << 32 | index as u64
    }

    fn drop_side(&mut self, index: usize) {
        if let Some(side) = self.slots[index].take() {
            self.generations[index] = self.generations[index].wrapping_add(1);
            self.free.push(index);

            if !side.client {
                self.origins -= 1;
            }
        }
    }

    fn advance(&mut self, index: usize, ready: u32) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        match &mut side.state {
            State::Connecting => {
                side.wire.socket().map_or(Ok(()), Socket::take_error)?;
                side.state = State::Handshake;
                self.shake_hands(index)?;
            }
            State::Handshake => self.shake_hands(index)?,
            State::Reply(_) => self.read_reply(index)?,
            State::Ack => self.read_ack(index)?,
            State::Job => self.read_job(index)?,
            State::Open => {
                if ready & !WRITE != 0 {
                    self.receive(index)?;
                }

                if ready & WRITE != 0 {
                    self.send(index)?;
                }
            }
        }

        self.watch(index)
    }

    /// Watches for what the side waits for.
    fn watch(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        // A slot that was given to the next client meanwhile: writable tells when it is connected.
        if matches!(side.state, State::Connecting) {
            return Ok(());
        }

        if let Wire::Stream(tunnel) = &side.wire {
            if side.out > 0 {
                tunnel.wait();
            }

            return Ok(());
        }

        let mut interest = READ;

        if side.out > 0 || !side.wire.flush()? {
            interest |= WRITE;
        }

        if interest != side.interest {
            side.interest = interest;

            if let Some(fd) = side.wire.fd() {
                self.epoll.modify(fd, self.token(index), interest)?;
            }
        }

        Ok(())
    }
}

/// None for "not now".
fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if would_block(&error) || error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
