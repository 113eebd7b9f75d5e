//! Owns a timer of a worker, which runs out again and again, and does not keep the worker from its end.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{ngx_event_t, ngx_msec_t, ngx_uint_t};

use super::boundary::guard;
use super::boxed;
use super::log::Log;

/// What is to be done when it runs out.
pub trait Tick {
    /// Does it.
    fn tick();
}

/// nginx's debug log takes the data of an event for a connection, whose descriptor stands behind three
/// pointers.
#[repr(C)]
struct Inner {
    msec: ngx_msec_t,
    unused: [usize; 2],
    descriptor: c_int,
    event: ngx_event_t,
}

extern "C" {
    fn proxy_connect_set_cancelable(event: *mut ngx_event_t) -> ngx_uint_t;
}

/// Has `T` called every `msec` milliseconds until the process ends. `None` when there is no memory.
pub fn start<T: Tick>(msec: ngx_msec_t) -> Option<()> {
    // SAFETY: all-zero bytes are an ngx_event_t, as nginx itself makes them.
    let event = unsafe { MaybeUninit::<ngx_event_t>::zeroed().assume_init() };
    let inner = boxed(Inner { msec, unused: [0; 2], descriptor: -1, event })?;
    let inner = NonNull::from(Box::leak(inner));

    // SAFETY: memory that only nginx's timers know from here on, and that is never given back.
    unsafe {
        let event = &raw mut (*inner.as_ptr()).event;
        (*event).data = inner.as_ptr().cast();
        (*event).log = Log::of_cycle().as_ptr();
        (*event).handler = Some(on_expired::<T>);
        proxy_connect_set_cancelable(event);
        nginx_sys::ngx_add_timer(event, msec);
    }

    Some(())
}

unsafe extern "C" fn on_expired<T: Tick>(event: *mut ngx_event_t) {
    guard(Log::of_cycle(), T::tick, || ());

    // SAFETY: nginx calls the handler of the event that start() made. An old nginx would not end while it runs.
    unsafe {
        if nginx_sys::ngx_exiting == 0 || proxy_connect_set_cancelable(event) != 0 {
            nginx_sys::ngx_add_timer(event, (*(*event).data.cast::<Inner>()).msec);
        }
    }
}
