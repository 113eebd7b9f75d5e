//! Owns the module's place among nginx's header filters, and what a filter does to a header.

use std::cell::Cell;

use nginx_sys::{ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_int_t, ngx_table_elt_t};

use super::boundary::guard;
use super::request::Request;
use super::variable::NoMemory;
use super::{code, str_of};

/// A filter of headers.
pub trait HeaderFilter {
    /// Looks at the header of an answer before nginx's own filters do.
    ///
    /// # Errors
    ///
    /// There is no memory; the request ends.
    fn handle(request: Request) -> Result<(), NoMemory>;
}

thread_local! {
    /// The filter that was the first one before.
    static NEXT: Cell<ngx_http_output_header_filter_pt> = const { Cell::new(None) };
}

/// Has `F` be the first of the header filters. A module that is no filter to nginx's build is set up before
/// nginx's own filters where it is linked in: it can't add one when it is.
///
/// # Safety
///
/// It must be called once for a cycle, when all modules were set up for it, for one `F`.
pub unsafe fn add<F: HeaderFilter>() {
    let ours: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t = run::<F>;

    // SAFETY: nginx changes it while it sets up modules only.
    let first = unsafe { nginx_sys::ngx_http_top_header_filter };

    // Without an http block nothing was set up, and the filters are those of before, or none.
    if first.is_none() || first.is_some_and(|first| std::ptr::fn_addr_eq(first, ours)) {
        return;
    }

    NEXT.set(first);

    // SAFETY: as above.
    unsafe { nginx_sys::ngx_http_top_header_filter = Some(ours) };
}

unsafe extern "C" fn run<F: HeaderFilter>(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx filters the header of a request that lives.
    let Some(request) = (unsafe { Request::from_ptr(r) }) else {
        return code::ERROR;
    };

    let filtered = guard(request.connection().log(), || F::handle(request), || Err(NoMemory));

    match (filtered, NEXT.get()) {
        // SAFETY: the next filter, with nginx's own argument.
        (Ok(()), Some(next)) => unsafe { next(r) },
        _ => code::ERROR,
    }
}

/// Adds a field to the header of the answer to `request`.
///
/// # Errors
///
/// There is no memory.
pub fn push(request: Request, name: &'static str, value: &'static [u8]) -> Result<(), NoMemory> {
    push_copy(request, name.as_bytes(), value)
}

/// Adds a field whose texts lie in the pool of `request` to the header of its answer.
///
/// # Errors
///
/// There is no memory.
pub fn push_copy(mut request: Request, name: &[u8], value: &[u8]) -> Result<(), NoMemory> {
    let headers = &mut request.raw_mut().headers_out.headers;

    // SAFETY: a list of ngx_table_elt_t of a live request; the new element is written whole.
    unsafe {
        let place = nginx_sys::ngx_list_push(headers).cast::<ngx_table_elt_t>();

        if place.is_null() {
            return Err(NoMemory);
        }

        let mut field = std::mem::zeroed::<ngx_table_elt_t>();
        field.hash = 1;
        field.key = str_of(name);
        field.value = str_of(value);
        place.write(field);
    }

    Ok(())
}
