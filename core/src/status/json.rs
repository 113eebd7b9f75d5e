//! Owns a report, and a page of the list, as JSON.

use serde_json::{json, Map, Value};

use super::entry::Seen;
use super::histogram::Summary;
use super::label::Version;
use super::parents::{Group, STATE_WORDS};
use super::report::Report;
use super::zone::Page;

/// The type of the content.
pub const CONTENT_TYPE: &str = "application/json";

/// The reports of zones, by their names, at `now`, in milliseconds since 1970, and the groups of parents as this worker
/// sees them.
pub fn report(zones: &[(String, Report)], parents: &[Group], now: u64) -> String {
    let zones: Map<String, Value> =
        zones.iter().map(|(name, report)| (name.clone(), zone(report))).collect();

    json!({ "time": now, "zones": zones, "parents": groups(parents) }).to_string()
}

/// A page of the tunnels of a zone, and what goes with it.
#[derive(Debug)]
pub struct Listing<'a> {
    /// The name of the zone.
    pub zone: &'a str,
    /// The names of all zones.
    pub zones: &'a [&'a str],
    /// What the zone says.
    pub report: &'a Report,
    /// The groups of parents, as this worker sees them.
    pub parents: &'a [Group],
    /// The page.
    pub page: &'a Page,
    /// The how manieth tunnel the page begins with.
    pub first: usize,
    /// Whether tunnels can be closed.
    pub control: bool,
}

/// A page of tunnels, at `now`, in milliseconds since 1970.
pub fn tunnels(listing: &Listing<'_>, now: u64) -> String {
    let tunnels: Vec<Value> = listing.page.tunnels.iter().map(tunnel).collect();

    json!({
        "time": now,
        "zone": listing.zone,
        "zones": listing.zones,
        "total": listing.page.total,
        "first": listing.first,
        "control": listing.control,
        "tunnels": tunnels,
        "report": zone(listing.report),
        "parents": groups(listing.parents),
    })
    .to_string()
}

fn zone(report: &Report) -> Value {
    let workers: Vec<Value> = report
        .workers
        .iter()
        .map(|worker| {
            json!({
                "pid": worker.pid,
                "tunnels": worker.tunnels,
                "relay_bytes": worker.memory,
                "full_turns": worker.full_turns,
            })
        })
        .collect();

    json!({
        "active": report.active(),
        "by_version": object(Version::ALL.iter().map(|version| version.label()).zip(report.standing)),
        "by_age": object(report.ages.iter().copied()),
        "connects": connects(report),
        "bytes": { "upload": report.upload, "download": report.download },
        "closed": object(report.closed.iter().copied()),
        "resolve_ms": summary(&report.resolve),
        "connect_ms": summary(&report.connect),
        "first_byte_ms": summary(&report.first_byte),
        "duration_ms": summary(&report.duration),
        "attempts": summary(&report.attempts),
        "pipes": { "open": report.pipes, "refused": report.refused_pipes },
        "listable": report.capacity,
        "unlisted": report.unlisted,
        "rate_zone_full": report.unshared,
        "parent_attempts": object(report.parents.iter().copied()),
        "workers": workers,
    })
}

fn groups(parents: &[Group]) -> Value {
    let states = |group: &Group| object(STATE_WORDS.into_iter().zip(group.states));
    parents.iter().map(|group| (group.name.clone(), states(group))).collect()
}

fn connects(report: &Report) -> Value {
    let of = |version: Version| {
        let outcomes = report.connects.iter().filter(move |(other, ..)| *other == version);
        object(outcomes.map(|(_, outcome, count)| (*outcome, *count)))
    };

    Version::ALL.iter().map(|version| (version.label().to_owned(), of(*version))).collect()
}

fn object<'a>(values: impl Iterator<Item = (&'a str, u64)>) -> Value {
    values.map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn summary(summary: &Summary) -> Value {
    let buckets: Vec<[u64; 2]> =
        summary.cumulative().map(|(bound, count)| [bound, count]).collect();

    json!({
        "count": summary.count(),
        "sum": summary.sum(),
        "p50": summary.quantile(50),
        "p90": summary.quantile(90),
        "p99": summary.quantile(99),
        "buckets": buckets,
    })
}

fn tunnel(seen: &Seen) -> Value {
    // A client may have sent any bytes.
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();

    json!({
        "id": seen.id.to_string(),
        "version": seen.version.label(),
        "client": text(&seen.names.client),
        "user": text(&seen.names.user),
        "destination": text(&seen.names.destination),
        "address": text(&seen.names.addr),
        "age_ms": seen.age,
        "idle_ms": seen.idle,
        "connect_ms": seen.connect,
        "upload": seen.upload,
        "download": seen.download,
        "upload_rate": seen.upload_rate,
        "download_rate": seen.download_rate,
        "state": if seen.is_closing { "closing" } else { "open" },
    })
}

#[cfg(test)]
mod tests {
    use super::super::entry::Beginning;
    use super::super::zone::tests::{join, query, to, zone};
    use super::super::zone::{Hint, Order};
    use super::*;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_default()
    }

    #[test]
    fn a_report_has_the_gauge_and_the_counts() {
        let zone = zone(2, 8);
        let worker = join(zone, 7).worker();
        worker.open(Version::Http11);
        worker.open(Version::Http11);
        worker.close(Version::Http11, "client_eof", 1_500);

        let text = report(&[("a\"b".into(), Report::of(zone, 2_000))], &[], 2_000);
        let value = parse(&text);
        let zone = &value["zones"]["a\"b"];

        assert_eq!(zone["active"], 1);
        assert_eq!(zone["connects"]["1.1"]["established"], 2);
        assert_eq!(zone["closed"]["client_eof"], 1);
        assert_eq!(zone["duration_ms"]["count"], 1);
        assert_eq!(zone["duration_ms"]["p50"], 5_000);
        assert_eq!(zone["connect_ms"]["p50"], Value::Null);
        assert_eq!(zone["workers"][0]["pid"], 7);
    }

    #[test]
    fn hostile_text_stays_text() {
        let zone = zone(1, 8);
        let part = join(zone, 7);
        let hostile = b"</script>\"\\\0\xff".to_vec();
        part.list(&Beginning { user: &hostile, ..to("a", 1) }, &mut Hint::default());

        let listing = Listing {
            zone: "z",
            zones: &["z"],
            report: &Report::of(zone, 2),
            parents: &[Group { name: "exits".into(), states: [2, 0, 1, 0] }],
            page: &zone.page(&query(Order::Newest, 0, 10), 2),
            first: 0,
            control: true,
        };
        let text = tunnels(&listing, 2);
        let value = parse(&text);
        assert_eq!(value["parents"]["exits"]["unavailable"], 1);
        assert_eq!(value["total"], 1);
        assert_eq!(value["tunnels"][0]["user"], *String::from_utf8_lossy(&hostile));
        assert_eq!(value["tunnels"][0]["state"], "open");
    }
}
