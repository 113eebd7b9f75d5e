//! Owns the memory of a zone: which worker has which part of it, where the tunnels that stand are listed, and
//! what becomes of both when a worker is gone.

use std::sync::atomic::Ordering;

use super::entry::{Beginning, Entry, Seen};
use super::worker::Worker;

/// How many places of the list are looked at for a free one.
const PROBES: usize = 256;

/// Marks the pid of one who cleans up behind another.
const SWEEPS: u64 = 1 << 63;

/// A process, and when it began: a pid is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u64,
    /// When it began, in what the system counts; 0 where that is not known.
    pub began: u64,
}

/// A zone. All bytes 0 are one in which nothing was counted.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    workers: &'static [Worker],
    entries: &'static [Entry],
}

/// The part of a zone that is this worker's.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    zone: Zone,
    /// Its place, counted from 1.
    place: u64,
    worker: &'static Worker,
}

/// Where a worker looks for a free place in the list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    /// Behind this one, counted from 0.
    behind: usize,
    /// The place that it gave back last comes first: the processor still has it.
    freed: Option<&'static Entry>,
}

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The last to come first.
    #[default]
    Newest,
    /// The fastest first.
    Busiest,
    /// Those first that took the longest to connect.
    Slowest,
}

/// What of the list is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// In which order.
    pub order: Order,
    /// What has to stand in one of the tunnel's names; all of them with an empty one.
    pub filter: &'a [u8],
    /// From the how manieth on.
    pub first: usize,
    /// How many at most.
    pub limit: usize,
}

/// A part of the list.
#[derive(Clone, Debug)]
pub struct Page {
    /// How many tunnels are listed, of those that match.
    pub total: usize,
    /// Those of this page.
    pub tunnels: Vec<Seen>,
}

impl Zone {
    /// A zone in this memory.
    pub fn new(workers: &'static [Worker], entries: &'static [Entry]) -> Self {
        Self { workers, entries }
    }

    /// How many tunnels can be listed.
    pub fn capacity(self) -> usize {
        self.entries.len()
    }

    pub(super) fn workers(self) -> &'static [Worker] {
        self.workers
    }

    pub(super) fn entries(self) -> &'static [Entry] {
        self.entries
    }

    /// A part for the process `this`. `is_alive` says of others whether they still are. `None` when there are
    /// more workers than parts.
    pub fn join(self, this: Process, is_alive: impl Fn(Process) -> bool) -> Option<Part> {
        self.take_part(this).or_else(|| {
            self.sweep(this, is_alive);
            self.take_part(this)
        })
    }

    fn take_part(self, this: Process) -> Option<Part> {
        let (relaxed, acquire) = (Ordering::Relaxed, Ordering::Acquire);

        for (place, worker) in (1..).zip(self.workers) {
            if worker.pid.compare_exchange(0, this.pid, acquire, relaxed).is_ok() {
                worker.began.store(this.began, Ordering::Release);
                return Some(Part { zone: self, place, worker });
            }
        }

        None
    }

    /// Cleans up behind processes that are gone.
    pub fn sweep(self, this: Process, is_alive: impl Fn(Process) -> bool) {
        for (place, worker) in (1..).zip(self.workers) {
            let pid = worker.pid.load(Ordering::Acquire);
            let began = if pid & SWEEPS == 0 { worker.began.load(Ordering::Acquire) } else { 0 };

            if pid == 0 || is_alive(Process { pid: pid & !SWEEPS, began }) {
                continue;
            }

            let (relaxed, acquire) = (Ordering::Relaxed, Ordering::Acquire);
            let mine = this.pid | SWEEPS;

            if worker.pid.compare_exchange(pid, mine, acquire, relaxed).is_ok() {
                self.clear(place, worker, "worker_lost");
            }
        }
    }

    /// Gives a part back, without what was so for the process whose it was. Its tunnels ended for this reason.
    fn clear(self, place: u64, worker: &Worker, reason: &str) {
        worker.lose_tunnels(reason);
        worker.began.store(0, Ordering::Relaxed);
        self.entries.iter().for_each(|entry| entry.release(place));
        worker.pid.store(0, Ordering::Release);
    }

    /// Asks the worker whose tunnel `id` is to close it. False where none is listed by that id.
    pub fn close(self, id: u64) -> bool {
        let len = self.entries.len() as u64;
        let place = id.checked_rem(len).and_then(|place| usize::try_from(place).ok());
        let entry = place.and_then(|place| self.entries.get(place));

        // The list shows even turns only.
        let turn = id.checked_div(len).unwrap_or_default() * 2;
        let owner = entry.filter(|_| turn != 0).and_then(|entry| entry.ask_to_close(turn));

        let worker = owner
            .and_then(|owner| usize::try_from(owner - 1).ok())
            .and_then(|place| self.workers.get(place));

        let Some(worker) = worker else {
            return false;
        };

        worker.asked.fetch_add(1, Ordering::Release);
        true
    }

    fn id(self, place: usize, turn: u64) -> u64 {
        (turn / 2).wrapping_mul(self.entries.len() as u64).wrapping_add(place as u64)
    }

    /// A part of the list, at `now`, in milliseconds since 1970.
    pub fn page(self, query: &Query<'_>, now: u64) -> Page {
        let mut places: Vec<(u64, usize)> = (0..)
            .zip(self.entries)
            .filter_map(|(place, entry)| Some((query.key(entry, now)?, place)))
            .filter(|(_, place)| self.entries.get(*place).is_some_and(|one| one.has(query.filter)))
            .collect();

        let total = places.len();
        let (first, end) = (query.first.min(total), query.first.saturating_add(query.limit));
        let end = end.min(total);
        let descending = |one: &(u64, usize), other: &(u64, usize)| other.cmp(one);

        if end < total {
            places.select_nth_unstable_by(end, descending);
            places.truncate(end);
        }

        places.sort_unstable_by(descending);

        let tunnels = places[first..].iter().filter_map(|(_, place)| self.see(*place, now));
        Page { total, tunnels: tunnels.collect() }
    }

    fn see(self, place: usize, now: u64) -> Option<Seen> {
        self.entries.get(place)?.see(|turn| self.id(place, turn), now)
    }
}

