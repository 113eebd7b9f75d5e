//! Owns how fast bytes may be read: a rate, a bucket that fills with it, and what one source takes of it.
//!
//! A bucket is one word, the time up to which its rate is spoken for. Who wants to read speaks for some bytes,
//! which moves that time on, and reads them when the time before has come. What was not read is given back. So
//! many may share a bucket without a lock: each gets its turn, in order, and as much as the others.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a second, and in a millisecond.
const SECOND: u64 = 1_000_000_000;
const MSEC: u64 = 1_000_000;

/// What is read at once at most: what the rate gives in this time, in nanoseconds.
const PERIOD: u64 = 100 * MSEC;

/// What is not used can be made up for within this time, in nanoseconds. A timer that comes late costs nothing
/// so.
const CREDIT: u64 = 50 * MSEC;

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

/// How fast one source may be read.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Rate,
    bucket: Bucket,
    /// So many bytes are spoken for, and not read.
    granted: usize,
    /// From then on they may be read.
    at: Instant,
}

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
    fn chunk(self) -> usize {
        let bytes = (self.0.get() / (SECOND / PERIOD)).max(1);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl Bucket {
    /// Speaks for `bytes` at `rate`. When they may be read.
    fn reserve(&self, rate: Rate, bytes: usize, now: Instant) -> Instant {
        let time = rate.time(bytes);
        let begin = |until: u64| match until.saturating_sub(now.0) {
            LONGEST.. => now.0,
            _ => until.max(now.0.saturating_sub(CREDIT)),
        };

        let spoken_for = |until| Some(begin(until).saturating_add(time));

        // It always has a value to store.
        let (Ok(until) | Err(until)) =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spoken_for);

        Instant(begin(until))
    }

    /// Takes back what was spoken for and not read.
    fn give_back(&self, rate: Rate, bytes: usize) {
        if bytes > 0 {
            // Rounded down, so that never more is given back than was taken.
            let time = rate.time(bytes).saturating_sub(1);
            let back = |until: u64| Some(until.saturating_sub(time));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
    }
}

impl Throttle {
    pub fn new(rate: Rate) -> Self {
        Self { rate, bucket: Bucket::default(), granted: 0, at: Instant::default() }
    }

    /// How many bytes may be read now, where `received` were in this run. `None` before [`Throttle::wake`].
    pub fn room(&mut self, received: usize, now: Instant) -> Option<usize> {
        if self.granted <= received {
            let chunk = self.rate.chunk();
            self.at = self.bucket.reserve(self.rate, chunk, now);
            self.granted = received.saturating_add(chunk);
        }

        (self.at <= now).then(|| self.granted - received)
    }

    /// The run is over, and has read `received` bytes.
    pub fn settle(&mut self, received: usize, now: Instant) {
        self.granted = self.granted.saturating_sub(received);

        if self.at <= now {
            self.bucket.give_back(self.rate, self.granted);
            self.granted = 0;
        }
    }

    /// Counts `bytes` that were read without asking.
    pub fn charge(&self, bytes: usize, now: Instant) {
        self.bucket.reserve(self.rate, bytes, now);
    }

    /// When the source is to be read again. `None` where nothing waits for that.
    pub fn wake(&self) -> Option<Instant> {
        (self.granted > 0).then_some(self.at)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.bucket.give_back(self.rate, self.granted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(bytes: u64) -> Rate {
        Rate::new(NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN))
    }

    /// Reads from a source that always has more, from `begin` to `end`, with timers that come `late`, all in
    /// milliseconds. What was read, and how often.
    fn read_all(throttle: &mut Throttle, begin: u64, end: u64, late: u64) -> (u64, u64) {
        let (mut now, mut bytes, mut turns) = (begin, 0, 0);

        while now < end {
            let mut received = 0;

            while let Some(room) = throttle.room(received, Instant::of_msec(now)) {
                received += room;
            }

            throttle.settle(received, Instant::of_msec(now));
            bytes += received as u64;
            turns += 1;
            now = throttle.wake().map_or(end, |at| at.to_msec() + late);
        }

        (bytes, turns)
    }

    #[test]
    fn a_rate_is_kept() {
        for (bytes, late) in
            [(1_000_000, 0), (1_000_000, 40), (3333, 7), (1, 0), (20_000_000_000, 3)]
        {
            let (read, turns) = read_all(&mut Throttle::new(rate(bytes)), 5000, 65_000, late);
            let wanted = 60 * bytes;
            // What it begins with, and one chunk.
            let slack = bytes / 5 + 1;
            assert!(read.abs_diff(wanted) <= slack, "{read} in place of {wanted}");
            assert!(turns <= 610, "{turns} turns");
        }
    }

    #[test]
    fn a_throttle_is_not_idle() {
        let mut throttle = Throttle::new(rate(10));
        let now = Instant::of_msec(1000);
        assert_eq!(throttle.room(0, now), Some(1));
        assert_eq!(throttle.room(1, now), None);
        throttle.settle(1, now);
        assert_eq!(throttle.wake().map(Instant::to_msec), Some(1050));
        assert_eq!(throttle.room(0, Instant::of_msec(1049)), None);
        throttle.settle(0, Instant::of_msec(1049));
        assert_eq!(throttle.room(0, Instant::of_msec(1050)), Some(1));
        throttle.settle(0, Instant::of_msec(1050));
        assert_eq!(throttle.wake(), None);
    }

    #[test]
    fn what_was_not_read_can_be() {
        let mut throttle = Throttle::new(rate(1000));

        for msec in 0..1000 {
            let now = Instant::of_msec(10_000 + msec);
            // As much as the rate gives.
            assert!(throttle.room(0, now).is_some(), "after {msec} ms");
            throttle.settle(1, now);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody() {
        let mut throttle = Throttle::new(rate(1000));
        read_all(&mut throttle, 10_u64.pow(12), 10_u64.pow(12) + 1000, 0);
        throttle.settle(0, Instant::of_msec(u64::MAX / MSEC));
        assert!(throttle.room(0, Instant::of_msec(5)).is_some());
    }

    #[test]
    fn who_shares_a_bucket_gets_as_much_as_the_others() {
        let bucket = Bucket::default();
        let rate = rate(1_000_000);
        let slots: Vec<_> =
            (0..100).map(|_| bucket.reserve(rate, 1000, Instant::of_msec(1000))).collect();

        let steps = slots.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(steps.into_iter().all(|step| step == MSEC));
    }

    proptest! {
        /// Whenever it is asked, and however much the source has: in no time is more read than the rate gives in it,
        /// but for what was left to make up for and one chunk.
        #[test]
        fn never_more_than_the_rate(
            bytes in 1u64..100_000_000_000,
            steps in prop::collection::vec((0u64..300, 0usize..1_000_000_000), 1..100),
        ) {
            let mut throttle = Throttle::new(rate(bytes));
            let mut now = 1_000_000;
            let begin = now;
            let mut read = 0u128;

            for (pause, mut has) in steps {
                now += pause;
                let mut received = 0;

                while let (true, Some(room)) = (has > 0, throttle.room(received, Instant::of_msec(now))) {
                    received += room.min(has);
                    has -= room.min(has);
                }

                throttle.settle(received, Instant::of_msec(now));
                read += received as u128;

                let time = u128::from((now - begin) * MSEC + CREDIT);
                let most = time * u128::from(bytes) / u128::from(SECOND);
                prop_assert!(read <= most + throttle.rate.chunk() as u128 + 2 * 100 * u128::from(bytes) / u128::from(SECOND) + 1);
            }
        }
    }
}
