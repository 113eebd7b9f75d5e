//! Owns the client's end of a tunnel over HTTP/2: a stream's bytes and end, and its window.
//!
//! What a client sends never comes through nginx: who reads the connection hands it over here
//! ([`Streams::give`]), and it goes on from where it was read. What it gets are frames of our own, within the windows
//! that nginx keeps.

mod streams;

pub use streams::Streams;

use std::collections::TryReserveError;
use std::io::IoSlice;
use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_http_request_t, ngx_uint_t};
use proxy_connect_core::http2::answer::answer;
use proxy_connect_core::http2::backlog::Backlog;
use proxy_connect_core::http2::data::{self, PAYLOAD, RECORD};
use proxy_connect_core::http2::frame::{code as reason, HEADER};
use proxy_connect_core::http2::turns::SMALL;
use proxy_connect_core::http2::window::Window;
use proxy_connect_core::relay::{
    BrokenSink, Drain, Fill, Frames, Intake, Layout, Lend, Received, Sent, Shut, Sink, Source,
    PIECES,
};
use proxy_connect_core::response;

use crate::ffi::end::{End, EventError};
use crate::ffi::ngx_event::NgxEvent;
use crate::ffi::pipe::Pipe;
use crate::ffi::request::Request;
use crate::ffi::stream::NoPipe;

