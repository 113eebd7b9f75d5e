//! Owns getting between the TLS handshake and the first read of a request.
//!
//! A handshake may end within its first call, when the client is quick, and nginx then reads the
//! request in the same breath. So the first call is shown an empty socket: nginx waits, and
//! tells the connection which handler it wants to be called at the end. Ours takes its place,
//! and the handshake goes on at once.

use std::ffi::c_int;

use nginx_sys::{
    ngx_connection_t, ngx_event_handler_pt, ngx_event_t, ngx_http_connection_t,
    ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, BIO, SSL,
};

use super::guard::guard_connection;
use super::Hook;
#[cfg(not(admit = "patched"))]
use crate::admit::disguised::receive;
#[cfg(http2)]
use crate::admit::http2;
use crate::ffi::boundary::guard;
use crate::ffi::log::Log;

/// The event of OpenSSL's info callback that comes before anything is read.
const HANDSHAKE_START: c_int = nginx_sys::SSL_CB_HANDSHAKE_START as c_int;

type InfoCallback = unsafe extern "C" fn(*const SSL, c_int, c_int);

/// Stands before the core's handler of the first event.
///
/// # Safety
///
/// `c` must be a connection that nginx has just initialised for TLS, with a hook.
pub unsafe fn attach(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        CORE_HANDSHAKE = (*(*c).read).handler;
        (*(*c).read).handler = Some(first_event);
    }
}

/// Whether nginx has not found out yet that the client speaks no TLS; what it reads then is no request.
///
/// # Safety
///
/// `c` must be an open connection.
#[cfg(not(admit = "patched"))]
pub unsafe fn is_handshaking(c: *mut ngx_connection_t) -> bool {
    type Handler = unsafe extern "C" fn(*mut ngx_event_t);

    // SAFETY: the caller's promise.
    let handler = unsafe { (*(*c).read).handler };
    handler.is_some_and(|handler| std::ptr::fn_addr_eq(handler, first_event as Handler))
}

/// ngx_http_ssl_handshake(), which is static: the same for all connections.
static mut CORE_HANDSHAKE: ngx_event_handler_pt = None;

/// What the handshake reads from while its first call runs, null for the socket.
static mut SOCKET: *mut BIO = std::ptr::null_mut();

unsafe extern "C" fn first_event(event: *mut ngx_event_t) {
    // SAFETY: nginx calls it with the event of an open connection.
    unsafe {
        let c = (*event).data.cast::<ngx_connection_t>();
        guard_connection(c, || begin(c, event));
    }
}

/// Begins the handshake in front of an empty socket, and goes on with the real one.
///
/// # Safety
///
/// `event` must be the read event of `c`, an open connection that attach() prepared.
unsafe fn begin(c: *mut ngx_connection_t, event: *mut ngx_event_t) {
    // SAFETY: the caller's promise; one thread, so that the statics have one user at a time.
    unsafe {
        let (Some(core), Some(ctx)) = (CORE_HANDSHAKE, ssl_ctx(c)) else {
            return;
        };

        let own = nginx_sys::SSL_CTX_get_info_callback(ctx);
        nginx_sys::SSL_CTX_set_info_callback(ctx, Some(empty_socket as InfoCallback));
        SOCKET = std::ptr::null_mut();

        core(event);

        nginx_sys::SSL_CTX_set_info_callback(ctx, own);

        // nginx closed it, or still waits for the first byte, or the client speaks no TLS.
        let ssl = if (*c).fd == -1 { None } else { (*c).ssl.as_mut() };

        let Some(ssl) = ssl else {
            return;
        };

        nginx_sys::SSL_set_info_callback(ssl.connection, own);

        if !SOCKET.is_null() {
            nginx_sys::SSL_set0_rbio(ssl.connection, SOCKET);
            SOCKET = std::ptr::null_mut();
        }

        proceed(c);
    }
}

