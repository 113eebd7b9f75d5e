//! Owns what is kept for a hooked connection: one that is read through a function of ours for a while.
//!
//! | file | owns |
//! |---|---|
//! | [`listen`] | which listening sockets hook their connections |
//! | [`tls`] | getting between the TLS handshake and the first read |
//! | [`proxy_protocol`] | how much may be read at once where a PROXY protocol header comes first |
//! | [`guard`] | what becomes of a connection after a panic |

pub mod guard;
pub mod listen;
pub mod proxy_protocol;
#[cfg(ngx_feature = "http_ssl")]
pub mod tls;

use nginx_sys::{ngx_connection_t, ngx_http_connection_t, ngx_recv_pt};
#[cfg(not(admit = "patched"))]
use proxy_connect_core::disguise::Reading;

use crate::ffi::pool::Pool;

/// What is kept for a hooked connection, in its pool.
pub struct Hook {
    /// The connection's own receive function.
    pub receive: ngx_recv_pt,
    /// The core's handler of a finished TLS handshake.
    #[cfg_attr(not(ngx_feature = "http_ssl"), allow(dead_code))]
    pub handshaked: Option<unsafe extern "C" fn(*mut ngx_connection_t)>,
    /// What `c->data` is while no request is being read, and no stream.
    pub http: *mut ngx_http_connection_t,
    /// How far the reading is.
    #[cfg(not(admit = "patched"))]
    pub reading: Reading,
    /// What was read and not shown.
    #[cfg(not(admit = "patched"))]
    pub rest: Rest,
}

/// Bytes that were read and not shown yet.
#[cfg(not(admit = "patched"))]
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

#[cfg(not(admit = "patched"))]
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
    /// `c` must be an open connection, before its first request.
    pub unsafe fn make<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Self> {
        // SAFETY: the caller's promise; the hook lives as long as the pool.
        unsafe {
            let hook = Self {
                receive: (*c).recv,
                handshaked: None,
                http: (*c).data.cast(),
                #[cfg(not(admit = "patched"))]
                reading: Reading::Preface,
                #[cfg(not(admit = "patched"))]
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
