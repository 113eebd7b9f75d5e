//! Owns one tunnel that stands, as the list has it: 240 bytes of shared memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::label::Version;
use super::worker::Counter;

/// How many words of an entry are text.
const WORDS: usize = 21;

/// How many bytes of text there is room for.
const TEXT: usize = WORDS * 8;

/// How many bytes of a user's name are kept.
const USER: usize = 32;

/// How many bytes of an address, with its port, are kept: all of one of IPv6.
const ADDR: usize = 48;

/// How many bits of a [`Start`] tell the version of HTTP, and what it took to connect.
const VERSION_BITS: u32 = 2;
const CONNECT_BITS: u32 = 20;

/// The greatest rate that there is room for, in bytes a second: 4 GiB.
const HALF: u64 = u32::MAX as u64;

/// How often the rates are reckoned anew, in milliseconds, and how old they may be.
const PERIOD: u64 = 1_000;

/// A place in the list. All bytes 0 are a free one.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Entry {
    /// The place of the worker whose it is, counted from 1; 0 where it is free.
    pub(super) owner: AtomicU64,
    /// Grows with each tunnel that has this place; odd while the text is written.
    turn: AtomicU64,
    /// The turn of the tunnel that is to be closed.
    close: AtomicU64,
    /// What its worker knows the tunnel by. It says nothing to another.
    handle: Counter,
    /// When it began to stand, what it took to connect, and the version of HTTP: see [`Start`].
    start: Counter,
    /// When bytes were last moved.
    moved: Counter,
    upload: Counter,
    download: Counter,
    /// Both rates: that of the upload in the upper half.
    rates: Counter,
    text: [Counter; WORDS],
}

/// What a tunnel begins with.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// What its worker knows it by, for [`Part::to_close`](super::zone::Part::to_close).
    pub handle: u64,
    /// The version of HTTP that it came over.
    pub version: Version,
    /// Address and port of the client.
    pub client: &'a [u8],
    /// Address and port of the upstream.
    pub addr: &'a [u8],
    /// The user, where there is one.
    pub user: &'a [u8],
    /// The host that was asked for.
    pub host: &'a [u8],
    /// And the port.
    pub port: &'a [u8],
    /// What it took to connect to the upstream, in milliseconds.
    pub connect: u64,
    /// Now, in milliseconds since 1970.
    pub now: u64,
}

/// What is told of a tunnel. Texts that are too long are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Address and port of the client.
    pub client: Vec<u8>,
    /// Address and port of the upstream.
    pub addr: Vec<u8>,
    /// The user, where there is one.
    pub user: Vec<u8>,
    /// Host and port that were asked for.
    pub destination: Vec<u8>,
}

/// A tunnel, as it was when the list was read. Times are in milliseconds, rates in bytes a second.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What names it as long as it stands.
    pub id: u64,
    /// The version of HTTP that it came over.
    pub version: Version,
    /// What is told of it.
    pub names: Names,
    /// For how long it has stood.
    pub age: u64,
    /// For how long nothing was moved.
    pub idle: u64,
    /// What it took to connect to the upstream.
    pub connect: u64,
    /// Bytes of the client that the upstream took.
    pub upload: u64,
    /// Bytes that the upstream gave.
    pub download: u64,
    /// How fast the former grows.
    pub upload_rate: u64,
    /// How fast the latter does.
    pub download_rate: u64,
    /// Whether an operator has asked that it be closed.
    pub is_closing: bool,
}

/// How a tunnel began, in one word: from the lowest bit on the version of HTTP, what it took to connect, in
/// milliseconds, a quarter of an hour at most, and when it began to stand, in milliseconds since 1970.
#[derive(Clone, Copy)]
struct Start(u64);

/// What the rates are reckoned from, with the worker whose tunnel it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    at: u64,
    upload: u64,
    download: u64,
}

