//! Owns the tunnels of a connection of HTTP/2: what of it belongs to which, whose turn it is to send, and the frames
//! that are written past nginx for all of them together.
//!
//! Small frames gather, and are written at the end of an iteration of the event loop, those of all tunnels at once.
//! Large ones are written at once, from where they lie. What the socket does not take of either is one frame of
//! nginx's queue; until it is sent nothing more is read for the tunnels, but for small messages.

use std::cell::RefCell;
use std::ffi::c_void;
use std::io::IoSlice;
use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_event_handler_pt, ngx_event_t, ngx_uint_t, NGX_LOG_INFO};
use proxy_connect_core::http2::data::RECORD;
use proxy_connect_core::http2::frame::{code as reason, rst_stream, window_update};
use proxy_connect_core::http2::growth::Growth;
use proxy_connect_core::http2::turns::Turns;
use proxy_connect_core::http2::window::Window;

use super::{proxy_connect_h2_closed, State};
use crate::ffi::boundary::guard;
use crate::ffi::connection::Connection;
use crate::ffi::list_of;
use crate::ffi::log::Log;
use crate::ffi::request::Request;

/// How much of the connection's window is used before the client is told that it is open again. nginx opens
/// it by 2 GiB.
const CREDIT: u32 = 1 << 29;

/// How much memory for gathering is kept, in bytes.
const KEPT: usize = 4096;

type Refill = unsafe extern "C" fn(*mut c_void, *mut *mut u8) -> usize;

/// What C writes frames with that are no stream's.
#[repr(C)]
struct Writer(c_void);

extern "C" {
    fn proxy_connect_h2_count(c: *mut ngx_connection_t, all: usize, payload: usize);
    fn proxy_connect_h2_writer(
        c: *mut ngx_connection_t,
        handler: ngx_event_handler_pt,
        refill: Refill,
    ) -> *mut Writer;
    fn proxy_connect_h2_is_busy(writer: *mut Writer) -> ngx_uint_t;
    fn proxy_connect_h2_is_open(writer: *mut Writer) -> ngx_uint_t;
    fn proxy_connect_h2_clear(writer: *mut Writer) -> ngx_uint_t;
    fn proxy_connect_h2_is_idle(writer: *mut Writer) -> ngx_uint_t;
    fn proxy_connect_h2_post(writer: *mut Writer, data: *mut c_void);
    fn proxy_connect_h2_forget(writer: *mut Writer);
    fn proxy_connect_h2_untime(writer: *mut Writer);
    fn proxy_connect_h2_fail(writer: *mut Writer, data: *mut c_void);
    fn proxy_connect_h2_write(writer: *mut Writer, bytes: *const u8, len: usize) -> usize;
    fn proxy_connect_h2_queue(writer: *mut Writer, data: *mut c_void, bytes: *mut u8, len: usize);
}

/// The tunnels of a connection.
///
/// A tunnel takes turns while its connection is read, so what is kept lies in a cell that is never borrowed
/// while one does.
pub struct Streams {
    connection: *mut ngx_connection_t,
    writer: NonNull<Writer>,
    kept: RefCell<Kept>,
}

/// What is kept of them.
#[derive(Default)]
struct Kept {
    /// Those that are open, and where their states lie, in the order of their numbers.
    open: Vec<(u32, NonNull<State>)>,
    /// Those that were closed, until somebody asks.
    closed: Vec<u32>,
    turns: Turns,
    /// How far their windows have grown.
    growth: Growth,
    /// Frames that gather.
    next: Vec<u8>,
    /// Frames that are in nginx's queue.
    queued: Vec<u8>,
    /// What came over the connection that its window has not got back.
    credit: u32,
    /// The client has left.
    is_lost: bool,
}

impl Streams {
    /// Those of a connection. `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `connection` must be open, of HTTP/2, and outlive the value, which must lie in its pool.
    pub unsafe fn new(connection: *mut ngx_connection_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        let writer = unsafe { proxy_connect_h2_writer(connection, Some(on_writer), refill) };

        Some(Self {
            connection,
            writer: NonNull::new(writer)?,
            kept: RefCell::new(Kept::default()),
        })
    }

