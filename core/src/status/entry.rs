//! Owns one tunnel that stands, as the list has it: 256 bytes of shared memory.

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

/// How often the rates are reckoned anew, in milliseconds, and how old they may be.
const PERIOD: u64 = 1_000;

/// A place in the list. All bytes 0 are a free one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Entry {
    /// The place of the worker whose it is, counted from 1; 0 where it is free.
    pub(super) owner: AtomicU64,
    /// Grows with each tunnel that has this place; odd while the text is written.
    turn: AtomicU64,
    /// The turn of the tunnel that is to be closed.
    close: AtomicU64,
    version: Counter,
    /// When it began to stand, in milliseconds since 1970.
    began: Counter,
    /// When bytes were last moved.
    moved: Counter,
    upload: Counter,
    download: Counter,
    upload_rate: Counter,
    download_rate: Counter,
    /// What it took to connect to the upstream, in milliseconds.
    connect: Counter,
    text: [Counter; WORDS],
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

    /// Writes what a tunnel begins with, at `now`; it took `connect` milliseconds to connect.
    pub(super) fn begin(&self, version: Version, names: &Names, connect: u64, now: u64) {
        // A worker that was killed may have left it odd.
        let turn = self.turn.load(Ordering::Relaxed) | 1;
        self.turn.store(turn, Ordering::Release);
        std::sync::atomic::fence(Ordering::Release);

        self.version.set(version as u64);
        self.began.set(now);
        self.moved.set(now);
        self.connect.set(connect);

        for counter in [&self.upload, &self.download, &self.upload_rate, &self.download_rate] {
            counter.set(0);
        }

        for (word, bytes) in self.text.iter().zip(names.pack().chunks_exact(8)) {
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
            let rate = |more: u64| more.saturating_mul(1_000) / passed;

            if sample.at != 0 {
                self.upload_rate.set(rate(upload - sample.upload.min(upload)));
                self.download_rate.set(rate(download - sample.download.min(download)));
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

        let mut text = [0; TEXT];

        for (bytes, word) in text.chunks_exact_mut(8).zip(&self.text) {
            bytes.copy_from_slice(&word.get().to_le_bytes());
        }

        let idle = now.saturating_sub(self.moved.get());
        let rate = |counter: &Counter| if idle > 2 * PERIOD { 0 } else { counter.get() };

        let seen = Seen {
            id: id(turn),
            version: *Version::ALL.get(self.version.get() as usize)?,
            names: Names::unpack(&text),
            age: now.saturating_sub(self.began.get()),
            idle,
            connect: self.connect.get(),
            upload: self.upload.get(),
            download: self.download.get(),
            upload_rate: rate(&self.upload_rate),
            download_rate: rate(&self.download_rate),
            is_closing: self.is_to_close(),
        };

        std::sync::atomic::fence(Ordering::Acquire);
        (self.turn.load(Ordering::Relaxed) == turn).then_some(seen)
    }

    /// When the tunnel in this place began. `None` where there is none.
    pub(super) fn began(&self) -> Option<u64> {
        let is_there = self.owner.load(Ordering::Relaxed) != 0 && self.turn() % 2 == 0;
        is_there.then(|| self.began.get())
    }

    /// How fast the tunnel is, at `now`, both ways together.
    pub(super) fn rate(&self, now: u64) -> u64 {
        match now.saturating_sub(self.moved.get()) > 2 * PERIOD {
            true => 0,
            false => self.upload_rate.get().saturating_add(self.download_rate.get()),
        }
    }

    /// What it took to connect to its upstream, in milliseconds.
    pub(super) fn connect(&self) -> u64 {
        self.connect.get()
    }
}

impl Names {
    /// Whether `text` stands in any of them; without regard to ASCII's case.
    pub fn contain(&self, text: &[u8]) -> bool {
        let is_in = |name: &&[u8]| {
            text.is_empty() || name.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
        };

        self.texts().iter().any(is_in)
    }

    fn texts(&self) -> [&[u8]; 4] {
        [&self.client, &self.addr, &self.user, &self.destination]
    }

    /// Each text behind a byte that tells its length.
    fn pack(&self) -> [u8; TEXT] {
        let mut packed = [0; TEXT];
        let mut at = 0;

        for (place, text) in self.texts().into_iter().enumerate() {
            let left = TEXT - at - (4 - place);
            let most =
                if place == 3 { left } else { left.min(if place == 2 { USER } else { ADDR }) };
            let text = &text[..text.len().min(most).min(255)];

            packed[at] = text.len() as u8;
            packed[at + 1..=at + text.len()].copy_from_slice(text);
            at += 1 + text.len();
        }

        packed
    }

    fn unpack(packed: &[u8; TEXT]) -> Self {
        let mut rest = &packed[..];

        let mut next = || {
            let (len, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some(text.to_vec())
        };

        Self {
            client: next().unwrap_or_default(),
            addr: next().unwrap_or_default(),
            user: next().unwrap_or_default(),
            destination: next().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names {
            client: b"127.0.0.1:1234".to_vec(),
            addr: b"[2001:db8::1]:443".to_vec(),
            user: b"alice".to_vec(),
            destination: b"www.example.com:443".to_vec(),
        }
    }

    #[test]
    fn it_has_256_bytes() {
        assert_eq!(std::mem::size_of::<Entry>(), 256);
    }

    #[test]
    fn a_tunnel_is_seen_as_it_was_written() {
        let entry = Entry::default();
        assert!(entry.see(|_| 0, 0).is_none());
        assert!(entry.claim(3) && !entry.claim(4));
        assert!(entry.see(|_| 0, 0).is_none());

        entry.begin(Version::Http2, &names(), 7, 1_000);
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
    fn only_the_tunnel_that_was_meant_is_closed() {
        let entry = Entry::default();
        assert!(entry.claim(1));
        entry.begin(Version::Http11, &names(), 7, 1);
        let turn = entry.turn();

        assert!(!entry.is_to_close());
        assert_eq!(entry.ask_to_close(turn + 2), None);
        assert!(!entry.is_to_close());
        assert_eq!(entry.ask_to_close(turn), Some(1));
        assert!(entry.is_to_close());

        entry.release(1);
        assert_eq!(entry.ask_to_close(turn), None);
        assert!(entry.claim(2));
        entry.begin(Version::Http11, &names(), 7, 1);
        assert!(!entry.is_to_close());
    }

    proptest! {
        #[test]
        fn texts_of_any_length_are_kept_or_cut(
            client in prop::collection::vec(any::<u8>(), 0..300),
            addr in prop::collection::vec(any::<u8>(), 0..300),
            user in prop::collection::vec(any::<u8>(), 0..300),
            destination in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let names = Names { client, addr, user, destination };
            let kept = Names::unpack(&names.pack());

            for (kept, text) in kept.texts().into_iter().zip(names.texts()) {
                prop_assert!(text.starts_with(kept));
                prop_assert!(kept.len() == text.len() || kept.len() >= 32);
            }
        }

        #[test]
        fn any_memory_is_read(packed in prop::collection::vec(any::<u8>(), TEXT)) {
            let packed: [u8; TEXT] = packed.try_into().unwrap_or([0; TEXT]);
            Names::unpack(&packed);
        }
    }
}
