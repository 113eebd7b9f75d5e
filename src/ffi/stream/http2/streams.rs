//! Owns the tunnels of a connection of HTTP/2: what of it belongs to which, and the frames that are written past
//! nginx for all of them together.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_event_handler_pt, ngx_event_t, ngx_uint_t};
use proxy_connect_core::http2::frame::{code as reason, rst_stream, window_update, NUMBER_FRAME};
use proxy_connect_core::http2::window::Window;

use super::{place_of, proxy_connect_h2_closed, proxy_connect_h2_window, State};
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;
use crate::ffi::request::Request;

/// How much of the connection's window is used before the client is told that it is open again. nginx opens
/// it by 2 GiB.
const CREDIT: u32 = 1 << 29;

/// What C writes frames with that are no stream's.
#[repr(C)]
struct Writer(c_void);

extern "C" {
    fn proxy_connect_h2_count(c: *mut ngx_connection_t, all: usize, payload: usize);
    fn proxy_connect_h2_writer(
        c: *mut ngx_connection_t,
        handler: ngx_event_handler_pt,
    ) -> *mut Writer;
    fn proxy_connect_h2_is_busy(writer: *mut Writer) -> ngx_uint_t;
    fn proxy_connect_h2_post(writer: *mut Writer, data: *mut c_void);
    fn proxy_connect_h2_forget(writer: *mut Writer);
    fn proxy_connect_h2_write(
        writer: *mut Writer,
        data: *mut c_void,
        c: *mut ngx_connection_t,
        bytes: *mut u8,
        len: usize,
    ) -> ngx_uint_t;
}

/// The tunnels of a connection.
pub struct Streams {
    connection: *mut ngx_connection_t,
    writer: NonNull<Writer>,
    /// Those that are open, and where their states lie, in the order of their numbers.
    open: Vec<(u32, NonNull<State>)>,
    /// Those that were closed, until somebody asks.
    closed: Vec<u32>,
    /// Frames that are to be written next.
    next: Vec<u8>,
    /// Frames that are being written.
    writing: Vec<u8>,
    /// What came over the connection that its window has not got back.
    credit: u32,
}

impl Streams {
    /// Those of a connection. `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `connection` must be open, of HTTP/2, and outlive the value, which must lie in its pool.
    pub unsafe fn new(connection: *mut ngx_connection_t) -> Option<Self> {
        // SAFETY: the caller's promise.
        let writer = unsafe { proxy_connect_h2_writer(connection, Some(on_writer)) };

        Some(Self {
            connection,
            writer: NonNull::new(writer)?,
            open: Vec::new(),
            closed: Vec::new(),
            next: Vec::new(),
            writing: Vec::new(),
            credit: 0,
        })
    }

    /// Opens a tunnel over the stream of `request`, the newest of all, whose window may grow to `max` bytes.
    /// `None` when there is no memory.
    ///
    /// # Safety
    ///
    /// `request` must have come over this connection; `self` must not move.
    pub unsafe fn open(&mut self, request: Request, max: u32, has_ended: bool) -> Option<()> {
        self.open.try_reserve(1).ok()?;

        // SAFETY: the caller's promise: it came over a stream.
        let (id, size) =
            (place_of(request)?.0, unsafe { proxy_connect_h2_window(request.as_ptr()) });

        let state = State {
            request,
            id,
            streams: NonNull::from(&mut *self),
            window: Window::new(u32::try_from(size).ok()?, max),
            received: Vec::new(),
            taken: 0,
            has_ended,
            is_broken: false,
            sending: Vec::new(),
            // SAFETY: all zeros are valid for these structures of C.
            link: unsafe { std::mem::zeroed() },
            // SAFETY: as above.
            buf: unsafe { std::mem::zeroed() },
        };

        let mut state = request.pool().put(state)?;
        self.open.push((id, state));

        // SAFETY: it was just put there, and nobody else refers to it.
        if let Some(update) = unsafe { state.as_mut() }.window.begin() {
            self.push(&window_update(id, update));
        }

        Some(())
    }

    fn state(&mut self, id: u32) -> Option<&mut State> {
        let place = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        // SAFETY: a state takes itself out before it is dropped; one thread, and nobody else refers to it.
        self.open.get(place).map(|(_, state)| unsafe { &mut *state.as_ptr() })
    }

    /// Hands over bytes of a stream, of which a client may have sent too many.
    pub fn give(&mut self, id: u32, bytes: &[u8]) {
        self.count(bytes.len(), bytes.len());

        let Some(state) = self.state(id).filter(|state| !state.is_broken) else {
            return;
        };

        let is_within = state.window.receive(bytes.len() as u32).is_ok();

        if !is_within || state.has_ended || state.received.try_reserve(bytes.len()).is_err() {
            return self.break_with(id, reason::FLOW_CONTROL_ERROR);
        }

        state.received.extend_from_slice(bytes);
        state.post();
    }

