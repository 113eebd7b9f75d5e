//! Owns a timer of a worker, which runs out again and again, and does not keep the worker from its end.

use nginx_sys::{ngx_event_t, ngx_msec_t, ngx_uint_t};

use super::{known, TimerEvent};
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;

/// What is to be done when it runs out.
pub trait Tick {
    /// Does it.
    fn tick();
}

extern "C" {
    fn proxy_connect_set_cancelable(event: *mut ngx_event_t) -> ngx_uint_t;
}

/// Has `T` called every `msec` milliseconds until the process ends. `None` when there is no memory.
pub fn start<T: Tick>(msec: ngx_msec_t) -> Option<()> {
    // SAFETY: the log of a worker's cycle is there until the process ends.
    let timer = unsafe { TimerEvent::new(msec, Log::of_cycle().as_ptr(), on_expired::<T>) }?;

    // SAFETY: an event that lives, of which nginx does not know yet.
    unsafe { proxy_connect_set_cancelable(timer.event().as_ptr()) };

    timer.event().set_timer(msec);
    timer.leak();
    Some(())
}

unsafe extern "C" fn on_expired<T: Tick>(event: *mut ngx_event_t) {
    guard(Log::of_cycle(), T::tick, || ());

    // SAFETY: nginx calls the handler of the event that start() made. An old nginx would not end while it runs.
    unsafe {
        if nginx_sys::ngx_exiting == 0 || proxy_connect_set_cancelable(event) != 0 {
            nginx_sys::ngx_add_timer(event, known(event));
        }
    }
}
