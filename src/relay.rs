//! Owns the standing tunnel on nginx's event loop: turns of the relay between the two
//! connections, the data timeout, and what is counted.

mod ending;
pub mod gate;
mod limits;
mod parting;
mod shared;

use std::cell::RefCell;
use std::collections::TryReserveError;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::relay::{
    Next, Outcome, Received, Relay, Side, Sink, Source, Splice, Turn, Workspace,
};

use crate::conf::ServerConf;
use crate::ffi;
use crate::ffi::boxed;
use crate::ffi::client::Client;
use crate::ffi::end::{End, EventError};
use crate::ffi::event::{Alarm, Event, EventHandler};
use crate::ffi::peer::Peer;
use crate::ffi::request::Request;
use crate::ffi::socket::Socket;
use crate::ffi::timer::request::Timer;
use crate::ffi::variable::NoMemory;
use gate::{Broken, Gate};
use limits::Limits;
use parting::Parting;
use shared::{PooledPipe, Shared};

pub use ending::Ending;
pub use shared::open_pipes;

/// How many bytes a direction may move in one turn, so that a fast tunnel does not starve the
/// others of its worker. Less would cost more of the event loop for each byte.
const BUDGET: usize = 1024 * 1024;

/// The same where the client's end is a stream: what the others of its connection have to say waits behind that.
pub const STREAM_BUDGET: usize = 256 * 1024;

/// What a client of TLS gets before it is refused: a record with a fatal alert, access_denied (RFC 8446,
/// section 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

thread_local! {
    /// What the tunnels of this worker share. It holds no byte of theirs between turns.
    static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// A tunnel that stands.
pub struct Standing {
    relay: Relay<PooledPipe>,
    client: Client,
    peer: Peer,
    /// The client's first bytes, while they are held.
    gate: Option<Box<Gate>>,
    /// What it may take at most. Most tunnels have none.
    limits: Option<Box<Limits>>,
    /// The data timeout, in milliseconds.
    timeout: ngx_msec_t,
    /// When a byte was last moved, either way.
    moved: ngx_msec_t,
    counted: Counted,
    parting: Option<Parting>,
    /// `proxy_connect_send_lowat`, in bytes.
    send_lowat: usize,
}

/// What came of an event.
pub enum Heard {
    /// Nothing but bytes that were moved.
    Nothing,
    /// It is known what the client sends first. That is for [`Standing::release`], [`Standing::follow`] or
    /// [`Standing::refuse`].
    Opening(Box<Gate>),
    /// The tunnel is over.
    Over(Ending),
}

/// What a tunnel moved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// What the upstream took.
    pub sent: u64,
    /// What the upstream gave.
    pub received: u64,
    /// How often it moved all that it may in one turn.
    pub full_turns: u64,
    /// How many pipes the system refused to it.
    pub refused_pipes: u64,
    /// How often a zone of rates had no place for its key.
    pub unshared: u64,
}

impl Standing {
    /// A tunnel between `client` and `peer` that begins with `early` bytes for the upstream.
    pub fn new(
        client: Client,
        peer: Peer,
        early: Vec<u8>,
        timeout: ngx_msec_t,
        splice: Splice,
        send_lowat: usize,
    ) -> Self {
        peer.set_data_timer(timeout);

        Self {
            relay: Relay::new(early, splice),
            client,
            peer,
            gate: None,
            limits: None,
            timeout,
            moved: ffi::now(),
            counted: Counted::default(),
            parting: None,
            send_lowat,
        }
    }

    /// Before the tunnel is opened: holds what the client sends until it is known what it is, for `timeout`
    /// milliseconds at most from its first byte on. `H` hears of [`Alarm::Preread`]. `None` when there is no
    /// memory.
    pub fn hold<H: EventHandler>(&mut self, request: Request, timeout: ngx_msec_t) -> Option<()> {
        let timer = Timer::new::<H>(request, Alarm::Preread)?;
        let gate = Gate::new(timer, timeout, &self.relay.hold()).ok()?;

        self.gate = Some(boxed(gate)?);
        Some(())
    }