    /// Opens a tunnel over the stream of `request`, the newest of all, whose window may grow to `max` bytes.
    /// `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `request` must have come over this connection; `self` must not move.
    pub unsafe fn open(&self, request: Request, max: u32, has_ended: bool) -> Option<()> {
        self.kept.borrow_mut().open.try_reserve(1).ok()?;

        let state = State::new(request, NonNull::from(self), max, has_ended)?;
        let id = state.id;
        let mut state = request.pool().put_or_box(state)?;
        self.kept.borrow_mut().open.push((id, state));

        // SAFETY: it was just put there, and nobody else refers to it.
        if let Some(update) = unsafe { state.as_mut() }.window.begin() {
            self.push(&window_update(id, update));
        }

        Some(())
    }

    /// The state of a stream, which is good until its tunnel takes a turn.
    fn state(&self, id: u32) -> Option<NonNull<State>> {
        let kept = self.kept.borrow();
        let place = kept.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        kept.open.get(place).map(|(_, state)| *state)
    }

    /// Does something with the state of a stream that is open, during which no tunnel takes a turn.
    fn with<T>(&self, id: u32, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        // SAFETY: a state takes itself out before it is dropped; one thread, and nobody else refers to it.
        self.state(id).map(|mut state| act(unsafe { state.as_mut() }))
    }

    /// Hands over bytes of a stream, of which a client may have sent too many. A tunnel that stands takes a turn.
    pub fn give(&self, id: u32, pieces: &[IoSlice<'_>]) {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.count(len, len);

        let lent = self.with(id, |state| match state.is_broken {
            true => Ok(false),
            false if state.has_ended => Err(()),
            false => {
                state.window.receive(len as u32).map_err(|_| ())?;
                state.lend(pieces).map_err(|_| ())
            }
        });

        match lent {
            Some(Ok(true)) => {
                if let Some(state) = self.state(id) {
                    // SAFETY: the state of an open stream; it may be gone afterwards.
                    unsafe { State::turn(state) };
                }

                if let Some(Err(_)) = self.with(id, State::keep_lent) {
                    self.break_with(id, reason::FLOW_CONTROL_ERROR);
                }
            }
            Some(Err(())) => self.break_with(id, reason::FLOW_CONTROL_ERROR),
            Some(Ok(false)) | None => (),
        }
    }

    /// Notes bytes that count for the windows and nothing else.
    pub fn give_padding(&self, id: u32, len: usize) {
        self.count(len, 0);

        let update = self
            .with(id, |state| state.window.receive(len as u32).map(|()| state.take_of_window(len)));

        match update {
            Some(Ok(update)) => self.push_update(id, update),
            Some(Err(_)) => self.break_with(id, reason::FLOW_CONTROL_ERROR),
            None => (),
        }
    }

    /// Notes that the client has ended a stream. A tunnel that stands takes a turn: if its upstream has ended before, the
    /// stream is closed, and counts no more, when nginx sees what the client sent behind.
    pub fn end(&self, id: u32) {
        let is_open = self.with(id, |state| {
            state.end();
            state.is_open
        });

        if let Some(state) = self.state(id).filter(|_| is_open == Some(true)) {
            // SAFETY: the state of an open stream; it may be gone afterwards.
            unsafe { State::turn(state) };
        }
    }

    /// Notes that a stream is of no use any more, and tells the client why.
    pub fn break_with(&self, id: u32, reason: u32) {
        let broken = self.with(id, |state| {
            if !std::mem::replace(&mut state.is_broken, true) {
                state.post();
                // SAFETY: the request of a state lives.
                unsafe { proxy_connect_h2_closed(state.request.as_ptr()) };
                return true;
            }
            false
        });

        if broken == Some(true) {
            self.push(&rst_stream(id, reason));
        }
    }

    /// Tells the client of a stream whose field block has not come in time, as nginx would.
    pub fn note_late(&self, id: u32) {
        // SAFETY: the connection outlives the value.
        if let Some(connection) = unsafe { Connection::from_ptr(self.connection) } {
            connection.log().write(
                NGX_LOG_INFO,
                libc::ETIMEDOUT,
                format_args!("client timed out within a field block of stream {id}"),
            );
        }

        self.push(&rst_stream(id, reason::PROTOCOL_ERROR));
    }

    /// Has each tunnel called readable.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn post_all(&self) {
        for (_, state) in &self.kept.borrow().open {
            // SAFETY: a state takes itself out before it is dropped; one thread, and nobody else refers to it.
            unsafe { state.as_ref() }.post();
        }
    }

    /// Notes that the client has left.
    pub fn note_lost(&self) {
        self.kept.borrow_mut().is_lost = true;
    }

