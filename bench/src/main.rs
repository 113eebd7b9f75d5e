//! Owns the run: all peers, all cells, round after round, and what is written at the end.
//!
//! What a tunnel costs, side by side with other proxies. One thread of this process is all the
//! clients and all the origin servers; the peers are started by it, with one worker each, and their
//! CPU time and memory are read from the system.

mod cell;
mod delay;
mod docs;
mod http2;
mod http2_relay;
mod load;
mod machine;
mod metric;
mod network;
mod options;
mod peer;
mod plot;
mod process;
mod relay;
mod report;
mod results;
mod stats;
mod sys;
mod targets;
mod wire;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cell::{Cell, Values};
use network::Network;
use options::{Options, Task};
use peer::{Kind, Peer, Tools};
use results::Results;
use sys::Cpus;

/// Tunnels that idle, while the limit of open files allows.
pub const IDLE_TUNNELS: usize = 4000;

/// A cell that failed so often in a peer is not tried there again.
const FAILURES: usize = 2;

fn main() -> ExitCode {
    let done = match options::parse(std::env::args_os()) {
        Ok(Task::Bench(options)) => bench(*options),
        Ok(Task::Relay(port, origin)) => relay::run(port, origin),
        Ok(Task::Delay(port, target, delay)) => delay::run(port, target, delay),
        Ok(Task::Http2Relay(port, certificate, key)) => http2_relay::run(port, &certificate, &key),
        Ok(Task::Help) => {
            print!("{}", options::USAGE);
            Ok(())
        }
        Err(error) => Err(io::Error::other(format!("{error}\n{}", options::USAGE))),
    };

    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the peers' folders, which goes away with this.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the peers' folders: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

fn bench(mut options: Options) -> io::Result<()> {
    let start = Instant::now();
    let name = format!("proxy-connect-bench.{}", std::process::id());
    let folder = Folder { path: std::env::temp_dir().join(name), keep: options.keep };
    fs::create_dir_all(&folder.path)?;

    fit_idle(&mut options)?;

    let network = Network::enter(options.congestion.as_deref())?;
    eprintln!("{}", network.about());

    let tools = Tools {
        nginx: options.nginx.clone(),
        module: options.module.clone(),
        tunnel_nginx: options.tunnel_nginx.clone(),
        openssl: options.openssl.clone(),
        envoy: options.envoy.clone(),
        folder: folder.path.clone(),
        cpus: place_driver()?,
        tls: wire::client_config()?,
        http2: wire::http2_config()?,
    };

    let mut run =
        Run { options, network, start, results: Results::default(), failures: HashMap::new() };
    let rounds = run.rounds(&tools)?;

    write_reports(&run, rounds)
}

/// Two descriptors for each tunnel in this process, and two in the peer.
fn fit_idle(options: &mut Options) -> io::Result<()> {
    let wanted = 2 * IDLE_TUNNELS + 1000;
    let limit = sys::raise_file_limit(wanted as u64)? as usize;

    if limit < wanted {
        options.extent.idle = options.extent.idle.min(limit.saturating_sub(1000) / 2);
        eprintln!("only {limit} open files are allowed: {} idle tunnels", options.extent.idle);
    }

    if options.extent.idle == 0 {
        return Err(io::Error::other("too few open files are allowed (ulimit -n)"));
    }

    Ok(())
}

/// Driver and peers each have CPUs of their own: who shares one with the other batches more, and
/// costs less. Returns those of the peers.
fn place_driver() -> io::Result<Option<Cpus>> {
    let Some((driver, peers)) = Cpus::own()?.split_first() else {
        return Ok(None);
    };

    driver.pin()?;
    Ok(Some(peers))
}

struct Run {
    options: Options,
    network: Network,
    start: Instant,
    results: Results,
    failures: HashMap<(Kind, String), usize>,
}

impl Run {
    fn rounds(&mut self, tools: &Tools) -> io::Result<usize> {
        let mut longest = Duration::ZERO;

        for round in 0..self.options.rounds {
            if self.start.elapsed() + longest > self.options.limit {
                eprintln!("no time is left for round {}", round + 1);
                return Ok(round);
            }

            let start = Instant::now();
            let not_again = self.round(tools, round);
            longest = longest.max(start.elapsed().saturating_sub(not_again));
        }

        Ok(self.options.rounds)
    }

    /// Takes one round; how long that took which the next will not do again.
    fn round(&mut self, tools: &Tools, round: usize) -> Duration {
        let mut not_again = Duration::ZERO;
        let peers = self.start_peers(tools, round);

        for cell in self.cells() {
            let once = cell == Cell::Idle && self.options.idle_once;

            if once && round > 0 {
                continue;
            }

            let start = Instant::now();

            let turns = cell.turns(&self.options.extent);

            for turn in round * turns..(round + 1) * turns {
                self.cell(cell, &in_order(&peers, turn), round);
            }

            if once {
                not_again += start.elapsed();
            }
        }

        not_again
    }

    /// What is measured.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Cell::all();
        cells.retain(|cell| cell.title().contains(&self.options.only));
        cells
    }

    fn start_peers(&mut self, tools: &Tools, round: usize) -> Vec<Peer> {
        let mut peers = Vec::new();

        for kind in self.options.peers.clone() {
            match Peer::start(kind, tools) {
                Ok(peer) => peers.push(peer),
                Err(error) => {
                    eprintln!("{} is absent: {error}", kind.id());
                    self.results.note(kind, format!("absent: {error}"));

                    if round == 0 {
                        self.options.peers.retain(|other| *other != kind);
                    }
                }
            }
        }

        peers
    }

    fn cell(&mut self, cell: Cell, peers: &[&Peer], round: usize) {
        self.results.next_turn();

        eprint!(
            "[{:4} s] round {} of {}, {}:",
            self.start.elapsed().as_secs(),
            round + 1,
            self.options.rounds,
            cell.title()
        );

        for peer in peers.iter().filter(|peer| cell.is_for(peer)) {
            let key = (peer.kind, cell.title());

            if self.failures.get(&key).is_some_and(|count| *count >= FAILURES) {
                continue;
            }

            match cell.measure(peer, &self.options.extent) {
                Ok(values) => self.keep(peer.kind, values),
                Err(error) => {
                    eprint!(" {} failed ({error})", peer.kind.id());
                    self.results.note(peer.kind, format!("{}: {error}", cell.title()));
                    *self.failures.entry(key).or_default() += 1;
                }
            }
        }

        eprintln!();
    }

    fn keep(&mut self, kind: Kind, values: Values) {
        if let Some((metric, value)) = values.first() {
            eprint!(" {} {value:.*}", kind.id(), metric.digits);
        }

        for (metric, value) in values {
            self.results.add(kind, metric, value);
        }
    }
}

