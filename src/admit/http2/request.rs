//! Owns what is changed in a request over a stream before the first phase handler: one that was shown as
//! another is made a CONNECT, and what nginx was not shown of any is put back.

use nginx_sys::ngx_http_request_t;
use proxy_connect_core::http2::fields::SectionError as Complaint;
use proxy_connect_core::http2::incoming::{Connect, Shown};

use super::{frames, keeps_server};
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

/// Makes a request what its client sent, once.
pub fn recognise(request: Request) {
    // SAFETY: a live request over a stream, whose connection is open. No other reference to its frames is
    // in use: nginx is not in our receive function.
    unsafe {
        let Some((id, c)) = place_of(request) else {
            return;
        };

        let Some(frames) = frames::of(c) else {
            return;
        };

        let Some(shown) = frames.take_request(id) else {
            return;
        };

        put_back(request, &shown);

        if let Some(connect) = shown.connect {
            make_connect(request, &connect, keeps_server(frames.http()));

            let max = ServerConf::of(&request).and_then(ServerConf::http2_window).unwrap_or(0);
            frames.open(request, id, max, connect.has_ended);
        }
    }
}

/// Sees to it that the log shows what the client sent also where nginx has refused it before the phases, and
/// that what was said for the sake of a stream's end concerns no other.
pub fn before_log(request: Request) {
    recognise(request);

    let is_malformed = |named: Result<_, Complaint>| named.is_err_and(Complaint::is_malformed);

    if line::authority(&request).is_some_and(is_malformed) {
        request.set_timed_out(false);
    }
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
/// `request` must have been shown as another, and its phases not have begun.
unsafe fn make_connect(request: Request, connect: &Connect, keeps_server: bool) {
    let r = request.as_ptr();

    // SAFETY: the caller's promise.
    unsafe {
        recognise::make_connect(r);

        if keeps_server || connect.named.is_err() {
            proxy_connect_h2_keep_server(r);
        }
    }

    line::judge_stream(request, connect);
    way::note_authority(request);
}
