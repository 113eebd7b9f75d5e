//! Owns a timer of a connection, for what waits beside that which nginx itself waits for there.

use nginx_sys::{ngx_connection_t, ngx_event_t, ngx_msec_t};

use super::{known, TimerEvent};
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;

/// What is to be done when it runs out.
pub trait Late {
    /// Does it. The timer may be dropped meanwhile.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn late(c: *mut ngx_connection_t);
}

/// A timer that runs out once. Dropped, it is stopped.
pub struct ConnectionTimer {
    _event: TimerEvent<*mut ngx_connection_t>,
}

impl ConnectionTimer {
    /// Has `T` called in `msec` milliseconds. `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `c` must be open, and outlive the timer.
    pub unsafe fn start<T: Late>(c: *mut ngx_connection_t, msec: ngx_msec_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        let event = unsafe { TimerEvent::new(c, (*c).log, on_expired::<T>) }?;

        event.event().set_timer(msec);
        Some(Self { _event: event })
    }
}

unsafe extern "C" fn on_expired<T: Late>(event: *mut ngx_event_t) {
    // SAFETY: nginx calls the handler of a timer that was not dropped, whose connection is open.
    guard(Log::of_cycle(), || unsafe { T::late(known(event)) }, || ());
}
