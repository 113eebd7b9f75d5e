//! Owns closing a tunnel that an operator wants closed. The worker that was asked may be another one: each looks at its
//! own tunnels when it is told, by a word in the zone that a timer reads.

use std::cell::Cell;

use nginx_sys::ngx_msec_t;

use crate::ffi::event::{Alarm, Event};
use crate::ffi::request::Request;
use crate::ffi::status_zone::{self, StatusZone};
use crate::ffi::timer::worker::{self, Tick};
use crate::tunnel;

/// How often a worker looks whether it was told, in milliseconds.
const PERIOD: ngx_msec_t = 250;

thread_local! {
    /// How often this worker was told, in all zones.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    /// Whether the configuration that is read lets anybody close a tunnel.
    static IS_READ: Cell<bool> = const { Cell::new(false) };
    /// Whether the one in force does.
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Has tunnels be closed, as a location of the configuration lets its users do.
pub fn enable() {
    IS_READ.set(true);
}

/// Begins a configuration, which may not have such a location.
pub fn begin() {
    IS_READ.set(false);
}

/// The configuration that was read is in force.
pub fn commit() {
    IS_ON.set(IS_READ.get());
}

/// Begins to look, in a worker. `None` when there is no memory.
pub fn start() -> Option<()> {
    match IS_ON.get() {
        true => worker::start::<Look>(PERIOD),
        false => Some(()),
    }
}

/// Looks whether there is a tunnel to close.
struct Look;

impl Tick for Look {
    fn tick() {
        let zones = status_zone::all().into_iter();
        let asked = zones.filter_map(StatusZone::joined).map(|part| part.worker().asked()).sum();

        if ASKED.replace(asked) == asked {
            return;
        }

        // A tunnel that is closed takes itself out.
        let zones = status_zone::all().into_iter();
        let to_close: Vec<Request> = zones.flat_map(StatusZone::to_close).collect();

        for request in to_close {
            tunnel::tell(request, Event::Expired(Alarm::Operator));
        }
    }
}
