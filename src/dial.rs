//! Owns connecting to the upstream: from which local address, to which of the upstream's
//! addresses, and within the connect timeout. The addresses are tried one after the other, and
//! some side by side where one shows nothing (RFC 8305).

mod egress;
mod sources;

use std::cell::Cell;

use nginx_sys::{ngx_err_t, ngx_msec_t};
use proxy_connect_core::relay::Sent;

use crate::authorise::Guard;
use crate::failure::{explain, Failure};
use crate::ffi;
use crate::ffi::addr::Addr;
use crate::ffi::boxed;
use crate::ffi::event::{Alarm, EventHandler};
use crate::ffi::peer::{Begun, ConnectError, Lack, Peer};
use crate::ffi::request::Request;
use crate::ffi::socket::Connecting;
use crate::ffi::timer::request::Timer;
use crate::probes;
use crate::tunnel::Tunnel;

pub use egress::Egress;

/// When an attempt shows nothing for so long, the next address is tried beside it, in
/// milliseconds (RFC 8305, section 5: the Connection Attempt Delay).
const ATTEMPT_DELAY: ngx_msec_t = 250;

/// How many attempts are under way side by side at most: the oldest is given up for the next one.
const ATTEMPTS_MAX: usize = 4;

/// Connecting to an upstream. No connection is made within the event of one that was closed: nginx
/// would hand out that one again, and what is left of its event would pass for one of the new one's.
/// All but the first attempt begin when the timer runs out, and no event is left then.
pub struct Dial {
    /// The addresses that were not tried yet.
    addrs: std::vec::IntoIter<Addr>,
    egress: Egress,
    /// Which rules are asked about each of the addresses.
    guard: Guard,
    /// When the connect timeout runs out, for all addresses together.
    deadline: ngx_msec_t,
    /// Calls when there is something to do, unless a connection does before.
    timer: Timer,
    /// The connections that are being made, the latest last.
    attempts: Vec<Attempt>,
    /// When the next attempt may begin.
    next: ngx_msec_t,
    /// What the client gets if no address is left.
    failure: Failure,
    /// What the client gets if none of the addresses may be connected to.
    refusal: Option<Failure>,
    tally: Tally,
}

/// What became of the addresses that were tried.
struct Tally {
    /// How many addresses there are.
    addrs: usize,
    /// Those that may not be connected to, and were not.
    refused: usize,
    failed: usize,
    timed_out: usize,
    given_up: usize,
}

/// A connection that is being made.
struct Attempt {
    peer: Peer,
    addr: Addr,
    /// How many bytes of the greeting it has taken.
    greeted: usize,
}

impl Attempt {
    /// How far it is. It is done when the peer has taken all of the greeting.
    fn progress(&mut self, greeting: &[u8]) -> Connecting {
        let socket = self.peer.socket();

        match socket.connecting() {
            Connecting::Done if self.greeted < greeting.len() => {}
            progress => return progress,
        }

        match socket.send(&greeting[self.greeted..]) {
            Sent::Bytes(n) => self.greeted += n,
            Sent::Blocked => {}
            Sent::Broken => return Connecting::Failed(nginx_sys::ngx_socket_errno()),
        }

        match self.greeted < greeting.len() {
            true => Connecting::InProgress,
            false => Connecting::Done,
        }
    }

    fn connected(self, current: &Cell<Option<Addr>>) -> Dialed {
        current.set(Some(self.addr));
        Dialed::Connected(self.peer)
    }
}

/// How far the dialing is.
pub enum Dialed {
    /// The connection stands.
    Connected(Peer),
    /// An event of a peer's connection will come, or the timer run out.
    Waiting(Box<Dial>),
}

impl Dial {
    /// Will try `addrs`, which `guard` lets pass, in their order; `timeout`, in milliseconds, bounds the whole. `H` hears of
    /// [`Alarm::Dial`] when [`Dial::go_on`] is to be called. `None` when there is no memory.
    pub fn new<H: EventHandler>(
        request: Request,
        addrs: Vec<Addr>,
        egress: Egress,
        guard: Guard,
        timeout: ngx_msec_t,
    ) -> Option<Box<Self>> {
        boxed(Self {
            tally: Tally { addrs: addrs.len(), refused: 0, failed: 0, timed_out: 0, given_up: 0 },
            addrs: addrs.into_iter(),
            egress,
            guard,
            deadline: ffi::now().wrapping_add(timeout),
            timer: Timer::new::<H>(request, Alarm::Dial)?,
            attempts: Vec::new(),
            next: ffi::now(),
            failure: Failure::UNAVAILABLE,
            refusal: None,
        })
    }

