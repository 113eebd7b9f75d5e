//! Owns the bare relay, the yardstick: TCP to one port, on edge-triggered epoll, and nothing else. It
//! copies through one buffer, and splices what comes in bulk.

use std::io;
use std::os::fd::AsRawFd;

use crate::sys::{would_block, Epoll, Pipe, Socket, READ, WRITE};

/// The buffer that all connections share.
const BUFFER: usize = 32 * 1024;
const PIPE: usize = 256 * 1024;
/// Pipes that are kept for the next bulk.
const POOL: usize = 64;
/// Reads in a row that fill the buffer, and are sent whole, before it splices.
const FULL_READS: u32 = 2;
/// A burst below this goes back to copying.
const BURST: usize = 64 * 1024;
/// What one direction moves before the others have their turn.
const BUDGET: usize = 256 * 1024;

const EDGE: u32 = libc::EPOLLET as u32;
const END: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const LISTENER: u64 = u64::MAX;

struct Side {
    socket: Socket,
    readable: bool,
    writable: bool,
    /// The end has come in: a short read does not tell that nothing is left.
    ending: bool,
}

#[derive(Default)]
struct Direction {
    /// What the sink did not take.
    left: Vec<u8>,
    pipe: Option<Pipe>,
    in_pipe: usize,
    full_reads: u32,
    splicing: bool,
    burst: usize,
    at_end: bool,
    done: bool,
}

struct Pair {
    sides: [Side; 2],
    directions: [Direction; 2],
    queued: bool,
}

struct Shared {
    buffer: Vec<u8>,
    pool: Vec<Pipe>,
}

impl Shared {
    fn take_pipe(&mut self) -> Option<Pipe> {
        self.pool.pop().or_else(|| Pipe::new(PIPE).ok())
    }

    fn give_back(&mut self, pipe: Option<Pipe>) {
        if self.pool.len() < POOL {
            self.pool.extend(pipe);
        }
    }
}

enum Turn {
    Waits,
    HasMore,
}

impl Direction {
    /// Moves what can be moved from one side to the other.
    fn turn(&mut self, from: &mut Side, to: &mut Side, shared: &mut Shared) -> io::Result<Turn> {
        let mut moved = 0;

        while !self.done {
            if !self.send_left(to)? || !self.drain_pipe(to, shared)? {
                return Ok(Turn::Waits);
            }

            if self.at_end {
                to.socket.shutdown_write()?;
                self.done = true;
                break;
            }

            if !from.readable || !to.writable {
                return Ok(Turn::Waits);
            }

            if moved >= BUDGET {
                return Ok(Turn::HasMore);
            }

            moved +=
                if self.splicing { self.fill(from, shared)? } else { self.copy(from, to, shared)? };
        }

        Ok(Turn::Waits)
    }

