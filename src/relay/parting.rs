//! Owns the wait of a tunnel that is over: a reset is held back until the side that is left has all that the system has for it.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::relay::Side;

use super::{Ending, Standing};
use crate::ffi::end::{End, EventError};

/// After how long it is asked first whether a side has acknowledged all, in milliseconds, and how long
/// that grows: it doubles each time.
const ASK_FIRST: ngx_msec_t = 50;
const ASK_LAST: ngx_msec_t = 2_000;

/// A tunnel that is over, with a reset that is held back: it would undo what the system has not
/// delivered yet.
#[derive(Clone, Copy)]
pub(super) struct Parting {
    pub ending: Ending,
    /// After how long it is asked again whether all is delivered, in milliseconds.
    interval: ngx_msec_t,
}

impl Standing {
    /// Ends the tunnel, or begins the wait for what the system still has for the side that is left.
    pub(super) fn over(&mut self, ending: Ending) -> Option<Ending> {
        if self.may_part(ending) {
            return Some(ending);
        }

        self.gate = None;
        self.limits = None;
        self.peer.stop_data_timer();
        self.ask_in(Parting { ending, interval: ASK_FIRST });

        let watched = self.client.disregard().and_then(|()| self.upstream().disregard());
        watched.err().map(|EventError| ending)
    }

    /// Asks whether the wait is over. Nothing tells that all was acknowledged, so a timer asks, less and
    /// less often.
    pub(super) fn ask_again(&mut self, parting: Parting) -> Option<Ending> {
        if self.may_part(parting.ending) {
            return Some(parting.ending);
        }

        let interval = (2 * parting.interval).min(ASK_LAST);
        self.ask_in(Parting { interval, ..parting });
        None
    }

    /// Whether there is nothing to wait for, or the data timeout has passed.
    pub(super) fn may_part(&self, ending: Ending) -> bool {
        let is_settled = (!ending.awaits(Side::Client) || self.client.is_settled())
            && (!ending.awaits(Side::Upstream) || self.upstream().is_settled());

        is_settled || self.idle() >= self.timeout
    }

    fn ask_in(&mut self, parting: Parting) {
        let left = self.timeout.saturating_sub(self.idle());
        self.peer.set_parting_timer(parting.interval.min(left));
        self.parting = Some(parting);
    }

    /// Passes a reset of the client on to the upstream. What the client learns is told when its request
    /// is finished.
    pub fn pass_on(&self, ending: Ending) {
        if ending.survivor() == Some(Side::Upstream) {
            self.upstream().abort();
        }
    }
}
