//! Owns the size of a request's pool: one block that a CONNECT fits in. nginx's default is a little
//! less than it takes itself, and a second block is as large again, for as long as a tunnel
//! stands.

use std::mem::size_of;

use nginx_sys::{
    ngx_buf_t, ngx_conf_t, ngx_http_cleanup_t, ngx_http_max_module, ngx_http_request_t,
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

/// The same over HTTP/2, where the names of fields lie in the stream's pool, and the tunnel beside its request's if need be.
const STREAM_STRINGS: usize = 256;

/// What nginx has for a stream in its request's pool, beside the buffer: ngx_http_v2_stream_t, less than this.
const STREAM: usize = 160;

/// What is kept by cleanup handlers of the pool and of the request over a stream, without the tunnel.
const STREAM_CLEANUPS: usize = 5 * size_of::<ngx_pool_cleanup_t>() + 64;

/// What a pool's size is a multiple of: NGX_POOL_ALIGNMENT.
const ALIGNMENT: usize = 16;

/// From how many bytes on nginx takes memory from beside a pool: NGX_MAX_ALLOC_FROM_POOL on most systems.
const LARGE: usize = 4096;

/// Enlarges the requests' pools of a server whose `request_pool_size` is nginx's default, so that one
/// block takes a request and a context of `own` bytes; over HTTP/2, where nginx has a buffer there which nobody uses,
/// it takes the request, if the server has such tunnels.
///
/// # Safety
///
/// `cf` must be the configuration that the hook got that merges a server's.
pub unsafe fn fit(cf: *mut ngx_conf_t, own: usize, takes_http2: bool) {
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
        let buffer = server.client_header_buffer_size;
        let over_http1 = over_http1(own);
        let over_http2 = if takes_http2 { over_http2(buffer) } else { 0 };
        let needed = of_request(main.variables.nelts) + over_http1.max(over_http2);

        server.request_pool_size = DEFAULT.max(needed.next_multiple_of(ALIGNMENT));
    }
}

/// What nginx itself has in the pool of any request.
fn of_request(variables: usize) -> usize {
    // SAFETY: nginx counts its modules before it reads the configuration.
    let modules = unsafe { ngx_http_max_module };

    size_of::<ngx_pool_t>()
        + size_of::<ngx_http_request_t>()
        + FIELDS * size_of::<ngx_table_elt_t>()
        + modules * size_of::<*mut ()>()
        + variables * size_of::<ngx_http_variable_value_t>()
}

fn over_http1(own: usize) -> usize {
    size_of::<ngx_pool_cleanup_t>() + size_of::<ngx_http_cleanup_t>() + own + STRINGS
}

fn over_http2(buffer: usize) -> usize {
    let buffer = if buffer < LARGE { buffer } else { 0 };
    size_of::<ngx_buf_t>() + buffer + STREAM + STREAM_CLEANUPS + STREAM_STRINGS
}