    fn send_left(&mut self, to: &mut Side) -> io::Result<bool> {
        while !self.left.is_empty() {
            match to.socket.send(&self.left) {
                Ok(sent) => drop(self.left.drain(..sent)),
                Err(error) if would_block(&error) => {
                    to.writable = false;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }

        // A direction with nothing in flight owns no memory.
        self.left = Vec::new();
        Ok(true)
    }

    fn drain_pipe(&mut self, to: &mut Side, shared: &mut Shared) -> io::Result<bool> {
        while let (Some(pipe), true) = (&self.pipe, self.in_pipe > 0) {
            match pipe.drain(&to.socket, self.in_pipe) {
                Ok(sent) => self.in_pipe -= sent,
                Err(error) if would_block(&error) => {
                    to.writable = false;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }

        if !self.splicing || self.at_end {
            shared.give_back(self.pipe.take());
        }

        Ok(true)
    }

    /// Fills the empty pipe.
    fn fill(&mut self, from: &mut Side, shared: &mut Shared) -> io::Result<usize> {
        if self.pipe.is_none() {
            self.pipe = shared.take_pipe();
        }

        let Some(pipe) = &self.pipe else {
            self.splicing = false;
            self.full_reads = 0;
            return Ok(0);
        };

        match pipe.fill(&from.socket, PIPE) {
            Ok(0) => self.at_end = true,
            Ok(length) => {
                self.in_pipe = length;
                self.burst += length;
                return Ok(length);
            }
            Err(error) if would_block(&error) => {
                from.readable = false;
                self.splicing = self.burst >= BURST;
                self.burst = 0;
                shared.give_back(self.pipe.take());
            }
            Err(error) => return Err(error),
        }

        Ok(0)
    }

    fn copy(&mut self, from: &mut Side, to: &mut Side, shared: &mut Shared) -> io::Result<usize> {
        let length = match from.socket.recv(&mut shared.buffer) {
            Ok(0) => {
                self.at_end = true;
                return Ok(0);
            }
            Ok(length) => length,
            Err(error) if would_block(&error) => {
                from.readable = false;
                self.full_reads = 0;
                return Ok(0);
            }
            Err(error) => return Err(error),
        };

        if length < BUFFER && !from.ending {
            from.readable = false;
        }

        let sent = match to.socket.send(&shared.buffer[..length]) {
            Ok(sent) => sent,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };

        if sent < length {
            self.left = shared.buffer[sent..length].to_vec();
        }

        self.full_reads = if sent == BUFFER { self.full_reads + 1 } else { 0 };

        if self.full_reads >= FULL_READS {
            self.splicing = true;
            self.burst = 0;
        }

        Ok(length)
    }
}

struct Relay {
    epoll: Epoll,
    listener: Socket,
    origin: u16,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Slots that may still be named by events of this wait.
    dead: Vec<usize>,
    /// Pairs that have more to move than one turn may.
    again: Vec<usize>,
    shared: Shared,
}

impl Relay {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok(client) => self.add(client)?,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn add(&mut self, client: Socket) -> io::Result<()> {
        let origin = Socket::connect(self.origin)?;
        let side = |socket| Side { socket, readable: false, writable: false, ending: false };

        let index = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });

        for (number, socket) in [&client, &origin].into_iter().enumerate() {
            let token = (index << 1 | number) as u64;
            let events = READ | WRITE | END | EDGE;

            self.epoll.add(socket.as_raw_fd(), token, events)?;
        }

        self.pairs[index] = Some(Pair {
            sides: [side(client), side(origin)],
            directions: Default::default(),
            queued: false,
        });

        Ok(())
    }

    fn ready(&mut self, token: u64, events: u32) {
        let (index, number) = (token as usize >> 1, token as usize & 1);

        if let Some(pair) = &mut self.pairs[index] {
            let side = &mut pair.sides[number];

            side.readable |= events & (READ | END) != 0;
            side.writable |= events & (WRITE | END) != 0;
            side.ending |= events & END != 0;
            self.turn(index);
        }
    }

    fn turn(&mut self, index: usize) {
        let Some(pair) = &mut self.pairs[index] else {
            return;
        };

        let [client, origin] = &mut pair.sides;
        let [up, down] = &mut pair.directions;

        let turns = up
            .turn(client, origin, &mut self.shared)
            .and_then(|first| Ok([first, down.turn(origin, client, &mut self.shared)?]));

        match turns {
            Ok(_) if up.done && down.done => self.close(index, false),
            Ok(turns) => {
                if turns.iter().any(|turn| matches!(turn, Turn::HasMore)) && !pair.queued {
                    pair.queued = true;
                    self.again.push(index);
                }
            }
            Err(_) => self.close(index, true),
        }
    }

    fn close(&mut self, index: usize, reset: bool) {
        if let Some(pair) = self.pairs[index].take() {
            if reset {
                for side in &pair.sides {
                    // A socket that is broken already needs none.
                    let _ = side.socket.reset_at_close();
                }
            }

            self.dead.push(index);
        }
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            let timeout = (!self.again.is_empty()).then_some(std::time::Duration::ZERO);
            let count = self.epoll.wait(timeout)?;

            for event in 0..count {
                match self.epoll.event(event) {
                    (LISTENER, _) => self.accept()?,
                    (token, events) => self.ready(token, events),
                }
            }

            for index in std::mem::take(&mut self.again) {
                if let Some(pair) = &mut self.pairs[index] {
                    pair.queued = false;
                    self.turn(index);
                }
            }

            self.free.append(&mut self.dead);
        }
    }
}

/// Relays from one port of 127.0.0.1 to another, until it is killed.
pub fn run(port: u16, origin: u16) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let listener = Socket::listen(port)?;

    epoll.add(listener.as_raw_fd(), LISTENER, READ)?;

    Relay {
        epoll,
        listener,
        origin,
        pairs: Vec::new(),
        free: Vec::new(),
        dead: Vec::new(),
        again: Vec::new(),
        shared: Shared { buffer: vec![0; BUFFER], pool: Vec::new() },
    }
    .run()
}
