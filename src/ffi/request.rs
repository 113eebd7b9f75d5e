//! Owns the request: what the module reads of it, and how it ends.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_http_cleanup_pt, ngx_http_core_loc_conf_t, ngx_http_log_ctx_t, ngx_http_request_t,
    ngx_int_t, ngx_module_t,
};
use ngx::http::{HttpModuleConfExt, HttpModuleLocationConf, NgxHttpCoreModule};
use proxy_connect_core::relay::Side;

use super::addr::Addr;
use super::boundary::guard;
use super::code;
use super::connection::Connection;
use super::event::{Event, EventHandler};
use super::fields::{Entry, Field, Fields};
use super::pool::Pool;
use super::request_bits as bits;
#[cfg(http2)]
use super::stream::http2::Stream;
use super::{bytes, list_of, str_of};

/// NGX_HTTP_CONNECT, which cores before 1.21.1 do not know; they leave the bit unused.
pub const CONNECT: usize = 0x0001_0000;

/// What stands for it in a request that a patch of someone else's shall not take for a CONNECT, nor
/// its subrequests: a bit that is no method of nginx.
#[cfg(core_patch = "another")]
pub const DISGUISED: usize = 0x4000_0000;

/// What stands for it in a request that was shown to the core in disguise.
#[allow(dead_code)]
#[cfg(not(core_patch = "another"))]
pub const DISGUISED: usize = CONNECT;

/// A request of HTTP/1.0 has this version, one of HTTP/0.9 a lower one.
const HTTP_VERSION_10: usize = nginx_sys::NGX_HTTP_VERSION_10 as usize;
const HTTP_VERSION_11: usize = nginx_sys::NGX_HTTP_VERSION_11 as usize;

/// A request that nginx passed to a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request(NonNull<ngx_http_request_t>);

impl Request {
    /// # Safety
    ///
    /// `request` must live while the handle is used.
    pub unsafe fn from_ptr(request: *mut ngx_http_request_t) -> Option<Self> {
        NonNull::new(request).map(Self)
    }

    /// # Safety
    ///
    /// As for [`Request::from_ptr`].
    pub(super) unsafe fn from_non_null(request: NonNull<ngx_http_request_t>) -> Self {
        Self(request)
    }

    /// The pointer that nginx's functions take.
    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    /// The request as nginx lays it out, for the ways that read fields of their own.
    pub fn raw(&self) -> &ngx_http_request_t {
        // SAFETY: a live request, see from_ptr(); no callback runs while the reference lives.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn raw_mut(&mut self) -> &mut ngx_http_request_t {
        // SAFETY: as in raw(); one thread, and no other reference is held.
        unsafe { self.0.as_mut() }
    }

    /// The request of the client, for a subrequest; itself otherwise.
    pub fn main(self) -> Self {
        NonNull::new(self.raw().main).map_or(self, Self)
    }

    /// Whether this is a CONNECT of the client's.
    pub fn is_connect(self) -> bool {
        [CONNECT, DISGUISED].contains(&self.raw().method) && self.main() == self
    }

    /// The status for a client that may not have what its server has over TLS: one that speaks none, or has
    /// not the certificate. A core of others may ask for that only where it looks for a location.
    #[cfg(core_patch = "another")]
    pub fn refusal_of_client(self) -> Option<u16> {
        extern "C" {
            fn proxy_connect_refusal_of_client(r: *mut ngx_http_request_t) -> ngx_int_t;
        }

        // SAFETY: a live request, whose connection is open.
        let status = unsafe { proxy_connect_refusal_of_client(self.as_ptr()) };
        u16::try_from(status).ok().filter(|&status| status != 0)
    }

    /// Whether an internal redirect or a rewrite gave the request another URI to look up.
    #[allow(dead_code)]
    pub fn is_redirected(self) -> bool {
        bits::uri_changes(self.raw()) != nginx_sys::NGX_HTTP_MAX_URI_CHANGES + 1
    }