/// # Safety
///
/// `c` must be an open connection whose handshake waits.
unsafe fn proceed(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise. No other reference to the hook is in use.
    unsafe {
        let (Some(hook), Some(ssl)) = (Hook::of(c), (*c).ssl.as_mut()) else {
            return;
        };

        if ssl.handshaked() != 0 || ssl.handler.is_none() {
            return;
        }

        hook.handshaked = ssl.handler;
        ssl.handler = Some(handshaked);

        if let Some(handler) = (*(*c).read).handler {
            handler((*c).read);
        }
    }
}

/// The SSL_CTX that nginx makes the connection's SSL object from.
///
/// # Safety
///
/// As for [`attach`].
unsafe fn ssl_ctx(c: *mut ngx_connection_t) -> Option<*mut nginx_sys::SSL_CTX> {
    // SAFETY: the caller's promise: the data is an ngx_http_connection_t, whose server has a
    // configuration of the SSL module.
    unsafe {
        let http = (*c).data.cast::<ngx_http_connection_t>().as_ref()?;
        let conf = *(*http.conf_ctx).srv_conf.add(ngx_http_ssl_module.ctx_index);
        let conf = conf.cast::<ngx_http_ssl_srv_conf_t>().as_ref()?;
        (!conf.ssl.ctx.is_null()).then_some(conf.ssl.ctx)
    }
}

/// OpenSSL's info callback for the first call of a handshake.
unsafe extern "C" fn empty_socket(ssl: *const SSL, event: c_int, _value: c_int) {
    // SAFETY: OpenSSL calls it with the SSL object of the handshake that first_event() began.
    guard(Log::of_cycle(), || unsafe { take_socket(ssl, event) }, || ());
}

/// # Safety
///
/// `ssl` must be the SSL object of a handshake that begin() began.
unsafe fn take_socket(ssl: *const SSL, event: c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        if event != HANDSHAKE_START || !SOCKET.is_null() {
            return;
        }

        let empty = nginx_sys::BIO_new(nginx_sys::BIO_s_mem());
        let socket = nginx_sys::SSL_get_rbio(ssl);

        // Without memory the handshake goes on, and may be too quick for us.
        if empty.is_null() || nginx_sys::BIO_up_ref(socket) != 1 {
            return;
        }

        // An empty memory BIO says "try again", not "the end".
        nginx_sys::BIO_ctrl(
            empty,
            nginx_sys::BIO_C_SET_BUF_MEM_EOF_RETURN as c_int,
            -1,
            std::ptr::null_mut(),
        );

        SOCKET = socket;
        nginx_sys::SSL_set0_rbio(ssl.cast_mut(), empty);
    }
}

/// Stands before the core's handler of a finished handshake.
unsafe extern "C" fn handshaked(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls it with an open connection that proceed() prepared.
    unsafe { guard_connection(c, || finish(c)) }
}

/// # Safety
///
/// `c` must be an open connection whose handshake is over, and no reference to its hook in use.
unsafe fn finish(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(hook) = Hook::of(c) else {
            return;
        };

        let core = hook.handshaked;

        if let Some(ssl) = (*c).ssl.as_ref().filter(|ssl| ssl.handshaked() != 0) {
            if is_http2(ssl.connection) {
                #[cfg(http2)]
                http2::attach_over_tls(c, hook);
            } else {
                #[cfg(not(admit = "patched"))]
                receive::begin(c, hook);
            }
        }

        if let Some(core) = core {
            core(c);
        }
    }
}

/// Whether the client and nginx agreed on HTTP/2: its frames are no request lines.
///
/// # Safety
///
/// `ssl` must be the SSL object of an open connection.
unsafe fn is_http2(ssl: *const SSL) -> bool {
    let mut name: *const u8 = std::ptr::null();
    let mut len = 0;

    // SAFETY: the caller's promise; OpenSSL answers with bytes that live as long as the object.
    unsafe {
        nginx_sys::SSL_get0_alpn_selected(ssl, &mut name, &mut len);
        !name.is_null() && std::slice::from_raw_parts(name, len as usize) == b"h2"
    }
}
