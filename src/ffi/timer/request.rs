//! Owns the timers of a request, for what waits and has no connection to wait with.

use nginx_sys::{ngx_event_t, ngx_msec_t};

use super::{known, TimerEvent};
use crate::ffi::event::{Alarm, Event, EventHandler};
use crate::ffi::request::Request;

/// A timer of a request. Dropped, it is stopped.
pub struct Timer(TimerEvent<Known>);

#[derive(Clone, Copy)]
struct Known {
    request: Request,
    handle: fn(Request, Event),
    alarm: Alarm,
}

impl Timer {
    /// A timer for `alarm`, of which `H` hears whenever it runs out. `None` when there is no memory.
    pub fn new<H: EventHandler>(request: Request, alarm: Alarm) -> Option<Self> {
        let known = Known { request, handle: H::handle, alarm };
        let log = request.connection().log().as_ptr();

        // SAFETY: the log is that of the client's connection, which outlives the request, and so the timer.
        unsafe { TimerEvent::new(known, log, on_expired) }.map(Self)
    }

    /// Whose it is.
    pub fn request(&self) -> Request {
        self.0.known().request
    }

    /// Has the timer run out `msec` milliseconds from now, whenever it would have. With 0 that is after
    /// all events that the event loop has taken already.
    pub fn set(&self, msec: ngx_msec_t) {
        // nginx does not move a timer by less than 300 ms.
        self.stop();
        self.0.event().set_timer(msec);
    }

    /// Has it not run out.
    pub fn stop(&self) {
        self.0.event().stop_timer();
    }
}

unsafe extern "C" fn on_expired(event: *mut ngx_event_t) {
    // SAFETY: nginx calls the handler of a timer that was not dropped, whose request lives.
    let Known { request, handle, alarm } = unsafe { known(event) };

    request.run(handle, Event::Expired(alarm));
}