    /// Whether the client sent a CONNECT. It did also where the core could not read its line, and where
    /// the answer is a page of `error_page`, for which the core makes a GET of it.
    pub fn was_connect(self) -> bool {
        // SAFETY: the core points the field into the header buffer, which lives as long as the
        // request.
        let line = match unsafe { bytes(self.raw().request_line) } {
            b"" => self.header_bytes(),
            line => line,
        };

        self.is_connect() || line.starts_with(b"CONNECT ")
    }

    /// Whether the request came over HTTP/1.1.
    #[allow(dead_code)]
    pub fn is_http11(self) -> bool {
        self.raw().http_version == HTTP_VERSION_11
    }

    /// Notes that the answer has a header, be the request taken for one of HTTP/0.9.
    pub fn expect_header(mut self) {
        let request = self.raw_mut();
        request.http_version = request.http_version.max(HTTP_VERSION_10);
    }

    /// Whether the request came over a stream, one of many on a connection.
    pub fn is_stream(self) -> bool {
        bits::is_stream(self.raw())
    }

    /// Whether the request is the client's own and came with a request line.
    pub fn has_request_line(self) -> bool {
        self.main() == self && !self.is_stream()
    }

    /// Whether the header announces a body, with Content-Length or Transfer-Encoding.
    pub fn announces_body(self) -> bool {
        let headers = &self.raw().headers_in;
        headers.content_length_n > 0
            || headers.chunked() != 0
            || !headers.transfer_encoding.is_null()
    }

    /// The client's connection, of which the log is to be had: it may be a stream's. What a tunnel
    /// does with it is of [`Client`](super::client::Client).
    pub fn connection(self) -> Connection {
        // SAFETY: a live request has an open connection.
        unsafe { Connection::from_ptr(self.raw().connection).unwrap_unchecked() }
    }

    /// Whether nginx has found the client's connection broken, or at an end where more was due.
    pub fn has_broken_connection(self) -> bool {
        self.connection().get().error() != 0
    }

    /// Address and port of the client.
    pub fn client_addr(self) -> Option<Addr> {
        let connection = self.connection();
        // SAFETY: an open connection has the address of its client.
        unsafe { Addr::copy(connection.get().sockaddr, connection.get().socklen) }
    }

    /// The user whose password was checked, or looked for; empty without one.
    pub fn user(&self) -> &[u8] {
        // SAFETY: nginx keeps it as long as the request.
        unsafe { bytes(self.raw().headers_in.user) }
    }

    /// Whether `limit_conn` or `limit_req` refused it. Before nginx 1.17.6 they don't tell.
    pub fn is_limited(self) -> bool {
        bits::is_limited(self.raw())
    }

    /// Whether nothing but the header of an answer is sent.
    pub fn has_header_only(self) -> bool {
        bits::header_only(self.raw()) != 0
    }

    /// The request's pool.
    pub fn pool(self) -> Pool {
        // SAFETY: a live request has a pool.
        unsafe { Pool::from_ptr(self.raw().pool).unwrap_unchecked() }
    }

    /// The configuration of the core module in force for the request: `resolver`,
    /// `tcp_nodelay`.
    pub fn core_conf(&self) -> Option<&ngx_http_core_loc_conf_t> {
        NgxHttpCoreModule::location_conf(self.raw())
    }

    /// The server's configuration of `module`.
    ///
    /// # Safety
    ///
    /// `T` must be what `module` creates as its server configuration.
    pub unsafe fn server_conf<T>(&self, module: &ngx_module_t) -> Option<&T> {
        // SAFETY: the caller's promise; a configuration outlives its requests.
        unsafe {
            self.raw()
                .http_server_conf_unchecked::<T>(module)
                .map(|conf| &*conf.as_ptr().cast_const())
        }
    }

    /// The context of `module`, null before it is set and after an internal redirect.
    pub fn context(self, module: &ngx_module_t) -> *mut c_void {
        // SAFETY: nginx sized the array for all modules.
        unsafe { *self.raw().ctx.add(module.ctx_index) }
    }

    /// Whether the request has a context of `module`.
    pub fn has_context(self, module: &ngx_module_t) -> bool {
        !self.context(module).is_null()
    }