    /// Looks at the attempts after an event of a peer's connection. What follows where one failed is left
    /// to the timer.
    pub fn look(mut self: Box<Self>, request: Request, current: &Cell<Option<Addr>>) -> Dialed {
        match self.take_connected(request) {
            Some(attempt) => attempt.connected(current),
            None => {
                self.timer.set(self.patience());
                Dialed::Waiting(self)
            }
        }
    }

    /// Goes on when the timer ran out.
    ///
    /// # Errors
    ///
    /// As for [`Dial::advance`].
    pub fn go_on<H: EventHandler>(
        mut self: Box<Self>,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Dialed, Failure> {
        if let Some(attempt) = self.take_connected(request) {
            return Ok(attempt.connected(current));
        }

        if self.is_late() {
            return Err(self.timed_out(request));
        }

        if self.time_to_next() == Some(0) {
            return self.advance::<H>(request, current);
        }

        self.wait(request)
    }

    /// Tries the next address; `current` tells which one it is.
    ///
    /// # Errors
    ///
    /// 403 when no address may be connected to, 502 when none is left, 504 when the last ones timed out, 500 when this host lacks what
    /// any connection needs.
    pub fn advance<H: EventHandler>(
        mut self: Box<Self>,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Dialed, Failure> {
        request.connection().log().set_action(c"connecting to upstream");

        let Some(addr) = self.next_allowed(request, current)? else {
            return self.wait(request);
        };

        let Some(local) = self.egress.local_for(request, &addr) else {
            self.tally.failed += 1;
            return self.wait(request);
        };

        if let Some(tunnel) = Tunnel::current(request) {
            tunnel.attempts.set(tunnel.attempts.get() + 1);
        }

        probes::dial_begun(request, &addr);
        self.make_room(request).map_err(|lack| lacking(request, &addr, lack, libc::ENOMEM))?;

        match self.egress.connect::<H>(request, &addr, local) {
            Ok(Begun::Connected(peer)) => {
                self.begun(peer, addr);
                return self.look_at(request, current);
            }
            Ok(Begun::InProgress(peer)) => self.begun(peer, addr),
            Err(ConnectError { errno, lack: Some(lack) }) => {
                return Err(lacking(request, &addr, lack, errno));
            }
            Err(ConnectError { errno, lack: None }) => self.failed(request, &addr, errno),
        }

        self.wait(request)
    }

    fn begun(&mut self, peer: Peer, addr: Addr) {
        self.attempts.push(Attempt { peer, addr, greeted: 0 });
        self.next = ffi::now().wrapping_add(ATTEMPT_DELAY);
    }

    /// Looks at a connection that stood at once.
    fn look_at(
        mut self: Box<Self>,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Dialed, Failure> {
        match self.take_connected(request) {
            Some(attempt) => Ok(attempt.connected(current)),
            None => self.wait(request),
        }
    }

    /// The next address that may be connected to. Those that may not are left out.
    fn next_allowed(
        &mut self,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Option<Addr>, Failure> {
        for addr in self.addrs.by_ref() {
            current.set(Some(addr));

            match self.guard.check(request, &addr) {
                Ok(()) => return Ok(Some(addr)),
                Err(failure) if failure.is_refusal() => {
                    self.tally.refused += 1;
                    self.refusal = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
        }

        Ok(None)
    }

    /// Makes room for one attempt more.
    fn make_room(&mut self, request: Request) -> Result<(), Lack> {
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.remove(0);
            probes::dial_done(request, libc::ECANCELED);
            self.tally.given_up += 1;
        }

        self.attempts.try_reserve_exact(1).map_err(|_| Lack::Memory)
    }

    /// Waits for the attempts under way, and for the time of the next one.
    fn wait(self: Box<Self>, request: Request) -> Result<Dialed, Failure> {
        if self.attempts.is_empty() && self.addrs.as_slice().is_empty() {
            self.tally.sum_up(request);
            // One that could have been connected to has failed: that it did is the reason.
            let refusal = self.refusal.filter(|_| self.tally.tried() == 0);
            return Err(refusal.unwrap_or(self.failure));
        }

        self.timer.set(self.patience());
        Ok(Dialed::Waiting(self))
    }

    /// Ends the dial at its deadline.
    fn timed_out(&mut self, request: Request) -> Failure {
        for attempt in &self.attempts {
            probes::dial_done(request, libc::ETIMEDOUT);
            log(request, "timed out", &attempt.addr, 0);
            self.tally.timed_out += 1;
        }

        self.tally.sum_up(request);
        Failure::CONNECTION_TIMEOUT
    }

    /// For how long nothing needs to be done unless a connection shows something.
    fn patience(&self) -> ngx_msec_t {
        if self.attempts.is_empty() {
            return 0;
        }

        let left = ffi::until(self.deadline);
        self.time_to_next().map_or(left, |next| next.min(left))
    }

    /// How long until the next address may be tried. `None` when there is no next, or when it can't be
    /// tried beside the attempts under way: a local port is for one connection at a time.
    fn time_to_next(&self) -> Option<ngx_msec_t> {
        let is_free = self.attempts.is_empty() || !self.egress.has_port();
        let may_try = !self.addrs.as_slice().is_empty() && is_free;

        may_try.then(|| ffi::until(self.next))
    }

    fn is_late(&self) -> bool {
        ffi::until(self.deadline) == 0
    }

    /// Takes out the attempt that reached its peer and greeted it, if one did, and drops those that failed.
    fn take_connected(&mut self, request: Request) -> Option<Attempt> {
        let mut place = 0;

        while let Some(attempt) = self.attempts.get_mut(place) {
            match attempt.progress(self.egress.greeting()) {
                Connecting::Done => {
                    probes::dial_done(request, 0);
                    return Some(self.attempts.remove(place));
                }
                Connecting::InProgress => place += 1,
                Connecting::Failed(errno) => {
                    let attempt = self.attempts.remove(place);
                    self.failed(request, &attempt.addr, errno);
                }
            }
        }

        None
    }

    /// Notes that an attempt failed. The next may begin at once.
    fn failed(&mut self, request: Request, addr: &Addr, errno: ngx_err_t) {
        probes::dial_done(request, errno);
        self.next = ffi::now();
        self.failure = Failure::connect(errno);

        if errno == libc::ETIMEDOUT {
            self.tally.timed_out += 1;
            log(request, "timed out", addr, errno);
        } else {
            self.tally.failed += 1;
            log(request, "failed", addr, errno);
        }
    }
}

impl Tally {
    fn tried(&self) -> usize {
        self.failed + self.timed_out + self.given_up
    }

    /// Tells the log of a dial that led nowhere, if it tried several addresses.
    fn sum_up(&self, request: Request) {
        let Self { addrs, refused: _, failed, timed_out, given_up } = self;
        let tried = self.tried();

        if tried > 1 {
            let message = format_args!(
                "the upstream can't be reached, {tried} of {addrs} addresses tried: \
                 {failed} failed, {timed_out} timed out, {given_up} given up for the next"
            );
            explain(request, 0, message);
        }
    }
}

/// Tells the log what this host has too little of to go on dialing.
fn lacking(request: Request, addr: &Addr, lack: Lack, errno: ngx_err_t) -> Failure {
    probes::dial_done(request, errno);

    let words = match lack {
        Lack::Connections => "no connection is left, raise \"worker_connections\"",
        Lack::Descriptors => {
            "no descriptor is left, raise \"worker_rlimit_nofile\" or the system's limit"
        }
        Lack::Memory => "no memory is left",
        Lack::Option(name) => return not_allowed(request, addr, name, errno),
    };

    let message = format_args!("upstream connect failed (peer:{}), {words}", addr.text());
    explain(request, errno, message);
    Failure::INTERNAL
}

/// Tells the log of an option that a socket does not take.
fn not_allowed(request: Request, addr: &Addr, name: &str, errno: ngx_err_t) -> Failure {
    let message = format_args!(
        "upstream connect failed (peer:{}), {name} can't be set: the worker needs CAP_NET_ADMIN, or CAP_NET_RAW \
         with Linux 5.17 or newer",
        addr.text()
    );
    explain(request, errno, message);
    Failure::INTERNAL
}

fn log(request: Request, what: &str, addr: &Addr, errno: ngx_err_t) {
    explain(request, errno, format_args!("upstream connect {what} (peer:{})", addr.text()));
}
