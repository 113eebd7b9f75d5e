//! Owns a model of a connection with tunnels: upstreams that send and read when they like, a client that opens its
//! windows and sends as it likes, a socket that takes what it can. What decides is what the module decides with.

use proptest::prelude::*;

use super::backlog::Backlog;
use super::data::{self, PAYLOAD, RECORD};
use super::frame::{kind, Frame, HEADER};
use super::growth::{Growth, WINDOWS};
use super::turns::{Turns, SMALL};
use super::window::Window;

/// How much is read at once, in full frames.
const FRAMES: usize = 2;
const BUFFER: usize = FRAMES * RECORD;

/// The windows that a stream begins with, and how large the client's may become, in bytes.
const WINDOW: usize = 65_535;
const MAX: u32 = 1 << 20;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// The upstream of a stream sends so many bytes.
    Send(usize, usize),
    /// The client opens the window of a stream, or, behind the last of them, the connection's.
    Open(usize, usize),
    /// The socket takes so many bytes more.
    Take(usize),
    /// The client sends so many bytes on a stream, if its window has room.
    Upload(usize, usize),
    /// The upstream of a stream reads so many bytes.
    Read(usize, usize),
}

/// One tunnel.
struct Stream {
    /// How many bytes its upstream has sent that were not read, and how many were read.
    unread: usize,
    read: usize,
    /// What the client's window has room for.
    window: usize,
    is_bulk: bool,
    /// Whether it was told that there is no room.
    waits: bool,
    /// What the client got.
    got: usize,
    receiving: Window,
    backlog: Backlog,
    /// What the client has sent, what it may send, and what the upstream got.
    sent: usize,
    allowed: usize,
    taken: usize,
}

/// A connection.
struct Model {
    streams: Vec<Stream>,
    growth: Growth,
    turns: Turns,
    window: usize,
    /// How much the socket takes now.
    room: usize,
    /// Frames that gather, and those that wait for the socket.
    next: Vec<u8>,
    queued: Vec<u8>,
    /// What the client heard and has not looked at.
    heard: Vec<u8>,
}

/// The byte of a stream at this place.
fn byte(stream: usize, at: usize) -> u8 {
    (stream * 31 + at % 241) as u8
}

