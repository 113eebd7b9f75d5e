//! Owns the peers: which there are, and one that runs.

mod config;
pub mod limits;
mod rules;
mod through;
mod web;

use std::fs;
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::load::{Job, Load, Route};
use crate::process;
use crate::sys::{self, Cpus, Socket};
use crate::wire;

pub use limits::Limits;
pub use rules::Rules;
pub use through::Through;
pub use web::Web;

/// The variable that names the folders where the dynamic linker looks first.
pub const LIBRARIES: &str = "LD_LIBRARY_PATH";
/// How long a peer may take until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How long it may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// This module.
    Module,
    /// This module with counters and the list of tunnels.
    Counted,
    /// This module behind a TLS listener.
    ModuleTls,
    /// This module over HTTP/2 and TLS.
    ModuleHttp2,
    /// This module over HTTP/2 without TLS.
    ModuleH2c,
    /// nginx's stream proxy, which knows no CONNECT.
    Stream,
    /// nginx's stream proxy with `listen ... ssl`.
    StreamTls,
    /// nginx's own tunnel module, 1.31 and newer.
    Tunnel,
    /// haproxy as a TCP relay that always splices.
    Haproxy,
    /// The same with `bind ... ssl`.
    HaproxyTls,
    /// squid.
    Squid,
    /// Apache Traffic Server.
    TrafficServer,
    /// Apache httpd with mod_proxy_connect.
    Apache,
    /// tinyproxy.
    Tinyproxy,
    /// envoy over HTTP/2 and TLS.
    Envoy,
    /// envoy over HTTP/2 without TLS.
    EnvoyH2c,
    /// The bench's own relay of HTTP/2, with Rust's h2 and tokio, and TLS.
    RustHttp2,
    /// The bench's own relay.
    Bare,
    /// No peer: the client connects to the origin server.
    Direct,
    /// A tunnel through one parent more.
    Through(Through),
    /// This module with rules.
    Rules(Rules),
    /// An nginx that is asked for answers.
    Web(Web),
    /// One whose tunnels have a rate.
    Limits(Limits),
}

impl Kind {
    /// All but those with rules, a rate or a parent, and those that have answers.
    const WHOLE: [Kind; 19] = [
        Kind::Module,
        Kind::Counted,
        Kind::ModuleTls,
        Kind::ModuleHttp2,
        Kind::ModuleH2c,
        Kind::Stream,
        Kind::StreamTls,
        Kind::Tunnel,
        Kind::Haproxy,
        Kind::HaproxyTls,
        Kind::Squid,
        Kind::TrafficServer,
        Kind::Apache,
        Kind::Tinyproxy,
        Kind::Envoy,
        Kind::EnvoyH2c,
        Kind::RustHttp2,
        Kind::Bare,
        Kind::Direct,
    ];

    /// All, in the order of the table.
    pub fn all() -> impl Iterator<Item = Kind> {
        let through = Through::ALL.map(Kind::Through);
        let others = Rules::ALL.map(Kind::Rules).into_iter().chain(Web::ALL.map(Kind::Web));
        let limits = Limits::ALL.map(Kind::Limits);
        Self::WHOLE.into_iter().chain(through).chain(others).chain(limits)
    }

