//! Owns the client's end of a tunnel over HTTP/2: a stream's bytes and end, its window, and the frames that are
//! written past nginx.
//!
//! What a client sends never comes through nginx: who reads the connection hands it over here
//! ([`Streams::give`]). What it gets goes out by nginx's own frames, which know the client's windows.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_event_handler_pt, ngx_event_t,
    ngx_http_request_t, ngx_int_t, ngx_uint_t,
};
use proxy_connect_core::http2::frame::{code as reason, rst_stream, window_update, NUMBER_FRAME};
use proxy_connect_core::http2::window::Window;
use proxy_connect_core::relay::{Drain, Fill, Received, Sent, Shut, Sink, Source};
use proxy_connect_core::response;

use crate::ffi::boundary::guard;
use crate::ffi::code;
use crate::ffi::end::{End, EventError};
use crate::ffi::list_of;
use crate::ffi::log::Log;
use crate::ffi::ngx_event::NgxEvent;
use crate::ffi::pipe::Pipe;
use crate::ffi::request::Request;
use crate::ffi::stream::NoPipe;

/// How many bytes of a stream are given to nginx at once.
const SEND_MAX: usize = 64 * 1024;

/// How much of the connection's window is used before the client is told that it is open again. nginx opens
/// it by 2 GiB.
const CREDIT: u32 = 1 << 29;

/// What C writes frames with that are no stream's.
#[repr(C)]
struct Writer(c_void);

