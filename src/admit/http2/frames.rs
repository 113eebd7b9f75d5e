//! Owns the reading of a connection of HTTP/2: nginx is shown each CONNECT in disguise, and nothing of what
//! belongs to its stream.

use std::collections::TryReserveError;
use std::ptr::NonNull;

use nginx_sys::{ngx_connection_t, ngx_http_connection_t, ngx_msec_t};
use proxy_connect_core::http2::fields::Connection;
use proxy_connect_core::http2::frame::code as reason;
use proxy_connect_core::http2::incoming::{Incoming, Shown, What};

use super::data::{give, Data};
use super::keeps_server;
use super::receiver::Receiver;
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;
use crate::ffi::pool::Pool;
use crate::ffi::request::Request;
use crate::ffi::stream::http2::Streams;
use crate::ffi::timer::connection::{ConnectionTimer, Late};
#[cfg(ngx_feature = "http_ssl")]
use crate::ffi::tls;
use crate::ffi::{bytes, code, list_of};
use crate::relay::STREAM_BUDGET;

// src/ffi/stream/http2.c
extern "C" {
    fn proxy_connect_h2_begin_wait(c: *mut ngx_connection_t) -> ngx_msec_t;
    fn proxy_connect_h2_end_wait(c: *mut ngx_connection_t);
}

/// How many held bytes are looked at at once.
const PIECE: usize = 16 * 1024;

/// Who is shown in place of an authority that is none, where the connection has no name either.
const NOBODY: &[u8] = b"-";

/// What is kept for a connection, in its pool.
pub struct Frames {
    http: *mut ngx_http_connection_t,
    receiver: Receiver,
    incoming: Incoming,
    /// The tunnels, which lie in the pool, too.
    streams: NonNull<Streams>,
    /// Bytes that were read, and what of them is not looked at yet.
    held: Vec<u8>,
    at: usize,
    /// What the read event tells of the socket, while it is said to be ready for the sake of what is held.
    readiness: Option<bool>,
    /// The stream of a field block that is not whole, and until when that may be so.
    awaited: Option<(u32, ConnectionTimer)>,
    /// A CONNECT that came in early data waits for the end of the handshake.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    is_early: bool,
}

/// What was made of bytes.
struct Made {
    /// How many of them were looked at.
    taken: usize,
    /// How many there are for nginx.
    shown: usize,
}

/// Has our receive function stand in the place of the connection's own. Without memory CONNECT is refused.
/// In cleartext the preface was read, and `held` behind it; over TLS nothing.
///
/// # Safety
///
/// `c` must be an open connection of HTTP/2, whose data was `http` when nginx had initialised it.
pub unsafe fn attach(
    c: *mut ngx_connection_t,
    http: *mut ngx_http_connection_t,
    is_secure: bool,
    held: &[u8],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (Some(streams), Some(pool)) = (Streams::new(c), Pool::from_ptr((*c).pool)) else {
            return;
        };

        let (Ok(connection), Ok(held)) = (describe(http, is_secure), list_of(held)) else {
            return;
        };

        let Some(streams) = pool.put(streams) else {
            return;
        };

        let incoming = match is_secure {
            true => Incoming::new(connection),
            false => Incoming::behind_preface(connection),
        };

        let frames = Frames {
            http,
            receiver: Receiver::new((*c).recv, is_secure),
            incoming,
            streams,
            held,
            at: 0,
            readiness: None,
            awaited: None,
            is_early: false,
        };

        if let Some(mut frames) = pool.put(frames) {
            (*c).recv = Some(receive);
            frames.as_mut().keep_ready(c);
        }
    }
}

/// What a connection is to nginx. The name that it has by SNI is looked up no more.
///
/// # Safety
///
/// `http` must be that of an open connection.
unsafe fn describe(
    http: *mut ngx_http_connection_t,
    is_secure: bool,
) -> Result<Connection, TryReserveError> {
    // SAFETY: the caller's promise.
    unsafe {
        let name = server_name(http).map_or(NOBODY, |name| bytes(name));
        Ok(Connection { is_secure, server: list_of(name)?, keeps_server: keeps_server(http) })
    }
}

/// # Safety
///
/// `http` must be that of an open connection.
#[cfg(ngx_feature = "http_ssl")]
unsafe fn server_name(http: *mut ngx_http_connection_t) -> Option<nginx_sys::ngx_str_t> {
    // SAFETY: the caller's promise.
    unsafe { (*http).ssl_servername.as_ref() }.copied()
}

/// # Safety
///
/// None is needed.
#[cfg(not(ngx_feature = "http_ssl"))]
unsafe fn server_name(_http: *mut ngx_http_connection_t) -> Option<nginx_sys::ngx_str_t> {
    None
}

