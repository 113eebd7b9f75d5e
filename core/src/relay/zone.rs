//! Owns the buckets that all tunnels of a key share, over all workers: a table in shared memory, without a lock.
//!
//! A bucket that has made up for all that was taken of it says no more than one that nobody has used. So nobody
//! has to hold a place in the table: a key finds its place, or takes one whose buckets are full, whenever bytes
//! move. A worker that is killed leaves nothing behind that another would have to clean up. Two workers that give
//! one key two places in the same moment let it have twice its rate until one of them is full.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bucket::{Bucket, Instant, Rate};
use super::Side;

/// How many places of the table a key may have.
const PLACES: usize = 32;

/// The table. All bytes 0 are one without a key.
#[derive(Clone, Copy, Debug)]
pub struct Zone(&'static [Slot]);

/// The buckets of a key. All bytes 0 are those of none.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Slot {
    /// A hash of the key, 0 for none.
    key: AtomicU64,
    upload: Bucket,
    download: Bucket,
}

/// What one source takes of the bucket of its tunnel's key.
#[derive(Debug)]
pub(super) struct Share {
    zone: Zone,
    key: u64,
    side: Side,
    slot: Option<&'static Slot>,
}

impl Zone {
    /// A zone in `slots`.
    pub fn new(slots: &'static [Slot]) -> Self {
        Self(slots)
    }

    /// The place of `key`. `None` when the table has none for it: all that it may have are others' for now.
    fn find(self, key: u64, now: Instant) -> Option<&'static Slot> {
        // A place that another worker has just taken may be this key's.
        (0..PLACES).find_map(|_| match self.own(key) {
            Some(slot) => Some(Some(slot)),
            None => match self.places(key).find(|slot| slot.is_free(now)) {
                Some(slot) => slot.take(key, now).then_some(Some(slot)),
                None => Some(None),
            },
        })?
    }

    fn own(self, key: u64) -> Option<&'static Slot> {
        self.places(key).find(|slot| slot.is_of(key))
    }

    fn places(self, key: u64) -> impl Iterator<Item = &'static Slot> {
        let len = self.0.len();
        // The table is empty, or the remainder is within it.
        let first = key.checked_rem(len as u64).unwrap_or(0) as usize;

        self.0.iter().skip(first).chain(self.0).take(PLACES.min(len))
    }
}

impl Slot {
    fn is_of(&self, key: u64) -> bool {
        self.key.load(Ordering::Relaxed) == key
    }

    fn is_free(&self, now: Instant) -> bool {
        self.upload.is_full(now) && self.download.is_full(now)
    }

    /// Has a free place be that of `key`. False when another worker was faster.
    fn take(&self, key: u64, now: Instant) -> bool {
        let before = self.key.load(Ordering::Relaxed);

        self.is_free(now)
            && self.key.compare_exchange(before, key, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn bucket(&self, side: Side) -> &Bucket {
        match side {
            Side::Client => &self.upload,
            Side::Upstream => &self.download,
        }
    }
}

impl Share {
    pub fn new(zone: Zone, key: u64, side: Side) -> Self {
        Self { zone, key, side, slot: None }
    }

    /// The bucket to take of. `None` where the zone has no place for the key.
    pub fn find(&mut self, now: Instant) -> Option<&'static Bucket> {
        if self.bucket().is_none() {
            self.slot = self.zone.find(self.key, now);
        }

        self.bucket()
    }

    /// The bucket that was found, as long as it is the key's.
    pub fn bucket(&self) -> Option<&'static Bucket> {
        self.slot.filter(|slot| slot.is_of(self.key)).map(|slot| slot.bucket(self.side))
    }

    /// How many bytes are taken at once at most.
    pub fn chunk(&mut self, rate: Rate, now: Instant) -> Option<usize> {
        self.find(now).map(|bucket| bucket.chunk(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::super::bucket::SHARED;
    use super::*;

    fn zone(len: usize) -> Zone {
        Zone::new(Vec::leak((0..len).map(|_| Slot::default()).collect()))
    }

    fn rate() -> Rate {
        Rate::new(NonZeroU64::MIN.saturating_add(999))
    }

    fn now(msec: u64) -> Instant {
        Instant::of_msec(100_000 + msec)
    }

    fn is_same(one: Option<&Bucket>, other: Option<&Bucket>) -> bool {
        matches!((one, other), (Some(one), Some(other)) if std::ptr::eq(one, other))
    }

    #[test]
    fn tunnels_of_a_key_share_and_others_do_not() {
        let zone = zone(100);
        let [mut one, mut same, mut other] =
            [7, 7, 8].map(|key| Share::new(zone, key, Side::Client));
        let mut down = Share::new(zone, 7, Side::Upstream);
        let found = one.find(now(0));

        if let Some(bucket) = found {
            bucket.reserve(rate(), 1000, SHARED, now(0));
        }

        assert!(is_same(found, same.find(now(1))));
        assert!(!is_same(found, other.find(now(1))));
        assert!(!is_same(found, down.find(now(1))));
        assert!(other.find(now(1)).is_some() && down.find(now(1)).is_some());
    }

    #[test]
    fn a_zone_is_full_only_while_it_is_in_use() {
        let zone = zone(40);
        let busy: Vec<_> = (1..=1000)
            .filter_map(|key| Share::new(zone, key, Side::Upstream).find(now(0)))
            .inspect(|bucket| {
                bucket.reserve(rate(), 1000, SHARED, now(0));
            })
            .collect();

        assert_eq!(busy.len(), 40);
        assert!(Share::new(zone, 2000, Side::Client).find(now(900)).is_none());
        assert!(Share::new(zone, 2000, Side::Client).find(now(1001)).is_some());
    }

    #[test]
    fn who_has_lost_a_place_finds_another() {
        let zone = zone(1);
        let mut one = Share::new(zone, 1, Side::Client);
        let mut other = Share::new(zone, 2, Side::Client);
        assert!(one.find(now(0)).is_some());
        assert!(other.find(now(0)).is_some());
        assert!(one.bucket().is_none());
        assert!(one.find(now(0)).is_some());
    }

    #[test]
    fn a_zone_without_room_is_full() {
        assert!(Share::new(zone(0), 1, Side::Client).find(now(0)).is_none());
    }

    #[test]
    fn workers_agree_on_a_place() {
        let zone = zone(64);

        let found = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(move || {
                        let find = |key| Share::new(zone, key, Side::Client).find(now(0));
                        (1..=20)
                            .map(|key| {
                                let bucket = find(key);
                                bucket.into_iter().for_each(|bucket| {
                                    bucket.reserve(rate(), 1000, SHARED, now(0));
                                });
                                bucket.map(|bucket| std::ptr::from_ref(bucket).addr())
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();

            workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect::<Vec<_>>()
        });

        assert!(found.iter().flatten().all(Option::is_some));
    }
}
