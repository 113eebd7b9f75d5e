//! Owns the context of one CONNECT: how far it is, and how it ends.

mod establish;
mod overrides;
mod times;

pub use overrides::Overrides;
pub use times::{Span, Times};

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{ngx_msec_t, NGX_LOG_INFO};
use proxy_connect_core::proxy_status::ProxyError;
use proxy_connect_core::relay::Side;

use crate::conf::ServerConf;
use crate::dial::Dial;
use crate::failure::Failure;
use crate::ffi;
use crate::ffi::addr::Addr;
use crate::ffi::boundary::guard;
use crate::ffi::boxed;
use crate::ffi::client::{Client, Finish};
use crate::ffi::end::End;
use crate::ffi::event::{Event, EventHandler};
use crate::ffi::log::Log;
use crate::ffi::peer::Peer;
use crate::ffi::phase;
use crate::ffi::request::Request;
use crate::ffi::socket::Keepalive;
use crate::ffi::variable::NoMemory;
use crate::parent::conversation::Conversation;
use crate::parent::Parent;
use crate::relay::{Counted, Ending, Heard, Standing};
use crate::resolve::Resolving;
use crate::sni::{self, Hello, Passage};
use crate::status::Counting;
use crate::verdict::{self, Verdict};
use crate::{answer, probes, reply};

/// The context of a CONNECT that was admitted.
#[derive(Default)]
pub struct Tunnel {
    /// What variables set in place of directives.
    pub overrides: Overrides,
    /// What `$proxy_connect_resolve_time` and its like tell.
    pub times: Times,
    /// The upstream's address, once there is one: `$connect_addr`.
    pub addr: Cell<Option<Addr>>,
    /// What the standing tunnel moved: `$proxy_connect_bytes_sent` and its like.
    pub counted: Cell<Counted>,
    /// Why the tunnel was closed: `$proxy_connect_close_reason`. `None` before, and where it never
    /// stood.
    pub close_reason: Cell<Option<&'static str>>,
    /// Why there is no tunnel, or why it broke: `$proxy_connect_error`.
    pub error: Cell<Option<ProxyError>>,
    /// The same in words, in the request's pool, where the client is told.
    pub details: Cell<Option<&'static [u8]>>,
    /// What the client said first over TLS: `$proxy_connect_sni` and its like.
    pub hello: Hello,
    /// How many addresses were connected to, or tried.
    pub attempts: Cell<u64>,
    /// Which way it takes, in the request's pool: `$proxy_connect_parent`.
    pub parent: Cell<Option<&'static [u8]>>,
    /// What the parent has answered: `$proxy_connect_parent_status`.
    pub parent_status: Cell<Option<u16>>,
    /// What the rules say: `$proxy_connect_verdict`.
    pub verdict: Cell<Option<Verdict>>,
    /// Whether the operator has named the upstream, not the client.
    pub is_fixed: Cell<bool>,
    stage: RefCell<Stage>,
}

/// How far a tunnel is. What goes through a parent, or to one of a group of servers, has that with it.
#[derive(Default)]
enum Stage {
    /// Not on its way yet, or over.
    #[default]
    Idle,
    Resolving {
        resolving: Resolving,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    },
    Dialing {
        dial: Box<Dial>,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    },
    /// The parent is asked for the tunnel.
    Asking {
        conversation: Box<Conversation>,
        since: ngx_msec_t,
        parent: Box<Parent>,
    },
    /// Another parent is tried next.
    Missed {
        since: ngx_msec_t,
        parent: Box<Parent>,
    },
    Relaying {
        standing: Box<Standing>,
        /// When the first connect began.
        since: ngx_msec_t,
        /// When the tunnel began to stand.
        stood: ngx_msec_t,
        counting: Option<Counting>,
        parent: Option<Box<Parent>>,
    },
}

/// What is left to do for a request after a step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Wait for the next event.
    Wait,
    /// The tunnel is over, and its request to be finished so.
    Over(Client, Finish),
}

impl Tunnel {
    /// Gives `request` its context. `None` when there is no memory.
    pub fn create<'a>(request: Request) -> Option<&'a Self> {
        let tunnel = request.pool().put_or_box(Self::default())?;
        let context = tunnel.as_ptr().cast::<c_void>();

        request.add_cleanup(Some(cleanup), request.as_ptr().cast())?;
        request.set_context(crate::module(), context);

        // SAFETY: in the request's pool, dropped with it.
        Some(unsafe { tunnel.as_ref() })
    }

    /// The context of `request`, unless an internal redirect has taken the request elsewhere.
    pub fn current<'a>(request: Request) -> Option<&'a Self> {
        let context = NonNull::new(request.context(crate::module()).cast::<Self>());

        // SAFETY: create() set it; it lies in the request's pool.
        context.map(|tunnel| unsafe { tunnel.as_ref() })
    }

