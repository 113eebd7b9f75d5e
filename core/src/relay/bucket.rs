//! Owns how fast bytes may be read: a rate, and a bucket that fills with it.
//!
//! A bucket is one word, the time up to which its rate is spoken for. Who wants to read speaks for some bytes,
//! which moves that time on, and reads them when the time before has come. What was not read is given back. So
//! many may share a bucket without a lock: each gets its turn, in order, and as much as the others.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a second, and in a millisecond.
const SECOND: u64 = 1_000_000_000;
const MSEC: u64 = 1_000_000;

/// What a bucket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// What is read at once at most: what the rate gives in this time, in nanoseconds.
    period: u64,
    /// What is not used can be made up for within this time, in nanoseconds. A timer that comes late costs
    /// nothing so.
    credit: u64,
}

/// A bucket of one source.
pub(super) const OWN: Use = Use { period: 100 * MSEC, credit: 50 * MSEC };

/// A bucket of many, who take turns. Where one waits for others, its timer may be late without a loss.
pub(super) const SHARED: Use = Use { period: 12_500_000, credit: 25 * MSEC };

/// Nobody waits longer, in nanoseconds: the clock has been set back.
const LONGEST: u64 = 24 * 3600 * SECOND;

/// A time, in nanoseconds of the clock that the caller's milliseconds are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

/// Up to when a rate is spoken for, in nanoseconds. All bytes 0 are a bucket that nobody has used.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Bucket(AtomicU64);

impl Instant {
    /// The time of a clock of milliseconds.
    pub fn of_msec(msec: u64) -> Self {
        Self(msec.saturating_mul(MSEC))
    }

    /// The first millisecond that is not before.
    pub fn to_msec(self) -> u64 {
        self.0.div_ceil(MSEC)
    }
}

impl Rate {
    /// So many bytes a second.
    pub fn new(bytes: NonZeroU64) -> Self {
        Self(bytes)
    }

    /// How long it takes to give `bytes`, in nanoseconds.
    fn time(self, bytes: usize) -> u64 {
        let time = (bytes as u128 * u128::from(SECOND)).div_ceil(u128::from(self.0.get()));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// How many bytes are read at once at most.
    pub(super) fn chunk(self, of: Use) -> usize {
        self.chunk_behind(0, of)
    }

    /// The same for one of those who have to wait for a bucket, for `wait` nanoseconds. The longer that is, the
    /// more there are, and the less each takes at once: with n of them both the wait and their number of turns a
    /// second grow as the square root of n.
    fn chunk_behind(self, wait: u64, of: Use) -> usize {
        let period = u128::from(of.period);
        let bytes = u128::from(self.0.get()) * period / u128::from(SECOND);
        let bytes = (bytes * period / u128::from(wait.max(of.period))).max(1);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl Bucket {
    /// How long who comes now has to wait, in nanoseconds.
    fn wait(&self, now: Instant) -> u64 {
        match self.0.load(Ordering::Relaxed).saturating_sub(now.0) {
            LONGEST.. => 0,
            wait => wait,
        }
    }

    /// How many bytes who shares the bucket takes at once at most.
    pub(super) fn chunk(&self, rate: Rate, now: Instant) -> usize {
        rate.chunk_behind(self.wait(now), SHARED)
    }

    /// Whether all that was spoken for is made up for: the bucket is as good as a new one.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.0.load(Ordering::Relaxed) <= now.0.saturating_sub(SHARED.credit)
    }

    /// Speaks for `bytes` at `rate`. When they may be read.
    pub(super) fn reserve(&self, rate: Rate, bytes: usize, of: Use, now: Instant) -> Instant {
        let time = rate.time(bytes);
        let begin = |until: u64| match until.saturating_sub(now.0) {
            LONGEST.. => now.0,
            _ => until.max(now.0.saturating_sub(of.credit)),
        };

        let spoken_for = |until| Some(begin(until).saturating_add(time));

        // It always has a value to store.
        let (Ok(until) | Err(until)) =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spoken_for);

        Instant(begin(until))
    }

    /// Takes back what was spoken for and not read.
    pub(super) fn give_back(&self, rate: Rate, bytes: usize) {
        if bytes > 0 {
            // Rounded down, so that never more is given back than was taken.
            let time = rate.time(bytes).saturating_sub(1);
            let back = |until: u64| Some(until.saturating_sub(time));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
    }
}