    /// Before the tunnel is opened, and behind [`Standing::hold`]: puts it under the limits of its server, which
    /// begin to count. `H` hears of [`Alarm::Lifetime`] and [`Alarm::Rate`].
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn limit<H: EventHandler>(
        &mut self,
        request: Request,
        conf: &ServerConf,
    ) -> Result<(), NoMemory> {
        self.limits = Limits::of::<H>(request, conf)?;

        // What the gate holds counts when it goes on.
        if self.limits.is_some() && self.gate.is_none() {
            let early = self.relay.hold();
            self.let_go(early, false).map_err(|_| NoMemory)?;
        }

        Ok(())
    }

    /// Has the upstream get `bytes` of the client that were read elsewhere, as many as may go on.
    fn pass(&mut self, mut bytes: Vec<u8>) -> Result<(), TryReserveError> {
        let fits = self.charge(Side::Client, &mut bytes);
        self.relay.pass(bytes)?;
        self.exceed_unless(fits);
        Ok(())
    }

    /// The same for the last of them, with the end of file if the client has `ended`.
    fn let_go(&mut self, mut bytes: Vec<u8>, ended: bool) -> Result<(), TryReserveError> {
        let fits = self.charge(Side::Client, &mut bytes);
        self.relay.release(bytes, ended && fits)?;
        self.exceed_unless(fits);
        Ok(())
    }

    /// Counts `bytes` of one side, and cuts off those that there is no room for. Whether there are none.
    fn charge(&mut self, source: Side, bytes: &mut Vec<u8>) -> bool {
        let len = bytes.len();

        if let Some(allowance) = self.limits.as_mut().and_then(|limits| limits.allowance()) {
            bytes.truncate(allowance.charge(source, len));
        }

        bytes.len() == len
    }

    fn exceed_unless(&mut self, fits: bool) {
        if !fits {
            self.relay.exceed();
        }
    }

    /// Sets TCP_NODELAY on both sides: a tunnel can't know whose turn it is to speak.
    ///
    /// # Errors
    ///
    /// A connection is broken; nginx logged why.
    pub fn set_nodelay(&self) -> Result<(), EventError> {
        self.client.set_nodelay()?;
        self.upstream().set_nodelay()
    }

    /// Lets bytes go through a pipe to a client of TLS, too, where the system makes its records.
    pub fn splice_into_ktls(&mut self) {
        self.client.splice_into_ktls();
    }

    /// Opens the tunnel for the client of `request`, see [`Client::open`]. What the upstream has sent `first` was read
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// No memory; nothing was sent.
    pub fn open(
        &mut self,
        request: Request,
        text: &[u8],
        status: u16,
        mut first: Vec<u8>,
    ) -> Result<(), TryReserveError> {
        first.try_reserve(text.len())?;
        let begin = self.client.open(request, text, status)?;

        let fits = self.charge(Side::Upstream, &mut first);
        self.counted.received += first.len() as u64;
        first.splice(0..0, begin);
        self.relay.begin_with(first);
        self.exceed_unless(fits);

        Ok(())
    }

    /// How many bytes the upstream's connection was sent, with those from before the tunnel stood.
    pub fn sent(&self) -> u64 {
        self.peer.sent()
    }

    /// The client's end.
    pub fn client(&self) -> Client {
        self.client
    }

    fn upstream(&self) -> Socket {
        self.peer.socket()
    }

    /// What the tunnel has moved so far.
    pub fn counted(&self) -> Counted {
        self.counted
    }

    /// How many bytes it holds: they were read and wait to be sent.
    pub fn held(&self) -> usize {
        self.relay.held()
    }

    /// How many bytes the upstream gave.
    pub fn received(&self) -> u64 {
        self.counted.received
    }

    fn watch(&self, side: Side) -> Result<(), EventError> {
        match side {
            Side::Client => self.client.watch(0),
            Side::Upstream => self.upstream().watch(self.send_lowat),
        }
    }

    /// Goes on after `event`.
    pub fn hear(&mut self, event: Event) -> Heard {
        let ending = self.go_on(event);
        self.heard(ending)
    }

