//! Owns what was set for one CONNECT in place of the directives of its server.

use std::cell::Cell;

use nginx_sys::ngx_msec_t;

use crate::conf::parent::Pass;

/// What variables, and directives in an `if`, set in place of those of the server, for this request.
#[derive(Default)]
pub struct Overrides {
    /// `$proxy_connect_connect_timeout`, in milliseconds.
    pub connect_timeout: Cell<Option<ngx_msec_t>>,
    /// `$proxy_connect_data_timeout`, in milliseconds.
    pub data_timeout: Cell<Option<ngx_msec_t>>,
    /// `$proxy_connect_send_timeout`, in milliseconds. It does nothing but be read.
    pub send_timeout: Cell<Option<ngx_msec_t>>,
    /// `proxy_connect_pass` of the last `if` whose condition held.
    pub pass: Cell<Option<&'static Pass>>,
    /// `$proxy_connect_response`, in the request's pool.
    pub response: Cell<Option<&'static [u8]>>,
}
