//! Owns the sum of a zone at one moment.

use super::histogram::{Summary, FEW, LONG, SHORT};
use super::label::{outcome_at, Version, CLOSE_REASONS, OUTCOMES, VERSIONS};
use super::parents::{ATTEMPTS, ATTEMPT_WORDS};
use super::worker::Counter;
use super::Zone;

/// The ages that tunnels are counted by, in seconds, with the words for them.
const AGES: [(u64, &str); 6] =
    [(60, "1m"), (600, "10m"), (3_600, "1h"), (21_600, "6h"), (86_400, "1d"), (u64::MAX, "older")];

/// What a zone says.
#[derive(Clone, Debug)]
pub struct Report {
    /// The tunnels that stand, by version.
    pub standing: [u64; VERSIONS],
    /// The same by age, as far as they are listed.
    pub ages: Vec<(&'static str, u64)>,
    /// What became of each CONNECT, by version and word; what never happened is left out.
    pub connects: Vec<(Version, &'static str, u64)>,
    /// Why tunnels were closed.
    pub closed: Vec<(&'static str, u64)>,
    /// Bytes of clients that upstreams took.
    pub upload: u64,
    /// Bytes that upstreams gave.
    pub download: u64,
    /// Open pipes.
    pub pipes: u64,
    /// Pipes that the system refused.
    pub refused_pipes: u64,
    /// Tunnels that found no place in the list.
    pub unlisted: u64,
    /// Tunnels whose key found no place in a zone of rates.
    pub unshared: u64,
    /// What became of attempts to have a parent build a tunnel.
    pub parents: [(&'static str, u64); ATTEMPTS],
    /// How many tunnels can be listed.
    pub capacity: u64,
    /// Resolving, in milliseconds.
    pub resolve: Summary,
    /// Connecting, in milliseconds.
    pub connect: Summary,
    /// From the first connect to the first byte of the upstream, in milliseconds.
    pub first_byte: Summary,
    /// How long tunnels stood, in milliseconds.
    pub duration: Summary,
    /// How many addresses were tried for a tunnel.
    pub attempts: Summary,
    /// What each worker that is there says.
    pub workers: Vec<WorkerReport>,
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug)]
pub struct WorkerReport {
    /// Its pid.
    pub pid: u64,
    /// Its tunnels that stand.
    pub tunnels: u64,
    /// What its relay holds, in bytes.
    pub memory: u64,
    /// How often a tunnel used up what it may move in one turn, in this part of the zone.
    pub full_turns: u64,
}

impl Report {
    /// What `zone` says at `now`, in milliseconds since 1970.
    pub fn of(zone: Zone, now: u64) -> Self {
        let mut report = Self {
            standing: [0; VERSIONS],
            ages: AGES.iter().map(|(_, word)| (*word, 0)).collect(),
            connects: Vec::new(),
            closed: CLOSE_REASONS.iter().map(|word| (*word, 0)).collect(),
            upload: 0,
            download: 0,
            pipes: 0,
            refused_pipes: 0,
            unlisted: 0,
            unshared: 0,
            parents: ATTEMPT_WORDS.map(|word| (word, 0)),
            capacity: zone.capacity() as u64,
            resolve: Summary::new(SHORT),
            connect: Summary::new(SHORT),
            first_byte: Summary::new(SHORT),
            duration: Summary::new(LONG),
            attempts: Summary::new(FEW),
            workers: Vec::new(),
        };

        report.add_workers(zone);
        report.add_connects(zone);
        report.add_ages(zone, now);
        report
    }

    /// All tunnels that stand.
    pub fn active(&self) -> u64 {
        self.standing.iter().sum()
    }

    fn add_workers(&mut self, zone: Zone) {
        for worker in zone.workers() {
            let (state, counts) = (&worker.state, &worker.counts);
            let pid = worker.pid.load(std::sync::atomic::Ordering::Relaxed);

            for (all, one) in self.standing.iter_mut().zip(&state.standing) {
                *all += one.get();
            }

            for ((_, all), one) in self.closed.iter_mut().zip(&counts.closed) {
                *all += one.get();
            }

            for ((_, all), one) in self.parents.iter_mut().zip(&counts.parents) {
                *all += one.get();
            }

            let sums: [(&mut u64, &Counter); 6] = [
                (&mut self.upload, &counts.upload),
                (&mut self.download, &counts.download),
                (&mut self.pipes, &state.pipes),
                (&mut self.refused_pipes, &counts.refused_pipes),
                (&mut self.unlisted, &counts.unlisted),
                (&mut self.unshared, &counts.unshared),
            ];

            sums.into_iter().for_each(|(all, one)| *all += one.get());

            self.resolve.take(&counts.resolve);
            self.connect.take(&counts.connect);
            self.first_byte.take(&counts.first_byte);
            self.duration.take(&counts.duration);
            self.attempts.take(&counts.attempts);

            if pid != 0 {
                self.workers.push(WorkerReport {
                    pid,
                    tunnels: state.tunnels(),
                    memory: state.memory.get(),
                    full_turns: counts.full_turns.get(),
                });
            }
        }
    }

    fn add_connects(&mut self, zone: Zone) {
        for version in Version::ALL {
            for place in 0..OUTCOMES {
                let counts = zone.workers().iter().map(|worker| &worker.counts.connects);
                let sum = counts.map(|counts| counts[version.place()][place].get()).sum();

                if sum > 0 {
                    self.connects.push((version, outcome_at(place), sum));
                }
            }
        }
    }

    fn add_ages(&mut self, zone: Zone, now: u64) {
        for began in zone.entries().iter().filter_map(|entry| entry.began()) {
            let age = now.saturating_sub(began) / 1_000;
            let place = AGES.partition_point(|(bound, _)| *bound < age);

            if let Some((_, count)) = self.ages.get_mut(place) {
                *count += 1;
            }
        }
    }
}
