//! Owns the way of a tunnel that goes through another: through a parent, which is asked to build it, or to one of a
//! group of servers that `proxy_connect_address` names. It says what is to be connected to next, and whether there is
//! a next where that came to nothing.
//!
//! | file | owns |
//! |---|---|
//! | [`route`] | which way a tunnel takes, as the configuration has it |
//! | [`ask`] | what a parent is told: destination, credentials, fields |
//! | [`conversation`] | the telling, and the hearing of its answer, on a connection |

mod ask;
pub mod conversation;
mod route;

use std::ffi::CStr;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::credentials::{is_proxy_challenge, PROXY_AUTHENTICATE};
use proxy_connect_core::parent::next::Condition;
use proxy_connect_core::parent::way::{self, Scheme};
use proxy_connect_core::parent::{Answer, Meaning};
use proxy_connect_core::proxy_status::ProxyError;
use proxy_connect_core::response;
use proxy_connect_core::status::parents::Attempt;

use crate::authorise::{check_addr, Guard};
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi;
use crate::ffi::addr::{Addr, Named};
use crate::ffi::event::{Alarm, EventHandler};
use crate::ffi::peer::Peer;
use crate::ffi::request::Request;
use crate::ffi::timer::request::Timer;
use crate::ffi::upstream::{Balancer, Became, Group, NoServer};
use crate::ffi::variable::NoMemory;
use crate::ffi::{boxed, list_of};
use crate::tunnel::Tunnel;
use conversation::{Conversation, Tls};

pub use route::{way, Way};

/// The way of one tunnel through something else. Dropped, it lets go of the server that a balancer has chosen.
pub struct Parent {
    /// What is spoken there. `None` where nothing is: the server stands in the destination's place.
    scheme: Option<Scheme>,
    /// The host that the parent was named by.
    host: &'static [u8],
    hop: Hop,
    destination: Named,
    /// Whether the destination's name is to be resolved here.
    resolves: bool,
    /// Of two things: for the next attempt, and for the answer of the parent.
    timer: Timer,
    /// How many attempts were made.
    attempts: usize,
    /// When the first attempt began.
    first: ngx_msec_t,
    /// When the one that is under way began.
    since: Option<ngx_msec_t>,
    /// What the parent has sent before the tunnel stood, in bytes.
    received: u64,
    /// What its answer was.
    status: u16,
}

/// What is to be connected to.
enum Hop {
    /// One of a group of servers.
    Group(Group, Option<Balancer>),
    /// A host, whose name has to be resolved.
    Host(Named),
    /// The name is being resolved.
    Resolving,
    /// A host's addresses that were not tried.
    Addrs(Vec<Addr>),
}

/// What is to be done next.
pub enum Next {
    /// Resolve a name, for [`Parent::found`].
    Resolve(Named),
    /// Connect to one of these addresses.
    Dial(Vec<Addr>),
}

/// An attempt that came to nothing.
pub struct Miss {
    /// Whether another one may do better. `None` where it won't.
    condition: Option<Condition>,
    /// What the client gets if there is no other one.
    failure: Failure,
    /// What the parent has answered, if it has.
    answer: Option<Answer>,
    /// Whether it was connected to.
    reached: bool,
    /// What the parent was sent and has sent meanwhile, in bytes.
    moved: (u64, u64),
}

impl Parent {
    fn new<H: EventHandler>(
        request: Request,
        scheme: Option<Scheme>,
        host: &'static [u8],
        hop: Hop,
        destination: Named,
    ) -> Result<Self, Failure> {
        Ok(Self {
            scheme,
            host,
            hop,
            destination,
            resolves: false,
            timer: Timer::new::<H>(request, Alarm::Parent).ok_or(Failure::INTERNAL)?,
            attempts: 0,
            first: ffi::now(),
            since: None,
            received: 0,
            status: 0,
        })
    }

    /// Which rules are asked about what is connected to. A parent was named by the operator.
    pub fn guard(&self) -> Guard {
        if self.scheme.is_some() {
            Guard::Loop
        } else {
            Guard::Rules
        }
    }

    /// Whether it has to be asked for a tunnel once it is connected to.
    pub fn is_asked(&self) -> bool {
        self.scheme.is_some()
    }