    /// Sets the context of `module`.
    pub fn set_context(self, module: &ngx_module_t, context: *mut c_void) {
        // SAFETY: as in context().
        unsafe { *self.raw().ctx.add(module.ctx_index) = context };
    }

    /// Closes the client's connection after the answer: what the client sent behind a CONNECT
    /// is never read as a request.
    pub fn forbid_keepalive(mut self) {
        bits::set_keepalive(self.raw_mut(), 0);
    }

    /// Keeps it, as far as the configuration lets nginx do so.
    #[allow(dead_code)]
    pub fn allow_keepalive(mut self) {
        bits::set_keepalive(self.raw_mut(), 1);
    }

    /// Whether nginx would keep the client's connection after the answer.
    pub fn is_keepalive(self) -> bool {
        bits::keepalive(self.raw()) != 0
    }

    /// The fields of the header.
    pub fn fields(self) -> Fields {
        // SAFETY: a live request has such a list.
        unsafe { Fields::from_ptr(&raw mut (*self.as_ptr()).headers_in.headers).unwrap_unchecked() }
    }

    /// Has the header hold the fields that `stays` says, and behind them those of `more`. `None` when there is
    /// no memory.
    pub fn replace_fields(self, stays: impl Fn(Field) -> bool, more: &[Entry]) -> Option<()> {
        // SAFETY: the list lives no longer than the request.
        unsafe { self.fields().replace(self.pool().as_ptr(), stays, more) }
    }

    /// Has modules that look for credentials find these. `None` when there is no memory.
    pub fn set_credentials(mut self, credentials: Option<Entry>) -> Option<()> {
        let entry = match credentials {
            Some(entry) => self.pool().put(entry)?.as_ptr(),
            None => std::ptr::null_mut(),
        };

        let headers = &mut self.raw_mut().headers_in;
        headers.authorization = entry;
        headers.user = str_of(b"");
        headers.user.data = std::ptr::null_mut();
        headers.passwd = headers.user;

        // Where nginx itself looks for a CONNECT's.
        #[cfg(proxy_authorization)]
        {
            headers.proxy_authorization = entry;
        }

        Some(())
    }

    /// Has the request have the configurations of another table of its server, until nginx looks for a
    /// location.
    pub fn use_locations(mut self, table: NonNull<*mut c_void>) {
        self.raw_mut().loc_conf = table.as_ptr();
    }

    /// Whether what the request gets is a page of `error_page` for 401 or 407, or one that has a status of
    /// its own.
    pub fn is_error_page(self) -> bool {
        matches!(self.raw().err_status, 401 | 407) || bits::error_page(self.raw()) != 0
    }

    /// The status of the answer.
    pub fn answer_status(self) -> u16 {
        u16::try_from(self.raw().headers_out.status).unwrap_or_default()
    }

    /// Has the answer, whose header was not sent yet, be one of another status.
    pub fn answer_with(mut self, status: u16, line: &'static [u8]) {
        let request = self.raw_mut();
        request.headers_out.status = status.into();
        request.headers_out.status_line = str_of(line);

        // This is what the access log tells, where it is set.
        if request.err_status != 0 {
            request.err_status = status.into();
        }
    }

    /// The fields of the answer's header.
    pub fn answer_fields(self) -> Fields {
        // SAFETY: a live request has such a list.
        unsafe {
            Fields::from_ptr(&raw mut (*self.as_ptr()).headers_out.headers).unwrap_unchecked()
        }
    }

    /// Whether the body of the answer may be a page that nginx itself makes for an error, and will come
    /// with this header.
    pub fn may_have_own_page(self) -> bool {
        let request = self.raw();

        request.err_status != 0
            && request.upstream.is_null()
            && request.headers_out.content_length_n > 0
            && bits::header_only(request) == 0
    }

    /// Has the answer be longer than its header would have said.
    pub fn lengthen_answer(mut self, more: usize) {
        let more = i64::try_from(more).unwrap_or_default();
        self.raw_mut().headers_out.content_length_n += more;
    }