    /// Notes bytes that count for the windows and nothing else.
    pub fn give_padding(&mut self, id: u32, len: usize) {
        self.count(len, 0);

        let Some(state) = self.state(id) else {
            return;
        };

        if state.window.receive(len as u32).is_err() {
            return self.break_with(id, reason::FLOW_CONTROL_ERROR);
        }

        state.window.take(len as u32);
        self.open_window(id);
    }

    /// Notes that the client has ended a stream.
    pub fn end(&mut self, id: u32) {
        if let Some(state) = self.state(id) {
            state.has_ended = true;
            state.post();
        }
    }

    /// Notes that a stream is of no use any more, and tells the client why.
    pub fn break_with(&mut self, id: u32, reason: u32) {
        let Some(state) = self.state(id).filter(|state| !state.is_broken) else {
            return;
        };

        state.is_broken = true;
        state.post();
        // SAFETY: the request of a state lives.
        unsafe { proxy_connect_h2_closed(state.request.as_ptr()) };
        self.push(&rst_stream(id, reason));
    }

    /// The streams that were closed since the last time.
    pub fn take_closed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.closed)
    }

    /// Notes bytes of frames around those of tunnels, for nginx's flood check.
    pub fn note_overhead(&self, len: usize) {
        if !self.open.is_empty() {
            // SAFETY: the connection outlives the value, and has a stream: it is one of HTTP/2.
            unsafe { proxy_connect_h2_count(self.connection, len, 0) };
        }
    }

    fn count(&mut self, all: usize, payload: usize) {
        // SAFETY: as in note_overhead(): bytes are handed over after a CONNECT was taken.
        unsafe { proxy_connect_h2_count(self.connection, all, payload) };

        self.credit = self.credit.saturating_add(all as u32);

        if self.credit >= CREDIT {
            let frame = window_update(0, std::mem::take(&mut self.credit));
            self.push(&frame);
        }
    }

    pub(super) fn open_window(&mut self, id: u32) {
        let update = self.state(id).filter(|state| !state.has_ended && !state.is_broken);

        if let Some(update) = update.and_then(|state| state.window.update()) {
            self.push(&window_update(id, update));
        }
    }

    /// Has a frame written with others, after all that is done in this iteration of the event loop.
    fn push(&mut self, frame: &[u8]) {
        // Without memory the stream hangs until its tunnel times out.
        if self.next.try_reserve(frame.len()).is_ok() {
            self.next.extend_from_slice(frame);
        }

        let data = std::ptr::from_mut(self).cast();
        // SAFETY: the writer lies in the connection's pool, as this does, which forgets it when it is dropped.
        unsafe { proxy_connect_h2_post(self.writer.as_ptr(), data) };
    }

    /// Writes what is to be written, unless something is being written. True when it did.
    fn write(&mut self) -> bool {
        // SAFETY: as in push().
        if unsafe { proxy_connect_h2_is_busy(self.writer.as_ptr()) } != 0 {
            return false;
        }

        self.writing = std::mem::take(&mut self.next);

        if self.writing.is_empty() {
            return false;
        }

        let (bytes, len) = (self.writing.as_mut_ptr(), self.writing.len());
        let (writer, data) = (self.writer.as_ptr(), std::ptr::from_mut(self).cast());

        // SAFETY: as in push(). The bytes stay as long as the writer is busy.
        let is_written =
            unsafe { proxy_connect_h2_write(writer, data, self.connection, bytes, len) != 0 };

        if !is_written {
            self.next = std::mem::take(&mut self.writing);
        }

        is_written
    }

    /// Resets a stream that is settled. False when nginx has to do it in its own way.
    pub(super) fn reset(&mut self, request: Request, id: u32, reason: u32) -> bool {
        // SAFETY: as in push().
        let is_busy = unsafe { proxy_connect_h2_is_busy(self.writer.as_ptr()) } != 0;

        if is_busy || self.next.try_reserve(NUMBER_FRAME).is_err() {
            return false;
        }

        self.next.extend_from_slice(&rst_stream(id, reason));

        if !self.write() {
            return false;
        }

        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_closed(request.as_ptr()) };
        true
    }

    pub(super) fn remove(&mut self, id: u32) {
        if let Ok(place) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(place);

            // Without memory what still comes for it is dropped here and not by nginx.
            if self.closed.try_reserve(1).is_ok() {
                self.closed.push(id);
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
    let write = || {
        // SAFETY: nginx calls it with the event of a writer, which forgets it before the streams are dropped.
        unsafe {
            if let Some(streams) = (*event).data.cast::<Streams>().as_mut() {
                streams.write();
            }
        }
    };

    guard(Log::of_cycle(), write, || ());
}
