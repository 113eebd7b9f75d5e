//! Owns the ends of tunnels that are streams, one of many on a connection: a file for each version of HTTP.

pub mod http2;

use proxy_connect_core::relay::{Drain, Fill, Received, Sent};

/// What there is no pipe for: a stream's bytes lie between frames.
pub enum NoPipe {}

impl<P> Fill<P> for NoPipe {
    fn fill(&mut self, _pipe: &mut P, _max: usize) -> Received {
        match *self {}
    }
}

impl<P> Drain<P> for NoPipe {
    fn drain(&mut self, _pipe: &mut P, _len: usize) -> Sent {
        match *self {}
    }
}
