//! Owns the command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::cell::Extent;
use crate::peer::{Kind, Limits};
use crate::IDLE_TUNNELS;

/// How it is called.
pub const USAGE: &str =
    "proxy-connect-bench --nginx FILE [--module FILE] [--core WORD] [--tunnel-nginx FILE] [--envoy FILE]
        [--openssl FOLDER]
        [--quick] [--peers NAME,...] [--only TITLE] [--rounds N] [--limit SECONDS]
        [--rate-seconds N] [--congestion NAME] [--csv FILE] [--svg FILE] [--docs FILE] [--keep]
proxy-connect-bench relay PORT ORIGIN_PORT
proxy-connect-bench h2-relay PORT CERTIFICATE KEY
proxy-connect-bench delay PORT TARGET_PORT MILLISECONDS
";

/// What the quick run leaves out: those that are far off, or slow to start.
const QUICK: [Kind; 15] = [
    Kind::Module,
    Kind::Counted,
    Kind::ModuleTls,
    Kind::Stream,
    Kind::StreamTls,
    Kind::Tunnel,
    Kind::Haproxy,
    Kind::HaproxyTls,
    Kind::Squid,
    Kind::Bare,
    Kind::Direct,
    Kind::Limits(Limits::Each),
    Kind::Limits(Limits::StreamEach),
    Kind::Limits(Limits::One),
    Kind::Limits(Limits::Together),
];

/// What is asked for.
pub enum Task {
    /// Measure.
    Bench(Box<Options>),
    /// Be the bare relay.
    Relay(u16, u16),
    /// Be the relay of HTTP/2.
    Http2Relay(u16, PathBuf, PathBuf),
    /// Be a way that takes its time.
    Delay(u16, u16, Duration),
    /// Say how it is called.
    Help,
}

/// What the bench is told.
pub struct Options {
    /// nginx with stream.
    pub nginx: PathBuf,
    /// The module that it loads.
    pub module: Option<PathBuf>,
    /// How the core of that nginx is called in the report.
    pub core: Option<String>,
    /// nginx with the tunnel module.
    pub tunnel_nginx: Option<PathBuf>,
    /// envoy's program.
    pub envoy: Option<PathBuf>,
    /// Where the peers find OpenSSL's libraries, if not where the system has them.
    pub openssl: Option<PathBuf>,
    /// Who takes part.
    pub peers: Vec<Kind>,
    /// Only what has this in its title; everything if empty.
    pub only: String,
    /// How often.
    pub rounds: usize,
    /// No round begins that would not end within this time.
    pub limit: Duration,
    /// The TCP congestion control; one that does not pace if there is no name.
    pub congestion: Option<String>,
    /// How much.
    pub extent: Extent,
    /// Memory does not vary: the quick run measures it once.
    pub idle_once: bool,
    /// Files to write.
    pub csv: Option<PathBuf>,
    /// The plot.
    pub svg: Option<PathBuf>,
    /// The document whose generated part is replaced.
    pub docs: Option<PathBuf>,
    /// Leave the peers' folders.
    pub keep: bool,
}

fn extent(quick: bool) -> Extent {
    let full = Extent {
        warm_up: Duration::from_millis(100),
        window: Duration::from_millis(300),
        turns: 3,
        connects: 1500,
        connect_turns: 8,
        idle: IDLE_TUNNELS,
        throttled: Duration::from_secs(2),
        rate: Duration::from_secs(10),
    };

    if quick {
        Extent {
            turns: 1,
            connects: 1000,
            connect_turns: 2,
            idle: IDLE_TUNNELS / 2,
            throttled: Duration::from_secs(1),
            rate: Duration::from_secs(3),
            ..full
        }
    } else {
        full
    }
}

fn parse_peers(list: &str) -> Result<Vec<Kind>, lexopt::Error> {
    let mut chosen = Vec::new();

    for id in list.split([',', ' ']).filter(|id| !id.is_empty()) {
        let kind = Kind::by_id(id).ok_or_else(|| {
            let known = Kind::all().map(Kind::id).collect::<Vec<_>>().join(", ");
            lexopt::Error::from(format!("no peer \"{id}\": there are {known}"))
        })?;

        chosen.push(kind);
    }

    Ok(Kind::all().filter(|kind| chosen.contains(kind)).collect())
}

