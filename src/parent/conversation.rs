//! Owns a conversation with a parent on its connection: what it is told goes out, and what it says is heard, in
//! pieces of any size, until it has answered.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::parent::next::Condition;
use proxy_connect_core::parent::{Answer, Heard, Meaning, Talk};
use proxy_connect_core::relay::{Received, Sent};

use super::ask::Asking;
use super::{refused, Miss};
use crate::conf::ServerConf;
use crate::failure::{explain, Failure};
use crate::ffi;
use crate::ffi::addr::Addr;
use crate::ffi::client_tls::Handshake;
use crate::ffi::end::{End, EventError};
use crate::ffi::log::Shown;
use crate::ffi::peer::Peer;
use crate::ffi::request::Request;

/// How much is read at once, in bytes. Answers are short.
const PIECE: usize = 2048;

/// A conversation with a parent.
pub struct Conversation {
    peer: Peer,
    tls: Option<Tls>,
    talk: Talk,
    /// What the parent is told, and how much of it has gone out.
    bytes: Vec<u8>,
    sent: usize,
    /// How many bytes the parent has sent.
    received: u64,
}

/// TLS with a parent.
pub struct Tls {
    /// How far the handshake is.
    pub handshake: Handshake,
    /// When the connect began.
    pub since: ngx_msec_t,
    /// The name that its certificate is to be for. `None` where that is not verified.
    pub name: Option<&'static [u8]>,
}

/// How far a conversation is.
pub enum Progress {
    /// An event of the connection will come.
    Waiting(Box<Conversation>),
    /// The tunnel stands.
    Opened(Opened),
}

/// What a parent has opened.
pub struct Opened {
    /// The connection, which is the tunnel's from now on.
    pub peer: Peer,
    /// The answer, with the first bytes of the tunnel.
    pub answer: Answer,
    /// How many bytes of the parent's were the answer.
    pub received: u64,
}

impl Conversation {
    /// One in which nothing was said yet.
    pub fn new(peer: Peer, tls: Option<Tls>, asking: Asking) -> Self {
        Self { peer, tls, talk: asking.talk, bytes: asking.bytes, sent: 0, received: 0 }
    }

    /// Goes on after an event; `addr` is the parent's.
    ///
    /// # Errors
    ///
    /// [`Miss`] where the parent built no tunnel. The log has been told.
    pub fn go_on(
        mut self: Box<Self>,
        request: Request,
        conf: &ServerConf,
        addr: &Addr,
    ) -> Result<Progress, Miss> {
        match self.exchange(request, addr) {
            // nginx watches over a handshake by itself.
            Ok(None) if self.tls.is_some() => Ok(Progress::Waiting(self)),
            Ok(None) => match self.peer.socket().watch(0) {
                Ok(()) => Ok(Progress::Waiting(self)),
                Err(EventError) => Err(self.miss(None, Failure::INTERNAL)),
            },
            Ok(Some(answer)) if answer.meaning == Meaning::Opened => {
                let received = self.received - answer.rest.len() as u64;
                Ok(Progress::Opened(Opened { peer: self.peer, answer, received }))
            }
            Ok(Some(answer)) => {
                let failure = refused(request, conf, addr, &answer);
                let miss = self.miss(Condition::of(answer.meaning), failure);
                Err(Miss { answer: Some(answer), ..miss })
            }
            Err(failure) => Err(self.miss(Some(Condition::Error), failure)),
        }
    }

    /// Ends it when its time is over.
    pub fn time_out(&self, request: Request, addr: &Addr) -> Miss {
        let reason = format_args!("the parent {} did not answer in time", addr.text());
        explain(request, libc::ETIMEDOUT, reason);
        self.miss(Some(Condition::Timeout), Failure::PARENT_TIMEOUT)
    }

    fn miss(&self, condition: Option<Condition>, failure: Failure) -> Miss {
        let moved = (self.peer.sent(), self.received);
        Miss { condition, failure, answer: None, reached: true, moved }
    }

    /// Takes note that an event came: where a handshake is under way, it is that it is over.
    pub fn wake(&mut self) {
        if let Some(tls) = self.tls.as_mut().filter(|tls| tls.handshake == Handshake::Pending) {
            tls.handshake = self.peer.handshake();
        }
    }

    /// Whether the handshake is done, if there is one.
    fn shake_hands(&mut self, request: Request, addr: &Addr) -> Result<bool, Failure> {
        let Some(tls) = &self.tls else {
            return Ok(true);
        };

        match tls.handshake {
            Handshake::Pending => return Ok(false),
            Handshake::Failed => {
                let reason =
                    format_args!("the TLS handshake with the parent {} failed", addr.text());
                explain(request, 0, reason);
                return Err(Failure::TLS);
            }
            Handshake::Done => {}
        }

        if let Some(words) = tls.name.and_then(|name| self.peer.complaint_about_certificate(name)) {
            let name = Shown(tls.name.unwrap_or_default());
            let addr = addr.text();
            let reason = format_args!(
                "the certificate of the parent {addr} is not good for \"{name}\": {words}"
            );
            explain(request, 0, reason);
            return Err(Failure::CERTIFICATE);
        }

        // As nginx has it, the handshake is part of the connect.
        request.set_upstream_connect_time(ffi::now().wrapping_sub(tls.since));
        request.connection().log().set_action(c"asking a parent for a tunnel");
        self.peer.socket().prepare_tls();
        self.tls = None;
        Ok(true)
    }

    /// Says and hears what can be said and heard now.
    fn exchange(&mut self, request: Request, addr: &Addr) -> Result<Option<Answer>, Failure> {
        if !self.shake_hands(request, addr)? {
            return Ok(None);
        }

        loop {
            if !self.say(request, addr)? {
                return Ok(None);
            }

            match self.hear(request, addr)? {
                Some(Heard::Answer(answer)) => return Ok(Some(answer)),
                Some(Heard::Say(bytes)) => {
                    self.bytes = bytes;
                    self.sent = 0;
                }
                Some(Heard::More) => {}
                None => return Ok(None),
            }
        }
    }

    /// Whether all has gone out.
    fn say(&mut self, request: Request, addr: &Addr) -> Result<bool, Failure> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.peer.socket().send(rest) {
                Sent::Bytes(n) => self.sent += n,
                Sent::Blocked => return Ok(false),
                Sent::Broken => return Err(incomplete(request, addr, "broke the connection")),
            }
        }

        Ok(true)
    }

    /// What the next piece comes to. `None` where there is none now.
    fn hear(&mut self, request: Request, addr: &Addr) -> Result<Option<Heard>, Failure> {
        let mut piece = [0; PIECE];
        let piece = &mut piece[..self.talk.wants().min(PIECE)];

        let n = match self.peer.socket().receive(piece) {
            Received::Bytes(n) => n,
            Received::Blocked => return Ok(None),
            Received::Eof => return Err(incomplete(request, addr, "closed the connection")),
            Received::Broken => return Err(incomplete(request, addr, "broke the connection")),
        };

        self.received += n as u64;

        self.talk.take(&piece[..n]).map(Some).map_err(|error| {
            explain(request, 0, format_args!("the parent {} {error}", addr.text()));
            Failure::new(502, error.error())
        })
    }
}

fn incomplete(request: Request, addr: &Addr, what: &str) -> Failure {
    let reason = format_args!("the parent {} {what} before it had answered", addr.text());
    explain(request, 0, reason);
    Failure::INCOMPLETE
}
