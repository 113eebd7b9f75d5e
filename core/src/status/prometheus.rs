//! Owns a report in the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write};

use super::histogram::Summary;
use super::label::Version;
use super::parents::{Group, STATE_WORDS};
use super::report::Report;

/// The type of the content.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the name of each metric begins with.
const PREFIX: &str = "nginx_proxy_connect_";

/// The reports of zones, by their names, and the groups of parents as this worker sees them.
///
/// # Errors
///
/// Those of writing to a `String`: none.
pub fn write(zones: &[(String, Report)], parents: &[Group]) -> Result<String, fmt::Error> {
    let mut text = Text(String::new());

    text.gauges(zones)?;
    text.counters(zones)?;
    text.workers(zones)?;
    text.parents(parents)?;

    text.histograms(zones)?;

    Ok(text.0)
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}")
    }

    /// One metric of all zones.
    fn metric(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        zones: &[(String, Report)],
        value: impl Fn(&Report) -> u64,
    ) -> fmt::Result {
        self.head(name, kind, help)?;

        zones.iter().try_for_each(|(zone, report)| {
            writeln!(self.0, "{PREFIX}{name}{{zone=\"{}\"}} {}", Label(zone), value(report))
        })
    }

    /// One metric with a label more.
    fn labeled<W: fmt::Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        label: &str,
        zones: &[(String, Report)],
        values: impl Fn(&Report) -> Vec<(W, u64)>,
    ) -> fmt::Result {
        self.head(name, kind, help)?;

        for (zone, report) in zones {
            for (word, value) in values(report) {
                let zone = Label(zone);
                writeln!(self.0, "{PREFIX}{name}{{zone=\"{zone}\",{label}=\"{word}\"}} {value}")?;
            }
        }

        Ok(())
    }

    fn gauges(&mut self, zones: &[(String, Report)]) -> fmt::Result {
        let active = ("tunnels_active", "gauge", "Tunnels that stand.");
        let by_version = ("tunnels_by_version", "gauge", "The same by version of HTTP.");
        let by_age = ("tunnels_by_age", "gauge", "Listed tunnels by the least bound of their age.");
        let listable = ("tunnels_listable", "gauge", "Tunnels that the zone can list.");
        let pipes = ("pipes", "gauge", "Pipes that are open.");

        self.metric(active, zones, Report::active)?;
        self.labeled(by_version, "version", zones, |report| {
            let values = Version::ALL.iter().map(|version| version.label());
            values.zip(report.standing).collect()
        })?;
        self.labeled(by_age, "age", zones, |report| report.ages.clone())?;
        self.metric(listable, zones, |report| report.capacity)?;
        self.metric(pipes, zones, |report| report.pipes)
    }

    fn counters(&mut self, zones: &[(String, Report)]) -> fmt::Result {
        let bytes = ("bytes_total", "counter", "Bytes moved by tunnels.");
        let closed = ("tunnels_closed_total", "counter", "Tunnels closed, by reason.");
        let unlisted =
            ("tunnels_unlisted_total", "counter", "Tunnels that found no place in the list.");
        let unshared = (
            "rate_zone_full_total",
            "counter",
            "Tunnels whose key found no place in a zone of rates.",
        );
        let parents =
            ("parent_attempts_total", "counter", "Attempts to have a parent build a tunnel.");
        let refused = ("pipes_refused_total", "counter", "Pipes that the system refused.");

        self.connects(zones)?;
        self.labeled(bytes, "direction", zones, |report| {
            vec![("upload", report.upload), ("download", report.download)]
        })?;
        self.labeled(closed, "reason", zones, |report| report.closed.clone())?;
        self.labeled(parents, "result", zones, |report| report.parents.to_vec())?;
        self.metric(unlisted, zones, |report| report.unlisted)?;
        self.metric(unshared, zones, |report| report.unshared)?;
        self.metric(refused, zones, |report| report.refused_pipes)
    }

    /// The label is the group's name in the configuration.
    fn parents(&mut self, parents: &[Group]) -> fmt::Result {
        const NAME: &str = "parents";

        if parents.is_empty() {
            return Ok(());
        }

        self.head(NAME, "gauge", "Parents by state, as the worker that answers sees them.")?;

        for Group { name, states } in parents {
            for (state, count) in STATE_WORDS.iter().zip(states) {
                let labels = format_args!("upstream=\"{}\",state=\"{state}\"", Label(name));
                writeln!(self.0, "{PREFIX}{NAME}{{{labels}}} {count}")?;
            }
        }

        Ok(())
    }

    fn connects(&mut self, zones: &[(String, Report)]) -> fmt::Result {
        const NAME: &str = "connects_total";
        self.head(NAME, "counter", "CONNECTs by version of HTTP and outcome.")?;

        for (zone, report) in zones {
            let zone = Label(zone);

            for (version, outcome, value) in &report.connects {
                let version = version.label();
                let labels =
                    format_args!("zone=\"{zone}\",version=\"{version}\",outcome=\"{outcome}\"");
                writeln!(self.0, "{PREFIX}{NAME}{{{labels}}} {value}")?;
            }
        }

        Ok(())
    }

    fn histograms(&mut self, zones: &[(String, Report)]) -> fmt::Result {
        let thousandth = |msec: u64| msec as f64 / 1_000.0;
        let whole = |n: u64| n as f64;

        let resolve = ("resolve_seconds", "Time to resolve a name.");
        let connect = ("connect_seconds", "Time to connect to an upstream.");
        let first_byte = (
            "first_byte_seconds",
            "Time from the first connect to the first byte of the upstream.",
        );
        let tunnel = ("tunnel_seconds", "How long tunnels stood.");
        let attempts = ("connect_attempts", "Addresses tried for a tunnel.");

        self.histogram(resolve, zones, |report| &report.resolve, thousandth)?;
        self.histogram(connect, zones, |report| &report.connect, thousandth)?;
        self.histogram(first_byte, zones, |report| &report.first_byte, thousandth)?;
        self.histogram(tunnel, zones, |report| &report.duration, thousandth)?;
        self.histogram(attempts, zones, |report| &report.attempts, whole)
    }

    /// By the place of a worker in the zone: a pid would be a new label after each reload.
    fn workers(&mut self, zones: &[(String, Report)]) -> fmt::Result {
        let tunnels = ("worker_tunnels", "gauge", "Tunnels of a worker that stand.");
        let memory = ("worker_relay_bytes", "gauge", "What the relay of a worker holds.");
        let full = (
            "worker_full_turns_total",
            "counter",
            "How often a tunnel used up what it may move in one turn of the event loop.",
        );

        let places = |value: fn(&super::report::WorkerReport) -> u64| {
            move |report: &Report| report.workers.iter().map(value).enumerate().collect()
        };

        self.labeled(tunnels, "worker", zones, places(|worker| worker.tunnels))?;
        self.labeled(memory, "worker", zones, places(|worker| worker.memory))?;
        self.labeled(full, "worker", zones, places(|worker| worker.full_turns))
    }

    fn histogram(
        &mut self,
        (name, help): (&str, &str),
        zones: &[(String, Report)],
        summary: impl Fn(&Report) -> &Summary,
        scale: fn(u64) -> f64,
    ) -> fmt::Result {
        self.head(name, "histogram", help)?;

        for (zone, report) in zones {
            let (zone, summary) = (Label(zone), summary(report));

            for (bound, count) in summary.cumulative() {
                let le = scale(bound);
                writeln!(self.0, "{PREFIX}{name}_bucket{{zone=\"{zone}\",le=\"{le}\"}} {count}")?;
            }

            let (count, sum) = (summary.count(), scale(summary.sum()));
            writeln!(self.0, "{PREFIX}{name}_bucket{{zone=\"{zone}\",le=\"+Inf\"}} {count}")?;
            writeln!(self.0, "{PREFIX}{name}_sum{{zone=\"{zone}\"}} {sum}")?;
            writeln!(self.0, "{PREFIX}{name}_count{{zone=\"{zone}\"}} {count}")?;
        }

        Ok(())
    }
}

