//! Owns how fast one source may be read: by the rate of its tunnel, and by those that it shares with others.

use std::collections::TryReserveError;

use super::bucket::{Bucket, Instant, Rate, Use, OWN, SHARED};
use super::zone::Share;

/// What limits one source. Without a rate it does not.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    rates: Vec<Limited>,
    /// So many bytes are spoken for, and not read.
    granted: usize,
    /// From then on they may be read.
    at: Instant,
    /// A zone had no place for its key.
    is_unshared: bool,
}

/// A rate, and the bucket that fills with it.
#[derive(Debug)]
struct Limited {
    rate: Rate,
    bucket: Source,
}

/// Whose bucket it is.
#[derive(Debug)]
enum Source {
    Own(Bucket),
    Shared(Share),
}

impl Throttle {
    /// Has the source keep to `rate`.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn limit(&mut self, rate: Rate) -> Result<(), TryReserveError> {
        self.add(rate, Source::Own(Bucket::default()))
    }

    /// Has it share `rate`.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn share(&mut self, rate: Rate, share: Share) -> Result<(), TryReserveError> {
        self.add(rate, Source::Shared(share))
    }

    fn add(&mut self, rate: Rate, bucket: Source) -> Result<(), TryReserveError> {
        self.rates.try_reserve_exact(1)?;
        self.rates.push(Limited { rate, bucket });
        Ok(())
    }

    pub fn is_limited(&self) -> bool {
        !self.rates.is_empty()
    }

    /// How many bytes may be read now, where `received` were in this run. `None` before [`Throttle::wake`].
    pub fn room(&mut self, received: usize, now: Instant) -> Option<usize> {
        if self.granted <= received && self.is_limited() {
            self.speak_for_more(received, now);
        }

        match self.is_limited() {
            true => (self.at <= now).then(|| self.granted - received),
            false => Some(usize::MAX),
        }
    }

    fn speak_for_more(&mut self, received: usize, now: Instant) {
        let chunk = self.rates.iter_mut().filter_map(|limited| limited.chunk(now)).min();
        // No zone has a place, and the tunnel has no rate of its own.
        let chunk = chunk.unwrap_or(usize::MAX);
        self.is_unshared |= self.rates.iter().any(|limited| limited.bucket().is_none());

        let buckets = self.rates.iter().filter_map(Limited::bucket);
        let times = buckets.map(|(rate, bucket, of)| bucket.reserve(rate, chunk, of, now));

        self.at = times.max().unwrap_or(now);
        self.granted = received.saturating_add(chunk);
    }

    /// The run is over, and has read `received` bytes.
    pub fn settle(&mut self, received: usize, now: Instant) {
        self.granted = self.granted.saturating_sub(received);

        if self.at <= now {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        let granted = std::mem::take(&mut self.granted);
        let buckets = self.rates.iter().filter_map(Limited::bucket);
        buckets.for_each(|(rate, bucket, _)| bucket.give_back(rate, granted));
    }

    /// Counts `bytes` that were read without asking.
    pub fn charge(&mut self, bytes: usize, now: Instant) {
        for limited in &mut self.rates {
            // This looks for the bucket.
            self.is_unshared |= limited.chunk(now).is_none();

            if let Some((rate, bucket, of)) = limited.bucket() {
                bucket.reserve(rate, bytes, of, now);
            }
        }
    }

    /// When the source is to be read again. `None` where nothing waits for that.
    pub fn wake(&self) -> Option<Instant> {
        (self.granted > 0).then_some(self.at)
    }

    /// Whether a zone had no place for its key since it was asked last.
    pub fn take_unshared(&mut self) -> bool {
        std::mem::take(&mut self.is_unshared)
    }
}

impl Limited {
    /// How many bytes are taken at once at most. `None` where there is no bucket to take of.
    fn chunk(&mut self, now: Instant) -> Option<usize> {
        match &mut self.bucket {
            Source::Own(_) => Some(self.rate.chunk(OWN)),
            Source::Shared(share) => share.chunk(self.rate, now),
        }
    }

