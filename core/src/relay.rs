//! Owns the state of a standing tunnel: two directions, what each of them still holds, and when
//! the tunnel is over. It knows no nginx and no sockets, only two ends, each a [`Source`] and a [`Sink`].

mod allowance;
mod bucket;
mod direction;
mod end;
mod pace;
mod throttle;
mod zone;

pub use allowance::{Allowance, Quota};
pub use bucket::{Instant, Rate};
pub use end::{
    BrokenSink, Drain, Fill, Frames, Intake, Layout, Lend, NoFrames, NoLoan, Received, Sent, Shut,
    Sink, Source, Workspace, PIECES,
};
pub use zone::{Slot, Zone};

use std::collections::TryReserveError;

use direction::{Direction, Fault, Run};

/// One of the two ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The downstream: who sent the CONNECT.
    Client,
    /// The peer that the CONNECT named.
    Upstream,
}

/// Whether bytes may go through a pipe, without being copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Splice {
    /// Never.
    Off,
    /// Where it pays: once a direction has been busy, and as long as it is.
    #[default]
    Auto,
    /// Always.
    On,
}

/// A standing tunnel.
///
/// An end of file of one side is passed on to the other as a half-close, after all data before
/// it, and the opposite direction goes on until its own end. A side that resets its connection
/// ends both directions, once all that it sent before has been delivered.
#[derive(Debug)]
pub struct Relay<P> {
    to_upstream: Direction<P>,
    to_client: Direction<P>,
    /// What the client sends is read elsewhere for now, see [`Relay::hold`].
    held_back: bool,
    /// The side that broke first.
    broken: Option<Side>,
    /// The side that came to its end of file first.
    ended: Option<Side>,
    /// The quota did not do: what is held is delivered, nothing more is read.
    exceeded: bool,
}

/// What one [`Relay::turn`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What to do until the next turn.
    pub next: Next,
    /// Bytes handed to the upstream.
    pub to_upstream: usize,
    /// Bytes handed to the client.
    pub to_client: usize,
    /// Bytes read from the upstream.
    pub from_upstream: usize,
}

/// What a tunnel needs after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do before an end becomes readable or writable.
    Wait,
    /// The budget is used up; the ends named here have more to read at once.
    Yield {
        /// The client may have more.
        client: bool,
        /// The upstream may have more.
        upstream: bool,
    },
    /// The tunnel is over.
    Over(Outcome),
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides sent their end of file, this one first, and all data was delivered.
    Finished(Side),
    /// This side reset its connection: pass the reset on to the other.
    Reset(Side),
    /// A quota is used up, all that it has room for is delivered, and there is more.
    Exceeded,
    /// No memory for bytes that an end did not take.
    OutOfMemory,
}

impl<P> Relay<P> {
    /// A tunnel that begins with `early` bytes of the client, which nginx read behind the request
    /// header.
    pub fn new(early: Vec<u8>, splice: Splice) -> Self {
        Self {
            to_upstream: Direction::new(early, splice),
            to_client: Direction::new(Vec::new(), splice),
            held_back: false,
            broken: None,
            ended: None,
            exceeded: false,
        }
    }

    /// Before the first turn: has the client get `bytes` in front of all that the upstream sends.
    pub fn begin_with(&mut self, bytes: Vec<u8>) {
        self.to_client.begin_with(bytes);
    }

    /// Before the first turn: nothing more is read from the client, and nothing goes to the upstream but by
    /// [`Relay::pass`], until [`Relay::release`]. The other direction is not concerned. Returns the bytes that the tunnel was to begin with.
    pub fn hold(&mut self) -> Vec<u8> {
        self.held_back = true;
        self.to_upstream.take_pending()
    }

