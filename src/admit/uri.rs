//! Owns the URI of a CONNECT, which has none: variables and rules see an empty one. The core gets a "/",
//! since it takes no empty path in a redirect to a named location, and looks at the last byte of one.

use nginx_sys::{
    ngx_conf_t, ngx_cycle_t, ngx_http_handler_pt, ngx_http_phase_handler_t,
    ngx_http_phases_NGX_HTTP_SERVER_REWRITE_PHASE as SERVER_REWRITE, ngx_http_request_t, ngx_int_t,
    ngx_str_t,
};
use ngx::http::{HttpModuleMainConf, NgxHttpCoreModule};

use super::checker::{guarded, replace, Checker};
use crate::ffi::code;
use crate::ffi::request::Request;
use crate::ffi::request_bits as bits;
use crate::ffi::str_of;
use crate::ffi::variable;

/// The path that the core gets; known by its place.
static ROOT: [u8; 1] = *b"/";

/// The same at another place, where it is not hidden.
static SHOWN: [u8; 1] = *b"/";

/// The core's checker of the rewrite phases.
const CORE: Checker = nginx_sys::ngx_http_core_rewrite_phase;

/// The handler of the rewrite module, which looks at the path itself; static there.
static mut REWRITE: ngx_http_handler_pt = None;

/// Gives a request whose line was read, and not used yet, the path that stands for none.
pub fn clear(request: Request) {
    let path = ROOT.as_ptr_range();
    let r = request.as_ptr();

    // SAFETY: a live request, to which no reference is held; nothing writes into a path.
    unsafe {
        (*r).uri_start = path.start.cast_mut();
        (*r).uri_end = path.end.cast_mut();
        (*r).uri_ext = std::ptr::null_mut();
        (*r).args_start = std::ptr::null_mut();

        bits::set_complex_uri(&mut *r, 0);
        bits::set_quoted_uri(&mut *r, 0);
        bits::set_plus_in_uri(&mut *r, 0);
    }
}

/// Gives a request that was read the path that stands for none.
#[cfg(http2)]
pub fn forget(request: Request) {
    let r = request.as_ptr();

    // SAFETY: a live request, to which no reference is held; nothing writes into a path.
    unsafe {
        (*r).uri = str_of(&ROOT);
        (*r).unparsed_uri = str_of(&ROOT);
    }
}

/// Gives a CONNECT that is another module's the path that it would have had from the core.
pub fn show(request: Request) {
    let r = request.as_ptr();

    // SAFETY: a live request, to which no reference is held; nothing writes into a path.
    unsafe {
        for path in [&mut (*r).uri, &mut (*r).unparsed_uri] {
            if is_none(*path) {
                *path = str_of(&SHOWN);
            }
        }
    }
}

/// Registers what hides the path from variables. `None` when there is no memory.
///
/// # Safety
///
/// `cf` must be the configuration that a preconfiguration hook got.
pub unsafe fn hide_from_variables(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        variable::blank(cf, b"uri", |request| is_none(request.raw().uri))?;
        variable::blank(cf, b"document_uri", |request| is_none(request.raw().uri))?;
        variable::blank(cf, b"request_uri", |request| is_none(request.raw().unparsed_uri))
    }
}

/// Finds the rewrite module. `None` when there is no `http` block.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn find_rewrite(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise. Modules of nginx's own come before others, and the rewrite module is the
    // only one of them with a handler here.
    unsafe {
        let cmcf = NgxHttpCoreModule::main_conf(cf.as_ref()?)?;
        let handlers = cmcf.phases[SERVER_REWRITE as usize].handlers.as_slice();
        REWRITE = handlers.first().copied().flatten();
    }

    Some(())
}

/// Hides the path from the rewrite module. `None` when there is no `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn hide_from_rewrite(cycle: *mut ngx_cycle_t) -> Option<()> {
    // Such a core keeps CONNECT from these phases by itself.
    if cfg!(no_rewrite) {
        return Some(());
    }

    // SAFETY: the caller's promise.
    unsafe { replace(cycle, CORE, rewrite) }
}

unsafe extern "C" fn rewrite(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe {
        guarded(r, || match rewriter_of(r, ph) {
            Some(handler) => rewrite_without_path(r, handler),
            None => CORE(r, ph),
        })
    }
}

/// The handler, where it is the rewrite module's and the request has no path.
///
/// # Safety
///
/// As for [`rewrite`].
unsafe fn rewriter_of(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> Option<unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t> {
    // SAFETY: the caller's promise; the static is written before there are requests.
    unsafe {
        let (handler, rewrite) = ((*ph).handler?, REWRITE?);
        (is_none((*r).uri) && std::ptr::fn_addr_eq(handler, rewrite)).then_some(handler)
    }
}

/// Does what the core's checker does, with a handler that never waits.
///
/// # Safety
///
/// As for [`rewrite`].
unsafe fn rewrite_without_path(
    r: *mut ngx_http_request_t,
    handler: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t,
) -> ngx_int_t {
    // SAFETY: the caller's promise.
    unsafe {
        (*r).uri.len = 0;

        let rc = handler(r);

        if rc == code::DONE {
            return code::OK;
        }

        if is_none((*r).uri) {
            (*r).uri.len = ROOT.len();
        }

        if rc == code::DECLINED {
            (*r).phase_handler += 1;
            return code::AGAIN;
        }

        nginx_sys::ngx_http_finalize_request(r, rc);
        code::OK
    }
}

fn is_none(path: ngx_str_t) -> bool {
    std::ptr::eq(path.data, ROOT.as_ptr())
}
