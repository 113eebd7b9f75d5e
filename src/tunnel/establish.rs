//! Owns the steps of a tunnel that does not stand yet: the rules, addresses, connects and parents, up to a peer.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::status::parents::Attempt;

use super::{client, Events, Stage, Step, Tunnel};
use crate::authorise::Guard;
use crate::conf::ServerConf;
use crate::dial::{Dial, Dialed, Egress};
use crate::failure::Failure;
use crate::ffi;
use crate::ffi::addr::{Addr, Named};
use crate::ffi::client::Finish;
use crate::ffi::event::{Alarm, Event};
use crate::ffi::peer::Peer;
use crate::ffi::request::Request;
use crate::parent::conversation::{Conversation, Opened, Progress};
use crate::parent::{self, Miss, Next, Parent, Way};
use crate::resolve::{self, Resolution};
use crate::{admit, authorise, probes, status};

impl Tunnel {
    /// Sets out, as far as the rules let it.
    pub(super) fn depart(&self, request: Request) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
        let Some(Ok(authority)) = admit::authority(&request) else {
            return Err(Failure::INTERNAL);
        };

        probes::opened(request);
        authorise::check(request, conf, self, &authority)?;

        request.on_client_events::<Events>();

        // Another module may have taken its time in an earlier phase, and the client have left.
        self.check_client(request)?;