    fn heard(&mut self, ending: Option<Ending>) -> Heard {
        if let Some(ending) = ending {
            return Heard::Over(ending);
        }

        match self.gate.take_if(|gate| gate.is_over()) {
            None => Heard::Nothing,
            Some(gate) if gate.is_open() => self.release(*gate),
            Some(gate) => Heard::Opening(gate),
        }
    }

    fn go_on(&mut self, event: Event) -> Option<Ending> {
        match (event, self.parting) {
            (Event::Closing(_), _) => Some(Ending::Shutdown),
            (Event::Expired(Alarm::Data), None) => self.is_idle().then(|| self.gave_up()),
            (Event::Expired(Alarm::Preread), None) => {
                self.gate.iter_mut().for_each(|gate| gate.time_out());
                None
            }
            (Event::Expired(Alarm::Lifetime), None) => {
                self.limits.iter().any(|limits| limits.is_over()).then_some(Ending::Lifetime)
            }
            (Event::Expired(Alarm::Operator), _) => Some(Ending::Operator),
            (Event::Expired(Alarm::Rate), None) => {
                self.take_wake();
                self.turn()
            }
            (Event::Expired(Alarm::Parting), Some(parting)) => self.ask_again(parting),
            (_, Some(parting)) => self.may_part(parting.ending).then_some(parting.ending),
            (Event::Writable(side), None) if self.take_writable(side) => None,
            (Event::Readable(side), None) if self.take_readable(side) => None,
            (_, None) => self.turn(),
        }
    }

    /// Lets what was held in `gate` go on to the upstream, and all that follows.
    pub fn release(&mut self, gate: Gate) -> Heard {
        let (bytes, ended) = gate.into_parts();
        let released = self.let_go(bytes, ended);
        self.moved_on(released)
    }

    /// Lets the ClientHello in `gate` go on to the upstream, and holds a second one that may follow. Early data
    /// go on, too, if it `has_early_data`.
    pub fn follow(&mut self, mut gate: Box<Gate>, has_early_data: bool) -> Heard {
        let passed = gate.follow(has_early_data).and_then(|hello| {
            self.pass(hello)?;
            self.pass(gate.take_passed())
        });

        self.gate = Some(gate);
        self.moved_on(passed)
    }

    fn moved_on(&mut self, passed: Result<(), TryReserveError>) -> Heard {
        let ending = match passed {
            Ok(()) => self.turn(),
            Err(_) => self.over(Ending::Relay(Outcome::OutOfMemory)),
        };

        self.heard(ending)
    }

    /// Ends the tunnel of a client whose bytes, in `gate`, may not go on. One that speaks TLS is told so, unless
    /// it is in the middle of something that the upstream has sent.
    pub fn refuse(&mut self, gate: &Gate) -> Heard {
        if gate.is_tls() && self.relay.is_open_to(Side::Client) {
            Sink::<PooledPipe>::send(&mut self.client, &ALERT);
        }

        self.discard();
        let ending = self.over(if gate.is_late() { Ending::Late } else { Ending::Refused });
        self.heard(ending)
    }

    /// Reads what the client has sent, for nobody: bytes that are unread turn a close into a reset, which may
    /// overtake what was sent before.
    fn discard(&mut self) {
        SHARED.with_borrow_mut(|shared| {
            let Some(buffer) = shared.as_mut().map(|shared| shared.buffer()) else {
                return;
            };

            let mut left = BUDGET;

            while left > 0 && Source::<PooledPipe>::is_readable(&self.client) {
                match Source::<PooledPipe>::receive(&mut self.client, buffer) {
                    Received::Bytes(n) => left = left.saturating_sub(n),
                    _ => break,
                }
            }
        });
    }

    fn turn(&mut self) -> Option<Ending> {
        match self.run() {
            Next::Over(outcome) => {
                if outcome == Outcome::Exceeded {
                    self.discard();
                }

                self.over(Ending::Relay(outcome))
            }
            next => {
                if let Some(limits) = &mut self.limits {
                    limits.set_wake();
                    self.counted.unshared +=
                        u64::from(limits.tell_unshared(self.peer.socket().log()));
                }

                self.wait(next).err().map(|EventError| Ending::Error)
            }
        }
    }

