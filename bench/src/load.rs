//! Owns the load: one thread and one epoll that are all clients and all origin servers of a cell.
//!
//! A client opens a tunnel and sends one byte, the job. The origin server answers with one byte, and
//! from then on both do the job.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::stats::Histogram;
use crate::sys::{would_block, Epoll, Socket, READ, WRITE};
use crate::wire::{Wire, CHUNK};

/// How many bytes one event may read. A receiver that lags fills its window, and what the proxy
/// could not send then goes out when the receiver reads, on the driver's account.
const READ_BUDGET: usize = 4 * CHUNK;

/// How many bytes one event may send, so that receivers need not wait.
const SEND_BUDGET: usize = CHUNK / 4;

/// How many tunnels are being opened at the same time.
const OPENING: usize = 32;

/// The token of the origin server's listening socket.
const LISTENER: u64 = u64::MAX;

/// The longest answer to a CONNECT that is read.
const REPLY_LIMIT: usize = 8192;

/// What a tunnel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The origin server sends without end.
    Down,
    /// The client sends without end.
    Up,
    /// Both.
    Both,
    /// A message of the client, one of the same size back, and again.
    Ping,
}

impl Job {
    fn byte(self) -> u8 {
        match self {
            Job::Down => b'd',
            Job::Up => b'u',
            Job::Both => b'b',
            Job::Ping => b'p',
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Job::Down, Job::Up, Job::Both, Job::Ping].into_iter().find(|job| job.byte() == byte)
    }

    fn sends(self, client: bool) -> bool {
        match self {
            Job::Both => true,
            Job::Down => !client,
            Job::Up => client,
            Job::Ping => false,
        }
    }
}

/// How a peer is reached.
#[derive(Clone)]
pub struct Route {
    /// Where clients connect to.
    pub port: u16,
    /// The origin server's port.
    pub origin: u16,
    /// Whether the client asks with CONNECT.
    pub connect: bool,
    /// TLS between client and peer.
    pub tls: Option<Arc<ClientConfig>>,
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
    /// Times of the messages.
    pub latency: Histogram,
    failure: Option<io::Error>,
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
            generations: Vec::new(),
            free: Vec::new(),
            chunk: vec![0x55; CHUNK],
            scratch: vec![0; CHUNK],
            job: Job::Ping,
            to_open: 0,
            opening: 0,
            origins: 0,
            opened: 0,
            churn: false,
            closing: false,
            size: size as u64,
            repeat: false,
            queue: VecDeque::new(),
            moved: Moved::default(),
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

    fn each_ping_client(
        &mut self,
        mut act: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        for index in 0..self.slots.len() {
            let is_one =
                self.slots[index].as_ref().is_some_and(|side| side.client && side.job == Job::Ping);

            if is_one {
                act(self, index)?;
            }
        }

        Ok(())
    }

    fn next_in_queue(&mut self) -> io::Result<()> {
        match self.queue.pop_front() {
            Some(index) => self.ping(index),
            None => Ok(()),
        }
    }

    fn ping(&mut self, index: usize) -> io::Result<()> {
        if let Some(side) = &mut self.slots[index] {
            side.out = self.size;
            side.need = self.size;
            side.since = Instant::now();
        }

        self.send(index)?;
        self.watch(index)
    }

