//! Owns what is counted of a CONNECT in the zone of its server (`proxy_connect_status_zone`), and when: as soon as
//! it is known, by the worker that it is known to.
//!
//! | file | owns |
//! |---|---|
//! | [`control`] | closing a tunnel that an operator wants closed |
//! | [`pages`] | what is shown of it |

pub mod control;
pub mod pages;

use std::cell::Cell;

use nginx_sys::{ngx_conf_t, NGX_LOG_WARN};
use proxy_connect_core::status::entry::Beginning;
use proxy_connect_core::status::parents::Attempt;
use proxy_connect_core::status::worker::Worker;
use proxy_connect_core::status::{Outcome, Version};

use crate::conf::ServerConf;
use crate::ffi::log::Seldom;
use crate::ffi::phase::{self, add_handler, Phase, PhaseHandler};
use crate::ffi::request::Request;
use crate::ffi::status_zone::{Listed, StatusZone};
use crate::relay::Counted;
use crate::tunnel::{Times, Tunnel};
use crate::verdict::{Rule, Verdict};
use crate::{admit, answer};

thread_local! {
    /// What the relay of this worker holds, in bytes.
    static HELD: Cell<u64> = const { Cell::new(0) };
    /// When the log was told of a list that is full.
    static TOLD_FULL: Seldom = const { Seldom::new() };
}

/// A tunnel that stands, as it is counted. Dropped, it is not listed any more.
pub struct Counting {
    worker: &'static Worker,
    version: Version,
    listed: Option<Listed>,
    /// What was counted of it.
    counted: Counted,
    held: u64,
}

/// Registers the handler, where any server has a zone. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn install(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise: the configurations of all servers are merged.
    unsafe {
        match ServerConf::any(cf.as_ref()?, |conf| conf.status_zone().is_some()) {
            true => add_handler::<BeforeLog>(cf, Phase::Log),
            false => Some(()),
        }
    }
}

impl Counting {
    /// Counts the tunnel of `request`, which begins to stand. `None` where its server has no zone, or the zone
    /// no part for this worker.
    pub fn begin(request: Request, conf: &ServerConf, tunnel: &Tunnel) -> Option<Self> {
        let zone = conf.status_zone()?;
        let worker = zone.part()?.worker();
        let version = version(request);

        worker.open(version);
        count_times(worker, &tunnel.times, tunnel.attempts.get());

        let connect = tunnel.times.connect.msec().unwrap_or_default() as u64;
        let listed = list(request, tunnel, zone, version, connect);

        if listed.is_none() {
            worker.unlisted();
            tell_full(request, zone);
        }

        Some(Self { worker, version, listed, counted: Counted::default(), held: 0 })
    }

    /// Counts what the tunnel has moved since the last time; it holds `held` bytes.
    pub fn update(&mut self, counted: Counted, held: usize) {
        // Many an event moves nothing.
        if (counted, held as u64) == (self.counted, self.held) {
            return;
        }

        let before = std::mem::replace(&mut self.counted, counted);

        self.worker.moved(counted.sent - before.sent, counted.received - before.received);
        self.worker.full_turns(counted.full_turns - before.full_turns);
        self.worker.refused_pipes(counted.refused_pipes - before.refused_pipes);
        self.worker.unshared(counted.unshared - before.unshared);
        self.hold(held as u64);

        if (counted.sent, counted.received) != (before.sent, before.received) {
            self.listed.iter_mut().for_each(|one| one.update(counted.sent, counted.received));
        }
    }

    fn hold(&mut self, held: u64) {
        let before = std::mem::replace(&mut self.held, held);
        HELD.set((HELD.get() + held).saturating_sub(before));
        self.worker.holds(crate::relay::open_pipes() as u64, HELD.get());
    }

    /// Counts the first byte of the upstream, so many milliseconds after the connect began.
    pub fn first_byte(&self, msec: u64) {
        self.worker.first_byte(msec);
    }

    /// Counts that the tunnel is over, after `duration` milliseconds, for this reason.
    pub fn end(mut self, reason: &str, duration: u64) {
        self.hold(0);
        self.worker.close(self.version, reason, duration);
    }
}

