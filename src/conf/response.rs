//! Owns what a block says of the answer to a CONNECT whose tunnel stands.

use super::read::{compile, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, ComplexValue, Directive, Refused};

/// `proxy_connect_response`, as it is written.
#[derive(Debug, Default)]
pub struct Response(Option<ComplexValue>);

impl Response {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.0 = self.0.or(http.0);
    }
}

impl ServerConf {
    /// `proxy_connect_response`. An empty one means the default.
    pub fn response(&self) -> Option<ComplexValue> {
        self.response.0
    }
}

/// `proxy_connect_response response`
pub struct ProxyConnectResponse;

impl Directive<ServerConf> for ProxyConnectResponse {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.response.0, || compile("proxy_connect_response", arguments))
    }
}
