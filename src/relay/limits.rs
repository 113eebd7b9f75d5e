//! Owns what a standing tunnel may take at most: for how long it may stand, how many bytes it may move, and how fast.

use nginx_sys::{ngx_msec_t, NGX_LOG_ERR};
use proxy_connect_core::relay::{Allowance, Instant, Quota, Side};

use crate::conf::ServerConf;
use crate::ffi;
use crate::ffi::boxed;
use crate::ffi::event::{Alarm, EventHandler};
use crate::ffi::log::{Log, Seldom};
use crate::ffi::request::Request;
use crate::ffi::timer::request::Timer;
use crate::ffi::variable::NoMemory;
use crate::probes;

thread_local! {
    /// When the log was told of a zone that is full.
    static TOLD: Seldom = const { Seldom::new() };
}

/// The limits of a tunnel. One without any has none of these.
pub struct Limits {
    lifetime: Option<Lifetime>,
    traffic: Option<Traffic>,
}

/// What a tunnel may move.
struct Traffic {
    allowance: Allowance,
    /// None without a rate.
    wake: Option<Wake>,
}

/// When an end that has to be read slowly may be read again.
struct Wake {
    timer: Timer,
    /// When the timer runs out, in the milliseconds of nginx's clock. `None` where it does not run.
    at: Option<u64>,
}

/// For how long a tunnel may stand.
struct Lifetime {
    timer: Timer,
    /// When it is over.
    end: ngx_msec_t,
}

/// The longest that a timer runs at once, in milliseconds: nginx hands it to the system as an int. What is
/// longer is asked for again.
const LONGEST: ngx_msec_t = 24 * 3600 * 1000;

/// Turns that a rate has put off begin at multiples of this time, in milliseconds: one iteration of the event
/// loop serves many tunnels. It is far less than what a bucket makes up for.
const GRID: u64 = 10;

/// Times differ by less, in milliseconds, so that the earlier of two can be told.
const FAR: ngx_msec_t = ngx_msec_t::MAX / 2;

impl Limits {
    /// The limits of the tunnel of `request`, which stands from now on. `None` where it has none. `H` hears of
    /// [`Alarm::Lifetime`] and [`Alarm::Rate`].
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn of<H: EventHandler>(
        request: Request,
        conf: &ServerConf,
    ) -> Result<Option<Box<Self>>, NoMemory> {
        let lifetime = match conf.tunnel_time(request)? {
            Some(time) => Some(Lifetime::new::<H>(request, time).ok_or(NoMemory)?),
            None => None,
        };

        let traffic = Traffic::of::<H>(request, conf)?;

        if lifetime.is_none() && traffic.is_none() {
            return Ok(None);
        }

        boxed(Self { lifetime, traffic }).map(Some).ok_or(NoMemory)
    }

    /// What may be read of the two ends, as of now. `None` where that is not limited.
    pub fn allowance(&mut self) -> Option<&mut Allowance> {
        let traffic = self.traffic.as_mut()?;
        traffic.allowance.set_now(now());
        Some(&mut traffic.allowance)
    }

    /// Whether `side` has more that may not be read yet.
    pub fn is_throttled(&self, side: Side) -> bool {
        self.traffic.as_ref().is_some_and(|traffic| traffic.allowance.is_throttled(side))
    }

    /// Has [`Alarm::Rate`] expire when there is to be a turn for an end that may be read again.
    pub fn set_wake(&mut self) {
        if let Some(Traffic { allowance, wake: Some(wake) }) = &mut self.traffic {
            wake.set(allowance.wake().map(|at| at.to_msec().next_multiple_of(GRID)));
        }
    }

    /// Tells the log, once a minute, that a zone had no place for the tunnel's key. Whether that is so.
    pub fn tell_unshared(&mut self, log: Log) -> bool {
        let is_unshared =
            self.traffic.as_mut().is_some_and(|traffic| traffic.allowance.take_unshared());

        if is_unshared && TOLD.with(Seldom::is_due) {
            log.write(
                NGX_LOG_ERR,
                0,
                format_args!(
                    "no place for a key in a zone of \"proxy_connect_rate_zone\", its tunnel goes without \
                     that rate for now: make the zone larger"
                ),
            );
        }

        is_unshared
    }

    /// Takes the news that it has.
    pub fn take_wake(&mut self) {
        if let Some(Traffic { wake: Some(wake), .. }) = &mut self.traffic {
            wake.at = None;
        }
    }

    /// Whether the tunnel has stood for as long as it may. It is asked again later where it has not.
    pub fn is_over(&self) -> bool {
        self.lifetime.as_ref().is_some_and(Lifetime::is_over)
    }
}

impl Traffic {
    fn of<H: EventHandler>(request: Request, conf: &ServerConf) -> Result<Option<Self>, NoMemory> {
        let quota = conf.quota(request)?;
        let mut allowance = Allowance::new(quota.unwrap_or(Quota::NONE));

        for side in [Side::Client, Side::Upstream] {
            if let Some(rate) = conf.rate(request, side)? {
                allowance.limit(side, rate).map_err(|_| NoMemory)?;
            }
        }

        share(request, conf, &mut allowance)?;

        let wake = match allowance.has_rate() {
            true => Some(Wake::new::<H>(request).ok_or(NoMemory)?),
            false if quota.is_some() => None,
            false => return Ok(None),
        };

        Ok(Some(Self { allowance, wake }))
    }
}

/// Has the tunnel of `request` share the rates of its keys.
fn share(request: Request, conf: &ServerConf, allowance: &mut Allowance) -> Result<(), NoMemory> {
    for shared in conf.shared_rates() {
        let key = shared.key.evaluate(request).ok_or(NoMemory)?;

        let Some((zone, key)) = shared.zone.table(key).filter(|_| !key.is_empty()) else {
            continue;
        };

        for side in [Side::Client, Side::Upstream] {
            if let Some(rate) = shared.rate(side) {
                allowance.share(side, rate, zone, key).map_err(|_| NoMemory)?;
            }
        }
    }

    Ok(())
}

impl Wake {
    /// `None` when there is no memory.
    fn new<H: EventHandler>(request: Request) -> Option<Self> {
        Some(Self { timer: Timer::new::<H>(request, Alarm::Rate)?, at: None })
    }

    fn set(&mut self, at: Option<u64>) {
        if self.at == at {
            return;
        }

        self.at = at;

        match at {
            Some(at) => {
                let msec = ngx_msec_t::try_from(at.saturating_sub(now_msec())).unwrap_or(FAR);
                probes::throttled(self.timer.request(), msec);
                self.timer.set(msec.min(LONGEST));
            }
            None => self.timer.stop(),
        }
    }
}

impl Lifetime {
    /// One of `msec` milliseconds. `None` when there is no memory.
    fn new<H: EventHandler>(request: Request, msec: u64) -> Option<Self> {
        let msec = ngx_msec_t::try_from(msec).unwrap_or(FAR).min(FAR);
        let timer = Timer::new::<H>(request, Alarm::Lifetime)?;
        timer.set(msec.min(LONGEST));

        Some(Self { timer, end: ffi::now().wrapping_add(msec) })
    }

    fn is_over(&self) -> bool {
        match ffi::until(self.end) {
            0 => true,
            left => {
                self.timer.set(left.min(LONGEST));
                false
            }
        }
    }
}

/// The time of the event loop's current iteration.
fn now() -> Instant {
    Instant::of_msec(now_msec())
}

fn now_msec() -> u64 {
    ffi::now() as u64
}
