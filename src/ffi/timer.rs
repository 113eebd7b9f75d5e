//! Owns a timer of its own, for what waits and has no connection to wait with.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use libc::c_int;
use nginx_sys::{ngx_event_t, ngx_msec_t};

use super::boxed;
use super::event::{Alarm, Event, EventHandler};
use super::ngx_event::NgxEvent;
use super::request::Request;

/// A timer of a request. Dropped, it is stopped. Its address is known to nginx.
pub struct Timer(NonNull<Inner>);

/// nginx's debug log takes the data of an event for a connection, whose descriptor stands behind three
/// pointers.
#[repr(C)]
struct Inner {
    request: Request,
    handle: fn(Request, Event),
    unused: usize,
    descriptor: c_int,
    alarm: Alarm,
    event: ngx_event_t,
}

impl Timer {
    /// A timer for `alarm`, of which `H` hears whenever it runs out. `None` when there is no memory.
    pub fn new<H: EventHandler>(request: Request, alarm: Alarm) -> Option<Self> {
        // SAFETY: all-zero bytes are an ngx_event_t, as nginx itself makes them.
        let event = unsafe { MaybeUninit::<ngx_event_t>::zeroed().assume_init() };
        let handle = H::handle;
        let inner = boxed(Inner { request, handle, unused: 0, descriptor: -1, alarm, event })?;
        let inner = NonNull::from(Box::leak(inner));

        // SAFETY: memory that only this value knows. The log is that of the client's connection, which
        // outlives the request, and so the timer.
        unsafe {
            let event = &raw mut (*inner.as_ptr()).event;
            (*event).data = inner.as_ptr().cast();
            (*event).log = request.connection().log().as_ptr();
            (*event).handler = Some(on_expired);
        }

        Some(Self(inner))
    }

    /// Whose it is.
    pub fn request(&self) -> Request {
        // SAFETY: what new() made lives as long as the timer.
        unsafe { (*self.0.as_ptr()).request }
    }

    fn event(&self) -> NgxEvent {
        // SAFETY: an event that lives as long as the timer, and is never null.
        unsafe { NgxEvent::from_ptr(&raw mut (*self.0.as_ptr()).event).unwrap_unchecked() }
    }

    /// Has the timer run out `msec` milliseconds from now, whenever it would have. With 0 that is after
    /// all events that the event loop has taken already.
    pub fn set(&self, msec: ngx_msec_t) {
        // nginx does not move a timer by less than 300 ms.
        self.event().stop_timer();
        self.event().set_timer(msec);
    }

    /// Has it not run out.
    pub fn stop(&self) {
        self.event().stop_timer();
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();

        // SAFETY: new() leaked it from a box, and nginx refers to it no longer.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

unsafe extern "C" fn on_expired(event: *mut ngx_event_t) {
    // SAFETY: nginx calls the handler of a timer that was not dropped, whose request lives.
    let (request, handle, alarm) = unsafe {
        let inner = (*event).data.cast::<Inner>();
        ((*inner).request, (*inner).handle, (*inner).alarm)
    };

    request.run(handle, Event::Expired(alarm));
}
