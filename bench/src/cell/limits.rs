//! Owns what is measured of limits: what a rate costs, how well it is kept, and how fairly it is shared.

use std::io;
use std::time::Duration;

use super::{mib, observe, Extent, Values, OPEN_LIMIT};
use crate::load::{Job, Load};
use crate::metric;
use crate::peer::{limits, Kind, Peer};

/// Tunnels with a rate each, and those that share one.
const THROTTLED: usize = 1000;
const SHARING: usize = 100;

/// How often a second an origin server that keeps to a rate by itself sends: as often as the proxies that
/// throttle read.
const PACES: u32 = 10;
/// In so many groups, one after the other.
const GROUPS: u32 = 50;

/// Before the measuring begins all windows are full.
const WARM_UP: Duration = Duration::from_secs(2);

/// CPU time of a proxy whose tunnels move so many bytes a second each: it keeps them to that, or, where it has
/// no limit, the origin servers do.
pub fn throttled(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, 0)?;

    if peer.kind == Kind::Module {
        let bytes = limits::EACH.1 / u64::from(PACES);
        load.pace(bytes, Duration::from_secs(1) / PACES, GROUPS);
    }

    load.open(THROTTLED, Job::Down, OPEN_LIMIT)?;

    let extent = Extent { warm_up: WARM_UP, window: extent.throttled, ..*extent };
    let window = observe(peer, &mut load, &extent)?;
    load.finish();

    Ok(vec![
        (metric::THROTTLED_CPU, 100.0 * window.cpu / window.seconds),
        (metric::THROTTLED_RATE, mib(window.moved.down) / window.seconds),
    ])
}

/// By how much the rate of one tunnel differs from what it is to be, from one arrival to another.
pub fn one(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, 0)?;
    load.open(1, Job::Down, OPEN_LIMIT)?;
    load.run_for(WARM_UP)?;

    let (bytes, since) = (load.moved.down, load.came);
    load.run_for(extent.rate)?;

    let bytes = (load.moved.down - bytes) as f64;
    let seconds = load.came.duration_since(since).as_secs_f64();
    load.finish();

    if seconds <= 0.0 {
        return Err(io::Error::other("nothing was moved"));
    }

    let off = bytes / seconds / limits::ONE.1 as f64 - 1.0;
    Ok(vec![(metric::RATE_OFF, 100.0 * off.abs())])
}

/// By how much the tunnel that differs most from the others' mean does, and the rate of all from what it is to be.
pub fn together(peer: &Peer, extent: &Extent) -> io::Result<Values> {
    let mut load = Load::new(&peer.route, &peer.listener, 0)?;
    load.open(SHARING, Job::Down, OPEN_LIMIT)?;
    load.run_for(WARM_UP)?;

    let before = load.shares();
    let (bytes, since) = (load.moved.down, load.came);
    load.run_for(extent.rate)?;

    let shares: Vec<_> =
        load.shares().iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
    let bytes = (load.moved.down - bytes) as f64;
    let seconds = load.came.duration_since(since).as_secs_f64();
    load.finish();

    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let off = |share: &f64| (share / mean - 1.0).abs();
    let most = shares.iter().map(off).fold(0.0, f64::max);
    let rate = (bytes / seconds / limits::TOGETHER.1 as f64 - 1.0).abs();

    Ok(vec![(metric::SHARE_OFF, 100.0 * most), (metric::TOGETHER_OFF, 100.0 * rate)])
}
