//! Owns the size of a request's pool: one block that a CONNECT fits in. nginx's default is a little
//! less than it takes itself, and a second block is nearly as large again, for as long as a tunnel
//! stands.

use std::mem::size_of;

use nginx_sys::{
    ngx_conf_t, ngx_http_cleanup_t, ngx_http_max_module, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_pool_cleanup_t, ngx_pool_t, ngx_table_elt_t,
};
use ngx::http::{HttpModuleMainConf, HttpModuleServerConf, NgxHttpCoreModule};

/// `request_pool_size` without the directive: ngx_http_core_merge_srv_conf().
const DEFAULT: usize = 4096;

/// Header fields that nginx has room for in each request, sent and received, with the trailers:
/// ngx_http_alloc_request() and ngx_http_process_request_line().
const FIELDS: usize = 20 + 20 + 4;

/// For the names of a request's header fields, its host, what other modules keep of it, and its line of the
/// access log.
const STRINGS: usize = 768;

/// What a pool's size is a multiple of: NGX_POOL_ALIGNMENT.
const ALIGNMENT: usize = 16;

/// Enlarges the requests' pools of a server whose `request_pool_size` is nginx's default, so that one
/// block takes a request and a context of `own` bytes.
///
/// # Safety
///
/// `cf` must be the configuration that the hook got that merges a server's.
pub unsafe fn fit(cf: *mut ngx_conf_t, own: usize) {
    // SAFETY: the caller's promise; the core has merged its own configuration before.
    let core = unsafe {
        cf.as_ref().and_then(|cf| {
            Some((NgxHttpCoreModule::main_conf(cf)?, NgxHttpCoreModule::server_conf_mut(cf)?))
        })
    };

    let Some((main, server)) = core else {
        return;
    };

    if server.request_pool_size == DEFAULT {
        server.request_pool_size = DEFAULT.max(needed(main.variables.nelts, own));
    }
}

fn needed(variables: usize, own: usize) -> usize {
    // SAFETY: nginx counts its modules before it reads the configuration.
    let modules = unsafe { ngx_http_max_module };

    let bytes = size_of::<ngx_pool_t>()
        + size_of::<ngx_http_request_t>()
        + FIELDS * size_of::<ngx_table_elt_t>()
        + modules * size_of::<*mut ()>()
        + variables * size_of::<ngx_http_variable_value_t>()
        + size_of::<ngx_pool_cleanup_t>()
        + size_of::<ngx_http_cleanup_t>()
        + own
        + STRINGS;

    bytes.next_multiple_of(ALIGNMENT)
}
