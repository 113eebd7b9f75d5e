//! Owns the standing tunnel on nginx's event loop: turns of the relay between the two
//! connections, the data timeout, and the buffer that all tunnels of a worker share.

use std::cell::RefCell;

use nginx_sys::{ngx_msec_t, NGX_LOG_INFO};
use proxy_connect_core::relay::{End, Next, Outcome, Received, Relay, Sent, Shut};

use crate::ffi;
use crate::ffi::connection::{Connection, EventError};
use crate::ffi::log::Log;
use crate::ffi::peer::Peer;

/// The size of the buffer that bytes are copied through.
const BUFFER: usize = 32 * 1024;

/// How many bytes a direction may move in one turn, so that a fast tunnel does not starve the
/// others of its worker.
const BUDGET: usize = 8 * BUFFER;

thread_local! {
    /// The worker's buffer. It holds nothing between turns.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A tunnel that stands.
pub struct Standing {
    relay: Relay,
    client: Connection,
    peer: Peer,
    /// The data timeout, in milliseconds.
    timeout: ngx_msec_t,
    /// When a byte was last moved, either way.
    moved: ngx_msec_t,
    /// Whether the upstream sent anything yet.
    heard: bool,
}

/// How a tunnel that is over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The relay is over.
    Relay(Outcome),
    /// No byte was moved within the data timeout.
    Timeout,
    /// A worker shutdown closes the connections.
    Shutdown,
    /// nginx can't watch the connections.
    Error,
}

impl Standing {
    /// A tunnel between `client` and `peer` that begins with bytes in both directions: `early`
    /// for the upstream and `response` for the client.
    pub fn new(
        client: Connection,
        peer: Peer,
        early: Vec<u8>,
        response: Vec<u8>,
        timeout: ngx_msec_t,
    ) -> Self {
        client.allow_partial_writes();
        peer.connection().read().set_timer(timeout);

        Self {
            relay: Relay::new(early, response),
            client,
            peer,
            timeout,
            moved: ffi::now(),
            heard: false,
        }
    }

    /// Sets TCP_NODELAY on both sides: a tunnel can't know whose turn it is to speak.
    ///
    /// # Errors
    ///
    /// A connection is broken; nginx logged why.
    pub fn set_nodelay(&self) -> Result<(), EventError> {
        self.client.set_nodelay()?;
        self.peer.connection().set_nodelay()
    }

    /// The upstream's connection.
    pub fn peer(&self) -> Connection {
        self.peer.connection()
    }

    /// Whether the upstream has sent a byte.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Goes on after any event of either connection. Answers how the tunnel ended, if it did.
    pub fn turn(&mut self) -> Option<Ending> {
        if self.peer().is_closing() {
            return Some(Ending::Shutdown);
        }

        if self.peer().read().take_timedout() && self.is_idle() {
            return Some(Ending::Timeout);
        }

        match self.run() {
            Next::Over(outcome) => Some(Ending::Relay(outcome)),
            next => self.wait(next).err().map(|EventError| Ending::Error),
        }
    }

    fn run(&mut self) -> Next {
        let mut upstream = Upstream { connection: self.peer(), heard: false };

        let turn = SCRATCH.with_borrow_mut(|scratch| {
            self.relay.turn(&mut self.client, &mut upstream, scratch, BUDGET)
        });

        self.heard |= upstream.heard;

        if turn.to_client + turn.to_upstream > 0 {
            self.moved = ffi::now();
        }

        turn.next
    }

    fn wait(&self, next: Next) -> Result<(), EventError> {
        if let Next::Yield { client, upstream } = next {
            if client {
                self.client.read().post_next();
            }

            if upstream {
                self.peer().read().post_next();
            }
        }

        self.client.watch()?;
        self.peer().watch()
    }

    /// Whether the data timeout has really passed. The timer is not moved with every byte; it is
    /// set anew here when it ran out too early.
    fn is_idle(&self) -> bool {
        let idle = ffi::now().wrapping_sub(self.moved);

        if idle >= self.timeout {
            return true;
        }

        self.peer().read().set_timer(self.timeout - idle);
        false
    }

    /// Passes a reset of one side on to the other.
    pub fn pass_on(&self, ending: Ending) {
        use proxy_connect_core::relay::Side;

        match ending {
            Ending::Relay(Outcome::Reset(Side::Client)) => self.peer().reset_on_close(),
            Ending::Relay(Outcome::Reset(Side::Upstream)) => self.client.reset_on_close(),
            _ => (),
        }
    }
}

impl Ending {
    /// Tells the log of an ending that is not the ends' own.
    pub fn log(self, log: Log, standing: &Standing) {
        match self {
            Self::Timeout => log.write(
                NGX_LOG_INFO,
                0,
                format_args!("no data for {} ms, the tunnel is closed", standing.timeout),
            ),
            Self::Relay(Outcome::OutOfMemory) => log.write(
                nginx_sys::NGX_LOG_ERR,
                0,
                format_args!("no memory for {} bytes in flight", standing.relay.held()),
            ),
            _ => (),
        }
    }

    /// Whether both sides came to their end of file.
    pub fn is_complete(self) -> bool {
        self == Self::Relay(Outcome::Finished)
    }
}

/// The upstream's end, which notes whether it says anything.
struct Upstream {
    connection: Connection,
    heard: bool,
}

impl End for Upstream {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let received = self.connection.receive(buffer);
        self.heard |= matches!(received, Received::Bytes(_));
        received
    }

    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.connection.send(bytes)
    }

    fn shutdown(&mut self) -> Shut {
        self.connection.shutdown()
    }
}
