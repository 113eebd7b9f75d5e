//! Owns nginx's events: readiness, timers, posting.

use std::ptr::NonNull;

use nginx_sys::{ngx_event_t, ngx_msec_t};

/// The read or the write event of a connection.
#[derive(Clone, Copy, Debug)]
pub struct NgxEvent(NonNull<ngx_event_t>);

impl NgxEvent {
    /// # Safety
    ///
    /// `event` must be an event of a connection that is open while the handle is used.
    pub(super) unsafe fn from_ptr(event: *mut ngx_event_t) -> Option<Self> {
        NonNull::new(event).map(Self)
    }

    pub(super) fn as_ptr(self) -> *mut ngx_event_t {
        self.0.as_ptr()
    }

    fn get(&self) -> &ngx_event_t {
        // SAFETY: a live event, see from_ptr(); no callback runs while the reference lives.
        unsafe { self.0.as_ref() }
    }

    fn get_mut(&mut self) -> &mut ngx_event_t {
        // SAFETY: as in get(); one thread, and no other reference is held.
        unsafe { self.0.as_mut() }
    }

    /// Whether the next operation is expected not to block.
    pub fn is_ready(self) -> bool {
        self.get().ready() != 0
    }

    /// Notes that the next operation won't block.
    pub fn set_ready(mut self) {
        self.get_mut().set_ready(1);
    }

    /// Notes that the next operation blocks until an event comes.
    pub fn set_not_ready(mut self) {
        self.get_mut().set_ready(0);
    }

    /// Notes that what nginx knows of the bytes that stand in the socket no longer holds: some were
    /// read behind its back.
    pub fn forget_available(self) {
        extern "C" {
            fn proxy_connect_set_available_unknown(event: *mut ngx_event_t);
        }

        // SAFETY: the C side writes a field of a live event.
        unsafe { proxy_connect_set_available_unknown(self.as_ptr()) };
    }

    /// Whether the peer's end of file was read.
    pub fn is_eof(self) -> bool {
        self.get().eof() != 0
    }

    /// Takes the news that the timer ran out.
    pub fn take_timedout(mut self) -> bool {
        let timedout = self.get().timedout() != 0;
        self.get_mut().set_timedout(0);
        timedout
    }

    /// Starts the timer, or moves it, to `msec` from now.
    pub fn set_timer(self, msec: ngx_msec_t) {
        // SAFETY: a live event, see from_ptr().
        unsafe { nginx_sys::ngx_add_timer(self.as_ptr(), msec) };
    }

    /// Stops the timer if it runs.
    pub fn stop_timer(self) {
        if self.get().timer_set() != 0 {
            // SAFETY: a live event whose timer is in the tree.
            unsafe { nginx_sys::ngx_del_timer(self.as_ptr()) };
        }
    }

    /// Runs the event's handler in this iteration of the event loop, after what has come in.
    #[cfg_attr(not(http2), allow(dead_code))]
    pub fn post(self) {
        // SAFETY: a live event; the queue lives as long as the process.
        unsafe {
            nginx_sys::ngx_post_event(
                self.as_ptr(),
                std::ptr::addr_of_mut!(nginx_sys::ngx_posted_events),
            );
        }
    }

    /// Runs the event's handler in the next iteration of the event loop, after other
    /// connections had their turn.
    pub fn post_next(self) {
        // SAFETY: a live event; the queue lives as long as the process.
        unsafe {
            nginx_sys::ngx_post_event(
                self.as_ptr(),
                std::ptr::addr_of_mut!(nginx_sys::ngx_posted_next_events),
            );
        }
    }
}