extern "C" {
    fn proxy_connect_h2_id(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_connection(r: *mut ngx_http_request_t) -> *mut ngx_connection_t;
    fn proxy_connect_h2_queued(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_room(r: *mut ngx_http_request_t) -> usize;
    fn proxy_connect_h2_leave(r: *mut ngx_http_request_t);
    fn proxy_connect_h2_is_hasty(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_resizes(r: *mut ngx_http_request_t) -> ngx_uint_t;
    fn proxy_connect_h2_answered(r: *mut ngx_http_request_t, len: usize);
    fn proxy_connect_h2_sent(r: *mut ngx_http_request_t, len: usize, frames: usize);
    fn proxy_connect_h2_ended(r: *mut ngx_http_request_t);
    fn proxy_connect_h2_note_end(r: *mut ngx_http_request_t, has_ended: ngx_uint_t);
    fn proxy_connect_h2_closed(r: *mut ngx_http_request_t);
    fn proxy_connect_h2_window(r: *mut ngx_http_request_t) -> usize;
}

/// What is kept for a stream, in its request's pool.
struct State {
    request: Request,
    id: u32,
    streams: NonNull<Streams>,
    window: Window,
    /// What the client sent and the upstream has not taken.
    backlog: Backlog,
    /// The same where it was read, behind the backlog, and how much of it was taken. It is there for one turn.
    lent: Option<NonNull<[IoSlice<'static>]>>,
    taken: usize,
    has_ended: bool,
    is_broken: bool,
    /// The end was told to the client, too.
    is_shut: bool,
    /// The answer is on its way.
    is_open: bool,
    /// It sent more than a small message last.
    is_bulk: bool,
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
    /// That of the stream that `request` came over, whose window may grow to `max` bytes. `None` for another
    /// request.
    fn new(request: Request, streams: NonNull<Streams>, max: u32, has_ended: bool) -> Option<Self> {
        let (id, _) = place_of(request)?;

        // SAFETY: a live request over a stream.
        let size = unsafe {
            proxy_connect_h2_note_end(request.as_ptr(), has_ended.into());
            proxy_connect_h2_window(request.as_ptr())
        };

        Some(Self {
            request,
            id,
            streams,
            window: Window::new(u32::try_from(size).ok()?, max),
            backlog: Backlog::default(),
            lent: None,
            taken: 0,
            has_ended,
            is_broken: false,
            is_shut: false,
            is_open: false,
            is_bulk: false,
        })
    }

    fn streams<'a>(&self) -> &'a Streams {
        // SAFETY: a connection outlives its streams.
        unsafe { self.streams.as_ref() }
    }

    fn read_event(&self) -> NgxEvent {
        let connection = self.request.raw().connection;
        // SAFETY: the events of a live request's connection.
        unsafe { NgxEvent::from_ptr((*connection).read).unwrap_unchecked() }
    }

    /// Has the stream called readable.
    fn post(&self) {
        self.read_event().post();
    }

    /// Has the stream called writable.
    fn call(&self) {
        let connection = self.request.raw().connection;
        // SAFETY: as in read_event().
        unsafe { NgxEvent::from_ptr((*connection).write).unwrap_unchecked() }.post();
    }

    fn is_reset(&self) -> bool {
        self.is_broken || self.request.has_broken_connection()
    }

    /// Whether both sides have ended the stream, and said so: then it is closed (RFC 9113, section 5.1), and a client that
    /// leaves takes back none of what the upstream has yet to get.
    fn is_closed(&self) -> bool {
        self.has_ended && self.is_shut && self.streams().is_sent()
    }

    /// Whether frames of nginx's wait, which ours must not overtake: it calls the stream once they are sent.
    fn is_queued(&self) -> bool {
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_queued(self.request.as_ptr()) != 0 }
    }

    /// How much the client's windows have room for. For room nginx calls the stream, too.
    fn room(&self) -> usize {
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_room(self.request.as_ptr()) }
    }

    fn note_sent(&self, len: usize) {
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_sent(self.request.as_ptr(), len, data::count(len)) };
    }

    /// Notes that the client has ended the stream.
    fn end(&mut self) {
        self.has_ended = true;
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_note_end(self.request.as_ptr(), 1) };
        self.post();
    }

    /// Takes bytes that were just read: true if they are lent for a turn, else a copy is kept.
    ///
    /// # Errors
    ///
    /// No memory.
    fn lend(&mut self, pieces: &[IoSlice<'_>]) -> Result<bool, TryReserveError> {
        if !self.is_open || !self.backlog.is_empty() {
            pieces.iter().try_for_each(|piece| self.backlog.push(piece))?;
            self.post();
            return Ok(false);
        }

        let pieces: *const [IoSlice<'_>] = pieces;
        // Who lends takes them back, see keep_lent(), before they are gone.
        self.lent = NonNull::new(pieces as *mut [IoSlice<'static>]);
        self.taken = 0;
        Ok(true)
    }

    /// Has the tunnel of a stream take a turn. It may be gone afterwards.
    ///
    /// # Safety
    ///
    /// It must be that of an open stream, to which nobody refers.
    unsafe fn turn(state: NonNull<Self>) {
        // SAFETY: the caller's promise; nginx itself calls the handlers of its events.
        unsafe {
            let event = state.as_ref().read_event().as_ptr();

            if let Some(handler) = (*event).handler {
                handler(event);
            }
        }
    }

    /// Keeps a copy of what was lent and not taken.
    ///
    /// # Errors
    ///
    /// No memory.
    fn keep_lent(&mut self) -> Result<(), TryReserveError> {
        let Some(lent) = self.lent.take() else {
            return Ok(());
        };

        let mut taken = std::mem::take(&mut self.taken);

        // SAFETY: what was lent lives until it is taken back.
        for piece in unsafe { lent.as_ref() } {
            let skipped = taken.min(piece.len());
            taken -= skipped;
            self.backlog.push(&piece[skipped..])?;
        }

        Ok(())
    }

    /// The first bytes that nobody has taken, `max` at most, and how many `pieces` they are.
    fn pieces<'a>(&'a self, mut max: usize, pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
        let mut taken = self.taken;

        // SAFETY: what was lent lives until it is taken back.
        let lent: &'a [IoSlice<'static>] = self.lent.map_or(&[], |lent| unsafe { lent.as_ref() });
        let lent = lent.iter().map(|piece| &**piece);

        let bytes = std::iter::once(self.backlog.bytes()).chain(lent.map(|piece: &'a [u8]| {
            let skipped = taken.min(piece.len());
            taken -= skipped;
            &piece[skipped..]
        }));

        let bytes = bytes.filter(|bytes| !bytes.is_empty()).map_while(|bytes| {
            let len = bytes.len().min(max);
            max -= len;
            (len > 0).then_some(&bytes[..len])
        });

        pieces.iter_mut().zip(bytes).map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count()
    }

    /// How many bytes nobody has taken.
    fn unread(&self) -> usize {
        // SAFETY: what was lent lives until it is taken back.
        let lent =
            self.lent.map_or(0, |lent| unsafe { lent.as_ref() }.iter().map(|p| p.len()).sum());
        self.backlog.len() + lent - self.taken
    }

    /// Notes that `len` of them were taken.
    fn take(&mut self, len: usize) {
        let of_backlog = len.min(self.backlog.len());

        if of_backlog > 0 {
            self.backlog.take(of_backlog);
        }

        self.taken += len - of_backlog;

        let update = self.take_of_window(len);
        self.streams().push_update(self.id, update);
    }

    /// Notes that `len` bytes of the window were taken. By how much it is opened, if it is.
    fn take_of_window(&mut self, len: usize) -> Option<u32> {
        self.window.take(len as u32);
        let is_of_use = !self.has_ended && !self.is_broken;
        is_of_use.then(|| self.streams().open_window(&mut self.window)).flatten()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: the request lies in the pool that this is dropped with, and so does its stream.
        unsafe { proxy_connect_h2_leave(self.request.as_ptr()) };
        self.streams().remove(self.id, &mut self.window);
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

    /// Answers with the status and the fields of `text`, past the filters of answers: as over HTTP/1, what they have to
    /// say is about bodies that are not there.
    ///
    /// # Errors
    ///
    /// No memory; nothing was sent.
    pub fn open(
        mut self,
        request: Request,
        text: &[u8],
        status: u16,
    ) -> Result<(), TryReserveError> {
        let state = self.state();

        if !state.is_reset() {
            // SAFETY: a live request over a stream.
            let resizes = unsafe { proxy_connect_h2_resizes(request.as_ptr()) } != 0;
            let frames = answer(state.id, status, response::fields(text), resizes)?;

            state.streams().push(&frames);
            // SAFETY: as above.
            unsafe { proxy_connect_h2_answered(request.as_ptr(), frames.len()) };
        }

        request.note_response(status);
        state.is_open = true;
        // Of what came before nobody was told.
        state.post();
        Ok(())
    }

    /// Whether the client has reset the stream, or left.
    pub fn is_reset(self) -> bool {
        self.get().is_reset()
    }

    /// Whether nginx has closed the connection because its worker shuts down.
    pub fn is_shut_down(self) -> bool {
        self.get().streams().is_shut_down()
    }

    /// Whether nothing has come that nobody has read, and the client has not left.
    pub fn is_quiet(self) -> bool {
        let state = self.get();
        state.unread() == 0 && !state.has_ended && !state.is_reset()
    }

    /// Resets the stream because its tunnel ended otherwise than by its two ends (RFC 9113, section 8.5).
    pub fn reset(self) {
        let state = self.get();

        if !state.is_reset() {
            state.streams().reset(state.request, state.id, reason::CONNECT_ERROR);
        }
    }

    /// Sees to it that what was sent goes out, be the stream gone, and before what nginx sends to end it.
    pub fn flush(self) {
        let state = self.get();

        // SAFETY: a live request over a stream.
        if unsafe { proxy_connect_h2_is_hasty(state.request.as_ptr()) } != 0 {
            state.streams().flush();
        }
    }
}

impl<P: AsMut<Pipe>> Source<P> for Stream {
    fn is_readable(&self) -> bool {
        !self.is_quiet()
    }

    fn look(&mut self) -> Received {
        let state = self.get();

        match state.unread() {
            0 if state.is_reset() && !state.is_closed() => Received::Broken,
            0 if state.has_ended => Received::Eof,
            0 => Received::Blocked,
            n => Received::Bytes(n),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let count = self.get().pieces(buffer.len(), &mut pieces);

        if count == 0 {
            return Source::<P>::look(self);
        }

        let mut len = 0;

        for piece in &pieces[..count] {
            buffer[len..len + piece.len()].copy_from_slice(piece);
            len += piece.len();
        }

        self.state().take(len);
        Received::Bytes(len)
    }

    fn lends(&mut self) -> Option<impl Lend> {
        Some(*self)
    }

    fn fills(&mut self) -> Option<impl Fill<P>> {
        None::<NoPipe>
    }
}

impl Lend for Stream {
    fn pieces<'a>(&'a self, max: usize, pieces: &mut [IoSlice<'a>; PIECES]) -> usize {
        self.get().pieces(max, pieces)
    }

    fn take(&mut self, len: usize) {
        self.state().take(len);
    }
}

impl Frames for Stream {
    fn layout(&self) -> Layout {
        Layout { header: HEADER, payload: PAYLOAD }
    }

    fn intake(&mut self) -> Intake {
        let state = self.get();

        // Its end is told by send_frames().
        if state.is_reset() {
            return Intake::Bytes(usize::MAX);
        }

        if state.is_queued() {
            return Intake::Nothing;
        }

        match state.room() {
            0 => Intake::End,
            room => match state.streams().allow(state.id, state.is_bulk) {
                0 => Intake::Nothing,
                // What is probably small is read into one frame.
                allowed if !state.is_bulk => Intake::Bytes(room.min(allowed).min(PAYLOAD)),
                allowed => Intake::Bytes(room.min(allowed)),
            },
        }
    }

    fn send_frames(&mut self, buffer: &mut [u8], len: usize) -> Result<(), BrokenSink> {
        let state = self.state();

        if state.is_reset() {
            return Err(BrokenSink);
        }

        state.is_bulk = len >= SMALL;
        state.note_sent(len);
        state.streams().send(data::frame(buffer, len, state.id));
        Ok(())
    }
}

impl<P: AsMut<Pipe>> Sink<P> for Stream {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut frame = [0; RECORD];
        let buffer = &mut frame[HEADER..];

        match self.intake() {
            Intake::Bytes(max) => {
                let len = bytes.len().min(max).min(buffer.len());
                buffer[..len].copy_from_slice(&bytes[..len]);

                match self.send_frames(&mut frame, len) {
                    Ok(()) => Sent::Bytes(len),
                    Err(BrokenSink) => Sent::Broken,
                }
            }
            _ if self.get().is_reset() => Sent::Broken,
            Intake::Nothing | Intake::End => Sent::Blocked,
        }
    }

    fn takes_loans(&self) -> bool {
        true
    }

    fn frames(&mut self) -> Option<impl Frames> {
        Some(*self)
    }

    fn shutdown(&mut self) -> Shut {
        let state = self.state();

        if state.is_reset() {
            return Shut::Broken;
        }

        if state.is_queued() {
            return Shut::Blocked;
        }

        state.streams().push(&data::end(state.id));
        // SAFETY: a live request over a stream.
        unsafe { proxy_connect_h2_ended(state.request.as_ptr()) };
        state.is_shut = true;
        Shut::Done
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

    /// A reset is a frame behind all others.
    fn is_settled(&self) -> bool {
        true
    }

    fn abort(&self) {}
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("id", &self.id).finish_non_exhaustive()
    }
}