extern "C" {
    fn proxy_connect_h2_id(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_connection(r: *mut ngx_http_request_t) -> *mut ngx_connection_t;
    fn proxy_connect_h2_queued(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_room(r: *mut ngx_http_request_t) -> usize;
    fn proxy_connect_h2_send(
        r: *mut ngx_http_request_t,
        link: *mut ngx_chain_t,
        buf: *mut ngx_buf_t,
        bytes: *mut u8,
        len: usize,
        last: ngx_uint_t,
    ) -> ngx_int_t;
    fn proxy_connect_h2_flush(r: *mut ngx_http_request_t);
    fn proxy_connect_h2_closed(r: *mut ngx_http_request_t);
    fn proxy_connect_h2_window(r: *mut ngx_http_request_t) -> usize;
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

/// What is kept for a stream, in its request's pool.
struct State {
    request: Request,
    id: u32,
    streams: NonNull<Streams>,
    window: Window,
    /// What the client sent, and how much of it was taken.
    received: Vec<u8>,
    taken: usize,
    has_ended: bool,
    is_broken: bool,
    /// What nginx is sending.
    sending: Vec<u8>,
    link: ngx_chain_t,
    buf: ngx_buf_t,
}

/// The client's end of a tunnel that is a stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream(NonNull<State>);

/// The stream of a request, and the connection that it came over. `None` for a request that came otherwise.
pub fn place_of(request: Request) -> Option<(u32, *mut ngx_connection_t)> {
    // SAFETY: a live request.
    let id = unsafe { proxy_connect_h2_id(request.as_ptr()) };
    let id = u32::try_from(id).ok().filter(|&id| id != 0)?;

    // SAFETY: as above; it has a stream.
    Some((id, unsafe { proxy_connect_h2_connection(request.as_ptr()) }))
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

    /// Has each tunnel called readable.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn post_all(&self) {
        for (_, state) in &self.open {
            // SAFETY: a state takes itself out before it is dropped; one thread, and nobody else refers to it.
            unsafe { state.as_ref() }.post();
        }
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

    fn open_window(&mut self, id: u32) {
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
    fn reset(&mut self, request: Request, id: u32, reason: u32) -> bool {
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

    fn remove(&mut self, id: u32) {
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

impl State {
    fn read_event(&self) -> NgxEvent {
        let connection = self.request.raw().connection;
        // SAFETY: the events of a live request's connection.
        unsafe { NgxEvent::from_ptr((*connection).read).unwrap_unchecked() }
    }

    /// Has the stream called readable.
    fn post(&self) {
        self.read_event().post();
    }

    fn is_reset(&self) -> bool {
        self.is_broken || self.request.has_broken_connection()
    }

    fn queued(&self) -> usize {
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_queued(self.request.as_ptr()) }
    }

    fn send(&mut self, len: usize, is_last: bool) -> bool {
        let (link, buf) = (&raw mut self.link, &raw mut self.buf);
        let bytes = self.sending.as_mut_ptr();

        // SAFETY: a live request over a stream whose header was sent. What is given stays where it is until
        // nothing is queued.
        let sent = unsafe {
            proxy_connect_h2_send(self.request.as_ptr(), link, buf, bytes, len, is_last.into())
        };

        sent == code::OK
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: a connection outlives its streams.
        unsafe { self.streams.as_mut() }.remove(self.id);
    }
}

impl Stream {
    /// The client's end of `request`, if that is a CONNECT over a stream of HTTP/2.
    pub fn of(request: Request) -> Option<Self> {
        request.pool().find::<State>().map(Self)
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: it lies in the pool of a live request; one thread, and nobody else refers to it.
        unsafe { self.0.as_mut() }
    }

    fn get(&self) -> &State {
        // SAFETY: as in state().
        unsafe { self.0.as_ref() }
    }

    /// Answers with the status and the fields of `text`. Where that fails the stream is broken.
    pub fn open(mut self, request: Request, text: &[u8], status: u16) {
        let state = self.state();

        if answer(request, text, status).is_none() {
            state.is_broken = true;
        }

        // Of what came before nobody was told.
        state.post();
    }

    /// Whether the client has reset the stream, or left.
    pub fn is_reset(self) -> bool {
        self.get().is_reset()
    }

    /// Whether nothing has come that nobody has read, and the client has not left.
    pub fn is_quiet(self) -> bool {
        let state = self.get();
        state.received.is_empty() && !state.has_ended && !state.is_reset()
    }

    /// Resets the stream because its upstream did.
    pub fn reset(mut self) {
        let state = self.state();

        if !state.is_reset() {
            // SAFETY: a connection outlives its streams.
            let streams = unsafe { state.streams.as_mut() };
            streams.reset(state.request, state.id, reason::CONNECT_ERROR);
        }
    }
}

impl<P: AsMut<Pipe>> Source<P> for Stream {
    fn is_readable(&self) -> bool {
        !self.is_quiet()
    }

    fn look(&mut self) -> Received {
        let state = self.state();

        match state.received.len() - state.taken {
            0 if state.is_reset() => Received::Broken,
            0 if state.has_ended => Received::Eof,
            0 => Received::Blocked,
            n => Received::Bytes(n),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let looked = Source::<P>::look(self);
        let state = self.state();

        let Received::Bytes(n) = looked else {
            return looked;
        };

        let n = n.min(buffer.len());
        buffer[..n].copy_from_slice(&state.received[state.taken..state.taken + n]);
        state.taken += n;

        if state.taken == state.received.len() {
            state.received = Vec::new();
            state.taken = 0;
        }

        state.window.take(n as u32);
        let (mut streams, id) = (state.streams, state.id);
        // SAFETY: a connection outlives its streams.
        unsafe { streams.as_mut() }.open_window(id);

        Received::Bytes(n)
    }

    fn fills(&mut self) -> Option<impl Fill<P>> {
        None::<NoPipe>
    }
}

impl<P: AsMut<Pipe>> Sink<P> for Stream {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        let state = self.state();

        if state.is_reset() {
            return Sent::Broken;
        }

        if state.queued() > 0 {
            return Sent::Blocked;
        }

        // SAFETY: a live request over a stream.
        let room = unsafe { proxy_connect_h2_room(state.request.as_ptr()) };
        // Without room nginx looks at one byte, and notes who waits.
        let len = bytes.len().min(room.max(1)).min(SEND_MAX);

        match list_of(&bytes[..len]) {
            Ok(sending) => state.sending = sending,
            Err(_) => return Sent::Broken,
        }

        if !state.send(len, false) {
            return Sent::Broken;
        }

        if state.queued() == 0 {
            state.sending = Vec::new();
        }

        if room == 0 {
            Sent::Blocked
        } else {
            Sent::Bytes(len)
        }
    }

    fn shutdown(&mut self) -> Shut {
        let state = self.state();

        if state.is_reset() {
            return Shut::Broken;
        }

        if state.queued() > 0 {
            return Shut::Blocked;
        }

        state.sending = Vec::new();

        match state.send(0, true) {
            true => Shut::Done,
            false => Shut::Broken,
        }
    }

    /// nginx tells a client whose stream it closes without an end that it failed.
    fn ends_by_closing(&self) -> bool {
        false
    }

    fn drains(&mut self) -> Option<impl Drain<P>> {
        None::<NoPipe>
    }
}

impl End for Stream {
    fn watch(&self, _room: usize) -> Result<(), EventError> {
        let mut stream = *self;
        let state = stream.state();

        if state.queued() == 0 {
            state.sending = Vec::new();
        }

        Ok(())
    }

    fn post(&self) {
        self.get().read_event().post_next();
    }

    fn disregard(&self) -> Result<(), EventError> {
        Ok(())
    }

    /// nginx does so for each connection of HTTP/2.
    fn set_nodelay(&self) -> Result<(), EventError> {
        Ok(())
    }

    /// A reset is a frame, which others don't wait for.
    fn is_settled(&self) -> bool {
        self.get().queued() == 0 || self.is_reset()
    }

    fn abort(&self) {}
}

/// Sends the header of an answer. `None` when that fails.
fn answer(mut request: Request, text: &[u8], status: u16) -> Option<()> {
    for (name, value) in response::fields(text) {
        let (name, value) = (request.pool().copy(name)?, request.pool().copy(value)?);
        request.answer_fields().push(name, value)?;
    }

    request.raw_mut().headers_out.status = usize::from(status);

    // SAFETY: a live request whose header was not sent.
    let sent = unsafe { nginx_sys::ngx_http_send_header(request.as_ptr()) };

    // SAFETY: a live request over a stream.
    unsafe { proxy_connect_h2_flush(request.as_ptr()) };
    (sent == code::OK || sent == code::AGAIN).then_some(())
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("id", &self.id).finish_non_exhaustive()
    }
}
