//! Owns the cells: one measurement of one peer.

mod limits;

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::load::{Job, Load, Moved};
use crate::metric::{self, Metric};
use crate::peer::{Kind, Limits, Peer};
use crate::process;
use crate::sys;
use crate::wire;

/// How many tunnels ping-pong goes over.
const PING_TUNNELS: usize = 32;
/// And beside bulk.
const MIX_TUNNELS: usize = 100;
/// Those that are streams of one connection, with bulk.
const MIX_STREAMS: usize = 32;
const MIX_SIZE: usize = 64;
/// How long a set of tunnels may take to stand.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// To warm up, one tunnel is opened for each so many that are measured.
const WARM_UP_SHARE: usize = 5;
/// How many requests are sent for each tunnel that is opened.
const REQUESTS: usize = 10;
/// Memory is read when a peer has had time to put away what it no longer needs.
const SETTLE: Duration = Duration::from_millis(300);

/// One way to a client that is far away, and for how long it is measured there.
const DISTANCE: Duration = Duration::from_millis(25);
const AFAR_WARM_UP: Duration = Duration::from_millis(1500);
const AFAR_WINDOW: Duration = Duration::from_secs(1);

/// How long and how much.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Before the measuring begins.
    pub warm_up: Duration,
    /// The measuring.
    pub window: Duration,
    /// How many turns of a window a round has.
    pub turns: usize,
    /// Tunnels that are opened and closed in a turn.
    pub connects: usize,
    /// How many turns of that a round has.
    pub connect_turns: usize,
    /// Tunnels that idle.
    pub idle: usize,
    /// The measuring of what rates cost.
    pub throttled: Duration,
    /// And of how well they are kept.
    pub rate: Duration,
}

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Memory of idle tunnels.
    Idle,
    /// Tunnels opened and closed.
    Connect,
    /// The same over TLS, with sessions of before.
    Resumed,
    /// The same with rules.
    Rules,
    /// Requests beside tunnels.
    Requests,
    /// Bulk over so many tunnels.
    Bulk(Job, usize),
    /// Messages there and back: which of `metric::PING`.
    Ping(usize),
    /// Bulk and messages.
    Mix,
    /// Bulk over one tunnel to a client that is far away.
    Afar(Job),
    /// Many tunnels with a rate each.
    Throttled,
    /// One with a rate.
    OneRate,
    /// Many that share one.
    SharedRate,
}

/// Numbers that a cell came to.
pub type Values = Vec<(Metric, f64)>;

const JOBS: [Job; 3] = [Job::Down, Job::Up, Job::Both];
const TUNNELS: [usize; 2] = [1, 8];

impl Cell {
    /// All; memory comes first, while the peers are fresh.
    pub fn all() -> Vec<Cell> {
        let mut cells = vec![Cell::Idle, Cell::Connect, Cell::Resumed, Cell::Rules, Cell::Requests];

        for tunnels in TUNNELS {
            cells.extend(JOBS.map(|job| Cell::Bulk(job, tunnels)));
        }

        cells.extend((0..metric::PING.len()).map(Cell::Ping));
        cells.push(Cell::Mix);
        cells.extend([Job::Down, Job::Up].map(Cell::Afar));
        cells.extend([Cell::Throttled, Cell::OneRate, Cell::SharedRate]);
        cells
    }

    /// For the progress.
    pub fn title(self) -> String {
        match self {
            Cell::Idle => "memory of idle tunnels".into(),
            Cell::Connect => "connect, one byte, close".into(),
            Cell::Resumed => "connect, resumed, one byte, close".into(),
            Cell::Rules => "connect with rules, ClientHello, close".into(),
            Cell::Requests => "requests over http/2".into(),
            Cell::Bulk(job, 1) => format!("bulk {job:?}, 1 tunnel").to_lowercase(),
            Cell::Bulk(job, tunnels) => format!("bulk {job:?}, {tunnels} tunnels").to_lowercase(),
            Cell::Ping(index) => format!("ping-pong of {} bytes", metric::PING[index].0),
            Cell::Mix => "ping-pong beside bulk".into(),
            Cell::Afar(job) => format!("bulk {job:?} at 50 ms").to_lowercase(),
            Cell::Throttled => "rates of 1,000 tunnels".into(),
            Cell::OneRate => "the rate of one tunnel".into(),
            Cell::SharedRate => "a rate that tunnels share".into(),
        }
    }

    /// How many turns of it a round has. Short ones, each of all peers, tell more than a long one: a
    /// machine has its moods, and they last.
    pub fn turns(self, extent: &Extent) -> usize {
        match self {
            Cell::Idle | Cell::Afar(_) => 1,
            Cell::Throttled | Cell::OneRate | Cell::SharedRate => 1,
            Cell::Connect | Cell::Resumed | Cell::Rules | Cell::Requests => extent.connect_turns,
            Cell::Bulk(..) | Cell::Ping(_) | Cell::Mix => extent.turns,
        }
    }

