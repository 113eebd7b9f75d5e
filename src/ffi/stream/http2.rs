//! Owns the client's end of a tunnel over HTTP/2: a stream's bytes and end, and its window.
//!
//! What a client sends never comes through nginx: who reads the connection hands it over here
//! ([`Streams::give`]). What it gets goes out by nginx's own frames, which know the client's windows.

mod streams;

pub use streams::Streams;

use std::ptr::NonNull;

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_http_request_t, ngx_int_t, ngx_uint_t,
};
use proxy_connect_core::http2::frame::code as reason;
use proxy_connect_core::http2::window::Window;
use proxy_connect_core::relay::{Drain, Fill, Received, Sent, Shut, Sink, Source};
use proxy_connect_core::response;

use crate::ffi::code;
use crate::ffi::end::{End, EventError};
use crate::ffi::list_of;
use crate::ffi::ngx_event::NgxEvent;
use crate::ffi::pipe::Pipe;
use crate::ffi::request::Request;
use crate::ffi::stream::NoPipe;

/// How many bytes of a stream are given to nginx at once.
const SEND_MAX: usize = 64 * 1024;

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
