//! Owns what one worker counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{Histogram, FEW, LONG, SHORT};
use super::label::{self, Outcome, Version, CLOSE_REASONS, OUTCOMES, VERSIONS};
use super::parents::{Attempt, ATTEMPTS};

/// A number that one process writes and all read. All bytes 0 are 0.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

/// The part of a zone that one worker writes. What counts up goes on when another worker takes its place; what
/// is a state begins at 0.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Worker {
    /// The process, 0 for none: see [`Zone`](super::Zone).
    pub(super) pid: AtomicU64,
    /// When the process began, in what the system counts: a pid is given again.
    pub(super) began: AtomicU64,
    /// How many tunnels others have asked it to close.
    pub(super) asked: AtomicU64,
    pub(super) state: State,
    pub(super) counts: Counts,
}

/// What is so now.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct State {
    /// The tunnels that stand, by version.
    pub standing: [Counter; VERSIONS],
    pub pipes: Counter,
    /// What the relay holds, in bytes.
    pub memory: Counter,
}

/// What happened since the zone was made.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Counts {
    pub connects: [[Counter; OUTCOMES]; VERSIONS],
    pub closed: [Counter; CLOSE_REASONS.len()],
    pub upload: Counter,
    pub download: Counter,
    pub refused_pipes: Counter,
    pub full_turns: Counter,
    pub unlisted: Counter,
    pub unshared: Counter,
    pub parents: [Counter; ATTEMPTS],
    pub resolve: Histogram,
    pub connect: Histogram,
    pub first_byte: Histogram,
    pub duration: Histogram,
    pub attempts: Histogram,
}

impl Counter {
    /// Adds to it. For the one process that writes it.
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Takes from it, not below 0. For the one process that writes it.
    pub fn take(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// Sets it. For the one process that writes it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Worker {
    /// A CONNECT came to this end, or to its tunnel.
    pub fn connect(&self, version: Version, outcome: Outcome) {
        self.counts.connects[version.place()][outcome.place()].add(1);
    }

    /// A tunnel begins to stand.
    pub fn open(&self, version: Version) {
        self.connect(version, Outcome::Established);
        self.state.standing[version.place()].add(1);
    }

    /// A tunnel that stood for `duration` milliseconds is over, for this reason.
    pub fn close(&self, version: Version, reason: &str, duration: u64) {
        self.state.standing[version.place()].take(1);
        self.counts.closed[label::close_reason_place(reason)].add(1);
        self.counts.duration.add(LONG, duration);
    }

    /// A tunnel moved bytes.
    pub fn moved(&self, upload: u64, download: u64) {
        self.counts.upload.add(upload);
        self.counts.download.add(download);
    }

    /// A name was resolved within so many milliseconds.
    pub fn resolved(&self, msec: u64) {
        self.counts.resolve.add(SHORT, msec);
    }

    /// An upstream was connected to within so many milliseconds, with so many attempts.
    pub fn connected(&self, msec: u64, attempts: u64) {
        self.counts.connect.add(SHORT, msec);
        self.counts.attempts.add(FEW, attempts);
    }

    /// The first byte of an upstream came so many milliseconds after the connect began.
    pub fn first_byte(&self, msec: u64) {
        self.counts.first_byte.add(SHORT, msec);
    }

    /// A tunnel has used up what it may move in one turn, `n` times.
    pub fn full_turns(&self, n: u64) {
        self.counts.full_turns.add(n);
    }

    /// The system refused `n` pipes.
    pub fn refused_pipes(&self, n: u64) {
        self.counts.refused_pipes.add(n);
    }

    /// A tunnel has no place in the list.
    pub fn unlisted(&self) {
        self.counts.unlisted.add(1);
    }

    /// A zone of rates had no place for a tunnel's key, `n` times.
    pub fn unshared(&self, n: u64) {
        self.counts.unshared.add(n);
    }

    /// An attempt to have a parent build a tunnel came to this.
    pub fn tried_parent(&self, attempt: Attempt) {
        self.counts.parents[attempt.place()].add(1);
    }

    /// So many pipes are open, and so many bytes held by the relay.
    pub fn holds(&self, pipes: u64, memory: u64) {
        self.state.pipes.set(pipes);
        self.state.memory.set(memory);
    }

    /// The process is gone, and its tunnels with it, for this reason. For the one who has its part now.
    pub(super) fn lose_tunnels(&self, reason: &str) {
        self.counts.closed[label::close_reason_place(reason)].add(self.state.tunnels());
        self.state.clear();
    }

    /// How often it was asked to close tunnels.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }
}

impl State {
    /// Forgets what a process that is gone has left.
    pub fn clear(&self) {
        self.standing.iter().for_each(|standing| standing.set(0));
        self.pipes.set(0);
        self.memory.set(0);
    }

    /// The tunnels that stand.
    pub fn tunnels(&self) -> u64 {
        self.standing.iter().map(Counter::get).sum()
    }
}
