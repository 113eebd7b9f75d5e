//! Owns what a standing tunnel asks of its ends, beside their bytes, on nginx's event loop.

/// An end of a tunnel: the client's ([`Client`](super::client::Client)), or the upstream's, which is a
/// [`Socket`](super::socket::Socket). Its bytes come and go by the traits of the relay, `Source` and `Sink`.
pub trait End {
    /// Has the event method watch what the last turn waits for. Level-triggered methods need to
    /// be told again each time. The end is called writable with room for `room` bytes, as far as
    /// [`send_lowat`](super::socket::send_lowat) allows; 0 leaves that to the system.
    ///
    /// # Errors
    ///
    /// The event method refused.
    fn watch(&self, room: usize) -> Result<(), EventError>;

    /// Has the end called readable in the next iteration of the event loop, after others had their
    /// turn.
    fn post(&self);

    /// Has a level-triggered event method say no more of the end: what it would say again and again
    /// is of no use.
    ///
    /// # Errors
    ///
    /// The event method refused.
    fn disregard(&self) -> Result<(), EventError>;

    /// Has small messages go out at once.
    ///
    /// # Errors
    ///
    /// The end is broken; nginx logged why.
    fn set_nodelay(&self) -> Result<(), EventError>;

    /// Whether [`End::abort`] would undo nothing: all that was sent is with the peer, or it is gone.
    fn is_settled(&self) -> bool;

    /// Has the close that follows tell the peer of a reset. What was not sent is dropped.
    fn abort(&self);
}

/// nginx refused to do something for an end.
pub struct EventError;
