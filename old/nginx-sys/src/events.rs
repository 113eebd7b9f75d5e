//! Owns timers and posted events: inline functions and macros in nginx's headers. The queue of the
//! event loop's next iteration came with 1.17.5; what stands in for it is emptied by a timer, which
//! fires in the next iteration that begins in another millisecond.

use std::cell::UnsafeCell;
use std::ptr;

use crate::bindings::*;

/// Starts the timer of an event, or moves it. As in nginx one that would move by less than 300 ms
/// stays.
///
/// # Safety
///
/// `event` must be a live event.
pub unsafe fn ngx_add_timer(event: *mut ngx_event_t, msec: ngx_msec_t) {
    // SAFETY: a live event; the tree is the event loop's own, and so is this thread.
    unsafe {
        let key = ngx_current_msec.wrapping_add(msec);

        if (*event).timer_set() != 0 {
            if key.abs_diff((*event).timer.key) < NGX_TIMER_LAZY_DELAY as ngx_msec_t {
                return;
            }
            ngx_del_timer(event);
        }

        (*event).timer.key = key;
        ngx_rbtree_insert(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        (*event).set_timer_set(1);
    }
}

/// Stops the timer of an event.
///
/// # Safety
///
/// `event` must be a live event whose timer is set.
pub unsafe fn ngx_del_timer(event: *mut ngx_event_t) {
    // SAFETY: a live event, whose timer is in the tree.
    unsafe {
        ngx_rbtree_delete(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        (*event).set_timer_set(0);
    }
}

/// What stands for the head of a queue of posted events.
#[cfg(lacks = "queue")]
pub type Posted = *mut ngx_event_t;
#[cfg(not(lacks = "queue"))]
/// What stands for the head of a queue of posted events.
pub type Posted = ngx_queue_t;

/// The events of the next iteration.
#[allow(non_upper_case_globals)]
pub static mut ngx_posted_next_events: Posted =
    // SAFETY: pointers, which are null until the first event is posted.
    unsafe { std::mem::zeroed() };

/// The timer that empties the queue. The connection is what nginx's debug log looks at.
struct Runner {
    event: ngx_event_t,
    connection: ngx_connection_t,
}

struct Static(UnsafeCell<Option<Box<Runner>>>);

// SAFETY: a worker has one thread that runs events.
unsafe impl Sync for Static {}

static RUNNER: Static = Static(UnsafeCell::new(None));

/// Posts an event to the queue.
///
/// # Safety
///
/// `event` must be a live event, and `queue` a queue of posted events.
pub unsafe fn ngx_post_event(event: *mut ngx_event_t, queue: *mut Posted) {
    // SAFETY: the caller's promise; a posted event is taken out when its connection is closed.
    unsafe {
        enqueue(event, queue);

        // nginx itself empties its own queues.
        if queue != &raw mut ngx_posted_next_events {
            return;
        }

        let runner = (*RUNNER.0.get()).get_or_insert_with(runner);
        runner.event.data = (&raw mut runner.connection).cast();

        if runner.event.timer_set() == 0 {
            runner.event.log = (*ngx_cycle).log;
            ngx_add_timer(&raw mut runner.event, 0);
        }
    }
}

fn runner() -> Box<Runner> {
    // SAFETY: zeroes are an event and a connection, as nginx makes them.
    let mut runner: Box<Runner> = Box::new(unsafe { std::mem::zeroed() });
    runner.event.handler = Some(run_posted);
    runner.connection.fd = -1;
    runner
}

unsafe extern "C" fn run_posted(_: *mut ngx_event_t) {
    // SAFETY: an event in the queue lives, see ngx_post_event(). What a handler posts goes to the
    // queue again, and so to the next iteration: only what was there is run.
    unsafe {
        let queue = &raw mut ngx_posted_next_events;
        let mut left = posted(queue);

        while left > 0 {
            let Some(event) = dequeue(queue) else { break };
            left -= 1;

            if let Some(handler) = (*event).handler {
                handler(event);
            }
        }
    }
}

#[cfg(not(lacks = "queue"))]
unsafe fn enqueue(event: *mut ngx_event_t, queue: *mut Posted) {
    // SAFETY: the queue is a ring that is empty when it is null.
    unsafe {
        if (*queue).next.is_null() {
            (*queue).next = queue;
            (*queue).prev = queue;
        }

        if (*event).posted() == 0 {
            (*event).set_posted(1);
            let (link, last) = (&raw mut (*event).queue, (*queue).prev);
            (*link).prev = last;
            (*link).next = queue;
            (*last).next = link;
            (*queue).prev = link;
        }
    }
}

#[cfg(not(lacks = "queue"))]
unsafe fn posted(queue: *mut Posted) -> usize {
    let mut count = 0;
    // SAFETY: a ring.
    unsafe {
        let mut link = (*queue).next;
        while link != queue {
            link = (*link).next;
            count += 1;
        }
    }
    count
}

#[cfg(not(lacks = "queue"))]
unsafe fn dequeue(queue: *mut Posted) -> Option<*mut ngx_event_t> {
    // SAFETY: a ring of links that stand in events.
    unsafe {
        let link = (*queue).next;
        if link == queue {
            return None;
        }

        (*(*link).next).prev = (*link).prev;
        (*(*link).prev).next = (*link).next;
        (*link).next = ptr::null_mut();
        (*link).prev = ptr::null_mut();

        let event = link.byte_sub(std::mem::offset_of!(ngx_event_t, queue)).cast::<ngx_event_t>();
        (*event).set_posted(0);
        Some(event)
    }
}

/// Before 1.7.11 the queue is a list; the last event stands first.
#[cfg(lacks = "queue")]
unsafe fn enqueue(event: *mut ngx_event_t, queue: *mut Posted) {
    // SAFETY: a list of live events; `prev` points to what points to the event.
    unsafe {
        if (*event).prev.is_null() {
            (*event).next = *queue;
            (*event).prev = queue;
            *queue = event;

            if let Some(next) = (*event).next.as_mut() {
                next.prev = &raw mut (*event).next;
            }
        }
    }
}

#[cfg(lacks = "queue")]
unsafe fn posted(queue: *mut Posted) -> usize {
    let mut count = 0;
    // SAFETY: a list of live events.
    unsafe {
        let mut event = *queue;
        while let Some(next) = event.as_ref() {
            event = next.next;
            count += 1;
        }
    }
    count
}

#[cfg(lacks = "queue")]
unsafe fn dequeue(queue: *mut Posted) -> Option<*mut ngx_event_t> {
    // SAFETY: a list of live events. The oldest is the last: its turn comes first.
    unsafe {
        let mut event = (*queue).as_mut()?;
        while let Some(next) = event.next.as_mut() {
            event = next;
        }

        *event.prev = ptr::null_mut();
        event.prev = ptr::null_mut();
        Some(event)
    }
}