/// Reads the arguments.
pub fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Task, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(args);

    let (mut nginx, mut module, mut core, mut tunnel_nginx) = (None, None, None, None);
    let (mut envoy, mut openssl) = (None, None);
    let (mut csv, mut svg, mut docs) = (None, None, None);
    let (mut peers, mut rounds, mut limit) = (Vec::new(), None, None);
    let (mut congestion, mut rate_seconds) = (None, None);
    let (mut quick, mut keep, mut only) = (false, false, String::new());

    while let Some(arg) = parser.next()? {
        match arg {
            Value(word) if word == "relay" => {
                return Ok(Task::Relay(parser.value()?.parse()?, parser.value()?.parse()?));
            }
            Value(word) if word == "h2-relay" => {
                let port = parser.value()?.parse()?;
                let (certificate, key) = (parser.value()?.into(), parser.value()?.into());
                return Ok(Task::Http2Relay(port, certificate, key));
            }
            Value(word) if word == "delay" => {
                let (port, target) = (parser.value()?.parse()?, parser.value()?.parse()?);
                let delay = Duration::from_millis(parser.value()?.parse()?);
                return Ok(Task::Delay(port, target, delay));
            }
            Short('h') | Long("help") => return Ok(Task::Help),
            Long("nginx") => nginx = Some(parser.value()?.into()),
            Long("module") => module = Some(parser.value()?.into()),
            Long("core") => core = Some(parser.value()?.string()?),
            Long("tunnel-nginx") => tunnel_nginx = Some(parser.value()?.into()),
            Long("envoy") => envoy = Some(parser.value()?.into()),
            Long("openssl") => openssl = Some(parser.value()?.into()),
            Long("peers") => peers = parse_peers(&parser.value()?.string()?)?,
            Long("only") => only = parser.value()?.string()?,
            Long("rounds") => rounds = Some(parser.value()?.parse::<usize>()?.max(1)),
            Long("limit") => limit = Some(parser.value()?.parse()?),
            Long("rate-seconds") => rate_seconds = Some(parser.value()?.parse()?),
            Long("congestion") => congestion = Some(parser.value()?.string()?),
            Long("csv") => csv = Some(parser.value()?.into()),
            Long("svg") => svg = Some(parser.value()?.into()),
            Long("docs") => docs = Some(parser.value()?.into()),
            Long("quick") => quick = true,
            Long("keep") => keep = true,
            other => return Err(other.unexpected()),
        }
    }

    if peers.is_empty() {
        peers = if quick { QUICK.to_vec() } else { Kind::all().collect() };
    }

    let mut extent = extent(quick);
    extent.rate = rate_seconds.map_or(extent.rate, Duration::from_secs);

    Ok(Task::Bench(Box::new(Options {
        nginx: nginx.ok_or("--nginx is missing")?,
        module,
        core,
        tunnel_nginx,
        envoy,
        openssl,
        peers,
        rounds: rounds.unwrap_or(3),
        limit: Duration::from_secs(limit.unwrap_or(if quick { 175 } else { 880 })),
        congestion,
        extent,
        idle_once: quick,
        csv,
        svg,
        docs,
        keep,
        only,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Result<Task, lexopt::Error> {
        parse(std::iter::once("bench").chain(line.split(' ')).map(Into::into))
    }

    #[test]
    fn peers_are_sorted_and_known() {
        let Ok(Task::Bench(options)) = task("--nginx /n --peers bare,module") else {
            panic!("not a bench");
        };

        assert_eq!(options.peers, [Kind::Module, Kind::Bare]);
        assert_eq!(options.rounds, 3);
        assert!(task("--nginx /n --peers nobody").is_err());
    }

    #[test]
    fn the_rest_of_the_line() {
        assert!(matches!(task("relay 1000 2000"), Ok(Task::Relay(1000, 2000))));
        assert!(matches!(task("--help"), Ok(Task::Help)));
        assert!(task("--quick").is_err());
        assert!(task("--nginx /n more").is_err());
    }
}
