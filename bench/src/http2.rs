//! Owns a connection of HTTP/2 as the driver's clients use it: tunnels that are its streams, with frames by hand.
//!
//! What comes of a tunnel is counted and not kept. All that is small goes out together, see
//! [`Connection::flush`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, ErrorKind, IoSlice};
use std::rc::Rc;

use crate::wire::Wire;

/// How many streams a connection has at once.
pub const STREAMS: usize = 101;

/// The windows of the client, and after how much of them it opens them again, in bytes.
const WINDOW: u32 = 64 << 20;
const UPDATE: u32 = 16 << 20;
const LARGEST_WINDOW: i64 = 0x7fff_ffff;
const DEFAULT_WINDOW: i64 = 65_535;

/// The bytes of a full frame: with its header it fills a record of TLS.
const PAYLOAD: usize = 16 * 1024 - HEADER;
const HEADER: usize = 9;

/// Frames that gather are written when they are so many bytes.
const GATHERED: usize = 16 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;

/// Streams that something came for, by the slots of their tunnels.
#[derive(Default)]
pub struct News {
    /// There is something to read.
    pub readable: Vec<usize>,
    /// A window was opened, or the socket takes bytes again.
    pub writable: Vec<usize>,
}

/// One end of a connection.
pub struct Connection {
    wire: Wire,
    streams: BTreeMap<u32, Stream>,
    next: u32,
    /// What may be sent on all streams, and on a fresh one.
    window: i64,
    initial: i64,
    /// What came and was not given back to the connection's window.
    taken: u32,
    /// A frame that is coming: its header so far, and how much of its payload is to come.
    header: Vec<u8>,
    payload: Vec<u8>,
    left: usize,
    /// Frames that gather.
    out: Vec<u8>,
    /// Slots whose tunnels have more to send than they could.
    blocked: BTreeSet<usize>,
}

struct Stream {
    slot: usize,
    status: Option<u8>,
    /// Bytes that came and nobody took.
    inbox: usize,
    taken: u32,
    window: i64,
    has_ended: bool,
}

/// A tunnel.
pub struct Tunnel {
    connection: Rc<RefCell<Connection>>,
    id: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(payload.len(), kind, flags, stream).to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn header(len: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEADER] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

fn number(bytes: &[u8]) -> io::Result<u32> {
    let bytes = bytes.try_into().map_err(|_| Error::other("a frame of a wrong length"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The field block of a CONNECT: literals that are not indexed.
fn connect_block(authority: &str) -> Vec<u8> {
    let mut block = b"\x02\x07CONNECT\x01".to_vec();
    block.push(authority.len() as u8);
    block.extend_from_slice(authority.as_bytes());
    block
}

/// The first byte of the first field, behind changes of the table's size: 0x88 is status 200.
fn first_field(mut block: &[u8]) -> Option<u8> {
    while let [first, rest @ ..] = block {
        if first & 0xe0 != 0x20 {
            return Some(*first);
        }

        block = rest;

        if first & 0x1f == 0x1f {
            let len = block.iter().position(|byte| byte & 0x80 == 0)? + 1;
            block = &block[len..];
        }
    }

    None
}

impl Connection {
    /// Begins to speak over a connection whose handshake is done.
    pub fn new(wire: Wire) -> io::Result<Self> {
        let mut out = PREFACE.to_vec();
        let [a, b] = INITIAL_WINDOW.to_be_bytes();
        let [c, d, e, f] = WINDOW.to_be_bytes();
        out.extend(frame(SETTINGS, 0, 0, &[a, b, c, d, e, f]));
        let more = (LARGEST_WINDOW - DEFAULT_WINDOW) as u32;
        out.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));

        let mut connection = Connection {
            wire,
            streams: BTreeMap::new(),
            next: 1,
            window: DEFAULT_WINDOW,
            initial: DEFAULT_WINDOW,
            taken: 0,
            header: Vec::new(),
            payload: Vec::new(),
            left: 0,
            out,
            blocked: BTreeSet::new(),
        };

        connection.flush()?;
        Ok(connection)
    }

    /// The wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether it has room for one stream more.
    pub fn has_room(&self) -> bool {
        self.streams.len() < STREAMS && self.next < 1 << 30
    }

    /// Reads all that came, and says for whom.
    pub fn read(&mut self, scratch: &mut [u8], budget: usize) -> io::Result<News> {
        let mut news = News::default();
        let mut left = budget;

        while left > 0 {
            let len = match self.wire.recv(scratch) {
                Ok(0) => return Err(Error::other("a connection was closed")),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };

            left = left.saturating_sub(len);
            self.take(&scratch[..len], &mut news)?;
        }

        Ok(news)
    }

    fn take(&mut self, mut bytes: &[u8], news: &mut News) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.header.len() < HEADER {
                let len = (HEADER - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..len]);
                bytes = &bytes[len..];

                if self.header.len() < HEADER {
                    return Ok(());
                }

                self.left = number(&[&[0], &self.header[..3]].concat())? as usize;
            }

            let len = self.left.min(bytes.len());
            let (payload, rest) = bytes.split_at(len);
            self.left -= len;
            bytes = rest;

            let (kind, flags) = (self.header[3], self.header[4]);
            let stream = number(&self.header[5..])? & 0x7fff_ffff;

            if kind == DATA {
                self.take_data(stream, len, flags, news);
            } else {
                self.payload.extend_from_slice(payload);
            }

            if self.left == 0 {
                self.header.clear();
                let payload = std::mem::take(&mut self.payload);

                if kind != DATA {
                    self.take_frame(kind, flags, stream, &payload, news)?;
                }
            }
        }

