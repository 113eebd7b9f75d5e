//! Owns how the connections of one CONNECT go out: from which local address, with which options of their sockets, and
//! what they send before anything else.

use nginx_sys::NGX_LOG_WARN;
use proxy_connect_core::proxy_protocol::{header, Origin};

use super::sources::{self, Sources};
use crate::admit;
use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi::addr::Addr;
use crate::ffi::event::EventHandler;
use crate::ffi::peer::{connect, Begun, ConnectError, Local};
use crate::ffi::request::Request;
use crate::ffi::socket::SocketOptions;

/// From how many local addresses one address is tried to be reached at most, where the first ones have no port left, or are
/// none of this host.
const SOURCES_MAX: usize = 4;

/// How connections go out.
pub struct Egress {
    sources: Option<Sources>,
    options: SocketOptions,
    greeting: Vec<u8>,
}

impl Egress {
    /// What the configuration says for `request`. Only a server that the operator has named, `is_fixed`, is greeted.
    ///
    /// # Errors
    ///
    /// 502 when `proxy_connect_bind` evaluates to no address, 500 when there is no memory.
    pub fn of(request: Request, conf: &ServerConf, is_fixed: bool) -> Result<Self, Failure> {
        Ok(Self {
            sources: sources::of(request, conf)?,
            options: conf.socket_options(),
            greeting: if is_fixed { greeting(request, conf)? } else { Vec::new() },
        })
    }

    /// What a peer gets before anything else.
    pub fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// Whether a local port may be asked for: it is for one connection at a time.
    pub fn has_port(&self) -> bool {
        self.sources.as_ref().is_some_and(Sources::has_port)
    }

    /// The local address to reach `addr` from. `None` when there are some, and it can't be reached from any of them.
    pub fn local_for(&self, request: Request, addr: &Addr) -> Option<Option<Local>> {
        match &self.sources {
            Some(sources) if !addr.is_unix() => sources.next_for(request, addr).map(Some),
            _ => Some(None),
        }
    }

    /// Connects to `addr` from `local`. Where that has no port left, or is none of this host, others have their turn.
    ///
    /// # Errors
    ///
    /// As for [`connect`].
    pub fn connect<H: EventHandler>(
        &self,
        request: Request,
        addr: &Addr,
        mut local: Option<Local>,
    ) -> Result<Begun, ConnectError> {
        for _ in 1..SOURCES_MAX {
            let errno = match connect::<H>(request, addr, local.as_ref(), &self.options) {
                Err(ConnectError {
                    errno: errno @ (libc::EADDRNOTAVAIL | libc::EADDRINUSE),
                    lack: None,
                }) => errno,
                begun => return begun,
            };

            let another = self.sources.as_ref().filter(|sources| sources.has_another(addr));

            let (Some(sources), Some(from)) = (another, local) else {
                return Err(ConnectError { errno, lack: None });
            };

            let message = format_args!(
                "{} can't be reached from {}, another address is tried",
                addr.text(),
                from.addr.text()
            );
            request.connection().log().write(NGX_LOG_WARN, errno, message);
            local = sources.next_for(request, addr);
        }

        connect::<H>(request, addr, local.as_ref(), &self.options)
    }
}

/// The header of the PROXY protocol, if `proxy_connect_proxy_protocol` asks for one.
fn greeting(request: Request, conf: &ServerConf) -> Result<Vec<u8>, Failure> {
    let Some(version) = conf.proxy_protocol() else {
        return Ok(Vec::new());
    };

    let Some(Ok(authority)) = admit::authority(&request) else {
        return Err(Failure::INTERNAL);
    };

    let origin =
        Origin { endpoints: request.connection().endpoints(), authority: authority.bare_host() };
    header(version, &origin).map_err(|_| Failure::INTERNAL)
}