    /// The context of the CONNECT that `request` is, came from by an internal redirect, or is a
    /// subrequest of.
    pub fn of<'a>(request: Request) -> Option<&'a Self> {
        let main = request.main();

        // SAFETY: create() put it into the request's pool.
        Self::current(main).or_else(|| main.pool().find::<Self>().map(|t| unsafe { t.as_ref() }))
    }

    /// Closes the upstream's connection, and whatever else is on its way. A tunnel that stands
    /// without having come to an end is closed by a worker that shuts down.
    fn close(&self, request: Request) {
        let (standing, parent) = match self.stage.take() {
            Stage::Relaying { standing, stood, counting, parent, .. } => {
                self.times.duration.done(stood);

                let reason = self.close_reason.get().unwrap_or(Ending::Shutdown.reason());
                self.close_reason.set(Some(reason));

                let duration = self.times.duration.msec().unwrap_or_default();
                probes::closed(request, reason, standing.counted(), duration);

                if let Some(counting) = counting {
                    counting.end(reason, duration as u64);
                }

                (Some(standing), parent)
            }
            Stage::Dialing { parent, .. } | Stage::Resolving { parent, .. } => (None, parent),
            Stage::Asking { parent, .. } | Stage::Missed { parent, .. } => (None, Some(parent)),
            Stage::Idle => (None, None),
        };

        if let Some(mut parent) = parent {
            let moved = standing.map(|standing| (standing.sent(), standing.received()));
            parent.over(request, moved.unwrap_or_default());
        }
    }

    /// Whether it stands, or did.
    pub fn has_stood(&self) -> bool {
        self.close_reason.get().is_some() || matches!(*self.stage.borrow(), Stage::Relaying { .. })
    }

    fn connect_timeout(&self, conf: &ServerConf) -> ngx_msec_t {
        self.overrides.connect_timeout.get().unwrap_or(conf.connect_timeout())
    }

    fn data_timeout(&self, conf: &ServerConf) -> ngx_msec_t {
        self.overrides.data_timeout.get().unwrap_or(conf.data_timeout())
    }

    /// Begins the relay between the client and `peer`, which has sent `first` already.
    fn stand(
        &self,
        request: Request,
        peer: Peer,
        first: Vec<u8>,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    ) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
        let response = reply::text(request, conf, self.overrides.response.get())?;
        let response = answer::with_next_hop(request, conf, self, response)?;
        let client = client(request)?;

        request.connection().log().set_action(c"proxying connection");

        // A unix socket has no keepalive.
        if !self.addr.get().is_some_and(|addr| addr.is_unix()) {
            if let Some(keepalive) = keepalive(conf, request) {
                peer.socket().set_keepalive(keepalive);
            }
        }

        let mut standing = boxed(Standing::new(
            client,
            peer,
            request.take_early_bytes().map_err(|_| Failure::INTERNAL)?,
            self.data_timeout(conf),
            conf.splice(),
            conf.send_lowat(),
        ))
        .ok_or(Failure::INTERNAL)?;

        if request.core_conf().is_some_and(|core| core.tcp_nodelay != 0) {
            standing.set_nodelay().map_err(|_| Failure::TERMINATED)?;
        }

        if conf.splices_into_ktls() {
            standing.splice_into_ktls();
        }

        if conf.prereads() {
            let timeout = conf.preread_timeout();
            standing.hold::<Events>(request, timeout).ok_or(Failure::INTERNAL)?;
        }

        standing.limit::<Events>(request, conf).map_err(|NoMemory| Failure::INTERNAL)?;

        standing
            .open(request, response, reply::status(response), first)
            .map_err(|_| Failure::INTERNAL)?;
        verdict::allow(self);

        // The answer waits for the client. What stands in the connection of one that was read already brings no event.
        let side = match &parent {
            Some(parent) if parent.is_asked() => Event::Readable(Side::Upstream),
            _ => Event::Writable(Side::Client),
        };

        let connect = self.times.connect.msec().unwrap_or_default();
        probes::established(request, connect, self.attempts.get());