    /// While the client is held: has the upstream get `bytes`, which were read from it.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn pass(&mut self, bytes: Vec<u8>) -> Result<(), TryReserveError> {
        self.to_upstream.append(bytes)
    }

    /// Ends what [`Relay::hold`] began: the upstream gets `bytes`, which were read from the client meanwhile,
    /// and then, if the client has `ended`, its end of file.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn release(&mut self, bytes: Vec<u8>, ended: bool) -> Result<(), TryReserveError> {
        self.held_back = false;
        self.to_upstream.append(bytes)?;

        if ended {
            self.to_upstream.source_has_ended();
        }

        Ok(())
    }

    /// The client was found broken while its bytes were held.
    pub fn break_client(&mut self) {
        self.settle(Some(Fault::Source), Side::Client);
    }

    /// Ends the tunnel once all that it holds is delivered: a quota has no room for what comes behind.
    pub fn exceed(&mut self) {
        self.exceeded = true;
        self.held_back = false;

        for direction in [&mut self.to_upstream, &mut self.to_client] {
            // What is the end of the tunnel is no end of file.
            direction.source_is_broken();
            direction.source_has_ended();
        }
    }

    /// Whether [`Relay::exceed`] was called, or what it says was found.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Moves what can be moved now, at most about `budget` bytes each way, and no more than the `allowance` has room for.
    pub fn turn(
        &mut self,
        client: &mut (impl Source<P> + Sink<P>),
        upstream: &mut (impl Source<P> + Sink<P>),
        shared: &mut impl Workspace<Pipe = P>,
        budget: usize,
        mut allowance: Option<&mut Allowance>,
    ) -> Turn {
        if self.to_client.is_done() {
            self.to_upstream.note_last();
        }

        let up = if self.held_back {
            self.to_upstream.run_without_source(upstream, shared)
        } else {
            let meter = allowance.as_deref_mut().map(|allowance| allowance.meter(Side::Client));
            self.to_upstream.run(client, upstream, shared, budget, meter)
        };

        self.note_end(Side::Client);
        self.settle(up.fault, Side::Client);

        if self.to_upstream.is_done() {
            self.to_client.note_last();
        }

        let meter = allowance.map(|allowance| allowance.meter(Side::Upstream));
        let down = self.to_client.run(upstream, client, shared, budget, meter);
        self.note_end(Side::Upstream);
        self.settle(down.fault, Side::Upstream);

        Turn {
            next: self.next(&up, &down),
            to_upstream: up.sent,
            to_client: down.sent,
            from_upstream: down.received,
        }
    }

    /// Whether anything waits for `side` to take it: bytes, or the other side's end of file.
    pub fn waits_for(&self, side: Side) -> bool {
        match side {
            Side::Client => self.to_client.waits_for_sink(),
            Side::Upstream => self.to_upstream.waits_for_sink(),
        }
    }

    /// Whether bytes of another's could follow what `side` got: nothing waits for it, nor has it heard the end.
    pub fn is_open_to(&self, side: Side) -> bool {
        match side {
            Side::Client => self.to_client.is_open(),
            Side::Upstream => self.to_upstream.is_open(),
        }
    }

    /// Bytes that a side sent and the other did not take yet.
    pub fn held(&self) -> usize {
        self.to_upstream.held() + self.to_client.held()
    }

    /// Notes who broke the tunnel, given the fault of the direction that reads from `source`.
    fn settle(&mut self, fault: Option<Fault>, source: Side) {
        let broken = match fault {
            Some(Fault::Source) => source,
            Some(Fault::Sink) => source.other(),
            Some(Fault::Quota) => return self.exceed(),
            Some(Fault::OutOfMemory) | None => return,
        };

        self.broken.get_or_insert(broken);

        // Nothing more can be sent to the broken side. What it sent before may still be on its
        // way to the other.
        self.towards(broken).abandon();
        self.towards(broken.other()).source_is_broken();

        // What is held of the client's stays here; what was passed is delivered.
        if broken == Side::Client && self.held_back {
            self.held_back = false;
            self.to_upstream.source_has_ended();
        }
    }

    fn note_end(&mut self, side: Side) {
        if self.towards(side.other()).is_at_end() {
            self.ended.get_or_insert(side);
        }
    }

    fn towards(&mut self, side: Side) -> &mut Direction<P> {
        match side {
            Side::Client => &mut self.to_client,
            Side::Upstream => &mut self.to_upstream,
        }
    }

    fn next(&self, up: &Run, down: &Run) -> Next {
        if [up, down].iter().any(|run| run.fault == Some(Fault::OutOfMemory)) {
            return Next::Over(Outcome::OutOfMemory);
        }

        if self.to_upstream.is_done() && self.to_client.is_done() {
            return Next::Over(self.outcome());
        }

        let (client, upstream) = (up.more, down.more);

        if client || upstream {
            Next::Yield { client, upstream }
        } else {
            Next::Wait
        }
    }

    fn outcome(&self) -> Outcome {
        match self.broken {
            _ if self.exceeded => Outcome::Exceeded,
            Some(side) => Outcome::Reset(side),
            None => Outcome::Finished(self.ended.unwrap_or(Side::Client)),
        }
    }
}

impl Side {
    /// The other end of the tunnel.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

#[cfg(test)]
mod tests;