    fn bucket(&self) -> Option<(Rate, &Bucket, Use)> {
        match &self.bucket {
            Source::Own(bucket) => Some((self.rate, bucket, OWN)),
            Source::Shared(share) => share.bucket().map(|bucket| (self.rate, bucket, SHARED)),
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::super::zone::{Slot, Zone};
    use super::super::Side;
    use super::*;

    fn rate(bytes: u64) -> Rate {
        Rate::new(NonZeroU64::new(bytes).unwrap_or(NonZeroU64::MIN))
    }

    fn throttle(bytes: u64) -> Throttle {
        let mut throttle = Throttle::default();
        assert!(throttle.limit(rate(bytes)).is_ok());
        throttle
    }

    /// Reads in one run what may be read.
    fn read_now(throttle: &mut Throttle, msec: u64) -> u64 {
        let now = Instant::of_msec(msec);
        let mut received = 0;

        while let Some(room) = throttle.room(received, now) {
            received += room;
        }

        throttle.settle(received, now);
        received as u64
    }

    /// Reads from a source that always has more, from `begin` to `end`, with timers that come `late`, all in
    /// milliseconds. What was read, and how often.
    fn read_all(throttle: &mut Throttle, begin: u64, end: u64, late: u64) -> (u64, u64) {
        let (mut now, mut bytes, mut turns) = (begin, 0, 0);

        while now < end {
            bytes += read_now(throttle, now);
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
            let (read, turns) = read_all(&mut throttle(bytes), 5000, 65_000, late);
            let wanted = 60 * bytes;
            // What it begins with, and one chunk.
            let slack = bytes / 5 + 1;
            assert!(read.abs_diff(wanted) <= slack, "{read} in place of {wanted}");
            assert!(turns <= 610, "{turns} turns");
        }
    }

    #[test]
    fn a_throttle_is_not_idle() {
        let mut throttle = throttle(10);
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
        let mut throttle = throttle(1000);

        for msec in 0..1000 {
            let now = Instant::of_msec(10_000 + msec);
            // As much as the rate gives.
            assert!(throttle.room(0, now).is_some(), "after {msec} ms");
            throttle.settle(1, now);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody() {
        let mut throttle = throttle(1000);
        read_all(&mut throttle, 10_u64.pow(12), 10_u64.pow(12) + 1000, 0);
        throttle.settle(0, Instant::of_msec(u64::MAX / 1_000_000));
        assert!(throttle.room(0, Instant::of_msec(5)).is_some());
    }

    /// `count` tunnels whose sources always have more share a rate, each with timers of its own. What each of them read
    /// in 60 s, from the moment on when all have begun.
    fn share_all(bytes: u64, count: usize, late: impl Fn(usize) -> u64) -> Vec<u64> {
        let zone = Zone::new(Vec::leak(vec![Slot::default(), Slot::default()]));
        let mut tunnels: Vec<_> = (0..count)
            .map(|_| {
                let mut throttle = Throttle::default();
                assert!(throttle.share(rate(bytes), Share::new(zone, 5, Side::Upstream)).is_ok());
                (5000, throttle, 0)
            })
            .collect();

        for now in 5000..66_000 {
            for (number, (wake, throttle, read)) in tunnels.iter_mut().enumerate() {
                if *wake <= now {
                    let bytes = read_now(throttle, now);
                    *read += if now < 6000 { 0 } else { bytes };
                    *wake = throttle.wake().map_or(now, Instant::to_msec) + late(number);
                }
            }
        }

        tunnels.into_iter().map(|(_, _, read)| read).collect()
    }

    #[test]
    fn who_shares_a_rate_gets_as_much_as_the_others() {
        for (bytes, count) in
            [(1_000_000, 1), (1_000_000, 2), (1_000_000, 3), (10_000_000, 100), (10_000_000, 1000)]
        {
            let read = share_all(bytes, count, |number| number as u64 % 5);
            let total: u64 = read.iter().sum();
            assert!(total.abs_diff(60 * bytes) <= 60 * bytes / 100, "{total} by {count}");

            let share = total / count as u64;
            let off = read.iter().map(|read| read.abs_diff(share)).max();
            assert!(off.is_some_and(|off| off <= share / 10), "{off:?} off {share}, {count}");
        }
    }

    proptest! {
        /// Whenever it is asked, and however much the source has: in no time is more read than the rate gives in it,
        /// but for what was left to make up for and one chunk.
        #[test]
        fn never_more_than_the_rate(
            bytes in 1u64..100_000_000_000,
            steps in prop::collection::vec((0u64..300, 0usize..1_000_000_000), 1..100),
        ) {
            let mut throttle = throttle(bytes);
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

                // With what could be made up for, what may be read at once, and a nanosecond for each step.
                let most = (now - begin + 150) as u128 * u128::from(bytes) / 1000 + 200 * u128::from(bytes) / 1_000_000_000;
                prop_assert!(read <= most + 1);
            }
        }
    }
}
