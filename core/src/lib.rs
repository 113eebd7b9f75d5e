//! The parts of the CONNECT module that know no nginx.
//!
//! | module | owns |
//! |---|---|
//! | [`credentials`] | the header fields that carry credentials, or ask for them |
//! | [`addresses`] | the addresses that `proxy_connect_allow_address` and `..._deny_address` speak of |
//! | [`client_hello`] | what a client of TLS says first: its name, protocols and versions |
//! | [`disguise`] | a CONNECT as a parser that does not know it takes it |
//! | [`hosts`] | the names that `proxy_connect_allow_host` and `..._deny_host` speak of |
//! | [`http2`] | what HTTP/2 looks like to a core that takes no CONNECT over it |
//! | [`list`] | the lines of a file that a directive names |
//! | [`target`] | authority-form (RFC 9110, section 9.3.6) in its one canonical form |
//! | [`page`] | nginx's page for 401 as one for 407 |
//! | [`parent`] | what is said to a parent that builds a tunnel in our place, and what it answers |
//! | [`persistence`] | whether a client wants its connection kept |
//! | [`ports`] | the ports that `proxy_connect_allow` permits |
//! | [`order`] | the order in which the addresses of a name are tried |
//! | [`proxy_protocol`] | the header of the PROXY protocol that an upstream gets first |
//! | [`proxy_status`] | why there is no tunnel, in the words of RFC 9209 |
//! | [`response`] | the status that a `proxy_connect_response` text announces |
//! | [`relay`] | the two directions of a tunnel and when each of them ends |
//! | [`sources`] | the local addresses that connections to upstreams go out from |
//! | [`sni`] | whether the name in a ClientHello is the one that the CONNECT named |
//!
//! The crate links nothing of nginx, so `cargo test` and Miri reach all of it.

pub mod addresses;
pub mod client_hello;
pub mod credentials;
pub mod disguise;
pub mod hosts;
pub mod http2;
pub mod list;
pub mod order;
pub mod page;
pub mod parent;
pub mod persistence;
pub mod ports;
pub mod proxy_protocol;
pub mod proxy_status;
pub mod relay;
pub mod response;
pub mod sni;
pub mod sources;
pub mod target;