    /// Whether nginx has given up the connection, and not because the client has left: its worker has to go.
    pub(super) fn is_shut_down(&self) -> bool {
        // SAFETY: the connection outlives the value; a word that only this thread writes.
        let is_closed = unsafe { (*self.connection).error() != 0 && nginx_sys::ngx_exiting != 0 };

        is_closed && !self.kept.borrow().is_lost
    }

    /// The streams that were closed since the last time.
    pub fn take_closed(&self) -> Vec<u32> {
        std::mem::take(&mut self.kept.borrow_mut().closed)
    }

    /// Notes bytes of frames around those of tunnels, for nginx's flood check.
    pub fn note_overhead(&self, len: usize) {
        if !self.kept.borrow().open.is_empty() {
            // SAFETY: the connection outlives the value, and has a stream: it is one of HTTP/2.
            unsafe { proxy_connect_h2_count(self.connection, len, 0) };
        }
    }

    fn count(&self, all: usize, payload: usize) {
        // SAFETY: as in note_overhead(): bytes are handed over after a CONNECT was taken.
        unsafe { proxy_connect_h2_count(self.connection, all, payload) };

        let mut kept = self.kept.borrow_mut();
        kept.credit = kept.credit.saturating_add(all as u32);

        if kept.credit >= CREDIT {
            let frame = window_update(0, std::mem::take(&mut kept.credit));
            drop(kept);
            self.push(&frame);
        }
    }

    /// By how much the window of a stream is to be opened now.
    pub(super) fn open_window(&self, window: &mut Window) -> Option<u32> {
        window.update(&mut self.kept.borrow_mut().growth)
    }

    /// Has the client told by how much the window of a stream is opened, if it is.
    pub(super) fn push_update(&self, id: u32, update: Option<u32>) {
        if let Some(update) = update {
            self.push(&window_update(id, update));
        }
    }

    /// Has a frame written with others, after all that is done in this iteration of the event loop.
    pub(super) fn push(&self, frame: &[u8]) {
        let mut kept = self.kept.borrow_mut();

        if kept.next.try_reserve(frame.len()).is_err() {
            drop(kept);
            return self.fail();
        }

        kept.next.extend_from_slice(frame);
        self.post();
    }

    /// Has nginx close the connection: there is no memory for bytes of it.
    fn fail(&self) {
        // SAFETY: as in post().
        unsafe { proxy_connect_h2_fail(self.writer.as_ptr(), self.as_data()) };
    }

    /// Has what gathered written after all that is done in this iteration of the event loop, and what TLS keeps
    /// back of nginx's frames.
    pub(super) fn post(&self) {
        // SAFETY: the writer lies in the connection's pool, as this does, which forgets it when it is dropped.
        unsafe { proxy_connect_h2_post(self.writer.as_ptr(), self.as_data()) };
    }

