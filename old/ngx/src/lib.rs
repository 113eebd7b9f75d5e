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

/// The table that load_module looks for in a shared object.
#[macro_export]
macro_rules! ngx_modules {
    ($module:ident) => {
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        static mut ngx_modules: [*const $crate::ffi::ngx_module_t; 2] =
            [&raw const $module, ::std::ptr::null()];

        #[no_mangle]
        #[allow(non_upper_case_globals)]
        static mut ngx_module_names: [*const ::std::ffi::c_char; 2] =
            [concat!(stringify!($module), "\0").as_ptr().cast(), ::std::ptr::null()];

        #[no_mangle]
        #[allow(non_upper_case_globals)]
        static mut ngx_module_order: [*const ::std::ffi::c_char; 1] = [::std::ptr::null()];
    };
}