impl Model {
    fn new(count: usize) -> Self {
        let stream = |_| Stream {
            unread: 0,
            read: 0,
            window: WINDOW,
            is_bulk: false,
            waits: false,
            got: 0,
            receiving: Window::new(WINDOW as u32, MAX),
            backlog: Backlog::default(),
            sent: 0,
            allowed: WINDOW,
            taken: 0,
        };

        Self {
            streams: (0..count).map(stream).collect(),
            growth: Growth::default(),
            turns: Turns::default(),
            window: WINDOW,
            room: 0,
            next: Vec::new(),
            queued: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.streams.len();

        match *step {
            Step::Send(stream, len) => {
                self.streams[stream % count].unread += len;
                self.turn(stream % count);
            }
            Step::Open(stream, len) if stream % (count + 1) < count => {
                self.streams[stream % (count + 1)].window += len;
                self.turn(stream % (count + 1));
            }
            Step::Open(_, len) => {
                self.window += len;
                (0..count).for_each(|stream| self.turn(stream));
            }
            Step::Take(len) => {
                self.room += len;
                self.drain();
            }
            Step::Upload(stream, len) => self.upload(stream % count, len),
            Step::Read(stream, len) => self.take(stream % count, len),
        }

        self.go_on();
    }

    fn is_open(&self) -> bool {
        self.queued.is_empty() && self.room > 0
    }

    /// A tunnel reads its upstream, and sends, as far as it may.
    fn turn(&mut self, id: usize) {
        loop {
            let stream = &mut self.streams[id];
            let room = stream.window.min(self.window);
            stream.waits = false;

            if stream.unread == 0 || room == 0 {
                return;
            }

            let (is_open, has_room) =
                (self.queued.is_empty() && self.room > 0, self.next.len() < RECORD);
            let allowed = self.turns.allow(id as u32, is_open, has_room, stream.is_bulk);

            if allowed == 0 {
                stream.waits = true;
                return;
            }

            let len = stream.unread.min(room).min(allowed).min(FRAMES * PAYLOAD);
            let mut buffer = vec![0; BUFFER];

            for place in 0..len {
                buffer[place / PAYLOAD * RECORD + HEADER + place % PAYLOAD] =
                    byte(id, stream.read + place);
            }

            stream.unread -= len;
            stream.read += len;
            stream.window -= len;
            stream.is_bulk = len >= SMALL;
            self.window -= len;
            self.send(data::frame(&mut buffer, len, id as u32));
        }
    }

    fn send(&mut self, frames: &[u8]) {
        if self.next.len() + frames.len() < RECORD {
            return self.next.extend_from_slice(frames);
        }

        self.flush();

        if self.is_open() && self.next.is_empty() {
            let taken = self.room.min(frames.len());
            self.write(&frames[..taken]);
            self.queued = frames[taken..].to_vec();
        } else {
            self.next.extend_from_slice(frames);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.room -= bytes.len();
        self.heard.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        if self.queued.is_empty() {
            self.queued = std::mem::take(&mut self.next);
            self.drain();
        }
    }

    fn drain(&mut self) {
        let taken = self.room.min(self.queued.len());
        let bytes: Vec<u8> = self.queued.drain(..taken).collect();
        self.write(&bytes);
    }

    /// The end of an iteration of the event loop.
    fn go_on(&mut self) {
        self.flush();

        while self.is_open() {
            let Some(id) = self.turns.call() else {
                break;
            };

            self.turn(id as usize);
            self.flush();
        }
    }

    fn upload(&mut self, id: usize, len: usize) {
        let stream = &mut self.streams[id];
        let len = len.min(stream.allowed);
        let bytes: Vec<u8> = (stream.sent..stream.sent + len).map(|at| byte(id, at)).collect();

        assert_eq!(stream.receiving.receive(len as u32), Ok(()));
        assert!(stream.backlog.push(&bytes).is_ok());
        stream.allowed -= len;
        stream.sent += len;
    }

    fn take(&mut self, id: usize, len: usize) {
        let stream = &mut self.streams[id];
        let len = len.min(stream.backlog.len());
        let bytes = &stream.backlog.bytes()[..len];

        assert!(bytes.iter().enumerate().all(|(at, &one)| one == byte(id, stream.taken + at)));
        stream.backlog.take(len);
        stream.taken += len;
        stream.receiving.take(len as u32);
        stream.allowed += stream.receiving.update(&mut self.growth).unwrap_or(0) as usize;
    }

    /// The client looks at the frames that are whole.
    fn look(&mut self) {
        while let Some((header, rest)) = self.heard.split_first_chunk::<HEADER>() {
            let frame = Frame::read(*header);
            let Some(bytes) = rest.get(..frame.len) else {
                return;
            };

            assert_eq!((frame.kind, frame.flags), (kind::DATA, 0));
            let id = frame.stream as usize;
            let stream = &mut self.streams[id];
            assert!(bytes.iter().enumerate().all(|(at, &one)| one == byte(id, stream.got + at)));
            stream.got += frame.len;
            self.heard.drain(..HEADER + frame.len);
        }
    }

    /// What holds after each step.
    fn check(&self) {
        // One buffer that the socket did not take, what gathers, and a message of each.
        let held = self.next.len() + self.queued.len();
        assert!(held <= 2 * BUFFER + 2 * RECORD, "{held} bytes are held");

        for stream in &self.streams {
            assert!(stream.backlog.len() + stream.allowed <= stream.receiving.size() as usize);
            assert!(stream.receiving.size() <= MAX);
        }

        // However their upstreams read, and then stop.
        let sum: u64 = self.streams.iter().map(|stream| u64::from(stream.receiving.size())).sum();
        assert!(sum <= WINDOWS * u64::from(MAX) + (self.streams.len() * WINDOW) as u64);

        // Nobody waits for a connection that takes bytes.
        assert!(!self.is_open() || !self.turns.is_waiting());
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![3 => 1usize..200, 1 => 1usize..200_000];

    let step = prop_oneof![
        4 => (any::<usize>(), len.clone()).prop_map(|(stream, len)| Step::Send(stream, len)),
        2 => (any::<usize>(), len.clone()).prop_map(|(stream, len)| Step::Open(stream, len)),
        4 => len.clone().prop_map(Step::Take),
        2 => (any::<usize>(), len.clone()).prop_map(|(stream, len)| Step::Upload(stream, len)),
        2 => (any::<usize>(), len).prop_map(|(stream, len)| Step::Read(stream, len)),
    ];

    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens in whatever order: no more than a bound is held, nobody sends more than a window has room for,
    /// and once all windows are open and the socket takes all, the client has all bytes, each stream its own and in
    /// their order.
    #[test]
    fn nobody_is_stalled_and_nothing_lost(count in 1usize..6, steps in steps()) {
        let mut model = Model::new(count);

        for step in &steps {
            model.step(step);
            model.look();
            model.check();
        }

        for stream in 0..=count {
            model.step(&Step::Open(stream, 1 << 30));
        }

        for _ in 0..500 {
            model.step(&Step::Take(50_000));
        }

        model.look();

        for (id, stream) in model.streams.iter_mut().enumerate() {
            prop_assert_eq!((stream.got, stream.unread), (stream.read, 0), "stream {}", id);
            prop_assert!(!stream.waits);
        }

        for id in 0..count {
            model.step(&Step::Read(id, usize::MAX));
            prop_assert_eq!(model.streams[id].taken, model.streams[id].sent);
            prop_assert!(model.streams[id].allowed > 0);
        }
    }
}