    /// What is to be done for the next attempt; `timeout`, in milliseconds, is that of its connect.
    ///
    /// # Errors
    ///
    /// 403 where the destination's addresses are denied, 502 where no server of a group is left, 500 without memory.
    pub fn next(
        &mut self,
        request: Request,
        tunnel: &Tunnel,
        timeout: ngx_msec_t,
    ) -> Result<Next, Failure> {
        if self.resolves {
            match &mut self.destination {
                Named::Name(name, port) => {
                    return Ok(Next::Resolve(Named::Name(std::mem::take(name), *port)));
                }
                Named::Addr(addr) => {
                    let addr = *addr;
                    self.choose_destination(request, tunnel, &[addr])?;
                }
            }
        }

        if matches!(self.hop, Hop::Host(_)) {
            if let Hop::Host(named) = std::mem::replace(&mut self.hop, Hop::Resolving) {
                return Ok(Next::Resolve(named));
            }
        }

        request.connection().log().set_action(c"connecting to upstream");
        self.begin_attempt(request)?;

        match &mut self.hop {
            Hop::Group(group, balancer) => {
                let balancer = match balancer {
                    Some(balancer) => balancer,
                    None => balancer.insert(
                        Balancer::begin(request, *group, timeout, schema(self.scheme))
                            .ok_or(Failure::INTERNAL)?,
                    ),
                };

                let addr = balancer.choose().map_err(|reason| self.no_server(request, reason))?;
                list_of(&[addr]).map(Next::Dial).map_err(|_| Failure::INTERNAL)
            }
            Hop::Addrs(addrs) => list_of(addrs).map(Next::Dial).map_err(|_| Failure::INTERNAL),
            Hop::Host(_) | Hop::Resolving => Err(Failure::INTERNAL),
        }
    }

    fn begin_attempt(&mut self, request: Request) -> Result<(), Failure> {
        request.push_upstream_state().map_err(|NoMemory| Failure::INTERNAL)?;
        self.attempts += 1;
        self.since = Some(ffi::now());
        self.received = 0;
        self.status = 0;
        Ok(())
    }

    fn no_server(&mut self, request: Request, reason: NoServer) -> Failure {
        match reason {
            NoServer::Busy => {
                explain(request, 0, format_args!("no live upstreams"));
                self.end(request, 502, 0, 0);
                Failure::UNAVAILABLE
            }
            NoServer::Failed => Failure::INTERNAL,
        }
    }

    /// Takes the addresses of what was to be resolved.
    ///
    /// # Errors
    ///
    /// 403 where they are the destination's, and none of them may be connected to.
    pub fn found(
        &mut self,
        request: Request,
        tunnel: &Tunnel,
        addrs: Vec<Addr>,
    ) -> Result<(), Failure> {
        if self.resolves {
            return self.choose_destination(request, tunnel, &addrs);
        }

        self.hop = Hop::Addrs(addrs);
        Ok(())
    }

    /// Has the tunnel lead to the first of the addresses that the rules let pass: they are chosen here, whoever
    /// connects to them.
    fn choose_destination(
        &mut self,
        request: Request,
        tunnel: &Tunnel,
        addrs: &[Addr],
    ) -> Result<(), Failure> {
        let mut result = Err(Failure::UNAVAILABLE);

        for addr in addrs {
            tunnel.addr.set(Some(*addr));
            result = check_addr(request, addr);

            match result {
                Ok(()) => {
                    self.destination = Named::Addr(*addr);
                    self.resolves = false;
                    return Ok(());
                }
                Err(failure) if failure.is_refusal() => {}
                Err(failure) => return Err(failure),
            }
        }

        result
    }

    /// Takes note that `addr` is connected to.
    ///
    /// # Errors
    ///
    /// 500 without memory.
    pub fn connected(&mut self, request: Request, addr: &Addr) -> Result<(), Failure> {
        self.note_addr(request, addr)?;

        if self.scheme != Some(Scheme::Https) {
            request.set_upstream_connect_time(self.elapsed());
        }

        Ok(())
    }

    /// A balancer has a name for its server.
    fn note_addr(&self, request: Request, addr: &Addr) -> Result<(), Failure> {
        if matches!(self.hop, Hop::Group(..)) {
            return Ok(());
        }

        request.set_upstream_addr(addr.text().as_bytes()).map_err(|NoMemory| Failure::INTERNAL)
    }