    fn as_data(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn is_busy(&self) -> bool {
        // SAFETY: as in post().
        unsafe { proxy_connect_h2_is_busy(self.writer.as_ptr()) != 0 }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_sent(&self) -> bool {
        self.kept.borrow().next.is_empty() && !self.is_busy()
    }

    fn is_open(&self) -> bool {
        // SAFETY: as in post().
        unsafe { proxy_connect_h2_is_open(self.writer.as_ptr()) != 0 }
    }

    /// Whether the connection takes bytes, once nginx has sent what it can.
    fn clear(&self) -> bool {
        // SAFETY: as in post().
        unsafe { proxy_connect_h2_clear(self.writer.as_ptr()) != 0 }
    }

    /// How much a stream may send now, in bytes; 0 if it has to wait, until it is called.
    pub(super) fn allow(&self, id: u32, is_bulk: bool) -> usize {
        let is_open = self.is_open() || self.clear();

        let mut kept = self.kept.borrow_mut();
        let has_room = kept.next.len() < RECORD;
        let allowed = kept.turns.allow(id, is_open, has_room, is_bulk);
        drop(kept);

        if allowed == 0 && !self.is_busy() {
            self.post();
        }

        allowed
    }

    /// Sends `frames`: at once where they fill a record, with others where they are small.
    pub(super) fn send(&self, frames: &[u8]) {
        let gathered = self.kept.borrow().next.len();

        if gathered + frames.len() < RECORD {
            return self.push(frames);
        }

        if !self.flush() || !self.is_open() {
            return self.push(frames);
        }

        let rest = &frames[self.write(frames)..];

        if !rest.is_empty() {
            match list_of(rest) {
                Ok(rest) => self.queue(rest),
                Err(_) => self.fail(),
            }
        }
    }

    /// Writes what gathered: to the connection, or else into nginx's queue. False when it is to gather on.
    pub(super) fn flush(&self) -> bool {
        if self.kept.borrow().next.is_empty() {
            return true;
        }

        // SAFETY: as in post().
        if self.is_busy() || unsafe { proxy_connect_h2_is_idle(self.writer.as_ptr()) != 0 } {
            return false;
        }

        let mut next = std::mem::take(&mut self.kept.borrow_mut().next);
        let written = if self.is_open() { self.write(&next) } else { 0 };

        if written < next.len() {
            next.drain(..written);
            self.queue(next);
        } else if next.capacity() <= KEPT {
            next.clear();
            self.kept.borrow_mut().next = next;
        }

        true
    }

    /// How many of `bytes` the connection, which is open, takes.
    fn write(&self, bytes: &[u8]) -> usize {
        // SAFETY: as in post(); the bytes are only read.
        unsafe { proxy_connect_h2_write(self.writer.as_ptr(), bytes.as_ptr(), bytes.len()) }
    }

    /// Puts `bytes` into nginx's queue, where none of ours are.
    fn queue(&self, bytes: Vec<u8>) {
        let mut kept = self.kept.borrow_mut();
        kept.queued = bytes;
        let (bytes, len) = (kept.queued.as_mut_ptr(), kept.queued.len());
        drop(kept);

        // SAFETY: as in post(). The bytes stay until the writer asks for others.
        unsafe { proxy_connect_h2_queue(self.writer.as_ptr(), self.as_data(), bytes, len) };
    }

    /// Writes what gathered, and has the stream called that has waited longest.
    fn go_on(&self) {
        // SAFETY: as in post().
        unsafe { proxy_connect_h2_untime(self.writer.as_ptr()) };

        let is_written = self.flush();
        let is_open = self.clear();

        if !self.kept.borrow().turns.is_waiting() {
            return;
        }

        if !is_open {
            // Whatever fills the queue: it is told when that is sent.
            // SAFETY: as in post().
            let is_idle = unsafe { proxy_connect_h2_is_idle(self.writer.as_ptr()) != 0 };

            if is_written && !self.is_busy() && !is_idle {
                self.queue(Vec::new());
            }

            return;
        }

        let called = self.kept.borrow_mut().turns.call();

        if let Some(id) = called {
            self.with(id, |state| state.call());
        }

        if self.kept.borrow().turns.is_waiting() {
            self.post();
        }
    }

    /// Tells the client of the end of a stream behind all that it was sent.
    pub(super) fn reset(&self, request: Request, id: u32, reason: u32) {
        self.push(&rst_stream(id, reason));
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_closed(request.as_ptr()) };
    }

    pub(super) fn remove(&self, id: u32, window: &mut Window) {
        let mut kept = self.kept.borrow_mut();
        window.leave(&mut kept.growth);
        kept.turns.remove(id);

        if let Ok(place) = kept.open.binary_search_by_key(&id, |(id, _)| *id) {
            kept.open.remove(place);

            // Without memory what still comes for it is dropped here and not by nginx.
            if kept.closed.try_reserve(1).is_ok() {
                kept.closed.push(id);
            }
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // SAFETY: the writer lies in the connection's pool.
        unsafe { proxy_connect_h2_forget(self.writer.as_ptr()) };
    }
}

unsafe extern "C" fn on_writer(event: *mut ngx_event_t) {
    let go_on = || {
        // SAFETY: nginx calls it with the event of a writer, which forgets it before the streams are dropped.
        unsafe {
            if let Some(streams) = (*event).data.cast::<Streams>().as_ref() {
                streams.go_on();
            }
        }
    };

    guard(Log::of_cycle(), go_on, || ());
}

/// All that was queued is sent: gives what gathered meanwhile, and how many bytes that is.
unsafe extern "C" fn refill(data: *mut c_void, bytes: *mut *mut u8) -> usize {
    let refill = || {
        // SAFETY: the writer gives what it was given when bytes were queued, which outlives it, and room for
        // a pointer.
        unsafe {
            let Some(streams) = data.cast::<Streams>().as_ref() else {
                return 0;
            };

            let mut kept = streams.kept.borrow_mut();
            kept.queued = std::mem::take(&mut kept.next);
            *bytes = kept.queued.as_mut_ptr();
            kept.queued.len()
        }
    };

    guard(Log::of_cycle(), refill, || 0)
}