    /// Takes the news that `side` became writable. An edge-triggered event method tells so with every
    /// segment that comes in, and mostly nothing waits for it. False when something did, or the end
    /// can't be watched: a turn is due then.
    fn take_writable(&self, side: Side) -> bool {
        !self.relay.waits_for(side) && self.watch(side).is_ok()
    }

    /// Takes the news that `side` became readable where it is not read before its time. False where it may be
    /// read, or can't be watched.
    fn take_readable(&self, side: Side) -> bool {
        self.is_throttled(side) && self.watch(side).is_ok()
    }

    fn is_throttled(&self, side: Side) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.is_throttled(side))
    }

    /// An end that has to be read slowly may be read again. To wait for that was not to be idle.
    fn take_wake(&mut self) {
        self.moved = ffi::now();
        self.limits.iter_mut().for_each(|limits| limits.take_wake());
    }

    fn run(&mut self) -> Next {
        let mut upstream = self.upstream();

        let turn = SHARED.with_borrow_mut(|shared| {
            let shared = match shared {
                Some(shared) => shared,
                None => shared.insert(Shared::new().ok()?),
            };

            self.read_held(shared.buffer()).ok()?;

            let allowance = self.limits.as_mut().and_then(|limits| limits.allowance());
            let budget = if self.client.is_stream() { STREAM_BUDGET } else { BUDGET };
            let turn = self.relay.turn(&mut self.client, &mut upstream, shared, budget, allowance);

            self.counted.refused_pipes += u64::from(shared.tell_error(self.upstream().log()));

            Some(turn)
        });

        let Some(turn) = turn else {
            return Next::Over(Outcome::OutOfMemory);
        };

        self.count(&turn);
        turn.next
    }

    /// Reads what the client sends while it is held.
    fn read_held(&mut self, buffer: &mut [u8]) -> Result<(), TryReserveError> {
        let Some(gate) = self.gate.as_mut().filter(|_| !self.relay.waits_for(Side::Upstream))
        else {
            return Ok(());
        };

        if let Err(Broken) = gate.read(&mut self.client, buffer)? {
            self.relay.break_client();
        }

        let passed = gate.take_passed();
        self.pass(passed)
    }

    /// Whether there is more to read of a client that is held.
    fn is_held_up(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.is_over())
            && Source::<PooledPipe>::is_readable(&self.client)
            && !self.relay.waits_for(Side::Upstream)
    }

    fn count(&mut self, turn: &Turn) {
        self.counted.sent += turn.to_upstream as u64;
        self.counted.received += turn.from_upstream as u64;

        if turn.to_client + turn.to_upstream > 0 {
            self.moved = ffi::now();
        }
    }

    fn wait(&mut self, next: Next) -> Result<(), EventError> {
        if let Next::Yield { client, upstream } = next {
            self.counted.full_turns += 1;

            if client {
                self.client.post();
            }

            if upstream {
                self.upstream().post();
            }
        }

        if self.is_held_up() {
            self.client.post();
        }

        self.watch(Side::Client)?;
        self.watch(Side::Upstream)
    }

    /// Whether the data timeout has really passed. The timer is not moved with every byte; it is
    /// set anew here when it ran out too early.
    fn is_idle(&self) -> bool {
        let idle = self.idle();

        if idle >= self.timeout {
            return true;
        }

        self.peer.set_data_timer(self.timeout - idle);
        false
    }

    /// How a tunnel ends whose bytes do not move.
    fn gave_up(&self) -> Ending {
        match self.relay.is_exceeded() {
            true => Ending::Relay(Outcome::Exceeded),
            false => Ending::Timeout,
        }
    }

    /// For how long no byte was moved, in milliseconds. Who has to be read slowly is not idle.
    fn idle(&self) -> ngx_msec_t {
        if [Side::Client, Side::Upstream].into_iter().any(|side| self.is_throttled(side)) {
            return 0;
        }

        ffi::now().wrapping_sub(self.moved)
    }
}
