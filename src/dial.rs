//! Owns connecting to the upstream: from which local address, one address of the upstream after
//! the other, within the connect timeout.

use std::cell::Cell;

use nginx_sys::{ngx_err_t, ngx_msec_t, NGX_LOG_ERR};

use crate::conf::ServerConf;
use crate::failure::Failure;
use crate::ffi;
use crate::ffi::addr::Addr;
use crate::ffi::log::Shown;
use crate::ffi::peer::{connect, Attempt, Local, Peer, PeerEvents};
use crate::ffi::request::Request;

/// A worker that shuts down waits for timers only: without a connect timeout one is set all the
/// same, in milliseconds, and set anew when it runs out.
const PRESENCE: ngx_msec_t = 3_600_000;

/// Connecting to an upstream.
pub struct Dial {
    addrs: Vec<Addr>,
    /// How many of the addresses were tried.
    tried: usize,
    local: Option<Local>,
    /// When the connect timeout runs out, for all addresses together.
    deadline: Option<ngx_msec_t>,
    /// The connection that is being made.
    peer: Option<Peer>,
    /// What the client gets if no address is left.
    failure: Failure,
}

/// How far the dialing is.
pub enum Progress {
    /// The connection stands.
    Connected(Peer),
    /// An event of the peer's connection will come.
    Waiting(Dial),
}

/// The local address that `proxy_connect_bind` asks for.
///
/// # Errors
///
/// 502 when it evaluates to no address.
pub fn local(request: Request, conf: &ServerConf) -> Result<Option<Local>, Failure> {
    let Some(bind) = conf.bind() else {
        return Ok(None);
    };

    let text = bind.address.evaluate(request).ok_or(Failure::INTERNAL)?;

    if text.is_empty() {
        return Ok(None);
    }

    match Addr::parse_local(request.pool(), text) {
        Some(addr) => Ok(Some(Local { addr, transparent: bind.transparent })),
        None => {
            let message =
                format_args!("invalid address \"{}\" in \"proxy_connect_bind\"", Shown(text));
            request.connection().log().write(NGX_LOG_ERR, 0, message);
            Err(Failure::BAD_GATEWAY)
        }
    }
}

impl Dial {
    /// Will try `addrs` in their order; `timeout`, in milliseconds, bounds the whole.
    pub fn new(addrs: Vec<Addr>, local: Option<Local>, timeout: Option<ngx_msec_t>) -> Self {
        Self {
            addrs,
            tried: 0,
            local,
            deadline: timeout.map(|timeout| ffi::now().wrapping_add(timeout)),
            peer: None,
            failure: Failure::BAD_GATEWAY,
        }
    }

    /// Goes on after an event of the peer's connection.
    ///
    /// # Errors
    ///
    /// As for [`Dial::advance`].
    pub fn proceed<H: PeerEvents>(
        mut self,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Progress, Failure> {
        let Some(peer) = self.peer.take() else {
            return self.advance::<H>(request, current);
        };

        let connection = peer.connection();

        if connection.write().take_timedout() {
            if self.deadline.is_some() {
                self.log_timeout(request, 0);
                return Err(Failure::GATEWAY_TIMEOUT);
            }

            self.limit(&peer);
        }

        match connection.take_socket_error() {
            0 if connection.write().is_ready() => {
                connection.write().stop_timer();
                Ok(Progress::Connected(peer))
            }
            0 => {
                self.peer = Some(peer);
                Ok(Progress::Waiting(self))
            }
            errno => {
                drop(peer);
                self.failed(request, errno);
                self.advance::<H>(request, current)
            }
        }
    }

    /// Tries the next address, and the one after it if that fails at once, and so on; `current`
    /// tells which one it is.
    ///
    /// # Errors
    ///
    /// 502 when no address is left, 504 when the last ones timed out.
    pub fn advance<H: PeerEvents>(
        mut self,
        request: Request,
        current: &Cell<Option<Addr>>,
    ) -> Result<Progress, Failure> {
        request.connection().log().set_action(c"connecting to upstream");

        while let Some(addr) = self.addrs.get(self.tried).copied() {
            self.tried += 1;
            current.set(Some(addr));

            let Some(local) = self.local_for(request, &addr) else {
                continue;
            };

            match connect::<H>(request, &addr, local) {
                Ok(Attempt::Connected(peer)) => return Ok(Progress::Connected(peer)),
                Ok(Attempt::InProgress(peer)) => {
                    self.limit(&peer);
                    self.peer = Some(peer);
                    return Ok(Progress::Waiting(self));
                }
                Err(error) => self.failed(request, error.0),
            }
        }

        Err(self.failure)
    }

    /// The address that was tried last.
    fn current(&self) -> Option<Addr> {
        self.tried.checked_sub(1).and_then(|last| self.addrs.get(last)).copied()
    }

    /// The local address to reach `addr` from; `None` when the one asked for can't.
    fn local_for(&self, request: Request, addr: &Addr) -> Option<Option<Local>> {
        match self.local {
            Some(local) if !addr.is_unix() && local.addr.family() != addr.family() => {
                let message = format_args!(
                    "upstream connect failed (peer:{}), it can't be reached from {}",
                    addr.text(),
                    local.addr.text()
                );
                request.connection().log().write(NGX_LOG_ERR, 0, message);
                None
            }
            local => Some(local.filter(|_| !addr.is_unix())),
        }
    }

    fn limit(&self, peer: &Peer) {
        let left = self.deadline.map_or(PRESENCE, |deadline| deadline.saturating_sub(ffi::now()));
        peer.connection().write().set_timer(left);
    }

    fn failed(&mut self, request: Request, errno: ngx_err_t) {
        if errno == libc::ETIMEDOUT {
            self.failure = Failure::GATEWAY_TIMEOUT;
            self.log_timeout(request, errno);
        } else {
            self.failure = Failure::BAD_GATEWAY;
            self.log(request, "failed", errno);
        }
    }

    fn log_timeout(&self, request: Request, errno: ngx_err_t) {
        self.log(request, "timed out", errno);
    }

    fn log(&self, request: Request, what: &str, errno: ngx_err_t) {
        if let Some(addr) = self.current() {
            let message = format_args!("upstream connect {what} (peer:{})", addr.text());
            request.connection().log().write(NGX_LOG_ERR, errno, message);
        }
    }
}