    /// Goes on for a time.
    pub fn run_for(&mut self, time: Duration) -> io::Result<()> {
        self.run(time, |_| false).map(|_| ())
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

        for side in self.slots.iter().flatten() {
            let _ = side.wire.socket().reset_at_close();
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

    fn dispatch(&mut self, token: u64, ready: u32) -> io::Result<()> {
        if token == LISTENER {
            return self.accept();
        }

        let index = (token & 0xffff_ffff) as usize;

        if self.generations[index] != (token >> 32) as u32 || self.slots[index].is_none() {
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
        let side = Side {
            wire,
            client,
            state,
            job: self.job,
            out: 0,
            need: 0,
            since: Instant::now(),
            interest,
        };

        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            self.slots.len() - 1
        });

        let token = u64::from(self.generations[index]) << 32 | index as u64;

        self.epoll.add(side.wire.fd(), token, interest)?;
        self.slots[index] = Some(side);
        Ok(index)
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

    fn open_more(&mut self) -> io::Result<()> {
        while self.to_open > 0 && self.opening < OPENING {
            self.to_open -= 1;
            self.opening += 1;

            let socket = Socket::connect(self.route.port)?;
            let wire = Wire::new(socket, self.route.tls.as_ref())?;
            self.insert(wire, true, State::Connecting, WRITE)?;
        }

        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..OPENING {
            match self.listener.accept() {
                Ok(socket) => {
                    let wire = Wire::new(socket, None)?;
                    self.insert(wire, false, State::Job, READ)?;
                    self.origins += 1;
                }
                Err(error) if would_block(&error) => break,
                Err(error) => return Err(error),
            }
        }

        Ok(())
    }

    fn advance(&mut self, index: usize, ready: u32) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        match &mut side.state {
            State::Connecting => {
                side.wire.socket().take_error()?;
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

    fn shake_hands(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        if !side.wire.handshake()? {
            return Ok(());
        }

        if !self.route.connect {
            return self.send_job(index);
        }

        let port = self.route.origin;
        let request =
            format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");

        side.state = State::Reply(Vec::new());
        send_all(&mut side.wire, request.as_bytes())
    }

    fn read_reply(&mut self, index: usize) -> io::Result<()> {
        let Some(Side { wire, state: State::Reply(reply), .. }) = &mut self.slots[index] else {
            return Ok(());
        };

        let Some(length) = now(wire.recv(&mut self.scratch[..REPLY_LIMIT]))? else {
            return Ok(());
        };

        reply.extend_from_slice(&self.scratch[..length]);

        match judge_reply(reply) {
            Reply::Standing => self.send_job(index),
            Reply::Incomplete if length > 0 && reply.len() < REPLY_LIMIT => Ok(()),
            _ => {
                let line = reply.split(|byte| *byte == b'\r').next().unwrap_or_default();
                Err(failed(format!("CONNECT was answered with \"{}\"", line.escape_ascii())))
            }
        }
    }

    fn send_job(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        side.state = State::Ack;
        send_all(&mut side.wire, &[side.job.byte()])
    }

    fn read_ack(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        match now(side.wire.recv(&mut self.scratch[..1]))? {
            None => return Ok(()),
            Some(0) => return Err(failed("a tunnel was closed before it answered")),
            Some(_) => {}
        }

        self.opening -= 1;
        self.opened += 1;

        if self.churn {
            self.drop_side(index);
        } else {
            self.begin(index)?;
        }

        self.open_more()
    }

    fn read_job(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        match now(side.wire.recv(&mut self.scratch[..1]))? {
            None => return Ok(()),
            Some(0) => {
                self.drop_side(index);
                return Ok(());
            }
            Some(_) => {}
        }

        side.job = Job::of_byte(self.scratch[0]).ok_or_else(|| failed("not a job"))?;
        side.need = self.size;
        send_all(&mut side.wire, b".")?;
        self.begin(index)
    }

    fn begin(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        side.state = State::Open;

        if side.job.sends(side.client) {
            side.out = u64::MAX;
            self.send(index)?;
        }

        // TLS may have more than it was asked for; what lies in the socket comes as an event.
        if matches!(self.slots[index], Some(Side { wire: Wire::Tls(_), .. })) {
            self.receive(index)?;
        }

        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let mut left = READ_BUDGET;

        while left > 0 {
            let Some(side) = &mut self.slots[index] else {
                return Ok(());
            };

            let length = match now(side.wire.discard(&mut self.scratch))? {
                None => return Ok(()),
                Some(0) if side.client => return Err(failed("a tunnel was closed")),
                Some(0) => {
                    self.drop_side(index);
                    return Ok(());
                }
                Some(length) => length,
            };

            if side.client {
                self.moved.down += length as u64;
            } else {
                self.moved.up += length as u64;
            }

            left = left.saturating_sub(length);

            if side.job == Job::Ping {
                side.need = side.need.saturating_sub(length as u64);

                if side.need == 0 {
                    return self.message_came(index);
                }
            }
        }

        Ok(())
    }

    fn message_came(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        if !side.client {
            side.need = self.size;
            side.out = self.size;
            return self.send(index);
        }

        self.moved.pings += 1;
        self.latency.add(side.since.elapsed());

        if self.repeat {
            self.ping(index)
        } else {
            self.next_in_queue()
        }
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        let mut left = SEND_BUDGET;

        while side.out > 0 && left > 0 {
            let length = side.out.min(left as u64) as usize;

            let Some(sent) = now(side.wire.send(&self.chunk[..length]))? else {
                break;
            };

            left -= sent;

            if side.out != u64::MAX {
                side.out -= sent as u64;
            }
        }

        side.wire.flush()?;
        Ok(())
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

        let mut interest = READ;

        if side.out > 0 || !side.wire.flush()? {
            interest |= WRITE;
        }

        if interest != side.interest {
            let token = u64::from(self.generations[index]) << 32 | index as u64;

            side.interest = interest;
            self.epoll.modify(side.wire.fd(), token, interest)?;
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

/// For what a fresh socket always takes.
fn send_all(wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    match wire.send(bytes)? {
        length if length == bytes.len() => Ok(()),
        _ => Err(failed("a socket did not take a few bytes")),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Standing,
    Incomplete,
    Refused,
}

/// The origin server is silent until it is spoken to: nothing may follow the header.
fn judge_reply(reply: &[u8]) -> Reply {
    if !reply.ends_with(b"\r\n\r\n") {
        return Reply::Incomplete;
    }

    let status = reply.split(|byte| *byte == b' ').nth(1);

    if reply.starts_with(b"HTTP/1.") && status == Some(b"200") {
        Reply::Standing
    } else {
        Reply::Refused
    }
}

#[cfg(test)]
mod tests;