    /// Begins to ask the parent, which `peer` is connected to, for the tunnel. It has `timeout` milliseconds to answer,
    /// and `H` hears of a handshake.
    ///
    /// # Errors
    ///
    /// 500 for what can't be told to a parent, or without memory.
    pub fn ask<H: EventHandler>(
        &mut self,
        request: Request,
        conf: &ServerConf,
        peer: Peer,
        timeout: ngx_msec_t,
    ) -> Result<Box<Conversation>, Failure> {
        let scheme = self.scheme.unwrap_or_default();
        let asking = ask::ask(request, conf, scheme, &self.destination)?;

        let tls = match scheme {
            Scheme::Https => Some(self.begin_tls::<H>(request, conf, &peer)?),
            Scheme::Http | Scheme::Socks5 => None,
        };

        self.timer.set(timeout);
        boxed(Conversation::new(peer, tls, asking)).ok_or(Failure::INTERNAL)
    }

    fn begin_tls<H: EventHandler>(
        &self,
        request: Request,
        conf: &ServerConf,
        peer: &Peer,
    ) -> Result<Tls, Failure> {
        let Some(context) = conf.ssl_context() else {
            let reason =
                "there is no TLS to parents, see \"proxy_connect_ssl_trusted_certificate\"";
            explain(request, 0, format_args!("{reason}"));
            return Err(Failure::NO_WAY);
        };

        let name = match conf.ssl_name() {
            Some(name) => without_port(name.evaluate(request).ok_or(Failure::INTERNAL)?),
            None => self.host,
        };

        request.connection().log().set_action(c"SSL handshaking to a parent");

        // RFC 6066, section 3: an address is none.
        let is_addr = Addr::parse_ip(request.pool(), name, 0).is_some();
        let tells_name = conf.tells_ssl_name() && !name.is_empty() && !is_addr;
        let handshake =
            peer.begin_tls::<H>(context, name, tells_name).map_err(|NoMemory| Failure::INTERNAL)?;

        let since = self.since.unwrap_or_else(ffi::now);
        Ok(Tls { handshake, since, name: conf.verifies_ssl().then_some(name) })
    }

    /// Takes note of the parent's answer.
    pub fn answered(&mut self, request: Request, tunnel: &Tunnel, answer: &Answer, received: u64) {
        self.timer.stop();
        self.received = received;
        self.status = match self.scheme {
            Some(Scheme::Socks5) => 0,
            _ => answer.code.unwrap_or_default(),
        };

        tunnel.parent_status.set(answer.code);
        request.set_upstream_header_time(self.elapsed());
    }

    /// Whether another attempt is to be made in the place of one that came to nothing. [`Alarm::Parent`] expires when it
    /// is time.
    ///
    /// # Errors
    ///
    /// 500 without memory.
    pub fn missed(
        &mut self,
        request: Request,
        conf: &ServerConf,
        tunnel: &Tunnel,
        miss: &Miss,
    ) -> Result<bool, Failure> {
        self.timer.stop();

        if let Some(addr) = tunnel.addr.get() {
            self.note_addr(request, &addr)?;
        }

        let status = match (&miss.answer, self.status) {
            (Some(_), status) if status != 0 => status,
            _ => miss.failure.status(),
        };

        let (sent, received) = miss.moved;
        self.end(request, status, sent, received);
        self.leave(conf, tunnel, miss);

        let may = miss.condition.is_some_and(|condition| conf.next_upstream().has(condition))
            && self.has_next()
            && conf.next_upstream_tries().is_none_or(|tries| self.attempts < tries)
            && conf
                .next_upstream_timeout()
                .is_none_or(|timeout| ffi::now().wrapping_sub(self.first) < timeout);

        if may {
            // No connection is made within the event of one that was closed.
            self.timer.set(0);
        }

        Ok(may)
    }

    /// Lets go of what was tried.
    fn leave(&mut self, conf: &ServerConf, tunnel: &Tunnel, miss: &Miss) {
        match &mut self.hop {
            Hop::Group(_, Some(balancer)) => balancer.give_back(became(conf, miss.condition)),
            // A dial that failed has tried all of them.
            Hop::Addrs(addrs) if !miss.reached => addrs.clear(),
            Hop::Addrs(addrs) => {
                let tried = addrs.iter().position(|addr| Some(*addr) == tunnel.addr.get());
                addrs.drain(..=tried.unwrap_or(addrs.len().saturating_sub(1)));
            }
            _ => {}
        }
    }

