//! Owns nginx's filters of answers: the module's place among them.

use std::ptr::NonNull;

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_output_body_filter_pt, ngx_http_output_header_filter_pt,
    ngx_http_request_t, ngx_int_t,
};

use super::boundary::guard;
use super::code;
use super::request::Request;
use super::request_bits as bits;

/// A filter of answers.
pub trait Filter {
    /// Looks at the header of the answer to `request` before it is sent.
    fn header(request: Request) -> Header;

    /// Looks at what is to be sent of the body. `None` where there is no memory: the request ends.
    fn body(request: Request, buffers: Buffers) -> Option<Body>;
}

/// A filter that has the last word.
pub trait LastFilter {
    /// Looks at the header of the answer to `request` as it will be sent. `None` where there is no memory: the
    /// request ends.
    fn header(request: Request) -> Option<()>;
}

/// What becomes of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It goes on its way.
    Pass,
    /// It waits for the body.
    Hold,
    /// The request ends.
    Fail,
}

/// What becomes of a part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It goes on its way.
    Pass,
    /// The header that was held goes first.
    Release,
}

/// The buffers of a part of a body.
pub struct Buffers(*mut ngx_chain_t);

impl Iterator for Buffers {
    type Item = Buffer;

    fn next(&mut self) -> Option<Buffer> {
        // SAFETY: a chain that a filter got, which ends in null.
        let link = unsafe { self.0.as_ref() }?;
        self.0 = link.next;
        NonNull::new(link.buf).map(Buffer)
    }
}

/// A buffer of a body.
#[derive(Clone, Copy)]
pub struct Buffer(NonNull<ngx_buf_t>);

impl Buffer {
    /// What it has in memory.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a buffer that a filter got; what it has in memory lies from pos to last.
        unsafe {
            let buffer = self.0.as_ref();
            let len = (buffer.last as usize).saturating_sub(buffer.pos as usize);

            if buffer.pos.is_null() {
                return &[];
            }

            std::slice::from_raw_parts(buffer.pos, len)
        }
    }

    /// Whether it is one of nginx's own texts: these lie in memory that nobody writes to, and no file was read
    /// for them.
    pub fn is_constant(&self) -> bool {
        // SAFETY: as in bytes().
        unsafe { self.0.as_ref() }.memory() != 0
    }

    /// Has it hold other bytes, which live as long as the request.
    pub fn set(mut self, bytes: &'static [u8]) {
        let range = bytes.as_ptr_range();

        // SAFETY: as above; whoever gets it next only reads.
        let buffer = unsafe { self.0.as_mut() };
        buffer.pos = range.start.cast_mut();
        buffer.last = range.end.cast_mut();
    }
}

/// The filters that come after ours.
static mut NEXT_HEADER: ngx_http_output_header_filter_pt = None;
static mut NEXT_BODY: ngx_http_output_body_filter_pt = None;

/// Puts `F` in front of the filters of all modules that came before, if it `is_needed`, or was in a configuration
/// before: where this one can't be loaded in the end, that one goes on with its filters. There is one such filter.
///
/// # Safety
///
/// For a postconfiguration hook to call, once: nginx makes the chain anew for each configuration.
pub unsafe fn install<F: Filter>(is_needed: bool) {
    // SAFETY: the caller's promise; one thread.
    unsafe {
        let before = NEXT_HEADER;

        if !is_needed && before.is_none() {
            return;
        }

        NEXT_HEADER = nginx_sys::ngx_http_top_header_filter;
        nginx_sys::ngx_http_top_header_filter = Some(header::<F>);

        NEXT_BODY = nginx_sys::ngx_http_top_body_filter;
        nginx_sys::ngx_http_top_body_filter = Some(body::<F>);
    }
}

/// The filter that comes after the last of ours: nginx's own, which writes the header.
static mut WRITER: ngx_http_output_header_filter_pt = None;

/// Puts `F` in front of what writes the header, behind the filters of all modules that come later; as for
/// [`install`], if it `is_needed`.
///
/// # Safety
///
/// As for [`install`], for the hook of a module that has its place there.
pub unsafe fn install_last<F: LastFilter>(is_needed: bool) {
    // SAFETY: the caller's promise; one thread.
    unsafe {
        let before = WRITER;

        if !is_needed && before.is_none() {
            return;
        }

        WRITER = nginx_sys::ngx_http_top_header_filter;
        nginx_sys::ngx_http_top_header_filter = Some(last_header::<F>);
    }
}

unsafe extern "C" fn last_header<F: LastFilter>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls a filter with a live request.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    let looked = guard(request.connection().log(), || F::header(request), || None);

    // SAFETY: written before there are requests.
    match (looked, unsafe { WRITER }) {
        // SAFETY: as above.
        (Some(()), Some(write)) => unsafe { write(r) },
        _ => code::ERROR,
    }
}

unsafe extern "C" fn header<F: Filter>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls a filter with a live request.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    match guard(request.connection().log(), || F::header(request), || Header::Fail) {
        // SAFETY: as above.
        Header::Pass => unsafe { next_header(r) },
        Header::Hold => code::OK,
        Header::Fail => code::ERROR,
    }
}

unsafe extern "C" fn body<F: Filter>(
    r: *mut ngx_http_request_t,
    chain: *mut ngx_chain_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a filter with a live request, and the buffers of a part of its body.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    match guard(request.connection().log(), || F::body(request, Buffers(chain)), || None) {
        // SAFETY: as above.
        Some(Body::Pass) => unsafe { next_body(r, chain) },
        // SAFETY: as above.
        Some(Body::Release) => unsafe { release(r, chain) },
        None => code::ERROR,
    }
}

/// Does what a handler does that sends a header and then a body.
///
/// # Safety
///
/// As for [`body`].
unsafe fn release(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        let rc = next_header(r);

        if rc == code::ERROR || rc > code::OK || bits::header_only(&*r) != 0 {
            return rc;
        }

        next_body(r, chain)
    }
}

/// # Safety
///
/// As for [`header`].
unsafe fn next_header(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: the caller's promise; written before there are requests.
    unsafe { NEXT_HEADER.map_or(code::ERROR, |next| next(r)) }
}

/// # Safety
///
/// As for [`body`].
unsafe fn next_body(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: the caller's promise; written before there are requests.
    unsafe { NEXT_BODY.map_or(code::ERROR, |next| next(r, chain)) }
}
