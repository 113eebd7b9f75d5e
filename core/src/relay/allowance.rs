//! Owns what may be read of the two ends, where that is limited: quotas.

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
}

/// How much may be read of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// So many bytes at most, at least one.
    Bytes(usize),
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
        Self { quota }
    }

    /// Counts `len` bytes that were read of `source` elsewhere. How many of them may go on.
    pub fn charge(&mut self, source: Side, len: usize) -> usize {
        let len = len.min(usize::try_from(self.quota.left(source)).unwrap_or(usize::MAX));
        self.quota.take(source, len as u64);
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

        match usize::try_from(left).unwrap_or(usize::MAX) {
            0 => Room::Spent,
            left => Room::Bytes(left),
        }
    }

    /// The run is over: it has read `received` bytes.
    pub fn settle(self, received: usize) {
        self.allowance.quota.take(self.source, received as u64);
    }
}
