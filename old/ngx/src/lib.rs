//! Owns the names of the crate ngx that the module uses, for an nginx that is too old for it.

pub use nginx_sys as ffi;

pub mod core;
pub mod http;
pub mod log;

/// A string of nginx, from a literal.
#[macro_export]
macro_rules! ngx_string {
    ($text:expr) => {
        $crate::ffi::ngx_str_t { len: $text.len(), data: concat!($text, "\0").as_ptr().cast_mut() }
    };
}
