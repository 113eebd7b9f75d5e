//! The parts of the CONNECT module that know no nginx.
//!
//! | module | owns |
//! |---|---|
//! | [`credentials`] | the header fields that carry credentials, or ask for them |
//! | [`disguise`] | a CONNECT as a parser that does not know it takes it |
//! | [`target`] | authority-form (RFC 9110, section 9.3.6) in its one canonical form |
//! | [`page`] | nginx's page for 401 as one for 407 |
//! | [`persistence`] | whether a client wants its connection kept |
//! | [`ports`] | the ports that `proxy_connect_allow` permits |
//! | [`order`] | the order in which the addresses of a name are tried |
//! | [`response`] | the status that a `proxy_connect_response` text announces |
//! | [`relay`] | the two directions of a tunnel and when each of them ends |
//!
//! The crate links nothing of nginx, so `cargo test` and Miri reach all of it.

pub mod credentials;
pub mod disguise;
pub mod order;
pub mod page;
pub mod persistence;
pub mod ports;
pub mod relay;
pub mod response;
pub mod target;
