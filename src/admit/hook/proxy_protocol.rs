//! Owns how much may be read at once where a PROXY protocol header comes first. It must not be read together
//! with what follows: where it ends nginx says, and what follows is shown by us.

use nginx_sys::ngx_connection_t;
#[cfg(not(admit = "patched"))]
use nginx_sys::ngx_http_connection_t;
use proxy_connect_core::disguise::proxy_header;

/// Whether nginx expects a PROXY protocol header next.
///
/// # Safety
///
/// `c` must be an open connection, and `http` what its data was when nginx had initialised it.
#[cfg(not(admit = "patched"))]
pub unsafe fn is_due(c: *mut ngx_connection_t, http: *mut ngx_http_connection_t) -> bool {
    // SAFETY: the caller's promise: before a request the data is an ngx_http_connection_t.
    unsafe { std::ptr::eq((*c).data, http.cast()) && (*http).proxy_protocol() != 0 }
}

/// The length of the header that has come, as far as `buffer` has room for it. `None` when it is not whole,
/// which nginx refuses.
///
/// # Safety
///
/// `c` must be an open connection of which nothing was read.
pub unsafe fn look(c: *mut ngx_connection_t, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: an open socket, and room for as many bytes as are asked for.
    let n =
        unsafe { libc::recv((*c).fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_PEEK) };

    proxy_header(&buffer[..usize::try_from(n).unwrap_or_default()])
}