        Ok(())
    }

    fn take_data(&mut self, id: u32, len: usize, flags: u8, news: &mut News) {
        self.taken += len as u32;

        if self.taken >= 1 << 29 {
            let taken = std::mem::take(&mut self.taken);
            self.push(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
        }

        if let Some(stream) = self.streams.get_mut(&id) {
            stream.inbox += len;
            stream.has_ended |= self.left == 0 && flags & END_STREAM != 0;

            if news.readable.last() != Some(&stream.slot) {
                news.readable.push(stream.slot);
            }
        }
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        news: &mut News,
    ) -> io::Result<()> {
        match kind {
            HEADERS => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.status = stream.status.or_else(|| first_field(payload));
                    stream.has_ended |= flags & END_STREAM != 0;
                    news.readable.push(stream.slot);
                }
            }
            RST_STREAM => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.has_ended = true;
                    news.readable.push(stream.slot);
                }
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[..2] == INITIAL_WINDOW.to_be_bytes() {
                        let initial = i64::from(number(&setting[2..])?);
                        let more = initial - self.initial;
                        self.streams.values_mut().for_each(|stream| stream.window += more);
                        self.initial = initial;
                    }
                }

                self.push(SETTINGS, ACK, 0, &[]);
                self.unblock(news);
            }
            PING if flags & ACK == 0 => self.push(PING, ACK, 0, payload),
            WINDOW_UPDATE => {
                let more = i64::from(number(payload)?);

                if id == 0 {
                    self.window += more;
                    self.unblock(news);
                } else if let Some(stream) = self.streams.get_mut(&id) {
                    stream.window += more;

                    if self.blocked.remove(&stream.slot) {
                        news.writable.push(stream.slot);
                    }
                }
            }
            GOAWAY => return Err(Error::other(format!("GOAWAY, {}", payload.escape_ascii()))),
            _ => (),
        }

        Ok(())
    }

    fn unblock(&mut self, news: &mut News) {
        news.writable.extend(std::mem::take(&mut self.blocked));
    }

    /// Has those go on that wait for the socket.
    pub fn writable(&mut self) -> io::Result<News> {
        let mut news = News::default();

        if self.flush()? {
            self.unblock(&mut news);
        }

        Ok(news)
    }

    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.extend(header(payload.len(), kind, flags, stream));
        self.out.extend_from_slice(payload);
    }

    /// Writes what gathered; true if nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.out.is_empty() {
            match self.wire.send(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }

        self.wire.flush()
    }

    /// Whether the socket has to take more.
    pub fn waits(&mut self) -> io::Result<bool> {
        Ok(!self.flush()? || !self.blocked.is_empty() && self.window > 0 && self.can_send())
    }

    /// Whether any that is blocked has a window.
    fn can_send(&self) -> bool {
        self.streams.values().any(|one| one.window > 0 && self.blocked.contains(&one.slot))
    }

    fn send(&mut self, id: u32, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(ErrorKind::NotConnected.into());
        };

        let window = stream.window.min(self.window).max(0) as usize;
        let len = bytes.len().min(window).min(PAYLOAD);

        if len == 0 {
            self.blocked.insert(stream.slot);
            return Err(ErrorKind::WouldBlock.into());
        }

        if HEADER + len >= GATHERED {
            let slot = stream.slot;

            if !self.flush()? {
                self.blocked.insert(slot);
                return Err(ErrorKind::WouldBlock.into());
            }

            return self.send_at_once(id, &bytes[..len]);
        }

        stream.window -= len as i64;
        self.window -= len as i64;
        self.push(DATA, 0, id, &bytes[..len]);

        if self.out.len() >= GATHERED {
            self.flush()?;
        }

        Ok(len)
    }

    fn send_at_once(&mut self, id: u32, bytes: &[u8]) -> io::Result<usize> {
        let header = header(bytes.len(), DATA, 0, id);
        let sent = self.wire.send_pieces(&[IoSlice::new(&header), IoSlice::new(bytes)]);

        let sent = match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };

        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(ErrorKind::NotConnected.into());
        };

        if sent == 0 {
            self.blocked.insert(stream.slot);
            return Err(ErrorKind::WouldBlock.into());
        }

        stream.window -= bytes.len() as i64;
        self.window -= bytes.len() as i64;

        // What is begun has to be ended.
        self.out.extend_from_slice(&header[sent.min(HEADER)..]);
        self.out.extend_from_slice(&bytes[sent.saturating_sub(HEADER)..]);
        Ok(bytes.len())
    }
}

