//! Owns what a standing tunnel may take at most: for how long it may stand, and how many bytes it may move.

use nginx_sys::ngx_msec_t;
use proxy_connect_core::relay::Allowance;

use crate::conf::ServerConf;
use crate::ffi;
use crate::ffi::boxed;
use crate::ffi::event::{Alarm, EventHandler};
use crate::ffi::request::Request;
use crate::ffi::timer::Timer;
use crate::ffi::variable::NoMemory;

/// The limits of a tunnel. One without any has none of these.
pub struct Limits {
    lifetime: Option<Lifetime>,
    allowance: Option<Allowance>,
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

/// Times differ by less, in milliseconds, so that the earlier of two can be told.
const FAR: ngx_msec_t = ngx_msec_t::MAX / 2;

impl Limits {
    /// The limits of the tunnel of `request`, which stands from now on. `None` where it has none. `H` hears of
    /// [`Alarm::Lifetime`].
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

        let allowance = conf.quota(request)?.map(Allowance::new);

        if lifetime.is_none() && allowance.is_none() {
            return Ok(None);
        }

        boxed(Self { lifetime, allowance }).map(Some).ok_or(NoMemory)
    }

    /// What may be read of the two ends. `None` where that is not limited.
    pub fn allowance(&mut self) -> Option<&mut Allowance> {
        self.allowance.as_mut()
    }

    /// Whether the tunnel has stood for as long as it may. It is asked again later where it has not.
    pub fn is_over(&self) -> bool {
        self.lifetime.as_ref().is_some_and(Lifetime::is_over)
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