/// The frames of a connection. `None` where it is not read by us.
///
/// # Safety
///
/// `c` must be an open connection, and no other reference to its frames may be in use.
pub unsafe fn of<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Frames> {
    type Receive = unsafe extern "C" fn(*mut ngx_connection_t, *mut u8, usize) -> isize;

    // SAFETY: the caller's promise; they live as long as the pool.
    unsafe {
        let is_read = (*c).recv.is_some_and(|own| std::ptr::fn_addr_eq(own, receive as Receive));
        let pool = Pool::from_ptr((*c).pool).filter(|_| is_read)?;
        pool.find::<Frames>().map(|mut frames| frames.as_mut())
    }
}

/// Stands in the place of `c->recv`.
unsafe extern "C" fn receive(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: nginx calls it with an open connection, and with room for `size` bytes.
    guard(Log::of_cycle(), || unsafe { read(c, buf, size) }, || code::ERROR)
}

/// # Safety
///
/// `c` must be an open connection with frames, to which no other reference is in use; `buf` must have room
/// for `size` bytes.
unsafe fn read(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        // A stream of the connection has its functions, too, and is not to use them.
        let Some(frames) = of(c) else {
            return code::ERROR;
        };

        let n = frames.read(c, std::slice::from_raw_parts_mut(buf, size));
        frames.time_block(c);
        n
    }
}

/// A field block has not come as a whole in time.
struct LateBlock;

impl Late for LateBlock {
    unsafe fn late(c: *mut ngx_connection_t) {
        // SAFETY: the caller's promise; nginx is in none of our functions when a timer runs out.
        unsafe {
            if let Some(frames) = of(c) {
                frames.expire(c);
            }
        }
    }
}

impl Frames {
    /// What the data of the connection was when nginx had initialised it.
    pub fn http(&self) -> *mut ngx_http_connection_t {
        self.http
    }

    /// Takes the request that came over stream `id`, if that is the one that nginx was shown last.
    pub fn take_request(&mut self, id: u32) -> Option<Shown> {
        self.incoming.take_request(id)
    }

    /// Opens the end of a tunnel for `request`, a CONNECT whose stream is `id`, and whose window may grow to `max`
    /// bytes. Without memory there is no end, and so no tunnel.
    ///
    /// # Safety
    ///
    /// `request` must have come over this connection.
    pub unsafe fn open(&mut self, request: Request, id: u32, max: u32, has_ended: bool) {
        // SAFETY: the caller's promise; what is kept for a connection does not move.
        if unsafe { self.streams().open(request, max, has_ended) }.is_none() {
            self.incoming.close(id);
        }
    }

