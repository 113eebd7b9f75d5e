//! Owns what is kept for a hooked connection.

use std::ffi::c_void;

use nginx_sys::{ngx_connection_t, ngx_recv_pt};
use proxy_connect_core::disguise::Reading;

use crate::ffi::pool::Pool;

/// What is kept for a hooked connection, in its pool.
pub struct Hook {
    /// The connection's own receive function.
    pub receive: ngx_recv_pt,
    /// The core's handler of a finished TLS handshake.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    pub handshaked: Option<unsafe extern "C" fn(*mut ngx_connection_t)>,
    /// What `c->data` is while no request is being read.
    pub http: *mut c_void,
    /// How far the reading is.
    pub reading: Reading,
    /// What was read and not shown.
    pub rest: Rest,
}

/// Bytes that were read and not shown yet.
pub struct Rest {
    /// Where they lie: in nginx's buffer, right behind what was shown.
    pub place: *const u8,
    /// How many they are.
    pub len: usize,
    /// One that had no room there.
    pub owed: Option<u8>,
    /// What the read event tells of the socket, while it is said to be ready for their sake.
    pub readiness: Option<bool>,
}

impl Rest {
    /// Whether all that was read was shown.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.owed.is_none()
    }
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
                handshaked: None,
                http: (*c).data,
                reading: Reading::Preface,
                rest: Rest { place: std::ptr::null(), len: 0, owed: None, readiness: None },
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
