//! Owns what can happen to a tunnel, as values: who, and what. Each callback that nginx has of a tunnel makes
//! one of them, and there is one function that gets them all.

use proxy_connect_core::relay::Side;

use super::request::Request;

/// What happened to a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An end became readable. Like the next one it may come for no reason.
    Readable(Side),
    /// An end became writable.
    Writable(Side),
    /// A worker shutdown wants an end closed.
    Closing(Side),
    /// The resolver has its answer: [`Lookup::take`](super::resolver::Lookup::take) gives it.
    Resolved,
    /// A timer ran out.
    Expired(Alarm),
}

/// What a timer of a tunnel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The client had its time to finish its handshake.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    Handshake,
    /// The client had its time to say what it speaks.
    Preread,
    /// There is something to do for the dial.
    Dial,
    /// The parent had its time to answer, or it is time to try another one.
    Parent,
    /// The data timeout may have passed.
    Data,
    /// The tunnel may have stood for as long as it may.
    Lifetime,
    /// An end that has to be read slowly may be read again.
    Rate,
    /// It is time to ask whether a reset can be passed on. The data timeout does not run meanwhile.
    Parting,
}

/// Who gets the events of tunnels.
pub trait EventHandler {
    /// Takes `event` of the tunnel of `request`, which may be gone afterwards.
    fn handle(request: Request, event: Event);
}
