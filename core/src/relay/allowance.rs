//! Owns what may be read of the two ends, where that is limited: how many bytes, and how fast.

use std::collections::TryReserveError;

use super::bucket::{Instant, Rate};
use super::throttle::Throttle;
use super::zone::{Share, Zone};
use super::Side;

/// How many bytes a tunnel may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// From the client to the upstream.
    pub up: u64,
    /// From the upstream to the client.
    pub down: u64,
    /// Both ways together.
    pub both: u64,
}

/// What may be read of the ends of a tunnel.
#[derive(Debug)]
pub struct Allowance {
    /// What is left of it.
    quota: Quota,
    /// How fast the client may be read.
    upload: Throttle,
    /// How fast the upstream may be read.
    download: Throttle,
    now: Instant,
}

/// How much may be read of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// So many bytes at most, at least one.
    Bytes(usize),
    /// Nothing before its time, see [`Allowance::wake`].
    Later,
    /// Not a byte more: the quota is used up.
    Spent,
}

/// The allowance of one source in one run of its direction.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    allowance: &'a mut Allowance,
    source: Side,
}

impl Quota {
    /// No quota at all.
    pub const NONE: Self = Self { up: u64::MAX, down: u64::MAX, both: u64::MAX };

    /// What may be read of `source`.
    fn left(&self, source: Side) -> u64 {
        match source {
            Side::Client => self.up.min(self.both),
            Side::Upstream => self.down.min(self.both),
        }
    }

    fn take(&mut self, source: Side, bytes: u64) {
        let own = match source {
            Side::Client => &mut self.up,
            Side::Upstream => &mut self.down,
        };

        *own = own.saturating_sub(bytes);
        self.both = self.both.saturating_sub(bytes);
    }
}

impl Allowance {
    /// One that nothing has been taken of.
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            upload: Throttle::default(),
            download: Throttle::default(),
            now: Instant::default(),
        }
    }

    /// Has `source` be read at `rate` at most.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn limit(&mut self, source: Side, rate: Rate) -> Result<(), TryReserveError> {
        self.throttle(source).limit(rate)
    }

    /// Has `source`, and those of all other tunnels of `key` together, be read at `rate` at most.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn share(
        &mut self,
        source: Side,
        rate: Rate,
        zone: Zone,
        key: u64,
    ) -> Result<(), TryReserveError> {
        self.throttle(source).share(rate, Share::new(zone, key, source))
    }

    /// Whether any rate has to be kept.
    pub fn has_rate(&self) -> bool {
        self.upload.is_limited() || self.download.is_limited()
    }

    /// Tells the time, before a turn and before [`Allowance::charge`].
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// When there is to be a turn, because a source may be read again. `None` where none waits for that.
    pub fn wake(&self) -> Option<Instant> {
        [&self.upload, &self.download].into_iter().filter_map(Throttle::wake).min()
    }

    /// Whether `source` has more, and may not be read before its time.
    pub fn is_throttled(&self, source: Side) -> bool {
        let throttle = match source {
            Side::Client => &self.upload,
            Side::Upstream => &self.download,
        };

        throttle.wake().is_some()
    }

    /// Whether a zone had no place for the tunnel's key, so that it goes without that rate for now, since this was
    /// asked last.
    pub fn take_unshared(&mut self) -> bool {
        self.upload.take_unshared() | self.download.take_unshared()
    }

    fn throttle(&mut self, source: Side) -> &mut Throttle {
        match source {
            Side::Client => &mut self.upload,
            Side::Upstream => &mut self.download,
        }
    }

    /// Counts `len` bytes that were read of `source` elsewhere. How many of them may go on.
    pub fn charge(&mut self, source: Side, len: usize) -> usize {
        let len = len.min(usize::try_from(self.quota.left(source)).unwrap_or(usize::MAX));
        self.quota.take(source, len as u64);

        let now = self.now;
        self.throttle(source).charge(len, now);

        len
    }

    pub(super) fn meter(&mut self, source: Side) -> Meter<'_> {
        Meter { allowance: self, source }
    }
}

impl Meter<'_> {
    /// How much may be read where `received` bytes were in this run.
    pub fn room(&mut self, received: usize) -> Room {
        let left = self.allowance.quota.left(self.source).saturating_sub(received as u64);

        let left = match usize::try_from(left).unwrap_or(usize::MAX) {
            0 => return Room::Spent,
            left => left,
        };

        let now = self.allowance.now;

        match self.allowance.throttle(self.source).room(received, now) {
            Some(room) => Room::Bytes(left.min(room)),
            None => Room::Later,
        }
    }

    /// The run is over: it has read `received` bytes.
    pub fn settle(self, received: usize) {
        self.allowance.quota.take(self.source, received as u64);

        let now = self.allowance.now;

        self.allowance.throttle(self.source).settle(received, now);
    }
}