    /// Whether it is measured in a peer.
    pub fn is_for(self, peer: &Peer) -> bool {
        match self {
            Cell::Rules => peer.kind.has_rules(),
            Cell::Requests => peer.kind.is_web(),
            _ if peer.kind.is_web() => false,
            Cell::Afar(_) => peer.kind.is_tls(),
            Cell::Resumed => peer.kind.is_tls() && !peer.kind.is_http2(),
            Cell::Throttled => matches!(
                peer.kind,
                Kind::Module | Kind::Limits(Limits::Each) | Kind::Limits(Limits::StreamEach)
            ),
            Cell::OneRate => peer.kind == Kind::Limits(Limits::One),
            Cell::SharedRate => peer.kind == Kind::Limits(Limits::Together),
            Cell::Idle | Cell::Connect | Cell::Bulk(..) => !peer.kind.is_limited(),
            Cell::Ping(_) | Cell::Mix => !peer.kind.is_limited() && peer.kind != Kind::Counted,
        }
    }

    /// Measures.
    pub fn measure(self, peer: &Peer, extent: &Extent) -> io::Result<Values> {
        match self {
            Cell::Idle => idle(peer, extent),
            Cell::Connect => connect(peer, extent, metric::CONNECT),
            Cell::Resumed => resumed(peer, extent),
            Cell::Rules => connect(peer, extent, metric::RULES),
            Cell::Requests => requests(peer, extent),
            Cell::Bulk(job, tunnels) => bulk(peer, extent, job, tunnels),
            Cell::Ping(index) => ping(peer, extent, index),
            Cell::Mix => mix(peer, extent),
            Cell::Afar(job) => afar(peer, job),
            Cell::Throttled => limits::throttled(peer, extent),
            Cell::OneRate => limits::one(peer, extent),
            Cell::SharedRate => limits::together(peer, extent),
        }
    }
}

/// What happened in a window.
struct Window {
    cpu: f64,
    driver: f64,
    seconds: f64,
    moved: Moved,
}

/// Warms up, then measures for the time of the window.
fn observe(peer: &Peer, load: &mut Load, extent: &Extent) -> io::Result<Window> {
    load.run_for(extent.warm_up)?;
    load.latency.clear();

    let family = peer.family()?;
    let (moved, start) = (load.moved, Instant::now());
    let (cpu, driver) = (peer.cpu(&family)?, sys::own_cpu()?);

    load.run_for(extent.window)?;

    let used = peer.cpu(&family)?.saturating_sub(cpu);
    let driver = sys::own_cpu()?.saturating_sub(driver);

    Ok(Window {
        cpu: used.as_secs_f64(),
        driver: driver.as_secs_f64(),
        seconds: start.elapsed().as_secs_f64(),
        moved: Moved {
            down: load.moved.down - moved.down,
            up: load.moved.up - moved.up,
            pings: load.moved.pings - moved.pings,
        },
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn bulk(peer: &Peer, extent: &Extent, job: Job, tunnels: usize) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, 0)?;
    load.open(tunnels, job, OPEN_LIMIT)?;

    let window = observe(peer, &mut load, extent)?;
    load.finish();

    let bytes = window.moved.down + window.moved.up;

    if mib(bytes) < 1.0 {
        return Err(io::Error::other("nothing was moved"));
    }

    let position = |list: &[Metric]| {
        let row = TUNNELS.iter().position(|count| *count == tunnels).unwrap_or_default();
        let column = JOBS.iter().position(|one| *one == job).unwrap_or_default();
        list[row * JOBS.len() + column]
    };

    Ok(vec![
        (position(&metric::BULK), window.cpu / (mib(bytes) / 1024.0)),
        (position(&metric::DRIVER), window.driver / (mib(bytes) / 1024.0)),
        (position(&metric::RATE), mib(bytes) / window.seconds),
    ])
}

/// One tunnel over a way of 50 ms there and back. Windows have to grow first.
fn afar(peer: &Peer, job: Job) -> io::Result<Values> {
    let way = peer.afar(DISTANCE)?;
    let mut load = Load::new(&way.route, &peer.listener, 0)?;
    load.open(1, job, OPEN_LIMIT)?;
    load.run_for(AFAR_WARM_UP)?;

    let (moved, start) = (load.moved, Instant::now());
    load.run_for(AFAR_WINDOW)?;

    let bytes = load.moved.down + load.moved.up - moved.down - moved.up;
    let rate = mib(bytes) / start.elapsed().as_secs_f64();
    load.finish();

    Ok(vec![(if job == Job::Down { metric::AFAR_DOWN } else { metric::AFAR_UP }, rate)])
}

fn connect(peer: &Peer, extent: &Extent, metric: Metric) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, 0)?;
    load.churn(extent.connects / WARM_UP_SHARE, OPEN_LIMIT)?;

    let family = peer.family()?;
    let cpu = peer.cpu(&family)?;

    load.churn(extent.connects, OPEN_LIMIT)?;

    let used = peer.cpu(&family)?.saturating_sub(cpu);
    load.finish();

    Ok(vec![(metric, used.as_secs_f64() * 1e6 / extent.connects as f64)])
}

