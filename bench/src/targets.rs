//! Owns the targets: what the module is to be held to.

use crate::metric::{self, Metric};
use crate::peer::{Kind, Limits, Web};
use crate::results::Results;

/// What the module is to be held to.
pub struct Target {
    /// In words.
    pub text: String,
    /// What came out, if all that it needs was measured.
    pub value: Option<f64>,
    /// What it has to stand to.
    pub limit: f64,
    /// How.
    pub bound: Bound,
    /// The unit.
    pub unit: &'static str,
}

/// How what came out has to stand to a limit.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost,
    Below,
    AtLeast,
}

impl Target {
    /// The verdict.
    pub fn verdict(&self) -> &'static str {
        let Some(value) = self.value else {
            return "not measured";
        };

        let is_reached = match self.bound {
            Bound::AtMost => value <= self.limit,
            Bound::Below => value < self.limit,
            Bound::AtLeast => value >= self.limit,
        };

        if is_reached {
            "reached"
        } else {
            "missed"
        }
    }

    /// The bound as a sign.
    pub fn sign(&self) -> &'static str {
        match self.bound {
            Bound::AtMost => "≤",
            Bound::Below => "<",
            Bound::AtLeast => "≥",
        }
    }
}

fn to_base(
    results: &Results,
    text: &str,
    kind: Kind,
    base: Kind,
    metric: Metric,
    limit: f64,
) -> Target {
    Target {
        text: format!("{text}, to {}", base.title()),
        value: results.ratio(kind, base, metric),
        limit,
        bound: Bound::AtMost,
        unit: "×",
    }
}

/// Below the best of others: the ratio to the one that is nearest.
fn below(results: &Results, text: &str, others: &[Kind], metric: Metric) -> Target {
    let nearest = others
        .iter()
        .filter_map(|other| Some((results.ratio(Kind::Module, *other, metric)?, *other)))
        .max_by(|one, two| one.0.total_cmp(&two.0));

    let of = nearest.map_or("every peer", |(_, other)| other.title());

    Target {
        text: format!("{text}, to the best of the peers: {of}"),
        value: nearest.map(|(ratio, _)| ratio),
        limit: 1.0,
        bound: Bound::Below,
        unit: "×",
    }
}

fn at_most(results: &Results, text: &str, kind: Kind, metric: Metric, limit: f64) -> Target {
    Target {
        text: text.into(),
        value: results.median(kind, metric),
        limit,
        bound: Bound::AtMost,
        unit: metric.unit,
    }
}

const PROXIES: [Kind; 4] = [Kind::Squid, Kind::TrafficServer, Kind::Apache, Kind::Tinyproxy];
const PEERS: [Kind; 7] = [
    Kind::Stream,
    Kind::Tunnel,
    Kind::Haproxy,
    Kind::Squid,
    Kind::TrafficServer,
    Kind::Apache,
    Kind::Tinyproxy,
];

/// What rates may cost, and how well they are to be kept.
fn of_limits(results: &Results) -> Vec<Target> {
    let [each, one, together] = [Limits::Each, Limits::One, Limits::Together].map(Kind::Limits);

    [
        (
            "1,000 tunnels with a rate, beyond the same bytes without",
            more(results, each, metric::THROTTLED_CPU, 1.0),
            3.0,
            "% of a core",
        ),
        ("A rate of 1 MiB/s, off by", results.median(one, metric::RATE_OFF), 1.0, "%"),
        (
            "100 tunnels that share 10 MiB/s, a share off by",
            results.median(together, metric::SHARE_OFF),
            10.0,
            "%",
        ),
    ]
    .map(|(text, value, limit, unit)| Target {
        text: text.into(),
        value,
        limit,
        bound: Bound::AtMost,
        unit,
    })
    .into()
}

/// What counting may cost.
fn of_counters(results: &Results) -> Vec<Target> {
    let [down_1, up_1, _, down_8, up_8, _] = metric::BULK;
    let counted =
        |text, metric, limit| to_base(results, text, Kind::Counted, Kind::Module, metric, limit);

    vec![
        counted("With counters, CONNECT", metric::CONNECT, 1.02),
        counted("With counters, bulk down, 1 tunnel", down_1, 1.01),
        counted("With counters, bulk up, 1 tunnel", up_1, 1.01),
        counted("With counters, bulk down, 8 tunnels", down_8, 1.01),
        counted("With counters, bulk up, 8 tunnels", up_8, 1.01),
        Target {
            text: "With counters, idle tunnel, beyond that without".into(),
            value: more(results, Kind::Counted, metric::IDLE_BYTE, 1024.0),
            limit: 256.0,
            bound: Bound::AtMost,
            unit: "bytes",
        },
    ]
}