impl Query<'_> {
    /// What a tunnel is sorted by, the greatest first. `None` where there is none.
    fn key(&self, entry: &Entry, now: u64) -> Option<u64> {
        let began = entry.began()?;

        Some(match self.order {
            Order::Newest => began,
            Order::Busiest => entry.rate(now),
            Order::Slowest => entry.connect(),
        })
    }
}

impl Part {
    /// What it counts.
    pub fn worker(self) -> &'static Worker {
        self.worker
    }

    /// Whether the process still has it: it may have been given a copy of another's memory.
    pub fn is_of(self, this: Process) -> bool {
        self.worker.pid.load(Ordering::Relaxed) == this.pid
    }

    /// Lists a tunnel. `None` when the list is full, or nearly.
    pub fn list(self, with: &Beginning<'_>, hint: &mut Hint) -> Option<&'static Entry> {
        let entry = self.claim(hint)?;
        entry.begin(with);
        Some(entry)
    }

    fn claim(self, hint: &mut Hint) -> Option<&'static Entry> {
        let entries = self.zone.entries;

        if let Some(entry) = hint.freed.take().filter(|entry| entry.claim(self.place)) {
            return Some(entry);
        }

        (0..PROBES.min(entries.len())).find_map(|_| {
            hint.behind = (hint.behind + 1) % entries.len();
            let entry = entries.get(hint.behind)?;
            entry.claim(self.place).then_some(entry)
        })
    }

    /// Where this part is to begin to look for a free place, so that workers do not look in the same ones.
    pub fn first_hint(self) -> Hint {
        let share = self.zone.entries.len() / self.zone.workers.len().max(1);
        let behind = share * usize::try_from(self.place).unwrap_or_default();
        Hint { behind, freed: None }
    }

    /// What the worker knows those of its tunnels by that it was asked to close.
    pub fn to_close(self) -> impl Iterator<Item = u64> {
        self.zone.entries.iter().filter_map(move |entry| entry.to_close(self.place))
    }

    /// Takes a tunnel from the list.
    pub fn unlist(self, entry: &'static Entry, hint: &mut Hint) {
        entry.release(self.place);
        hint.freed = Some(entry);
    }

    /// Gives the part back at the end of the process.
    pub fn leave(self, this: Process) {
        if self.is_of(this) {
            self.zone.clear(self.place, self.worker, "shutdown");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::entry::Names;
    use super::super::label::{Outcome, Version};
    use super::super::worker::Counter;
    use super::*;

    pub fn zone(workers: usize, entries: usize) -> Zone {
        Zone::new(
            Vec::leak((0..workers).map(|_| Worker::default()).collect()),
            Vec::leak((0..entries).map(|_| Entry::default()).collect()),
        )
    }

    pub fn process(pid: u64) -> Process {
        Process { pid, began: 1_000 + pid }
    }

    pub fn join(zone: Zone, pid: u64) -> Part {
        zone.join(process(pid), |_| true).unwrap_or_else(|| unreachable!())
    }

    /// A tunnel to a port of `host` that begins at `now`.
    pub fn to(host: &str, now: u64) -> Beginning<'_> {
        let (version, host) = (Version::Http11, host.as_bytes());
        let [client, addr, user] = [b"".as_slice(); 3];
        Beginning { handle: now, version, client, addr, user, host, port: b"1", connect: 3, now }
    }

    pub fn query(order: Order, first: usize, limit: usize) -> Query<'static> {
        Query { order, first, limit, ..Query::default() }
    }

    fn destinations(page: &Page) -> Vec<String> {
        let text = |seen: &Seen| String::from_utf8_lossy(&seen.names.destination).into_owned();
        page.tunnels.iter().map(text).collect()
    }

    #[test]
    fn what_a_killed_worker_had_is_given_back() {
        let zone = zone(2, 8);
        let (one, other) = (join(zone, 10), join(zone, 11));
        let mut hint = Hint::default();

        one.worker().open(Version::Http11);
        other.worker().open(Version::Http11);
        one.list(&to("one", 5), &mut hint);
        other.list(&to("other", 5), &mut hint);

        assert!(zone.join(process(12), |_| true).is_none());

        let third = zone.join(process(12), |process| process.pid != 10);
        let third = third.unwrap_or_else(|| unreachable!());

        assert_eq!(third.place, one.place);
        assert_eq!(third.worker().state.tunnels(), 0);
        assert_eq!(third.worker().counts.connects[1][0].get(), 1, "what was counted stays");
        assert_eq!(third.worker().counts.closed.iter().map(Counter::get).sum::<u64>(), 1);
        assert_eq!(destinations(&zone.page(&query(Order::Newest, 0, 10), 6)), ["other:1"]);
    }

    #[test]
    fn a_pid_that_was_given_again_is_another_process() {
        let zone = zone(1, 1);
        join(zone, 10).worker().open(Version::Http10);

        let is_alive = |seen: Process| seen == Process { pid: 10, began: 9 };
        assert!(zone.join(Process { pid: 10, began: 9 }, is_alive).is_some());
    }

    #[test]
    fn who_died_while_cleaning_up_is_cleaned_up_behind() {
        let zone = zone(1, 1);
        join(zone, 10);
        zone.workers[0].pid.store(11 | SWEEPS, Ordering::Relaxed);

        assert!(zone.join(process(12), |process| process.pid == 11).is_none());
        assert!(zone.join(process(12), |_| false).is_some());
    }

    #[test]
    fn a_process_that_ends_leaves_nothing_but_its_counts() {
        let zone = zone(1, 4);
        let part = join(zone, 10);
        part.worker().open(Version::Http11);
        part.list(&to("a", 5), &mut Hint::default());
        part.leave(process(9));
        assert_eq!(part.worker().state.tunnels(), 1);
        part.leave(process(10));

        assert_eq!(part.worker().state.tunnels(), 0);
        assert_eq!(zone.page(&query(Order::Newest, 0, 10), 6).total, 0);
        assert!(zone.join(process(11), |_| true).is_some());
    }

    #[test]
    fn a_full_list_lists_no_more() {
        let zone = zone(1, 3);
        let part = join(zone, 1);
        let mut hint = Hint::default();
        let listed: Vec<_> = (0..4).map(|_| part.list(&to("a", 1), &mut hint)).collect();

        assert_eq!(listed.iter().flatten().count(), 3);
        listed[1].into_iter().for_each(|entry| part.unlist(entry, &mut hint));
        assert!(part.list(&to("b", 1), &mut hint).is_some());
    }

    #[test]
    fn pages_follow_each_other() {
        let zone = zone(1, 100);
        let part = join(zone, 1);
        let mut hint = Hint::default();

        for number in 0..25 {
            part.list(&to(&format!("{number:02}"), 100 + number), &mut hint);
        }

        let all: Vec<_> = (0..4)
            .flat_map(|page| destinations(&zone.page(&query(Order::Newest, page * 10, 10), 200)))
            .collect();
        let expected: Vec<_> = (0..25).rev().map(|number| format!("{number:02}:1")).collect();
        assert_eq!(all, expected);
        assert_eq!(zone.page(&query(Order::Newest, usize::MAX, 10), 200).tunnels.len(), 0);
        assert_eq!(zone.page(&query(Order::Busiest, 0, usize::MAX), 200).tunnels.len(), 25);
    }

    #[test]
    fn a_page_of_a_hundred_thousand_tunnels_is_the_right_one_and_comes_soon() {
        const TUNNELS: u64 = 100_000;
        let zone = zone(4, TUNNELS as usize);
        let part = join(zone, 1);
        let mut hint = Hint::default();

        for number in 0..TUNNELS {
            // Scattered, each once.
            let scattered = number * 7_919 % TUNNELS;
            let host = format!("{scattered:06}");
            let begun = Beginning { connect: scattered, ..to(&host, 1_000 + number) };
            assert!(part.list(&begun, &mut hint).is_some());
        }

        let since = std::time::Instant::now();
        let newest = zone.page(&query(Order::Newest, 99_900, 100), 200_000);
        let slowest = zone.page(&query(Order::Slowest, 0, 3), 200_000);
        let found = zone.page(&Query { filter: b"04242", ..query(Order::Newest, 0, 100) }, 200_000);
        let took = since.elapsed();

        assert_eq!((newest.total, newest.tunnels.len()), (100_000, 100));
        assert_eq!(destinations(&newest).last().map(String::as_str), Some("000000:1"));
        assert_eq!(destinations(&slowest), ["099999:1", "099998:1", "099997:1"]);
        assert_eq!(found.total, 11, "{:?}", destinations(&found));
        // Without optimisation, on a machine that has other things to do.
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn a_filter_leaves_what_has_its_text() {
        let zone = zone(1, 9);
        let part = join(zone, 1);
        let mut hint = part.first_hint();

        for name in ["one.test", "two.test", "other.example"] {
            part.list(&to(name, 1), &mut hint);
        }

        let page = |filter| zone.page(&Query { filter, ..query(Order::Slowest, 0, 1) }, 2);
        assert_eq!((page(b".TEST:").total, page(b".TEST:").tunnels.len()), (2, 1));
        assert_eq!(destinations(&page(b"example")), ["other.example:1"]);
        assert_eq!(page(b"nothing").total, 0);
        assert_eq!(page(&[b'x'; 500]).total, 0);
    }

    #[test]
    fn a_tunnel_is_closed_by_its_id_and_no_other() {
        let zone = zone(2, 5);
        let (_, part) = (join(zone, 1), join(zone, 2));
        let mut hint = Hint::default();
        let entry = part.list(&to("a", 1), &mut hint);
        let entry = entry.unwrap_or_else(|| unreachable!());
        let id = zone.page(&query(Order::Newest, 0, 1), 2).tunnels[0].id;

        for wrong in [0, 1, id + 1, id + 5, u64::MAX] {
            assert!(!zone.close(wrong), "{wrong}");
        }

        assert_eq!(part.worker().asked(), 0);
        assert!(!entry.is_to_close());
        assert!(zone.close(id));
        assert_eq!(part.worker().asked(), 1);
        assert!(entry.is_to_close());

        part.unlist(entry, &mut hint);
        assert!(!zone.close(id));
    }

    #[test]
    fn workers_do_not_get_in_each_others_way() {
        let zone = zone(8, 4096);

        std::thread::scope(|scope| {
            for pid in 1..=8 {
                scope.spawn(move || {
                    let part = join(zone, pid);
                    let mut hint = part.first_hint();

                    for turn in 0..2_000 {
                        let entry = part.list(&to("a", turn), &mut hint);
                        part.worker().open(Version::Http11);
                        part.worker().close(Version::Http11, "client_eof", 1);
                        entry.into_iter().for_each(|entry| part.unlist(entry, &mut hint));
                    }
                });
            }

            scope.spawn(move || {
                for _ in 0..20 {
                    zone.page(&query(Order::Busiest, 0, 50), 1).tunnels.iter().for_each(|seen| {
                        assert_eq!(
                            seen.names,
                            Names { destination: b"a:1".to_vec(), ..Names::default() }
                        );
                    });
                }
            });
        });

        let established = Outcome::Established.place();
        let opened: u64 =
            zone.workers.iter().map(|worker| worker.counts.connects[1][established].get()).sum();
        assert_eq!(opened, 16_000);
        assert_eq!(zone.page(&query(Order::Newest, 0, 1), 1).total, 0);
    }
}