/// GETs over some connections, as nghttp2's h2load sends them.
fn requests(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let count = extent.connects * REQUESTS;
    ask(peer, count / WARM_UP_SHARE)?;

    let family = peer.family()?;
    let cpu = peer.cpu(&family)?;
    ask(peer, count)?;
    let used = peer.cpu(&family)?.saturating_sub(cpu);

    Ok(vec![(metric::REQUEST, used.as_secs_f64() * 1e6 / count as f64)])
}

fn ask(peer: &Peer, count: usize) -> io::Result<()> {
    let output = Command::new("h2load")
        .args(["-t", "1", "-c", "4", "-m", "32", "-n", &count.to_string()])
        .arg(format!("https://127.0.0.1:{}/", peer.route.port))
        .output()
        .map_err(|error| io::Error::other(format!("h2load, of nghttp2-client: {error}")))?;

    match String::from_utf8_lossy(&output.stdout).contains(&format!(" {count} succeeded,")) {
        true => Ok(()),
        false => Err(io::Error::other("h2load did not get all its answers")),
    }
}

/// As [`connect`], where each handshake takes up the session of one before.
fn resumed(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let mut route = peer.route.clone();
    route.tls = Some(wire::resuming_config()?);

    let mut load = Load::new(&route, &peer.listener, 0)?;
    load.churn(extent.connects / WARM_UP_SHARE, OPEN_LIMIT)?;

    let (family, before) = (peer.family()?, load.resumed);
    let cpu = peer.cpu(&family)?;

    load.churn(extent.connects, OPEN_LIMIT)?;

    let used = peer.cpu(&family)?.saturating_sub(cpu);
    let resumed = load.resumed - before;
    load.finish();

    if resumed < extent.connects {
        let text = format!("only {resumed} of {} handshakes took up a session", extent.connects);
        return Err(io::Error::other(text));
    }

    Ok(vec![(metric::CONNECT_RESUMED, used.as_secs_f64() * 1e6 / extent.connects as f64)])
}

fn idle(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let family = peer.family()?;

    // Client straight to server has no one in between whose memory it could be.
    if family.is_empty() {
        return Ok(Values::new());
    }

    let before = process::pss(&family)?;
    let each = |after: u64| after.saturating_sub(before) as f64 / extent.idle as f64;

    let mut load = Load::new(&peer.route, &peer.listener, 32 * 1024)?;
    load.open(extent.idle, Job::Ping, OPEN_LIMIT)?;
    load.run_for(SETTLE)?;
    let after_byte = each(process::pss(&peer.family()?)?);

    load.ping_each_once(OPEN_LIMIT)?;
    load.run_for(SETTLE)?;
    let after_32k = each(process::pss(&peer.family()?)?);

    load.finish();

    Ok(vec![(metric::IDLE_BYTE, after_byte), (metric::IDLE_32K, after_32k)])
}

fn percentiles(load: &Load) -> io::Result<[f64; 2]> {
    match [0.5, 0.99].map(|part| load.latency.percentile(part)) {
        [Some(p50), Some(p99)] => Ok([p50, p99]),
        _ => Err(io::Error::other("no message came back")),
    }
}

fn ping(peer: &Peer, extent: &Extent, index: usize) -> io::Result<Values> {
    let (size, [cpu, p50, p99]) = metric::PING[index];

    let mut load = Load::new(&peer.route, &peer.listener, size)?;
    load.open(PING_TUNNELS, Job::Ping, OPEN_LIMIT)?;
    load.start_pings()?;

    let window = observe(peer, &mut load, extent)?;
    let times = percentiles(&load)?;
    load.finish();

    Ok(vec![(cpu, window.cpu * 1e6 / window.moved.pings as f64), (p50, times[0]), (p99, times[1])])
}

fn mix(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, MIX_SIZE)?;
    let tunnels = if peer.kind.is_http2() { MIX_STREAMS } else { MIX_TUNNELS };
    load.open(tunnels, Job::Ping, OPEN_LIMIT)?;
    load.open(1, Job::Down, OPEN_LIMIT)?;
    load.start_pings()?;

    let window = observe(peer, &mut load, extent)?;
    let times = percentiles(&load)?;
    load.finish();

    let messages = window.moved.pings * MIX_SIZE as u64;

    Ok(vec![
        (metric::MIX_P50, times[0]),
        (metric::MIX_P99, times[1]),
        (metric::MIX_RATE, mib(window.moved.down.saturating_sub(messages)) / window.seconds),
    ])
}
