//! Owns the tables of a module: what nginx's macros write in C.

use std::ptr;

use crate::bindings::*;

/// Where the main configuration stands in a context of http.
pub const NGX_HTTP_MAIN_CONF_OFFSET: usize = std::mem::offset_of!(ngx_http_conf_ctx_t, main_conf);
/// Where a server's configuration stands in a context of http.
pub const NGX_HTTP_SRV_CONF_OFFSET: usize = std::mem::offset_of!(ngx_http_conf_ctx_t, srv_conf);
/// Where a location's configuration stands in a context of http.
pub const NGX_HTTP_LOC_CONF_OFFSET: usize = std::mem::offset_of!(ngx_http_conf_ctx_t, loc_conf);

impl ngx_str_t {
    /// A string of no bytes.
    pub const fn empty() -> Self {
        Self { len: 0, data: ptr::null_mut() }
    }
}

impl ngx_command_t {
    /// The end of a table of directives.
    pub const fn empty() -> Self {
        Self {
            name: ngx_str_t::empty(),
            type_: 0,
            set: None,
            conf: 0,
            offset: 0,
            post: ptr::null_mut(),
        }
    }
}

impl ngx_module_t {
    /// What NGX_MODULE_V1 and NGX_MODULE_V1_PADDING write.
    pub const fn default() -> Self {
        // SAFETY: pointers, numbers and optional functions, for all of which zeroes are a value.
        let mut module: Self = unsafe { std::mem::zeroed() };

        module.ctx_index = ngx_uint_t::MAX;
        module.index = ngx_uint_t::MAX;
        module.version = version();
        #[cfg(not(lacks = "NGX_MODULE_SIGNATURE"))]
        {
            module.signature = proxy_connect_signature.as_ptr();
        }

        module
    }
}

/// Before 1.9.11 a module's version is that of the interface, 1.
const fn version() -> ngx_uint_t {
    if cfg!(lacks = "NGX_MODULE_SIGNATURE") {
        1
    } else {
        nginx_version as ngx_uint_t
    }
}

impl ngx_array_t {
    /// The elements.
    ///
    /// # Safety
    ///
    /// The elements must be of the type `T`.
    pub unsafe fn as_slice<T>(&self) -> &[T] {
        match self.nelts {
            0 => &[],
            // SAFETY: the caller's promise.
            nelts => unsafe { std::slice::from_raw_parts(self.elts.cast(), nelts) },
        }
    }

    /// The elements, to change.
    ///
    /// # Safety
    ///
    /// The elements must be of the type `T`.
    pub unsafe fn as_slice_mut<T>(&mut self) -> &mut [T] {
        match self.nelts {
            0 => &mut [],
            // SAFETY: the caller's promise.
            nelts => unsafe { std::slice::from_raw_parts_mut(self.elts.cast(), nelts) },
        }
    }
}

impl ngx_variable_value_t {
    /// The value.
    pub fn as_bytes(&self) -> &[u8] {
        match self.len() {
            0 => &[],
            // SAFETY: a value points to as many bytes as it says.
            len => unsafe { std::slice::from_raw_parts(self.data, len as usize) },
        }
    }
}
