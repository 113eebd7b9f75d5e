//! Owns the table that `error_page` fills, and copies of it for requests of a proxy's users.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_array_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_module,
    ngx_http_core_srv_conf_t, ngx_http_err_page_t, ngx_int_t, ngx_pool_t,
};

const UNAUTHORIZED: ngx_int_t = 401;
const PROXY_AUTHENTICATION: ngx_int_t = 407;

/// Has 401 and 407 be one status for the `error_page` of the location, or server, whose configuration is being
/// merged. What stands there for 407 comes first. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a merge of location configurations got.
pub unsafe fn unite(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise: the context is that of the location, and the core's configuration is merged.
    unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>().as_ref()?;
        let core = core_of(context.loc_conf).as_mut()?;
        core.error_pages = united((*cf).pool, core.error_pages)?;
    }

    Some(())
}

/// A copy of the table of location configurations of `server` in which 401 and 407 are one status for
/// `error_page`. `None` where there is nothing to unite, or no memory.
///
/// # Safety
///
/// `server` must be merged, and `pool` live as long as it does.
pub unsafe fn copy_united(
    pool: *mut ngx_pool_t,
    server: &ngx_http_core_srv_conf_t,
) -> Option<NonNull<*mut c_void>> {
    // SAFETY: the caller's promise; a table has a place for each module.
    unsafe {
        let own = server.ctx.as_ref()?.loc_conf;
        let pages = (*core_of(own)).error_pages;
        let united = united(pool, pages).filter(|united| *united != pages)?;

        let core = copy(pool, core_of(own), 1)?;
        (*core.as_ptr()).error_pages = united;

        let table = copy(pool, own, nginx_sys::ngx_http_max_module)?;
        *table.as_ptr().add(core_index()) = core.as_ptr().cast();
        Some(table)
    }
}

/// # Safety
///
/// `pages` must be null or an array of pages. `None` when there is no memory.
unsafe fn united(pool: *mut ngx_pool_t, pages: *mut ngx_array_t) -> Option<*mut ngx_array_t> {
    // SAFETY: the caller's promise.
    unsafe {
        let own: &[ngx_http_err_page_t] = match pages.as_ref() {
            Some(pages) => pages.as_slice(),
            None => return Some(pages),
        };

        let of = |status| own.iter().copied().filter(move |page| page.status == status);
        let as_401 = of(PROXY_AUTHENTICATION).map(|page| with_status(page, UNAUTHORIZED));
        let as_407 = of(UNAUTHORIZED).map(|page| with_status(page, PROXY_AUTHENTICATION));
        let count = own.len() + as_401.clone().count() + as_407.clone().count();

        if count == own.len() {
            return Some(pages);
        }

        let size = size_of::<ngx_http_err_page_t>();
        let array = NonNull::new(nginx_sys::ngx_array_create(pool, count, size))?.as_ptr();

        for page in as_401.chain(own.iter().copied()).chain(as_407) {
            let place = nginx_sys::ngx_array_push(array).cast::<ngx_http_err_page_t>();
            NonNull::new(place)?.write(page);
        }

        Some(array)
    }
}

fn with_status(mut page: ngx_http_err_page_t, status: ngx_int_t) -> ngx_http_err_page_t {
    page.status = status;
    page
}

fn core_index() -> usize {
    // SAFETY: nginx writes it before it reads an http block.
    unsafe { (*std::ptr::addr_of!(ngx_http_core_module)).ctx_index }
}

/// # Safety
///
/// `table` must be a table of location configurations.
unsafe fn core_of(table: *mut *mut c_void) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: the caller's promise.
    unsafe { (*table.add(core_index())).cast() }
}

/// # Safety
///
/// `count` values at `from` must be readable.
unsafe fn copy<T>(pool: *mut ngx_pool_t, from: *const T, count: usize) -> Option<NonNull<T>> {
    // SAFETY: the caller's promise, and fresh memory for as many.
    unsafe {
        let place = NonNull::new(nginx_sys::ngx_palloc(pool, count * size_of::<T>()))?.cast::<T>();
        place.as_ptr().copy_from_nonoverlapping(from, count);
        Some(place)
    }
}