impl Tunnel {
    /// Asks for a tunnel that lies in this slot.
    pub fn open(connection: &Rc<RefCell<Connection>>, slot: usize, authority: &str) -> Self {
        let mut this = connection.borrow_mut();
        let id = this.next;
        let window = this.initial;
        this.next += 2;

        let stream = Stream { slot, status: None, inbox: 0, taken: 0, window, has_ended: false };
        this.streams.insert(id, stream);
        this.push(HEADERS, END_HEADERS, id, &connect_block(authority));

        Tunnel { connection: connection.clone(), id }
    }

    /// Whether the answer is there; only 200 is one.
    pub fn stands(&self) -> io::Result<bool> {
        match self.connection.borrow().streams.get(&self.id).and_then(|stream| stream.status) {
            Some(0x88) => Ok(true),
            Some(other) => Err(Error::other(format!("CONNECT was answered with field {other:#x}"))),
            None => Ok(false),
        }
    }

    /// Has the tunnel called once the connection takes more.
    pub fn wait(&self) {
        let mut connection = self.connection.borrow_mut();

        if let Some(slot) = connection.streams.get(&self.id).map(|stream| stream.slot) {
            connection.blocked.insert(slot);
        }
    }

    /// Sends what can be sent.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.borrow_mut().send(self.id, bytes)
    }

    /// Takes `max` bytes at most, whatever they are; 0 at the end.
    pub fn take(&self, max: usize) -> io::Result<usize> {
        let mut connection = self.connection.borrow_mut();

        let Some(stream) = connection.streams.get_mut(&self.id) else {
            return Ok(0);
        };

        let len = stream.inbox.min(max);
        stream.inbox -= len;
        stream.taken += len as u32;

        if len == 0 && !stream.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }

        if stream.taken >= UPDATE {
            let taken = std::mem::take(&mut stream.taken);
            connection.push(WINDOW_UPDATE, 0, self.id, &taken.to_be_bytes());
        }

        Ok(len)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut connection = self.connection.borrow_mut();

        if let Some(stream) = connection.streams.remove(&self.id) {
            connection.blocked.remove(&stream.slot);
            connection.push(DATA, END_STREAM, self.id, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(frame(PING, ACK, 0, b"12345678"), b"\0\0\x08\x06\x01\0\0\0\x0012345678");
        assert_eq!(connect_block("a:1"), b"\x02\x07CONNECT\x01\x03a:1");
    }

    #[test]
    fn statuses() {
        assert_eq!(first_field(b"\x88more"), Some(0x88));
        assert_eq!(first_field(b"\x20\x3f\xe1\x1f\x88"), Some(0x88));
        assert_eq!(first_field(b""), None);
    }
}
