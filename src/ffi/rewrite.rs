//! Owns directives in an `if` of a server: they do something when its condition holds, in the rewrite phase.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{ngx_conf_t, ngx_http_request_t, ngx_int_t, ngx_uint_t};

use super::boundary::guard;
use super::code;
use super::conf::Conf;
use super::log::Log;
use super::request::Request;

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t, *mut c_void);

// src/ffi/rewrite.c
extern "C" {
    fn proxy_connect_is_in_if(cf: *mut ngx_conf_t) -> ngx_uint_t;
    fn proxy_connect_add_code(
        cf: *mut ngx_conf_t,
        handler: Handler,
        data: *mut c_void,
    ) -> ngx_int_t;
}

/// What is done with a value in an `if` when its condition holds.
pub trait Code: 'static {
    /// Does it for `request`. The value lives as long as the configuration.
    fn run(&'static self, request: Request);
}

/// Whether the directive that is being read stands in an `if` of a server.
pub fn is_in_if(conf: Conf) -> bool {
    // SAFETY: nginx's parser.
    unsafe { proxy_connect_is_in_if(conf.as_ptr()) != 0 }
}

/// Has `value` run when the condition of the `if` that is being read holds. `None` without memory.
pub fn run_in_if<T: Code>(conf: Conf, value: T) -> Option<NonNull<T>> {
    let value = conf.pool().put(value)?;

    // SAFETY: nginx's parser, and a value that lives as long as the configuration.
    let rc = unsafe { proxy_connect_add_code(conf.as_ptr(), run::<T>, value.as_ptr().cast()) };

    (rc == code::OK).then_some(value)
}

unsafe extern "C" fn run<T: Code>(r: *mut ngx_http_request_t, value: *mut c_void) {
    // SAFETY: nginx runs a code with a live request; run_in_if() has put the value into the configuration's pool.
    let parts = unsafe { (Request::from_ptr(r), value.cast::<T>().as_ref()) };

    if let (Some(request), Some(value)) = parts {
        guard(Log::of_cycle(), || value.run(request), || ());
    }
}
