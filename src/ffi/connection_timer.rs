//! Owns a timer of a connection, for what waits beside that which nginx itself waits for there.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_msec_t};

use super::boundary::guard;
use super::boxed;
use super::log::Log;
use super::ngx_event::NgxEvent;

/// What is to be done when it runs out.
pub trait Late {
    /// Does it. The timer may be dropped meanwhile.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn late(c: *mut ngx_connection_t);
}

/// A timer that runs out once. Dropped, it is stopped. Its address is known to nginx.
pub struct ConnectionTimer(NonNull<ngx_event_t>);

impl ConnectionTimer {
    /// Has `T` called in `msec` milliseconds. `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `c` must be open, and outlive the timer.
    pub unsafe fn start<T: Late>(c: *mut ngx_connection_t, msec: ngx_msec_t) -> Option<Self> {
        // SAFETY: all-zero bytes are an ngx_event_t, as nginx itself makes them.
        let mut event = boxed(unsafe { MaybeUninit::<ngx_event_t>::zeroed().assume_init() })?;

        event.data = c.cast();
        // SAFETY: the caller's promise.
        event.log = unsafe { (*c).log };
        event.handler = Some(on_expired::<T>);

        let timer = Self(NonNull::from(Box::leak(event)));
        timer.event().set_timer(msec);
        Some(timer)
    }

    fn event(&self) -> NgxEvent {
        // SAFETY: an event that lives as long as the timer, and is never null.
        unsafe { NgxEvent::from_ptr(self.0.as_ptr()).unwrap_unchecked() }
    }
}

impl Drop for ConnectionTimer {
    fn drop(&mut self) {
        self.event().stop_timer();

        // SAFETY: start() leaked it from a box, and nginx refers to it no longer.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

unsafe extern "C" fn on_expired<T: Late>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls the handler of a timer that was not dropped, whose connection is open.
    guard(Log::of_cycle(), || unsafe { T::late((*event).data.cast()) }, || ());
}
