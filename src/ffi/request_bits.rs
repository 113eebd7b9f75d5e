//! Owns the bit fields of a request, through the C compiler that nginx is built with:
//! `request_bits.c` says why bindgen's own accessors won't do.

use std::ffi::c_uint;

use nginx_sys::ngx_http_request_t;

macro_rules! bits {
    ($($get:ident, $set:ident: $c_get:ident, $c_set:ident;)+) => {
        extern "C" {
            $(
                fn $c_get(r: *const ngx_http_request_t) -> c_uint;
                fn $c_set(r: *mut ngx_http_request_t, value: c_uint);
            )+
        }

        $(
            /// Reads the bit field.
            #[allow(dead_code)]
            pub fn $get(r: &ngx_http_request_t) -> u32 {
                // SAFETY: the C side reads a field of a request that is borrowed here.
                unsafe { $c_get(r) }
            }

            /// Writes the bit field.
            #[allow(dead_code)]
            pub fn $set(r: &mut ngx_http_request_t, value: u32) {
                // SAFETY: the C side writes a field of a request that is borrowed here.
                unsafe { $c_set(r, value) }
            }
        )+
    };
}

bits! {
    complex_uri, set_complex_uri: proxy_connect_get_complex_uri, proxy_connect_set_complex_uri;
    count, set_count: proxy_connect_get_count, proxy_connect_set_count;
    error_page, set_error_page: proxy_connect_get_error_page, proxy_connect_set_error_page;
    header_only, set_header_only: proxy_connect_get_header_only, proxy_connect_set_header_only;
    header_sent, set_header_sent: proxy_connect_get_header_sent, proxy_connect_set_header_sent;
    keepalive, set_keepalive: proxy_connect_get_keepalive, proxy_connect_set_keepalive;
    plus_in_uri, set_plus_in_uri: proxy_connect_get_plus_in_uri, proxy_connect_set_plus_in_uri;
    post_action, set_post_action: proxy_connect_get_post_action, proxy_connect_set_post_action;
    quoted_uri, set_quoted_uri: proxy_connect_get_quoted_uri, proxy_connect_set_quoted_uri;
    request_complete, set_request_complete:
        proxy_connect_get_request_complete, proxy_connect_set_request_complete;
    uri_changed, set_uri_changed: proxy_connect_get_uri_changed, proxy_connect_set_uri_changed;
    uri_changes, set_uri_changes: proxy_connect_get_uri_changes, proxy_connect_set_uri_changes;
    valid_unparsed_uri, set_valid_unparsed_uri:
        proxy_connect_get_valid_unparsed_uri, proxy_connect_set_valid_unparsed_uri;
}

/// Whether the request came over a stream of HTTP/2, HTTP/3 or SPDY.
pub fn is_stream(r: &ngx_http_request_t) -> bool {
    extern "C" {
        fn proxy_connect_is_stream(r: *const ngx_http_request_t) -> c_uint;
    }

    // SAFETY: the C side reads fields of a request that is borrowed here, and of its connection.
    unsafe { proxy_connect_is_stream(r) != 0 }
}

/// Whether a module refused the request because of a limit.
pub fn is_limited(r: &ngx_http_request_t) -> bool {
    extern "C" {
        fn proxy_connect_is_limited(r: *const ngx_http_request_t) -> c_uint;
    }

    // SAFETY: as in is_stream().
    unsafe { proxy_connect_is_limited(r) != 0 }
}