    /// Has its streams hear of the end of the handshake.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn note_early(&mut self) {
        self.is_early = true;
    }

    /// # Safety
    ///
    /// `c` must be the open connection.
    #[cfg(ngx_feature = "http_ssl")]
    unsafe fn look_at_handshake(&mut self, c: *mut ngx_connection_t) {
        // SAFETY: the caller's promise.
        if self.is_early && !unsafe { tls::connection_awaits_finished(c) } {
            self.is_early = false;
            self.streams().post_all();
        }
    }

    fn streams<'a>(&self) -> &'a Streams {
        // SAFETY: they lie in the same pool as this, and are put there before.
        unsafe { self.streams.as_ref() }
    }

    /// Reads until there is something for nginx, which stands at the beginning of `buffer` then, or nothing is left.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn read(&mut self, c: *mut ngx_connection_t, buffer: &mut [u8]) -> isize {
        // SAFETY: the caller's promise.
        unsafe {
            // Other connections have their turn, too.
            let mut left = STREAM_BUDGET;

            loop {
                let shown = self.show(buffer);

                if shown > 0 {
                    self.keep_ready(c);
                    return shown as isize;
                }

                let is_exhausted = self.is_exhausted(c);

                if is_exhausted && !self.receiver.has_end() {
                    return code::AGAIN;
                }

                if left == 0 {
                    nginx_sys::ngx_post_event(
                        (*c).read,
                        std::ptr::addr_of_mut!(nginx_sys::ngx_posted_next_events),
                    );
                    return code::AGAIN;
                }

                let n = self.receiver.receive(c, buffer);

                #[cfg(ngx_feature = "http_ssl")]
                self.look_at_handshake(c);

                let Some(read) = usize::try_from(n).ok().filter(|&n| n > 0) else {
                    if n != code::AGAIN {
                        self.streams().note_lost();
                    }

                    return n;
                };

                left = left.saturating_sub(read);

                let shown = self.look(&mut buffer[..read]);

                if shown > 0 {
                    self.keep_ready(c);
                    return shown as isize;
                }

                if self.is_empty() && (*(*c).read).ready() == 0 {
                    return code::AGAIN;
                }

                self.keep_ready(c);
            }
        }
    }

    /// Sees to it that a field block comes as a whole in time.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn time_block(&mut self, c: *mut ngx_connection_t) {
        let awaited = self.incoming.awaited();

        if awaited == self.awaited.as_ref().map(|(stream, _)| *stream) {
            return;
        }

        // SAFETY: the caller's promise; the timer is dropped with what lies in the connection's pool.
        self.awaited = awaited.and_then(|stream| unsafe {
            let msec = proxy_connect_h2_begin_wait(c);
            Some((stream, ConnectionTimer::start::<LateBlock>(c, msec)?))
        });
    }

    /// A field block has taken too long: its stream is reset, as nginx does, and only that, if it is one.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn expire(&mut self, c: *mut ngx_connection_t) {
        self.awaited = None;

        if let Some(stream) = self.incoming.expire() {
            self.streams().note_late(stream);
        }

        // SAFETY: the caller's promise.
        unsafe {
            self.keep_ready(c);
            proxy_connect_h2_end_wait(c);
        }
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.incoming.output().is_empty() && !self.receiver.has_end()
    }

    /// Fills `buffer` with what is there for nginx, and says how much that is.
    fn show(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            let output = self.incoming.output();

            if !output.is_empty() {
                let len = output.len().min(buffer.len());
                buffer[..len].copy_from_slice(&output[..len]);
                self.incoming.show(len);
                return len;
            }

            if self.held.is_empty() {
                return 0;
            }

            let shown = self.look_at_held(buffer);

            if shown > 0 {
                return shown;
            }
        }
    }

    /// Looks at what is held, for which it is put back where it was read.
    fn look_at_held(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.held[self.at..];
        let len = rest.len().min(buffer.len()).min(PIECE);
        buffer[..len].copy_from_slice(&rest[..len]);

        let made = self.make(&mut buffer[..len]);
        self.at += made.taken;

        if self.at == self.held.len() {
            self.held = Vec::new();
            self.at = 0;
        }

        made.shown
    }

    /// Looks at bytes that were just read, and says how many of them are for nginx. They lie in front.
    fn look(&mut self, bytes: &mut [u8]) -> usize {
        let made = self.make(bytes);

        // Without memory the connection loses its place among the frames; nginx closes it.
        match list_of(&bytes[made.taken..]) {
            Ok(held) => self.held = held,
            Err(_) => self.incoming.give_up(),
        }

        made.shown
    }

    /// Finds out what bytes are, until there is something for nginx in their place. What is for nginx as it is
    /// moves to the front.
    fn make(&mut self, bytes: &mut [u8]) -> Made {
        let mut made = Made { taken: 0, shown: 0 };
        let mut data = None;
        let streams = self.streams();

        for id in streams.take_closed() {
            self.incoming.close(id);
        }

        while (made.taken < bytes.len() || self.incoming.has_more())
            && self.incoming.output().is_empty()
        {
            // What was shown may be the end of a CONNECT that nobody has taken yet.
            let part = self.incoming.next(&mut bytes[made.taken..]);
            let range = made.taken..made.taken + part.len;
            made.taken = range.end;

            match part.what {
                What::Data(id) => {
                    let data = data.get_or_insert_with(Data::default);

                    if !data.push(id, range.clone()) {
                        data.give(streams, bytes);
                        data.push(id, range);
                    }

                    continue;
                }
                What::Taken => {
                    streams.note_overhead(range.len());
                    continue;
                }
                _ => give(&mut data, streams, bytes),
            }

            match part.what {
                What::Passed => {
                    let len = range.len();

                    if range.start != made.shown {
                        bytes.copy_within(range, made.shown);
                    }

                    made.shown += len;
                }
                What::Padding(id) => streams.give_padding(id, range.len()),
                What::Ended(id) => streams.end(id),
                What::Broken(id) => streams.break_with(id, reason::PROTOCOL_ERROR),
                What::Data(_) | What::Taken => (),
            }
        }

        give(&mut data, streams, bytes);
        made
    }

    /// Has nginx read on at once where something is left for it.
    ///
    /// # Safety
    ///
    /// `c` must be the open connection.
    unsafe fn keep_ready(&mut self, c: *mut ngx_connection_t) {
        // SAFETY: the caller's promise: the events of an open connection live.
        let event = unsafe { &mut *(*c).read };

        if !self.is_empty() {
            self.readiness.get_or_insert(event.ready() != 0);
            event.set_ready(1);
        } else if let Some(is_ready) = self.readiness.take() {
            event.set_ready(u32::from(is_ready));
        }
    }

    /// Whether the socket has nothing more to read, though its event was said to be ready.
    ///
    /// # Safety
    ///
    /// As for [`Frames::keep_ready`].
    unsafe fn is_exhausted(&mut self, c: *mut ngx_connection_t) -> bool {
        let is_exhausted = self.readiness.take() == Some(false);

        if is_exhausted {
            // SAFETY: the caller's promise.
            unsafe { (*(*c).read).set_ready(0) };
        }

        is_exhausted
    }
}