    /// The bytes that nginx read behind the request header. They are handed over: nginx takes
    /// them for read from now on.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn take_early_bytes(mut self) -> Result<Vec<u8>, std::collections::TryReserveError> {
        // SAFETY: a live request has a header buffer, with its bytes from pos to last.
        let Some(header_in) = (unsafe { self.raw_mut().header_in.as_mut() }) else {
            return Ok(Vec::new());
        };

        let len = (header_in.last as usize).saturating_sub(header_in.pos as usize);

        // SAFETY: as above.
        let early = list_of(unsafe { std::slice::from_raw_parts(header_in.pos, len) })?;
        header_in.pos = header_in.last;

        Ok(early)
    }

    /// Whether nginx read bytes behind the request header.
    pub fn has_early_bytes(self) -> bool {
        // SAFETY: as in take_early_bytes().
        unsafe { self.raw().header_in.as_ref() }.is_some_and(|buffer| buffer.pos < buffer.last)
    }

    /// The bytes of the request header that nginx has read, from the request line on; empty when
    /// nginx does not keep them.
    pub fn header_bytes(&self) -> &[u8] {
        let start = self.raw().request_start;

        // SAFETY: a live request has a header buffer, whose bytes end at last. The parser points
        // request_start into it.
        unsafe {
            match self.raw().header_in.as_ref() {
                Some(buffer) if (buffer.start..buffer.last).contains(&start) => {
                    std::slice::from_raw_parts(start, buffer.last as usize - start as usize)
                }
                _ => &[],
            }
        }
    }

    /// Has nginx count so many bytes more of the header, or less.
    #[cfg(http2)]
    pub fn lengthen_header(mut self, more: i64) {
        self.raw_mut().request_length += more;
    }

    /// Notes that the request, which came over a stream, is malformed: nginx tells the client of the end of its
    /// stream as of a protocol error, which it does for one that came too slowly. The access log has 400.
    pub fn note_malformed(mut self) {
        self.raw_mut().headers_out.status = 400;
        self.set_timed_out(true);
    }

    /// Takes back that a request came too slowly: nginx might reset the connection for it.
    pub fn set_timed_out(self, is_timed_out: bool) {
        // SAFETY: a live request has an open connection, of its own where it came over a stream.
        unsafe { (*self.raw().connection).set_timedout(is_timed_out.into()) };
    }

    /// Has `H` hear of the events of the client's connection.
    pub fn on_client_events<H: EventHandler>(mut self) {
        let request = self.raw_mut();
        request.read_event_handler = Some(on_client_readable::<H>);
        request.write_event_handler = Some(on_client_writable::<H>);
    }

    /// Has the phases go on, which a handler has stopped with [`Verdict::Wait`](super::phase::Verdict::Wait):
    /// it is called again. The request may be gone afterwards.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn resume_phases(mut self) {
        let request = self.raw_mut();
        request.read_event_handler = Some(nginx_sys::ngx_http_block_reading);
        request.write_event_handler = Some(nginx_sys::ngx_http_core_run_phases);

        // SAFETY: a live request whose phases have stopped, to which nobody refers after the call.
        unsafe { nginx_sys::ngx_http_core_run_phases(self.as_ptr()) };
    }

    /// Leaves the client's connection alone again, for nginx to answer on it.
    pub fn block_client_events(mut self) {
        let request = self.raw_mut();
        request.read_event_handler = Some(nginx_sys::ngx_http_block_reading);
        request.write_event_handler = Some(nginx_sys::ngx_http_request_empty_handler);
    }

    /// Notes that the client was answered past nginx, and with which status, for the access log. Its
    /// bytes are no header to nginx: `$body_bytes_sent` counts them, too.
    pub fn note_response(mut self, status: u16) {
        let request = self.raw_mut();
        request.headers_out.status = usize::from(status);
        bits::set_header_sent(request, 1);
    }

    /// The status of the answer, as the access log tells it; 0 before there is one.
    pub fn status(self) -> u16 {
        let request = self.raw();

        let status = match request.err_status {
            0 => request.headers_out.status,
            status => status,
        };

        u16::try_from(status).unwrap_or(0)
    }

    /// Notes that the tunnel came to a proper end: `$request_completion` is OK.
    pub fn note_complete(mut self) {
        bits::set_request_complete(self.raw_mut(), 1);
    }

    /// Has nothing follow the request: no `post_action`, which may be one of an upstream.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn forbid_post_action(mut self) {
        let request = self.raw_mut();
        bits::set_post_action(request, 1);
        bits::set_uri_changes(request, 0);
    }

    /// Has `handler` run with `data` before the request is logged, and when it is terminated.
    /// `None` when there is no memory.
    pub fn add_cleanup(self, handler: ngx_http_cleanup_pt, data: *mut c_void) -> Option<()> {
        // SAFETY: a live request; 0 asks for no data of the cleanup's own.
        let cleanup = unsafe { nginx_sys::ngx_http_cleanup_add(self.as_ptr(), 0).as_mut()? };
        cleanup.handler = handler;
        cleanup.data = data;
        Some(())
    }

    /// Has the request outlive one finalisation more, or one release.
    pub fn hold(self) {
        self.count(1);
    }

    /// Takes back a hold.
    pub fn release(self) {
        self.count(-1);
    }

    fn count(mut self, more: i32) {
        // SAFETY: a live request's main request lives, and is itself or another.
        if let Some(main) = unsafe { self.raw_mut().main.as_mut() } {
            let count = bits::count(main).wrapping_add_signed(more);
            bits::set_count(main, count);
        }
    }

    /// Ends the request with an answer of this status; `error_page` applies. The request may
    /// be gone afterwards.
    pub fn finalize(self, status: u16) {
        // SAFETY: a live request, to which nobody refers after the call.
        unsafe { nginx_sys::ngx_http_finalize_request(self.as_ptr(), status as ngx_int_t) };
    }

    /// Ends the request and closes the client's connection without another byte. The request
    /// is gone soon afterwards.
    pub fn terminate(self) {
        // SAFETY: as in finalize().
        unsafe { nginx_sys::ngx_http_finalize_request(self.as_ptr(), code::ERROR) };
    }

    /// Ends the request after a bug: with 500 as long as nothing was sent.
    pub fn fail(self) {
        if bits::header_sent(self.raw()) != 0 {
            self.terminate();
        } else {
            self.finalize(500);
        }
    }

    /// Has the log's lines speak of this request.
    pub(super) fn set_log_context(self) {
        let log = self.connection().log().as_ptr();

        // SAFETY: the log of a client's connection carries an ngx_http_log_ctx_t while a request
        // lives.
        if let Some(context) = unsafe { (*log).data.cast::<ngx_http_log_ctx_t>().as_mut() } {
            context.current_request = self.as_ptr();
        }
    }
}