impl Entry {
    /// Takes a free place for `owner`, counted from 1. False when it is not free.
    pub(super) fn claim(&self, owner: u64) -> bool {
        let taken = self.owner.compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    /// Gives the place back that `owner` had.
    pub(super) fn release(&self, owner: u64) {
        let _ = self.owner.compare_exchange(owner, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// Writes what a tunnel begins with.
    pub(super) fn begin(&self, with: &Beginning<'_>) {
        // A worker that was killed may have left it odd.
        let turn = self.turn.load(Ordering::Relaxed) | 1;
        self.turn.store(turn, Ordering::Release);
        std::sync::atomic::fence(Ordering::Release);

        self.handle.set(with.handle);
        self.start.set(Start::of(with).0);
        self.moved.set(with.now);

        for counter in [&self.upload, &self.download, &self.rates] {
            counter.set(0);
        }

        for (word, bytes) in self.text.iter().zip(with.pack().chunks_exact(8)) {
            word.set(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }

        self.turn.store(turn.wrapping_add(1), Ordering::Release);
    }

    /// Notes what the tunnel has moved in all, at `now`.
    pub fn update(&self, sample: &mut Sample, upload: u64, download: u64, now: u64) {
        self.moved.set(now);
        self.upload.set(upload);
        self.download.set(download);

        let passed = now.saturating_sub(sample.at);

        if passed >= PERIOD {
            let rate = |more: u64| (more.saturating_mul(1_000) / passed).min(HALF);

            if sample.at != 0 {
                let upload = rate(upload - sample.upload.min(upload));
                let download = rate(download - sample.download.min(download));
                self.rates.set(upload << HALF.count_ones() | download);
            }

            *sample = Sample { at: now, upload, download };
        }
    }

    /// Which tunnel of this place it is.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Asks that the tunnel with this turn be closed. The place of its worker, counted from 1, if it stands.
    pub(super) fn ask_to_close(&self, turn: u64) -> Option<u64> {
        let owner = self.owner.load(Ordering::Acquire);

        if owner == 0 || self.turn() != turn {
            return None;
        }

        self.close.store(turn, Ordering::Release);
        Some(owner)
    }

    /// Whether the tunnel that has this place is to be closed.
    pub fn is_to_close(&self) -> bool {
        self.close.load(Ordering::Acquire) == self.turn()
    }

    /// What the tunnel in this place is. `None` where there is none, or it changed meanwhile.
    pub(super) fn see(&self, id: impl Fn(u64) -> u64, now: u64) -> Option<Seen> {
        let turn = self.turn();

        if self.owner.load(Ordering::Acquire) == 0 || turn % 2 == 1 || turn == 0 {
            return None;
        }

        let text = self.text();
        let idle = now.saturating_sub(self.moved.get());
        let rates = if idle > 2 * PERIOD { 0 } else { self.rates.get() };
        let start = Start(self.start.get());

        let seen = Seen {
            id: id(turn),
            version: start.version()?,
            names: Names::of(&text),
            age: now.saturating_sub(start.began()),
            idle,
            connect: start.connect(),
            upload: self.upload.get(),
            download: self.download.get(),
            upload_rate: rates >> HALF.count_ones(),
            download_rate: rates & HALF,
            is_closing: self.is_to_close(),
        };

        std::sync::atomic::fence(Ordering::Acquire);
        (self.turn.load(Ordering::Relaxed) == turn).then_some(seen)
    }

    fn text(&self) -> [u8; TEXT] {
        let mut text = [0; TEXT];

        for (bytes, word) in text.chunks_exact_mut(8).zip(&self.text) {
            bytes.copy_from_slice(&word.get().to_le_bytes());
        }

        text
    }

    /// Whether `filter` stands in any of the texts of the tunnel in this place; without regard to ASCII's case.
    pub(super) fn has(&self, filter: &[u8]) -> bool {
        let is_in =
            |name: &&[u8]| name.windows(filter.len()).any(|part| part.eq_ignore_ascii_case(filter));

        filter.is_empty() || unpacked(&self.text()).iter().any(is_in)
    }

    /// When the tunnel in this place began. `None` where there is none.
    pub(super) fn began(&self) -> Option<u64> {
        let is_there = self.owner.load(Ordering::Relaxed) != 0 && self.turn() % 2 == 0;
        is_there.then(|| Start(self.start.get()).began())
    }

    /// How fast the tunnel is, at `now`, both ways together.
    pub(super) fn rate(&self, now: u64) -> u64 {
        match now.saturating_sub(self.moved.get()) > 2 * PERIOD {
            true => 0,
            false => (self.rates.get() >> HALF.count_ones()) + (self.rates.get() & HALF),
        }
    }

    /// What it took to connect to its upstream, in milliseconds.
    pub(super) fn connect(&self) -> u64 {
        Start(self.start.get()).connect()
    }

    /// What `owner` knows the tunnel by, if it has one here that is to be closed.
    pub(super) fn to_close(&self, owner: u64) -> Option<u64> {
        let is_one = self.owner.load(Ordering::Relaxed) == owner && self.is_to_close();
        is_one.then(|| self.handle.get())
    }
}

impl Start {
    fn of(with: &Beginning<'_>) -> Self {
        let connect = with.connect.min((1 << CONNECT_BITS) - 1);
        Self((with.now << CONNECT_BITS | connect) << VERSION_BITS | with.version as u64)
    }

    fn version(self) -> Option<Version> {
        Version::ALL.get((self.0 & ((1 << VERSION_BITS) - 1)) as usize).copied()
    }

    fn connect(self) -> u64 {
        self.0 >> VERSION_BITS & ((1 << CONNECT_BITS) - 1)
    }

    fn began(self) -> u64 {
        self.0 >> (VERSION_BITS + CONNECT_BITS)
    }
}

impl Beginning<'_> {
    /// Each text behind a byte that tells its length, cut where there is no room for all of it.
    fn pack(&self) -> [u8; TEXT] {
        let mut packed = [0; TEXT];
        let mut at = 0;

        for (text, most) in [(self.client, ADDR), (self.addr, ADDR), (self.user, USER)] {
            let text = &text[..text.len().min(most)];

            packed[at] = text.len() as u8;
            packed[at + 1..=at + text.len()].copy_from_slice(text);
            at += 1 + text.len();
        }

        let (len_at, from) = (at, at + 1);
        at = from;

        for piece in [self.host, b":", self.port] {
            let piece = &piece[..piece.len().min(TEXT - at)];
            packed[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }

        packed[len_at] = (at - from) as u8;
        packed
    }
}

/// The texts, in the order in which they are packed.
fn unpacked(packed: &[u8; TEXT]) -> [&[u8]; 4] {
    let mut rest = &packed[..];

    std::array::from_fn(|_| {
        let text = rest.split_first().and_then(|(len, behind)| {
            let (text, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some(text)
        });

        text.unwrap_or_default()
    })
}

impl Names {
    fn of(packed: &[u8; TEXT]) -> Self {
        let [client, addr, user, destination] = unpacked(packed).map(<[u8]>::to_vec);
        Self { client, addr, user, destination }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beginning(now: u64) -> Beginning<'static> {
        Beginning {
            handle: 5,
            version: Version::Http2,
            client: b"127.0.0.1:1234",
            addr: b"[2001:db8::1]:443",
            user: b"alice",
            host: b"www.example.com",
            port: b"443",
            connect: 7,
            now,
        }
    }

    fn names() -> Names {
        Names {
            client: b"127.0.0.1:1234".to_vec(),
            addr: b"[2001:db8::1]:443".to_vec(),
            user: b"alice".to_vec(),
            destination: b"www.example.com:443".to_vec(),
        }
    }

    #[test]
    fn it_has_240_bytes() {
        assert_eq!(std::mem::size_of::<Entry>(), 240);
    }

    #[test]
    fn a_tunnel_is_seen_as_it_was_written() {
        let entry = Entry::default();
        assert!(entry.see(|_| 0, 0).is_none());
        assert!(entry.claim(3) && !entry.claim(4));
        assert!(entry.see(|_| 0, 0).is_none());

        entry.begin(&beginning(1_000));
        let mut sample = Sample::default();
        entry.update(&mut sample, 10, 1_000, 2_000);
        entry.update(&mut sample, 20, 11_000, 4_000);

        let seen = entry.see(|turn| turn, 5_000).unwrap_or_else(|| unreachable!());
        assert_eq!(seen.names, names());
        assert_eq!((seen.version, seen.age, seen.idle), (Version::Http2, 4_000, 1_000));
        assert_eq!((seen.upload, seen.download, seen.connect), (20, 11_000, 7));
        assert_eq!((seen.upload_rate, seen.download_rate), (5, 5_000));

        // Rates of what does not move any more are none.
        let seen = entry.see(|turn| turn, 60_000).unwrap_or_else(|| unreachable!());
        assert_eq!((seen.upload_rate, seen.download_rate), (0, 0));

        entry.release(3);
        assert!(entry.see(|_| 0, 0).is_none());
    }

    #[test]
    fn what_does_not_fit_is_told_as_the_most_that_does() {
        let entry = Entry::default();
        assert!(entry.claim(1));
        let now = 4_000_000_000_000;
        entry.begin(&Beginning { version: Version::Http3, connect: u64::MAX, ..beginning(now) });
        let mut sample = Sample::default();
        entry.update(&mut sample, 0, 0, now);
        entry.update(&mut sample, u64::MAX, 9_000, now + 1_000);

        let seen = entry.see(|turn| turn, now + 1_000).unwrap_or_else(|| unreachable!());
        assert_eq!((seen.version, seen.age, seen.connect), (Version::Http3, 1_000, (1 << 20) - 1));
        assert_eq!((seen.upload_rate, seen.download_rate), (HALF, 9_000));
        assert_eq!(entry.rate(now + 1_000), HALF + 9_000);
    }

    #[test]
    fn only_the_tunnel_that_was_meant_is_closed() {
        let entry = Entry::default();
        assert!(entry.claim(1));
        entry.begin(&beginning(1));
        let turn = entry.turn();

        assert!(!entry.is_to_close());
        assert_eq!(entry.ask_to_close(turn + 2), None);
        assert!(!entry.is_to_close());
        assert_eq!(entry.ask_to_close(turn), Some(1));
        assert!(entry.is_to_close());
        assert_eq!((entry.to_close(1), entry.to_close(2)), (Some(5), None));

        entry.release(1);
        assert_eq!(entry.ask_to_close(turn), None);
        assert!(entry.claim(2));
        entry.begin(&beginning(1));
        assert!(!entry.is_to_close());
    }

    proptest! {
        #[test]
        fn texts_of_any_length_are_kept_or_cut(
            client in prop::collection::vec(any::<u8>(), 0..300),
            addr in prop::collection::vec(any::<u8>(), 0..300),
            user in prop::collection::vec(any::<u8>(), 0..300),
            host in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (client, addr, user, host) = (&client[..], &addr[..], &user[..], &host[..]);
            let begun = Beginning { client, addr, user, host, ..beginning(0) };
            let packed = begun.pack();
            let destination = [host, b":443"].concat();

            for (kept, text) in unpacked(&packed).into_iter().zip([client, addr, user, &destination]) {
                prop_assert!(text.starts_with(kept));
                prop_assert!(kept.len() == text.len() || kept.len() >= 32);
            }
        }

        #[test]
        fn any_memory_is_read(packed in prop::collection::vec(any::<u8>(), TEXT)) {
            let packed: [u8; TEXT] = packed.try_into().unwrap_or([0; TEXT]);
            Names::of(&packed);
        }
    }
}