/// The value of a label.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            '\n' => f.write_str("\\n"),
            char => f.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Outcome;
    use super::super::parents::Attempt;
    use super::super::zone::tests::{join, to, zone};
    use super::super::zone::Hint;
    use super::*;

    fn text() -> String {
        let zone = zone(2, 8);
        let part = join(zone, 7);
        let worker = part.worker();

        worker.open(Version::Http2);
        worker.connect(Version::Http11, Outcome::DeniedPort);
        worker.connected(3, 1);
        worker.moved(10, 20);
        worker.tried_parent(Attempt::Refused);
        part.list(&to("a", 1_000), &mut Hint::default());

        let parents = [Group { name: "exits".into(), states: [3, 1, 2, 0] }];
        write(&[("a \"b\"\n".into(), Report::of(zone, 2_000))], &parents).unwrap_or_default()
    }

    #[test]
    fn numbers_stand_behind_their_labels() {
        let text = text();
        let zone = r#"zone="a \"b\"\n""#;

        for line in [
            format!("nginx_proxy_connect_tunnels_active{{{zone}}} 1"),
            format!("nginx_proxy_connect_tunnels_by_version{{{zone},version=\"2.0\"}} 1"),
            format!("nginx_proxy_connect_tunnels_by_age{{{zone},age=\"1m\"}} 1"),
            format!(
                "nginx_proxy_connect_connects_total{{{zone},version=\"1.1\",outcome=\"denied_port\"}} 1"
            ),
            format!("nginx_proxy_connect_bytes_total{{{zone},direction=\"download\"}} 20"),
            format!("nginx_proxy_connect_connect_seconds_bucket{{{zone},le=\"0.002\"}} 0"),
            format!("nginx_proxy_connect_connect_seconds_bucket{{{zone},le=\"0.005\"}} 1"),
            format!("nginx_proxy_connect_connect_seconds_bucket{{{zone},le=\"+Inf\"}} 1"),
            format!("nginx_proxy_connect_connect_seconds_sum{{{zone}}} 0.003"),
            "nginx_proxy_connect_parents{upstream=\"exits\",state=\"unavailable\"} 2".into(),
            format!("nginx_proxy_connect_parent_attempts_total{{{zone},result=\"refused\"}} 1"),
            format!("nginx_proxy_connect_worker_tunnels{{{zone},worker=\"0\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_metric_is_described_once_and_before_its_values() {
        let text = text();
        let mut described = std::collections::BTreeSet::new();

        for line in text.lines() {
            match line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
                Some(name) => assert!(described.insert(name.to_owned()), "{line}"),
                None if line.starts_with('#') => (),
                None => {
                    let name = line.split('{').next().unwrap_or_default();
                    let base = ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|end| name.strip_suffix(end))
                        .filter(|base| described.contains(*base));
                    assert!(described.contains(base.unwrap_or(name)), "{line}");
                }
            }
        }
    }
}