unsafe extern "C" fn on_client_readable<H: EventHandler>(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls the handlers of a request that lives.
    unsafe { on_client_event(r, H::handle, Event::Readable(Side::Client)) };
}

unsafe extern "C" fn on_client_writable<H: EventHandler>(r: *mut ngx_http_request_t) {
    // SAFETY: as above.
    unsafe { on_client_event(r, H::handle, Event::Writable(Side::Client)) };
}

/// # Safety
///
/// As for [`Request::from_ptr`].
unsafe fn on_client_event(
    r: *mut ngx_http_request_t,
    handle: fn(Request, Event),
    readiness: Event,
) {
    // SAFETY: the caller's promise.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return;
    };

    let connection = request.connection();

    // nginx 1.13.6 and older leave the end of a request to its handlers; all leave that of a stream to them.
    let event = if connection.get().close() != 0 || is_shut_down(request) {
        Event::Closing(Side::Client)
    } else {
        readiness
    };

    guard(connection.log(), || handle(request, event), || request.fail());
}

/// Whether the connection of a stream is closed because its worker shuts down.
#[cfg(http2)]
fn is_shut_down(request: Request) -> bool {
    request.is_stream() && Stream::of(request).is_some_and(Stream::is_shut_down)
}

#[cfg(not(http2))]
fn is_shut_down(_request: Request) -> bool {
    false
}
