//! Owns what is kept for a hooked connection.

use std::ffi::c_void;

use nginx_sys::{ngx_connection_t, ngx_log_handler_pt, ngx_recv_pt};
use proxy_connect_core::disguise::Held;

use crate::ffi::pool::Pool;

/// What is kept for a hooked connection, in its pool.
pub struct Hook {
    /// The connection's own receive function.
    pub receive: ngx_recv_pt,
    /// The log's own handler, once ours stands in its place.
    pub log: ngx_log_handler_pt,
    /// The core's handler of a finished TLS handshake.
    #[cfg_attr(not(ngx_feature = "ssl"), allow(dead_code))]
    pub handshaked: Option<unsafe extern "C" fn(*mut ngx_connection_t)>,
    /// What `c->data` is while no request is being read.
    pub http: *mut c_void,
    /// Bytes of what may become a CONNECT.
    pub held: Held,
    /// The request being read was shown to the parser in disguise.
    pub disguised: bool,
    /// The header of the request was read to its end: another request may follow.
    pub whole: bool,
}

impl Hook {
    /// Makes the hook of a connection that nginx has just initialised. Without memory there is
    /// none: the connection works as any other, CONNECT is refused.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection of HTTP/1.x, before its first request.
    pub unsafe fn make<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Self> {
        // SAFETY: the caller's promise; the hook lives as long as the pool.
        unsafe {
            let hook = Self {
                receive: (*c).recv,
                log: None,
                handshaked: None,
                http: (*c).data,
                held: Held::default(),
                disguised: false,
                whole: false,
            };

            Pool::from_ptr((*c).pool)?.put(hook).map(|mut hook| hook.as_mut())
        }
    }

    /// The hook of a connection, if it has one.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection, and no other reference to its hook may be in use.
    pub unsafe fn of<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Self> {
        // SAFETY: the caller's promise; the hook lives as long as the pool.
        unsafe { Pool::from_ptr((*c).pool)?.find::<Self>().map(|mut hook| hook.as_mut()) }
    }
}
