//! Owns answers that the module itself makes, for a location whose content is its.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null_mut, NonNull};

use nginx_sys::{ngx_buf_t, ngx_chain_t, ngx_http_request_t, ngx_int_t, ngx_module_t};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use super::boundary::guard;
use super::code;
use super::conf::Conf;
use super::request::Request;
use super::{bytes, str_of};

/// What makes the content of a location.
pub trait ContentHandler {
    /// Answers `request`.
    ///
    /// # Errors
    ///
    /// The status of an answer that nginx makes.
    fn answer(request: Request) -> Result<Content, u16>;
}

/// An answer of status 200.
pub struct Content {
    /// Its type.
    pub content_type: &'static str,
    /// Fields of its header beside those that nginx writes.
    pub fields: Vec<(&'static str, String)>,
    /// Its body, which is not empty.
    pub body: Vec<u8>,
}

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD.
    Get,
    /// POST.
    Post,
    /// Any other.
    Other,
}

impl Conf {
    /// Has `H` make the content of the location that is being read. `None` where none is.
    pub fn set_content<H: ContentHandler>(self) -> Option<()> {
        // SAFETY: nginx's parser has a configuration of the location that it reads.
        let core = unsafe { NgxHttpCoreModule::location_conf_mut(self.as_ptr().as_ref()?)? };
        core.handler = Some(run::<H>);
        Some(())
    }
}

impl Request {
    /// What `module` has as the configuration of the location that the request is in.
    ///
    /// # Safety
    ///
    /// `T` must be what `module` creates as its location configuration.
    pub unsafe fn location_conf<T>(&self, module: &ngx_module_t) -> Option<&T> {
        // SAFETY: nginx sized the array for all modules; the caller's promise.
        unsafe { (*self.raw().loc_conf.add(module.ctx_index)).cast::<T>().as_ref() }
    }

    /// Its method.
    pub fn method(self) -> Method {
        let method = self.raw().method as u32;

        match method {
            nginx_sys::NGX_HTTP_GET | nginx_sys::NGX_HTTP_HEAD => Method::Get,
            nginx_sys::NGX_HTTP_POST => Method::Post,
            _ => Method::Other,
        }
    }

    /// The path that it asks for.
    pub fn path(&self) -> &[u8] {
        // SAFETY: nginx keeps it as long as the request.
        unsafe { bytes(self.raw().uri) }
    }

    /// An argument of its query, as it was sent.
    pub fn argument(&self, name: &[u8]) -> Option<&[u8]> {
        // SAFETY: as in path().
        let arguments = unsafe { bytes(self.raw().args) };

        arguments.split(|&byte| byte == b'&').find_map(|argument| {
            let mut parts = argument.splitn(2, |&byte| byte == b'=');
            (parts.next() == Some(name)).then(|| parts.next().unwrap_or_default())
        })
    }

    /// The first field of the header by that name, in lower case.
    pub fn field(&self, name: &[u8]) -> Option<Vec<u8>> {
        let field = self.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name))?;
        Some(field.value().to_vec())
    }
}

unsafe extern "C" fn run<H: ContentHandler>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls a content handler with a request that lives.
    let rc = unsafe { nginx_sys::ngx_http_discard_request_body(r) };

    if rc != code::OK {
        return rc;
    }

    // SAFETY: as above.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    match guard(request.connection().log(), || H::answer(request), || Err(500)) {
        Ok(content) => send(request, &content).unwrap_or(500),
        Err(status) => ngx_int_t::from(status as i16),
    }
}

/// `None` when there is no memory, and nothing was sent.
fn send(mut request: Request, content: &Content) -> Option<ngx_int_t> {
    let pool = request.pool();
    let body = pool.copy(&content.body)?;

    for (name, value) in &content.fields {
        request.answer_fields().push(name.as_bytes(), pool.copy(value.as_bytes())?)?;
    }

    let headers = &mut request.raw_mut().headers_out;
    headers.status = 200;
    headers.content_length_n = body.len().try_into().ok()?;
    headers.content_type = str_of(content.content_type.as_bytes());
    headers.content_type_len = content.content_type.len();
    headers.content_type_lowcase = null_mut::<c_void>().cast();

    // SAFETY: a live request whose header was not sent; the pool keeps what the chain refers to.
    unsafe {
        let buf = zeroed_in::<ngx_buf_t>(request)?;
        let chain = zeroed_in::<ngx_chain_t>(request)?;
        let range = body.as_mut_ptr_range();

        (*buf.as_ptr()).pos = range.start;
        (*buf.as_ptr()).last = range.end;
        (*buf.as_ptr()).set_memory(1);
        (*buf.as_ptr()).set_last_buf(1);
        (*buf.as_ptr()).set_last_in_chain(1);
        (*chain.as_ptr()).buf = buf.as_ptr();

        let rc = nginx_sys::ngx_http_send_header(request.as_ptr());

        if rc == code::ERROR || rc > code::OK || request.has_header_only() {
            return Some(rc);
        }

        Some(nginx_sys::ngx_http_output_filter(request.as_ptr(), chain.as_ptr()))
    }
}

/// # Safety
///
/// All bytes 0 must be a `T`.
unsafe fn zeroed_in<T: 'static>(request: Request) -> Option<NonNull<T>> {
    // SAFETY: the caller's promise.
    request.pool().put(unsafe { MaybeUninit::<T>::zeroed().assume_init() })
}
