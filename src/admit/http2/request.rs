//! Owns what is changed in a request over a stream before the first phase handler: one that was shown as
//! another is made a CONNECT, and what nginx was not shown of any is put back.

use nginx_sys::ngx_http_request_t;
use proxy_connect_core::http2::fields::SectionError as Complaint;
use proxy_connect_core::http2::incoming::{Connect, Shown};

use super::frames::{self, Frames};
use super::keeps_server;
use crate::admit::{line, recognise, way};
use crate::conf::ServerConf;
use crate::ffi::request::Request;
use crate::ffi::stream::http2::place_of;

/// The name of the field whose value is not shown, so that no log has it.
const HIDDEN: &[u8] = b"proxy-authorization";

// src/ffi/stream/http2.c
extern "C" {
    fn proxy_connect_h2_keep_server(r: *mut ngx_http_request_t);
}

/// Makes a request what its client sent, and opens the end of a tunnel for a CONNECT.
pub fn recognise(request: Request) {
    // SAFETY: a live request over a stream, before its phases.
    unsafe {
        let Some((id, frames, shown)) = take(request) else {
            return;
        };

        put_back(request, &shown);

        if let Some(connect) = shown.connect {
            if keeps_server(frames.http()) || connect.named.is_err() {
                proxy_connect_h2_keep_server(request.as_ptr());
            }

            make_connect(request, &connect);

            let max = ServerConf::of(&request).and_then(ServerConf::http2_window).unwrap_or(0);
            frames.open(request, id, max, connect.has_ended);
        }
    }
}

/// Sees to it that the log shows what the client sent also where nginx has refused it before the phases, and
/// that what was said for the sake of a stream's end concerns no other.
pub fn before_log(request: Request) {
    // Others were recognised, and may be logged while their connection is read.
    if request.raw().phase_handler == 0 && line::authority(&request).is_none() {
        // SAFETY: a live request over a stream, which was refused while nginx read it.
        unsafe {
            if let Some((_, _, shown)) = take(request) {
                put_back(request, &shown);
                shown.connect.iter().for_each(|connect| make_connect(request, connect));
            }
        }
    }

    let is_malformed = |named: Result<_, Complaint>| named.is_err_and(Complaint::is_malformed);

    if line::authority(&request).is_some_and(is_malformed) {
        request.set_timed_out(false);
    }
}

/// Takes what nginx was shown of a request, once, with its stream, and the frames of its connection.
///
/// # Safety
///
/// `request` must live and have come over a stream; no other reference to the frames may be in use: nginx must
/// not be in our receive function.
unsafe fn take<'a>(request: Request) -> Option<(u32, &'a mut Frames, Shown)> {
    let (id, c) = place_of(request)?;
    // SAFETY: the caller's promise: the connection of a live request is open.
    let frames = unsafe { frames::of(c) }?;
    let shown = frames.take_request(id)?;
    Some((id, frames, shown))
}

/// Puts back what nginx was not shown, and what it has counted.
fn put_back(request: Request, shown: &Shown) {
    let (sent, said) = (shown.len as i64, shown.said as i64);
    request.lengthen_header(sent - said);

    let fields = request.fields();
    let hidden = fields.iter().filter(|field| field.name() == HIDDEN);

    for (field, value) in hidden.zip(&shown.hidden) {
        if let Some(value) = request.pool().join(&[value]) {
            field.set_value(value);
        }
    }
}

/// # Safety
///
/// `request` must have been shown as another, and no phase handler be running.
unsafe fn make_connect(request: Request, connect: &Connect) {
    // SAFETY: the caller's promise.
    unsafe { recognise::make_connect(request.as_ptr()) };

    line::judge_stream(request, connect);
    way::note_authority(request);
}
