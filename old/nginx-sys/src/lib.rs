//! Owns the bindings to an nginx older than the crate nginx-sys takes, under its names: what bindgen
//! reads in the headers, what the headers say in macros and inline functions, and, in `later.rs`,
//! what came with a later nginx.

#[allow(
    missing_docs,
    non_upper_case_globals,
    non_camel_case_types,
    non_snake_case,
    dead_code,
    improper_ctypes,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

mod events;
#[allow(non_upper_case_globals)]
mod later;
mod module;
mod resolver;

pub use bindings::*;
pub use events::*;
#[cfg(lacks = "ngx_sock_ntop socklen")]
pub use later::ngx_sock_ntop;
#[allow(unused_imports)]
pub use later::*;
pub use module::*;
pub use resolver::{
    ngx_resolve_name, ngx_resolve_name_done, ngx_resolve_start, ngx_resolver_ctx_t,
};

/// What the memory of a pool is aligned to.
// SAFETY: a constant of the header, that nothing writes.
pub const NGX_ALIGNMENT: usize = proxy_connect_alignment;

/// The error of the last system call.
pub fn ngx_socket_errno() -> ngx_err_t {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets the error of the last system call.
pub fn ngx_set_socket_errno(err: ngx_err_t) {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() = err };
}