    /// The name on the command line and in the CSV.
    pub fn id(self) -> &'static str {
        match self {
            Kind::Module => "module",
            Kind::Counted => "module-counted",
            Kind::ModuleTls => "module-tls",
            Kind::ModuleHttp2 => "module-h2",
            Kind::ModuleH2c => "module-h2c",
            Kind::Stream => "stream",
            Kind::StreamTls => "stream-tls",
            Kind::Tunnel => "tunnel",
            Kind::Haproxy => "haproxy",
            Kind::HaproxyTls => "haproxy-tls",
            Kind::Squid => "squid",
            Kind::TrafficServer => "trafficserver",
            Kind::Apache => "apache",
            Kind::Tinyproxy => "tinyproxy",
            Kind::Envoy => "envoy",
            Kind::EnvoyH2c => "envoy-h2c",
            Kind::RustHttp2 => "rust-h2",
            Kind::Bare => "bare",
            Kind::Direct => "direct",
            Kind::Through(through) => through.id(),
            Kind::Rules(rules) => rules.id(),
            Kind::Web(web) => web.id(),
            Kind::Limits(limits) => limits.id(),
        }
    }

    /// The name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Module => "this module",
            Kind::Counted => "this module, with counters",
            Kind::ModuleTls => "this module, TLS listener",
            Kind::ModuleHttp2 => "this module, HTTP/2",
            Kind::ModuleH2c => "this module, HTTP/2 without TLS",
            Kind::Stream => "nginx stream",
            Kind::StreamTls => "nginx stream, TLS listener",
            Kind::Tunnel => "nginx tunnel module",
            Kind::Haproxy => "haproxy, TCP, splice forced",
            Kind::HaproxyTls => "haproxy, TCP, TLS listener",
            Kind::Squid => "squid",
            Kind::TrafficServer => "trafficserver",
            Kind::Apache => "apache, mod_proxy_connect",
            Kind::Tinyproxy => "tinyproxy",
            Kind::Envoy => "envoy, HTTP/2",
            Kind::EnvoyH2c => "envoy, HTTP/2 without TLS",
            Kind::RustHttp2 => "relay with Rust's h2, HTTP/2",
            Kind::Bare => "bare splice relay",
            Kind::Direct => "client straight to server",
            Kind::Through(through) => through.title(),
            Kind::Rules(rules) => rules.title(),
            Kind::Web(web) => web.title(),
            Kind::Limits(limits) => limits.title(),
        }
    }

    /// The peer of a name.
    pub fn by_id(id: &str) -> Option<Self> {
        Self::all().find(|kind| kind.id() == id)
    }

    /// Whether it speaks TLS with the client.
    pub fn is_tls(self) -> bool {
        matches!(self, Kind::ModuleTls | Kind::StreamTls | Kind::HaproxyTls)
            || self.is_http2() && !matches!(self, Kind::ModuleH2c | Kind::EnvoyH2c)
    }

    /// Whether its tunnels are streams of HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(
            self,
            Kind::ModuleHttp2 | Kind::ModuleH2c | Kind::Envoy | Kind::EnvoyH2c | Kind::RustHttp2
        )
    }

    /// Whether it is measured in what a CONNECT with rules costs, and in nothing else.
    pub fn has_rules(self) -> bool {
        matches!(self, Kind::Rules(_))
    }

    /// Whether it is asked for answers, and for nothing else.
    pub fn is_web(self) -> bool {
        matches!(self, Kind::Web(_))
    }

    /// Whether it is measured in what limits are, and in nothing else: rules, or a rate.
    pub fn is_limited(self) -> bool {
        self.has_rules() || matches!(self, Kind::Limits(_))
    }

    /// Whether it passes tunnels on to a parent.
    pub fn has_parent(self) -> bool {
        matches!(self, Kind::Through(_))
    }

    /// Whether a client asks it with CONNECT; the others connect each client to the origin server.
    pub fn is_proxy(self) -> bool {
        !matches!(
            self,
            Kind::Stream
                | Kind::StreamTls
                | Kind::Haproxy
                | Kind::HaproxyTls
                | Kind::Bare
                | Kind::Direct
                | Kind::Limits(Limits::StreamEach)
        )
    }
}

/// What the peers are made of.
pub struct Tools {
    /// nginx with stream, and the one that loads the module.
    pub nginx: PathBuf,
    /// The module, if nginx does not have it built in.
    pub module: Option<PathBuf>,
    /// An nginx with the tunnel module.
    pub tunnel_nginx: Option<PathBuf>,
    /// envoy's program.
    pub envoy: Option<PathBuf>,
    /// Where the peers find OpenSSL's libraries, if not where the system has them.
    pub openssl: Option<PathBuf>,
    /// Where each peer gets its folder.
    pub folder: PathBuf,
    /// Where the peers run: on no CPU of the driver's; None where there is only one CPU.
    pub cpus: Option<Cpus>,
    /// TLS of the driver's clients.
    pub tls: Arc<ClientConfig>,
    /// The same where they speak HTTP/2.
    pub http2: Arc<ClientConfig>,
}

/// A peer that runs, with the origin server that is its own.
pub struct Peer {
    /// Which it is.
    pub kind: Kind,
    /// How to reach it.
    pub route: Route,
    /// The origin server.
    pub listener: Socket,
    child: Option<Child>,
    parent: Option<Child>,
    log: PathBuf,
}

impl Peer {
    /// Starts it, and sees one message go through it and come back.
    pub fn start(kind: Kind, tools: &Tools) -> io::Result<Self> {
        let listener = Socket::listen(0)?;
        let origin = listener.port()?;

        let folder = tools.folder.join(kind.id());
        fresh_folder(&folder)?;

        let mut peer = Peer {
            kind,
            route: Route {
                port: if kind == Kind::Direct { origin } else { free_port()? },
                authority: kind.is_proxy().then(|| authority(kind, origin)),
                hello: if kind.has_rules() { wire::client_hello(rules::HOST)? } else { Vec::new() },
                tls: kind.is_tls().then(|| match kind.is_http2() {
                    true => tools.http2.clone(),
                    false => tools.tls.clone(),
                }),
                http2: kind.is_http2(),
            },
            listener,
            child: None,
            parent: None,
            log: folder.join("output.log"),
        };

        // What a peer connects to: its origin server, or its parent.
        let target = if kind.has_parent() { peer.start_parent(tools, &folder)? } else { origin };

        if kind != Kind::Direct {
            let command = config::prepare(kind, tools, &folder, peer.route.port, target)?;
            peer.child = Some(spawn(command, tools, &peer.log)?);
            peer.wait_until_it_accepts(peer.route.port)?;
        }

        if !kind.is_web() {
            peer.try_out()?;
        }

        Ok(peer)
    }