/// What a tunnel over HTTP/2 is held to.
fn of_http2(results: &Results) -> Vec<Target> {
    let [(_, [_, p50_64, _]), _, (_, [_, p50_32k, _])] = metric::PING;
    let mut list = of_http2_bulk(results);
    let mut to = |text, kind, base, metric, limit| {
        list.push(to_base(results, &format!("HTTP/2, {text}"), kind, base, metric, limit));
    };

    let ours = Kind::ModuleHttp2;

    to("CONNECT", ours, Kind::RustHttp2, metric::CONNECT, 1.15);
    to("CONNECT", ours, Kind::ModuleTls, metric::CONNECT, 0.12);
    to("ping-pong 64 B, p50", ours, Kind::StreamTls, p50_64, 0.5);
    to("ping-pong 64 B, p50", ours, Kind::RustHttp2, p50_64, 1.0);
    to("ping-pong 32 KiB, p50", ours, Kind::StreamTls, p50_32k, 1.05);
    to("mix, p99", ours, Kind::Envoy, metric::MIX_P99, 0.75);
    to("GET beside tunnels", Kind::Web(Web::Beside), WITHOUT, metric::REQUEST, 1.0);
    to("GET where there are none", Kind::Web(Web::Apart), WITHOUT, metric::REQUEST, 1.0);

    list.push(at_least(results, "mix, bulk", Some(Kind::Envoy), metric::MIX_RATE, 0.9));
    list.push(at_least(results, "up at 50 ms", None, metric::AFAR_UP, 50.0));
    list.push(at_least(results, "down at 50 ms", Some(Kind::ModuleTls), metric::AFAR_DOWN, 0.75));

    list
}

const WITHOUT: Kind = Kind::Web(Web::Without);

fn of_http2_bulk(results: &Results) -> Vec<Target> {
    let [down_1, up_1, _, down_8, up_8, _] = metric::BULK;
    let mut list = Vec::new();

    for (tunnels, down, up) in [("1 tunnel", down_1, up_1), ("8 tunnels", down_8, up_8)] {
        for (way, kind, base, metric, limit) in [
            ("HTTP/2, bulk down", Kind::ModuleHttp2, Kind::ModuleTls, down, 1.05),
            ("HTTP/2, bulk down", Kind::ModuleHttp2, Kind::StreamTls, down, 1.0),
            ("HTTP/2, bulk down", Kind::ModuleHttp2, Kind::Envoy, down, 0.9),
            ("HTTP/2, bulk up", Kind::ModuleHttp2, Kind::ModuleTls, up, 1.1),
            ("HTTP/2, bulk up", Kind::ModuleHttp2, Kind::Envoy, up, 0.85),
            ("HTTP/2 without TLS, bulk down", Kind::ModuleH2c, Kind::EnvoyH2c, down, 0.85),
            ("HTTP/2 without TLS, bulk up", Kind::ModuleH2c, Kind::EnvoyH2c, up, 0.65),
        ] {
            list.push(to_base(results, &format!("{way}, {tunnels}"), kind, base, metric, limit));
        }
    }

    list
}

/// At least so much of what `base` has, or of the unit: a rate of HTTP/2.
fn at_least(
    results: &Results,
    text: &str,
    base: Option<Kind>,
    metric: Metric,
    limit: f64,
) -> Target {
    let (kind, text) = (Kind::ModuleHttp2, format!("HTTP/2, {text}"));

    let target = match base {
        Some(base) => to_base(results, &text, kind, base, metric, limit),
        None => at_most(results, &text, kind, metric, limit),
    };

    Target { bound: Bound::AtLeast, ..target }
}

/// How much more of it `kind` has than the module as it is, in units of which `scale` are one of the metric's.
fn more(results: &Results, kind: Kind, metric: Metric, scale: f64) -> Option<f64> {
    let difference = results.median(kind, metric)? - results.median(Kind::Module, metric)?;
    Some(difference * scale)
}