        let counting = Counting::begin(request, conf, self);
        self.stage.replace(Stage::Relaying {
            standing,
            since,
            stood: ffi::now(),
            counting,
            parent,
        });
        self.hear(request, side)
    }

    /// Goes on after `event`.
    fn hear(&self, request: Request, event: Event) -> Result<Step, Failure> {
        if let Stage::Relaying { standing, since, counting, .. } = &mut *self.stage.borrow_mut() {
            return Ok(self.relay(request, standing, counting.as_mut(), *since, event));
        }

        match event {
            Event::Closing(Side::Client) => Ok(Step::Over(client(request)?, Finish::Failed)),
            Event::Readable(Side::Client) | Event::Writable(Side::Client) => {
                self.check_client(request)
            }
            _ => self.proceed(request, event),
        }
    }

    fn relay(
        &self,
        request: Request,
        standing: &mut Standing,
        mut counting: Option<&mut Counting>,
        since: ngx_msec_t,
        event: Event,
    ) -> Step {
        let mut heard = standing.hear(event);

        while let Heard::Opening(gate) = heard {
            heard = match sni::judge(request, self, &gate) {
                Ok(Passage::All) => standing.release(*gate),
                Ok(Passage::Hello { has_early_data }) => standing.follow(gate, has_early_data),
                Err(_) => standing.refuse(&gate),
            };
        }

        self.counted.set(standing.counted());

        if let Some(counting) = &mut counting {
            counting.update(standing.counted(), standing.held());
        }

        if standing.counted().received > 0 && self.times.first_byte.msec().is_none() {
            self.times.first_byte.done(since);

            if let (Some(counting), Some(msec)) = (counting, self.times.first_byte.msec()) {
                counting.first_byte(msec as u64);
            }
        }

        let Heard::Over(ending) = heard else {
            return Step::Wait;
        };

        ending.log(request.connection().log(), standing);
        standing.pass_on(ending);
        self.close_reason.set(Some(ending.reason()));
        self.error.set(ending.error());

        Step::Over(standing.client(), ending.finish())
    }

    /// Does what a step leaves to do, but for the answer to a failure.
    fn settle(&self, request: Request, step: Result<Step, Failure>) -> Result<(), Failure> {
        match step {
            Ok(Step::Wait) => return Ok(()),
            Ok(Step::Over(client, finish)) => {
                self.close(request);
                client.finish(request, finish);
            }
            Err(failure) => {
                probes::ended(request, failure);
                self.error.set(failure.error());
                self.close(request);
                request.block_client_events();
            }
        }

        step.map(|_| ())
    }

    /// Sees whether the client is still there while the tunnel does not stand yet.
    fn check_client(&self, request: Request) -> Result<Step, Failure> {
        let client = client(request)?;

        if let Some(errno) = client.departed(request) {
            let upstream = match *self.stage.borrow() {
                Stage::Dialing { .. } | Stage::Asking { .. } => {
                    ", so upstream connection is closed too"
                }
                _ => "",
            };

            let message = format_args!("client prematurely closed connection{upstream}");
            request.connection().log().write(NGX_LOG_INFO, errno, message);
            return Err(Failure::CLIENT_GONE);
        }

        client.watch(0).map(|()| Step::Wait).map_err(|_| Failure::INTERNAL)
    }
}

/// Sends an admitted CONNECT on its way: the answer for the phase engine.
pub fn begin(request: Request) -> phase::Verdict {
    let Some(tunnel) = Tunnel::current(request) else {
        return phase::Verdict::Decline;
    };

    match tunnel.settle(request, tunnel.depart(request)) {
        Ok(()) => phase::Verdict::Take,
        Err(failure) => phase::Verdict::Refuse(failure.status()),
    }
}

/// The events of all tunnels.
struct Events;

impl EventHandler for Events {
    fn handle(request: Request, event: Event) {
        let Some(tunnel) = Tunnel::current(request) else {
            return;
        };

        if let Err(failure) = tunnel.settle(request, tunnel.hear(request, event)) {
            request.finalize(failure.status());
        }
    }
}

/// Tells the tunnel of `request` of an event that nginx has no callback for.
pub fn tell(request: Request, event: Event) {
    request.run(Events::handle, event);
}

/// The client's end, a connection of its own or a stream of one. What has neither is not admitted.
fn client(request: Request) -> Result<Client, Failure> {
    Client::of(request).ok_or(Failure::INTERNAL)
}

/// The keepalive of the upstream's connection, if it has one: where a server does not say otherwise, that of the client's
/// `listen` directive, whose times hold in any case.
fn keepalive(conf: &ServerConf, request: Request) -> Option<Keepalive> {
    let listening = Keepalive::of_listening(request.connection());

    match conf.socket_keepalive() {
        None => listening,
        Some(true) => Some(listening.unwrap_or_default()),
        Some(false) => None,
    }
}

/// nginx runs this before it logs the request, and when it terminates it.
unsafe extern "C" fn cleanup(request: *mut c_void) {
    // SAFETY: create() passed the request, which runs its cleanups itself. Its tunnel lies in its pool until after the
    // log.
    let tunnel = unsafe { Request::from_ptr(request.cast()) };
    let tunnel = tunnel.and_then(|request| Some((request, Tunnel::of(request)?)));

    if let Some((request, tunnel)) = tunnel {
        guard(Log::of_cycle(), || tunnel.close(request), || ());
    }
}