    /// The peer at the end of a way that takes `delay`, for as long as the value lives.
    pub fn afar(&self, delay: Duration) -> io::Result<Afar> {
        let mut route = self.route.clone();
        route.port = free_port()?;

        let child = Command::new(std::env::current_exe()?)
            .arg("delay")
            .args([route.port, self.route.port].map(|port| port.to_string()))
            .arg(delay.as_millis().to_string())
            .spawn()?;

        let afar = Afar { route, child };
        let end = Instant::now() + START_LIMIT;

        while !sys::accepts(afar.route.port) {
            if Instant::now() > end {
                return Err(Error::other("the way that takes its time does not begin"));
            }

            sleep(Duration::from_millis(20));
        }

        Ok(afar)
    }

    /// Starts the parent, which is this module; its port.
    fn start_parent(&mut self, tools: &Tools, folder: &Path) -> io::Result<u16> {
        let folder = folder.join("parent");
        fresh_folder(&folder)?;

        let port = free_port()?;
        let command = config::prepare(Kind::Module, tools, &folder, port, 0)?;
        self.parent = Some(spawn(command, tools, &folder.join("output.log"))?);
        self.wait_until_it_accepts(port)?;
        Ok(port)
    }

    fn wait_until_it_accepts(&mut self, port: u16) -> io::Result<()> {
        let end = Instant::now() + START_LIMIT;

        while !sys::accepts(port) {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Err(Error::other(format!("it ended, {status}: {}", self.last_words())));
            }

            if Instant::now() > end {
                return Err(Error::other(format!("it does not listen: {}", self.last_words())));
            }

            sleep(Duration::from_millis(20));
        }

        Ok(())
    }

    fn try_out(&self) -> io::Result<()> {
        let mut load = Load::new(&self.route, &self.listener, 1000)?;

        load.open(1, Job::Ping, Duration::from_secs(5))?;

        // What comes first is no message where there are rules.
        if !self.kind.has_rules() {
            load.ping_each_once(Duration::from_secs(5))?;
        }

        load.finish();
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").to_owned()
    }

    /// Its processes; none if there is no peer.
    pub fn family(&self) -> io::Result<Vec<u32>> {
        match &self.child {
            Some(child) => process::family(child.id()),
            None => Ok(Vec::new()),
        }
    }

    /// The CPU time so far: of the processes, or, without a peer, of the driver.
    pub fn cpu(&self, family: &[u32]) -> io::Result<Duration> {
        if self.child.is_none() {
            return sys::own_cpu();
        }

        Ok(process::cpu(family))
    }
}

/// A way to a peer that takes its time.
pub struct Afar {
    /// How to go it.
    pub route: Route,
    child: Child,
}

impl Drop for Afar {
    fn drop(&mut self) {
        // It holds nothing that somebody waits for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in self.child.iter_mut().chain(&mut self.parent) {
            end(child);
        }
    }
}

/// Ends a program, by force if it does not end by itself.
fn end(child: &mut Child) {
    let family = process::family(child.id()).unwrap_or_default();

    sys::signal(child.id(), libc::SIGTERM);
    let end = Instant::now() + STOP_LIMIT;

    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }

        sleep(Duration::from_millis(20));
    }

    for pid in family {
        sys::signal(pid, libc::SIGKILL);
    }

    // It is killed: its end is near.
    let _ = child.wait();
}

/// What the clients ask for.
fn authority(kind: Kind, origin: u16) -> String {
    let host = if kind.has_rules() { rules::HOST } else { "127.0.0.1" };
    format!("{host}:{origin}")
}

fn spawn(mut command: Command, tools: &Tools, log: &Path) -> io::Result<Child> {
    let log = fs::File::create(log)?;

    // What an nginx would take for sockets to inherit.
    command.env_remove("NGINX");
    command.envs(tools.openssl.iter().map(|folder| (LIBRARIES, folder)));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    sys::prepare_child(&mut command, tools.cpus);

    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| Error::other(format!("{program}: {error}")))
}

fn fresh_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }

    fs::create_dir_all(folder)?;
    // Some peers become another user when root starts them.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))
}

fn free_port() -> io::Result<u16> {
    Socket::listen(0)?.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for kind in Kind::all() {
            assert_eq!(Kind::by_id(kind.id()), Some(kind));
        }

        assert_eq!(Kind::by_id("nobody"), None);
    }
}