/// The peers in an order of their own for each turn, by E. J. Williams' square: in as many turns as
/// there are peers each comes once at each place and, if their number is even, once after each other.
/// A machine is another one after a peer that had it idle.
fn in_order<T>(peers: &[T], turn: usize) -> Vec<&T> {
    let count = peers.len();

    // First, second, last, third, last but one, ...
    let place = |step: usize| if step % 2 == 1 { step.div_ceil(2) } else { count - step / 2 };

    (0..count).map(|step| &peers[(place(step) + turn) % count]).collect()
}

fn write_reports(run: &Run, rounds: usize) -> io::Result<()> {
    let Run { options, network, results, start, .. } = run;
    let about = machine::about(options, network, rounds, start.elapsed());

    println!("{about}\n\n{}", report::markdown(results, "###"));

    if let Some(path) = &options.csv {
        fs::write(path, report::csv(results))?;
    }

    if let Some(path) = &options.svg {
        fs::write(path, plot::svg(results))?;
    }

    if let Some(path) = &options.docs {
        let part = format!("{about}\n\n{}", report::markdown(results, "###"));
        let document = docs::replace(&fs::read_to_string(path)?, &part)
            .ok_or_else(|| io::Error::other(format!("no markers in {}", path.display())))?;

        fs::write(path, document)?;
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn an_order_for_each_turn() {
        let order = |turn| in_order(&['a', 'b', 'c', 'd'], turn).into_iter().collect::<String>();

        assert_eq!([0, 1, 2, 3, 4].map(order), ["abdc", "bcad", "cdba", "dacb", "abdc"]);
        assert_eq!(in_order(&[0u8; 0], 3), [&0u8; 0]);
    }

    #[test]
    fn each_comes_once_after_each_other() {
        let peers: Vec<u8> = (0..12).collect();
        let mut pairs = std::collections::HashSet::new();

        for turn in 0..12 {
            for pair in in_order(&peers, turn).windows(2) {
                assert!(pairs.insert((*pair[0], *pair[1])), "turn {turn}: {pair:?} again");
            }
        }
    }
}
