//! Owns the opening of tunnels: a client connects, asks with CONNECT where the peer wants that, and
//! sends the job; the origin server reads it and answers.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{failed, now, Job, Load, Shared, Side, State, CONNECTION, OPENING};
use crate::http2::{Connection, Tunnel};
use crate::sys::{would_block, Socket, READ, WRITE};
use crate::wire::Wire;

/// How long the handshake of a connection for many tunnels may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The longest answer to a CONNECT that is read.
const REPLY_LIMIT: usize = 8192;

impl Load<'_> {
    pub(super) fn open_more(&mut self) -> io::Result<()> {
        while self.to_open > 0 && self.opening < OPENING {
            self.to_open -= 1;
            self.opening += 1;

            if self.route.http2 {
                self.open_stream()?;
                continue;
            }

            let socket = Socket::connect(self.route.port)?;
            let wire = Wire::new(socket, self.route.tls.as_ref())?;
            self.insert(wire, true, State::Connecting, WRITE)?;
        }

        Ok(())
    }

    /// Asks for a tunnel over a connection that has room for one more, or over a new one.
    fn open_stream(&mut self) -> io::Result<()> {
        let has_room = |shared: &&Shared| shared.connection.borrow().has_room();

        let connection = match self.connections.iter().rev().find(has_room) {
            Some(shared) => shared.connection.clone(),
            None => self.connect()?,
        };

        let authority = self.route.authority.clone().unwrap_or_default();
        let index = self.free_slot();
        let wire = Wire::Stream(Tunnel::open(&connection, index, &authority));
        self.put(index, wire, true, State::Reply(Vec::new()), 0)
    }

    /// Opens a connection of HTTP/2. The handshake of TLS is waited for.
    fn connect(&mut self) -> io::Result<Rc<RefCell<Connection>>> {
        let socket = Socket::connect(self.route.port)?;
        let mut wire = Wire::new(socket, self.route.tls.as_ref())?;
        let end = Instant::now() + CONNECT_LIMIT;

        loop {
            match wire.handshake() {
                Ok(true) => break,
                Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
                _ if Instant::now() > end => return Err(failed("a handshake took too long")),
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }

        let connection = Connection::new(wire)?;
        let place = self.connections.len() as u64;

        if let Some(fd) = connection.wire().fd() {
            self.epoll.add(fd, CONNECTION | place, READ)?;
        }

        let connection = Rc::new(RefCell::new(connection));
        self.connections.push(Shared { connection: connection.clone(), interest: READ });
        Ok(connection)
    }

    pub(super) fn accept(&mut self) -> io::Result<()> {
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

    pub(super) fn shake_hands(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        if !side.wire.handshake()? {
            return Ok(());
        }

        self.resumed += usize::from(side.wire.is_resumed());

        let Some(authority) = &self.route.authority else {
            return self.send_job(index);
        };

        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");

        side.state = State::Reply(Vec::new());
        send_all(&mut side.wire, request.as_bytes())
    }

    pub(super) fn read_reply(&mut self, index: usize) -> io::Result<()> {
        if let Some(Side { wire: Wire::Stream(tunnel), .. }) = &self.slots[index] {
            return match tunnel.stands()? {
                true => self.send_job(index),
                false => Ok(()),
            };
        }

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

        match self.route.hello.as_slice() {
            [] => send_all(&mut side.wire, &[side.job.byte()]),
            hello => send_all(&mut side.wire, hello),
        }
    }

    pub(super) fn read_ack(&mut self, index: usize) -> io::Result<()> {
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

    pub(super) fn read_job(&mut self, index: usize) -> io::Result<()> {
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
}

/// For what a fresh socket always takes.
fn send_all(wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    match wire.send(bytes)? {
        length if length == bytes.len() => Ok(()),
        _ => Err(failed("a socket did not take a few bytes")),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Standing,
    Incomplete,
    Refused,
}

/// The origin server is silent until it is spoken to: nothing may follow the header.
pub(super) fn judge_reply(reply: &[u8]) -> Reply {
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