/// Counts an attempt to have a parent build the tunnel of `request`.
pub fn count_parent(conf: &ServerConf, attempt: Attempt) {
    if let Some(part) = conf.status_zone().and_then(StatusZone::part) {
        part.worker().tried_parent(attempt);
    }
}

/// Tells the log that a tunnel of `request` is not listed, once a minute at most.
fn tell_full(request: Request, zone: StatusZone) {
    if !TOLD_FULL.with(Seldom::is_due) {
        return;
    }

    let name = zone.name();
    let message = format_args!(
        "zone \"{name}\" has no room to list more tunnels, which stand and count all the same; give it \
         more with \"proxy_connect_status_zone {name}:SIZE\", 240 bytes a tunnel"
    );
    request.connection().log().write(NGX_LOG_WARN, 0, message);
}

fn count_times(worker: &Worker, times: &Times, attempts: u64) {
    if let Some(msec) = times.resolve.msec() {
        worker.resolved(msec as u64);
    }

    if let Some(msec) = times.connect.msec() {
        worker.connected(msec as u64, attempts);
    }
}

fn version(request: Request) -> Version {
    match request.raw().http_version {
        0..=1000 => Version::Http10,
        1001..=1999 => Version::Http11,
        2000..=2999 => Version::Http2,
        _ => Version::Http3,
    }
}

/// Lists the tunnel of `request`. `None` when the list is full.
fn list(
    request: Request,
    tunnel: &Tunnel,
    zone: StatusZone,
    version: Version,
    connect: u64,
) -> Option<Listed> {
    let client = request.client_addr().map(|addr| addr.text());
    let addr = tunnel.addr.get().map(|addr| addr.text());
    let authority = admit::authority(&request).and_then(Result::ok);

    let with = Beginning {
        handle: 0,
        version,
        client: client.as_ref().map_or(&[], |text| text.as_bytes()),
        addr: addr.as_ref().map_or(&[], |text| text.as_bytes()),
        user: request.user(),
        host: authority.as_ref().map_or(&[], |authority| authority.host()),
        port: authority.as_ref().map_or(&[], |authority| authority.port_text()),
        connect,
        now: 0,
    };

    zone.list(request, &with)
}

/// Counts each CONNECT that no tunnel was built for.
struct BeforeLog;

impl PhaseHandler for BeforeLog {
    fn handle(request: Request) -> phase::Verdict {
        if request.main() == request && request.was_connect() {
            count_refused(request);
        }

        phase::Verdict::Decline
    }
}

fn count_refused(request: Request) {
    let zone = ServerConf::of(&request).and_then(ServerConf::status_zone);

    let Some(worker) = zone.and_then(StatusZone::part).map(|part| part.worker()) else {
        return;
    };

    let tunnel = Tunnel::of(request);

    if tunnel.is_some_and(Tunnel::has_stood) {
        return;
    }

    // What a dial took that led nowhere is not how long one takes; a name was resolved all the same.
    if let Some(msec) = tunnel.and_then(|tunnel| tunnel.times.resolve.msec()) {
        worker.resolved(msec as u64);
    }

    worker.connect(version(request), outcome(request, tunnel));
}

fn outcome(request: Request, tunnel: Option<&Tunnel>) -> Outcome {
    match tunnel.and_then(|tunnel| tunnel.verdict.get()) {
        Some(Verdict::Denied(Rule::Port)) => Outcome::DeniedPort,
        Some(Verdict::Denied(Rule::Host)) => Outcome::DeniedHost,
        Some(Verdict::Denied(Rule::Address)) if is_denied(request) => Outcome::DeniedAddress,
        Some(Verdict::Denied(Rule::Upstream)) if is_denied(request) => Outcome::DeniedUpstream,
        _ if request.is_limited() => Outcome::Limited,
        _ => Outcome::of_answer(request.status(), answer::error_of(request)),
    }
}

/// An address may have been refused, and another one have been tried.
fn is_denied(request: Request) -> bool {
    request.status() == 403
}