/// The targets, with what came out.
pub fn targets(results: &Results) -> Vec<Target> {
    let [down_1, up_1, both_1, down_8, up_8, both_8] = metric::BULK;
    let [(_, [_, p50_64, p99_64]), _, (_, [_, p50_32k, p99_32k])] = metric::PING;
    let mut list = Vec::new();

    for (text, metric) in [("Bulk down, 8 tunnels", down_8), ("Bulk up, 8 tunnels", up_8)] {
        list.push(to_base(results, text, Kind::Module, Kind::Stream, metric, 0.45));
        list.push(to_base(results, text, Kind::Module, Kind::Bare, metric, 1.25));
        list.push(below(results, text, &PEERS, metric));
    }

    for (text, metric) in [("Bulk down, 1 tunnel", down_1), ("Bulk up, 1 tunnel", up_1)] {
        list.push(to_base(results, text, Kind::Module, Kind::Bare, metric, 1.3));
    }

    for (text, metric, limit) in [
        ("TLS, bulk down, 1 tunnel", down_1, 0.85),
        ("TLS, bulk up, 1 tunnel", up_1, 0.75),
        ("TLS, bulk both ways, 1 tunnel", both_1, 0.65),
        ("TLS, bulk down, 8 tunnels", down_8, 0.85),
        ("TLS, bulk up, 8 tunnels", up_8, 0.75),
        ("TLS, bulk both ways, 8 tunnels", both_8, 0.65),
    ] {
        list.push(to_base(results, text, Kind::ModuleTls, Kind::StreamTls, metric, limit));
        let to_haproxy = to_base(results, text, Kind::ModuleTls, Kind::HaproxyTls, metric, 1.0);
        list.push(Target { bound: Bound::Below, ..to_haproxy });
    }

    list.push(to_base(
        results,
        "TLS, CONNECT, resumed",
        Kind::ModuleTls,
        Kind::StreamTls,
        metric::CONNECT_RESUMED,
        1.05,
    ));

    list.extend(of_http2(results));
    list.extend(of_limits(results));
    list.extend(of_counters(results));
    list.push(to_base(results, "CONNECT", Kind::Module, Kind::Stream, metric::CONNECT, 1.15));
    list.push(below(results, "CONNECT", &PROXIES, metric::CONNECT));
    for (text, metric) in [("1 byte", metric::IDLE_BYTE), ("32 KiB", metric::IDLE_32K)] {
        for (what, kind, limit) in [
            ("Idle tunnel", Kind::Module, 10.0),
            ("TLS, idle tunnel", Kind::ModuleTls, 14.0),
            ("HTTP/2, idle tunnel", Kind::ModuleHttp2, 10.0),
        ] {
            list.push(at_most(results, &format!("{what} after {text}"), kind, metric, limit));
        }
    }

    list.push(to_base(results, "Ping-pong 64 B, p50", Kind::Module, Kind::Stream, p50_64, 1.1));
    list.push(to_base(results, "Ping-pong 32 KiB, p50", Kind::Module, Kind::Direct, p50_32k, 1.5));
    for (text, metric) in [("Ping-pong 64 B", p99_64), ("Ping-pong 32 KiB", p99_32k)] {
        let text = format!("{text}, p99, nothing near 40 ms");
        list.push(at_most(results, &text, Kind::Module, metric, 20_000.0));
    }

    list.push(to_base(results, "Mix, p99", Kind::Module, Kind::Stream, metric::MIX_P99, 2.0));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let target = |value, limit, strict| Target {
            text: String::new(),
            value,
            limit,
            bound: if strict { Bound::Below } else { Bound::AtMost },
            unit: "×",
        };
        let at_least = |value| Target { bound: Bound::AtLeast, ..target(Some(value), 1.0, false) };

        assert_eq!(target(None, 1.0, false).verdict(), "not measured");
        assert_eq!(target(Some(1.0), 1.0, false).verdict(), "reached");
        assert_eq!(target(Some(1.0), 1.0, true).verdict(), "missed");
        assert_eq!(target(Some(0.9), 1.0, true).verdict(), "reached");
        assert_eq!(target(Some(1.1), 1.0, false).verdict(), "missed");
        assert_eq!(at_least(0.9).verdict(), "missed");
        assert_eq!(at_least(1.0).verdict(), "reached");
        assert_eq!(at_least(1.1).verdict(), "reached");
    }

    #[test]
    fn below_names_the_nearest() {
        let mut results = Results::default();
        results.add(Kind::Module, metric::CONNECT, 90.0);
        results.add(Kind::Squid, metric::CONNECT, 180.0);
        results.add(Kind::TrafficServer, metric::CONNECT, 100.0);

        let target = below(&results, "CONNECT", &PROXIES, metric::CONNECT);
        assert_eq!(target.value, Some(0.9));
        assert!(target.text.ends_with("trafficserver"), "{}", target.text);
        assert_eq!(target.verdict(), "reached");
    }
}