        match parent::way::<Events>(request, conf, self, &authority)? {
            Way::Direct(named) => self.resolve(request, named, None),
            Way::Through(parent) => self.approach(request, parent, ffi::now()),
        }
    }

    fn resolve(
        &self,
        request: Request,
        named: Named,
        parent: Option<Box<Parent>>,
    ) -> Result<Step, Failure> {
        let since = ffi::now();
        let resolution = resolve::begin::<Events>(request, named)?;

        self.resolved(request, resolution, since, parent)
    }

    fn resolved(
        &self,
        request: Request,
        resolution: Resolution,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    ) -> Result<Step, Failure> {
        let addrs = match resolution {
            Resolution::Waiting(resolving) => {
                self.stage.replace(Stage::Resolving { resolving, since, parent });
                return self.check_client(request);
            }
            Resolution::Addresses(addrs) => addrs,
        };

        self.times.resolve.done(since);

        match parent {
            None => self.dial(request, addrs, ffi::now(), None),
            Some(mut parent) => {
                parent.found(request, self, addrs)?;
                self.approach(request, parent, ffi::now())
            }
        }
    }

    /// Does what is next for a tunnel that goes through something else; `since` is when its first connect began.
    fn approach(
        &self,
        request: Request,
        mut parent: Box<Parent>,
        since: ngx_msec_t,
    ) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;

        match parent.next(request, self, self.connect_timeout(conf))? {
            Next::Resolve(named) => self.resolve(request, named, Some(parent)),
            Next::Dial(addrs) => self.dial(request, addrs, since, Some(parent)),
        }
    }

    fn dial(
        &self,
        request: Request,
        addrs: Vec<Addr>,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    ) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
        let egress = Egress::of(request, conf, self.is_fixed.get())?;
        let timeout = self.connect_timeout(conf);
        let guard = parent.as_ref().map_or(Guard::Rules, |parent| parent.guard());
        let dial =
            Dial::new::<Events>(request, addrs, egress, guard, timeout).ok_or(Failure::INTERNAL)?;

        self.dialed(request, dial.advance::<Events>(request, &self.addr), since, parent)
    }

    fn dialed(
        &self,
        request: Request,
        dialed: Result<Dialed, Failure>,
        since: ngx_msec_t,
        parent: Option<Box<Parent>>,
    ) -> Result<Step, Failure> {
        let peer = match (dialed, parent) {
            (Ok(Dialed::Waiting(dial)), parent) => {
                self.stage.replace(Stage::Dialing { dial, since, parent });
                return self.check_client(request);
            }
            (Err(failure), Some(parent)) => {
                return self.missed(request, parent, since, Miss::dial(failure));
            }
            (Err(failure), None) => return Err(failure),
            (Ok(Dialed::Connected(peer)), parent) => (peer, parent),
        };

        self.times.connect.done(since);

        match peer {
            (peer, None) => self.stand(request, peer, Vec::new(), since, None),
            (peer, Some(mut parent)) => {
                parent.connected(request, &self.parent_addr()?)?;

                if parent.is_asked() {
                    self.ask(request, peer, parent, since)
                } else {
                    self.stand(request, peer, Vec::new(), since, Some(parent))
                }
            }
        }
    }

    /// The address that was connected to.
    fn parent_addr(&self) -> Result<Addr, Failure> {
        self.addr.get().ok_or(Failure::INTERNAL)
    }

    /// Begins to ask the parent, which is connected to, for the tunnel.
    fn ask(
        &self,
        request: Request,
        peer: Peer,
        mut parent: Box<Parent>,
        since: ngx_msec_t,
    ) -> Result<Step, Failure> {
        request.connection().log().set_action(c"asking a parent for a tunnel");

        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;
        let conversation = parent.ask::<Events>(request, conf, peer, self.connect_timeout(conf))?;
        self.converse(request, conversation, parent, since)
    }

    fn converse(
        &self,
        request: Request,
        conversation: Box<Conversation>,
        mut parent: Box<Parent>,
        since: ngx_msec_t,
    ) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;

        match conversation.go_on(request, conf, &self.parent_addr()?) {
            Ok(Progress::Waiting(conversation)) => {
                self.stage.replace(Stage::Asking { conversation, since, parent });
                self.check_client(request)
            }
            Ok(Progress::Opened(Opened { peer, answer, received })) => {
                status::count_parent(conf, Attempt::Opened);
                parent.answered(request, self, &answer, received);
                self.stand(request, peer, answer.rest, since, Some(parent))
            }
            Err(miss) => self.missed(request, parent, since, miss),
        }
    }

    /// Has another attempt be made in the place of one that came to nothing, if there may be one.
    fn missed(
        &self,
        request: Request,
        mut parent: Box<Parent>,
        since: ngx_msec_t,
        miss: Miss,
    ) -> Result<Step, Failure> {
        let conf = ServerConf::of(&request).ok_or(Failure::INTERNAL)?;

        if let Some(answer) = miss.answer() {
            parent.answered(request, self, answer, 0);
        }

        if parent.is_asked() {
            status::count_parent(conf, miss.attempt());
        }

        if !parent.missed(request, conf, self, &miss)? {
            return Err(miss.failure(request, conf)?);
        }

        self.stage.replace(Stage::Missed { since, parent });
        self.check_client(request)
    }

    /// Goes on with what a tunnel that does not stand yet waits for.
    pub(super) fn proceed(&self, request: Request, event: Event) -> Result<Step, Failure> {
        match (self.stage.take(), event) {
            (Stage::Resolving { resolving, since, parent }, Event::Resolved) => {
                self.resolved(request, resolving.proceed(request)?, since, parent)
            }
            (Stage::Dialing { dial, since, parent }, Event::Expired(Alarm::Dial)) => {
                self.dialed(request, dial.go_on::<Events>(request, &self.addr), since, parent)
            }
            (Stage::Dialing { dial, since, parent }, _) => {
                self.dialed(request, Ok(dial.look(request, &self.addr)), since, parent)
            }
            (Stage::Asking { conversation, since, parent }, Event::Expired(Alarm::Parent)) => {
                let miss = conversation.time_out(request, &self.parent_addr()?);
                self.missed(request, parent, since, miss)
            }
            (Stage::Asking { .. }, Event::Closing(_)) => {
                Ok(Step::Over(client(request)?, Finish::Failed))
            }
            (Stage::Asking { mut conversation, since, parent }, _) => {
                conversation.wake();
                self.converse(request, conversation, parent, since)
            }
            (Stage::Missed { parent, since }, Event::Expired(Alarm::Parent)) => {
                self.approach(request, parent, since)
            }
            (stage, _) => {
                self.stage.replace(stage);
                Ok(Step::Wait)
            }
        }
    }
}