    fn has_next(&self) -> bool {
        match &self.hop {
            Hop::Group(_, balancer) => {
                balancer.as_ref().is_some_and(|balancer| balancer.tries() > 0)
            }
            Hop::Addrs(addrs) => !addrs.is_empty(),
            Hop::Host(_) | Hop::Resolving => false,
        }
    }

    /// Ends the attempt that is under way, or stands: of bytes of the tunnel it has sent and received so many.
    pub fn over(&mut self, request: Request, (sent, received): (u64, u64)) {
        self.end(request, self.status, sent, self.received + received);
    }

    fn end(&mut self, request: Request, status: u16, sent: u64, received: u64) {
        if self.since.is_some() {
            request.end_upstream_state(status, self.elapsed(), sent, received);
            self.since = None;
        }
    }

    /// How long the attempt has taken, in milliseconds.
    fn elapsed(&self) -> ngx_msec_t {
        self.since.map_or(0, |since| ffi::now().wrapping_sub(since))
    }
}

/// What the log shows in front of a server's address.
fn schema(scheme: Option<Scheme>) -> &'static CStr {
    match scheme {
        None => c"",
        Some(Scheme::Http) => c"http://",
        Some(Scheme::Https) => c"https://",
        Some(Scheme::Socks5) => c"socks5://",
    }
}

/// A variable such as `$http_host` may have one.
fn without_port(name: &'static [u8]) -> &'static [u8] {
    match way::Way::read(name) {
        Ok(way::Way::Parent(parsed)) => parsed.bare_host(),
        _ => name,
    }
}

fn became(conf: &ServerConf, condition: Option<Condition>) -> Became {
    match condition {
        Some(condition) if condition.is_always_failure() => Became::Failed,
        Some(condition) if !conf.next_upstream().has(condition) => Became::Done,
        Some(condition) if condition.is_failure() => Became::Failed,
        Some(_) => Became::Unfit,
        None => Became::Done,
    }
}

impl Miss {
    /// A dial that led nowhere.
    pub fn dial(failure: Failure) -> Self {
        let condition = match (failure.status(), failure.error()) {
            (502, Some(ProxyError::ProxyLoopDetected | ProxyError::ProxyConfigurationError)) => {
                None
            }
            (502, _) => Some(Condition::Error),
            (504, _) => Some(Condition::Timeout),
            _ => None,
        };

        Self { condition, failure, answer: None, reached: false, moved: (0, 0) }
    }

    /// What became of the attempt.
    pub fn attempt(&self) -> Attempt {
        match self.reached {
            true => Attempt::Refused,
            false => Attempt::Unreachable,
        }
    }

    /// The parent's answer, if it has given one.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// What the client gets. It is told what the parent asks of it, where it is to know.
    ///
    /// # Errors
    ///
    /// 500 without memory.
    pub fn failure(self, request: Request, conf: &ServerConf) -> Result<Failure, Failure> {
        let challenge = self.answer.filter(|answer| answer.meaning == Meaning::Unauthorised);

        let Some(answer) = challenge.filter(|_| conf.passes_auth()) else {
            return Ok(self.failure);
        };

        let mut is_challenged = false;

        for (name, value) in response::fields(&answer.header) {
            if is_proxy_challenge(name) {
                let value = request.pool().copy(value).ok_or(Failure::INTERNAL)?;
                let fields = request.answer_fields();
                fields.push(PROXY_AUTHENTICATE, value).ok_or(Failure::INTERNAL)?;
                is_challenged = true;
            }
        }

        Ok(if is_challenged { Failure::CHALLENGED } else { self.failure })
    }
}

/// What comes of an answer of the parent at `addr` that opened no tunnel. The log is told.
fn refused(request: Request, conf: &ServerConf, addr: &Addr, answer: &Answer) -> Failure {
    let addr = addr.text();
    let code = answer.code.unwrap_or_default();

    let status = match answer.meaning {
        Meaning::Unauthorised if !conf.passes_auth() => {
            let reason = format_args!(
                "the parent {addr} asks for credentials, or for other ones: see \"proxy_connect_pass_user\""
            );
            explain(request, 0, reason);
            502
        }
        Meaning::Denied => {
            explain(request, 0, format_args!("the parent {addr} denied the tunnel ({code})"));
            403
        }
        _ => {
            explain(request, 0, format_args!("the parent {addr} built no tunnel ({code})"));
            502
        }
    };

    Failure::new(status, answer.error())
}
