//! Owns what is made of the first bytes of a client: what the variables tell of them, and whether they may go to the
//! upstream.

use std::cell::OnceCell;

use proxy_connect_core::client_hello::{ClientHello, Opening, Protocol};
use proxy_connect_core::sni::{Check, Finding};

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::addr::Addr;
use crate::ffi::boxed;
use crate::ffi::log::Shown;
use crate::ffi::request::Request;
use crate::relay::gate::Gate;
use crate::tunnel::Tunnel;
use crate::verdict::{self, Rule};
use crate::{admit, authorise};

/// What a ClientHello said. It takes memory only where one was read.
#[derive(Default)]
pub struct Hello(OnceCell<Box<Told>>);

/// What the variables tell of it, in the request's pool.
struct Told {
    server_name: Option<&'static [u8]>,
    alpn: Option<&'static [u8]>,
    protocol: Option<Protocol>,
}

impl Hello {
    /// `$proxy_connect_sni`. `None` where there is none.
    pub fn server_name(&self) -> Option<&'static [u8]> {
        self.0.get().and_then(|told| told.server_name)
    }

    /// `$proxy_connect_alpn`. `None` where there is none.
    pub fn alpn(&self) -> Option<&'static [u8]> {
        self.0.get().and_then(|told| told.alpn)
    }

    /// `$proxy_connect_ssl_protocol`. `None` where there is none.
    pub fn protocol(&self) -> Option<&'static [u8]> {
        self.0.get().and_then(|told| told.protocol).map(|protocol| protocol.name().as_bytes())
    }

    /// Without memory the variables stay empty.
    fn keep(&self, request: Request, hello: &ClientHello) {
        let copy = |text: &[u8]| request.pool().copy(text).map(|text| &*text);

        let told = boxed(Told {
            server_name: hello.server_name.as_ref().and_then(|name| copy(name.as_bytes())),
            alpn: Some(hello.alpn.as_bytes()).filter(|alpn| !alpn.is_empty()).and_then(copy),
            protocol: hello.protocol,
        });

        if let Some(told) = told {
            // A client says it once.
            let _ = self.0.set(told);
        }
    }
}

/// What may go on to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// All that the client sends.
    All,
    /// A ClientHello. The server may ask for a second one, which is to be judged as well.
    Hello {
        /// Whether early data may stand between the two.
        has_early_data: bool,
    },
}

/// Takes note of what the client of `request` sent first, and judges it.
///
/// # Errors
///
/// 403, which nobody is answered with any more, for what `proxy_connect_verify_sni` does not let pass.
pub fn judge(request: Request, tunnel: &Tunnel, gate: &Gate) -> Result<Passage, Failure> {
    let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
    let opening = gate.opening();

    if let Opening::Tls(hello) = &opening {
        tunnel.hello.keep(request, hello);
    }

    let Some(check) = conf.verify_sni() else {
        return Ok(Passage::All);
    };

    verify(request, conf, tunnel, check, gate, &opening)?;

    match opening {
        // No other version has a HelloRetryRequest, and a server sends one at most.
        Opening::Tls(hello) if hello.protocol == Some(Protocol::Tls13) && !gate.is_second() => {
            Ok(Passage::Hello { has_early_data: hello.has_early_data })
        }
        _ => Ok(Passage::All),
    }
}

fn verify(
    request: Request,
    conf: &ServerConf,
    tunnel: &Tunnel,
    check: Check,
    gate: &Gate,
    opening: &Opening,
) -> Result<(), Failure> {
    let Some(Ok(authority)) = admit::authority(&request) else {
        return Err(Failure::INTERNAL);
    };

    let host = authority.bare_host();
    // As it was read when the CONNECT came: what is no address there is a name.
    let is_address = Addr::parse_ip(request.pool(), host, 0).is_some();

    let again = if gate.is_second() { " in a second ClientHello" } else { "" };
    let late = if gate.is_late() { " within \"proxy_connect_preread_timeout\"" } else { "" };
    let directive = format_args!("\"proxy_connect_verify_sni {}\"", check.name());

    match check.judge(opening, host, is_address) {
        Finding::Passes => Ok(()),
        Finding::Refused(reason) => {
            let host = Shown(authority.host());
            let reason = format_args!(
                "{reason}{again}{late} to the host \"{host}\", which {directive} does not allow"
            );
            verdict::refuse(request, conf, tunnel, Rule::Sni, reason)
        }
        Finding::AsksLists(name) => {
            match authorise::refusal_of_host(request, conf, name.as_bytes())? {
                None => Ok(()),
                Some(refusal) => {
                    let reason = format_args!(
                        "the client sent SNI \"{name}\"{again} to an address, {directive} looks for it: it \
                         {refusal}"
                    );
                    verdict::refuse(request, conf, tunnel, Rule::Sni, reason)
                }
            }
        }
    }
}
