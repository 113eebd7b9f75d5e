//! Owns events of nginx that are timers and nothing else, in memory of their own.
//!
//! | file | owns |
//! |---|---|
//! | [`request`] | the timers of a request, for what waits and has no connection to wait with |
//! | [`connection`] | a timer of a connection, for what waits beside that which nginx itself waits for there |
//! | [`worker`] | a timer of a worker, which runs out again and again |

#[cfg(http2)]
pub mod connection;
pub mod request;
pub mod worker;

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use libc::c_int;
use nginx_sys::{ngx_event_t, ngx_log_t};

use super::boxed;
use super::ngx_event::NgxEvent;

type Handler = unsafe extern "C" fn(*mut ngx_event_t);

/// A timer, and what its handler is to know. Dropped, it is stopped. Its address is known to nginx.
struct TimerEvent<T>(NonNull<Inner<T>>);

/// nginx's debug log takes the data of an event for a connection, whose descriptor stands behind three
/// pointers.
#[repr(C)]
struct Inner<T> {
    unused: [usize; 3],
    descriptor: c_int,
    event: ngx_event_t,
    known: T,
}

impl<T> TimerEvent<T> {
    /// A timer that does not run yet. `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `log` must be one of nginx's, and outlive the timer; `handler` may take the event for nothing but one whose
    /// [`known`] is a `T`.
    unsafe fn new(known: T, log: *mut ngx_log_t, handler: Handler) -> Option<Self> {
        // SAFETY: all-zero bytes are an ngx_event_t, as nginx itself makes them.
        let event = unsafe { MaybeUninit::<ngx_event_t>::zeroed().assume_init() };
        let inner = boxed(Inner { unused: [0; 3], descriptor: -1, event, known })?;
        let inner = NonNull::from(Box::leak(inner));

        // SAFETY: memory that only this value knows.
        unsafe {
            let event = &raw mut (*inner.as_ptr()).event;
            (*event).data = inner.as_ptr().cast();
            (*event).log = log;
            (*event).handler = Some(handler);
        }

        Some(Self(inner))
    }

    /// What its handler is to know.
    fn known(&self) -> &T {
        // SAFETY: what new() made lives as long as the timer, and is not written.
        unsafe { &(*self.0.as_ptr()).known }
    }

    fn event(&self) -> NgxEvent {
        // SAFETY: an event that lives as long as the timer, and is never null.
        unsafe { NgxEvent::from_ptr(&raw mut (*self.0.as_ptr()).event).unwrap_unchecked() }
    }

    /// Has it go on for as long as the process.
    fn leak(self) {
        std::mem::forget(self);
    }
}

impl<T> Drop for TimerEvent<T> {
    fn drop(&mut self) {
        self.event().stop_timer();

        // SAFETY: new() leaked it from a box, and nginx refers to it no longer.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What the handler of a timer is to know.
///
/// # Safety
///
/// `event` must be that of a [`TimerEvent`] of a `T` that was not dropped.
unsafe fn known<T: Copy>(event: *mut ngx_event_t) -> T {
    // SAFETY: the caller's promise.
    unsafe { (*(*event).data.cast::<Inner<T>>()).known }
}
