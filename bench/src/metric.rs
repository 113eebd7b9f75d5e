//! Owns what is measured: each number's name, title and unit.

/// One number of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name in the CSV.
    pub id: &'static str,
    /// The title in a table.
    pub title: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Digits behind the point.
    pub digits: usize,
}

const fn metric(
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    digits: usize,
) -> Metric {
    Metric { id, title, unit, digits }
}

/// CPU-seconds of the peer per GiB.
pub const BULK: [Metric; 6] = [
    metric("bulk_down_1", "down, 1", "CPU-s/GiB", 3),
    metric("bulk_up_1", "up, 1", "CPU-s/GiB", 3),
    metric("bulk_both_1", "both, 1", "CPU-s/GiB", 3),
    metric("bulk_down_8", "down, 8", "CPU-s/GiB", 3),
    metric("bulk_up_8", "up, 8", "CPU-s/GiB", 3),
    metric("bulk_both_8", "both, 8", "CPU-s/GiB", 3),
];

/// What the driver spent meanwhile: the kernel does a part of a proxy's work in its name.
pub const DRIVER: [Metric; 6] = [
    metric("driver_down_1", "down, 1", "CPU-s/GiB", 3),
    metric("driver_up_1", "up, 1", "CPU-s/GiB", 3),
    metric("driver_both_1", "both, 1", "CPU-s/GiB", 3),
    metric("driver_down_8", "down, 8", "CPU-s/GiB", 3),
    metric("driver_up_8", "up, 8", "CPU-s/GiB", 3),
    metric("driver_both_8", "both, 8", "CPU-s/GiB", 3),
];

/// How fast that was.
pub const RATE: [Metric; 6] = [
    metric("rate_down_1", "down, 1", "MiB/s", 0),
    metric("rate_up_1", "up, 1", "MiB/s", 0),
    metric("rate_both_1", "both, 1", "MiB/s", 0),
    metric("rate_down_8", "down, 8", "MiB/s", 0),
    metric("rate_up_8", "up, 8", "MiB/s", 0),
    metric("rate_both_8", "both, 8", "MiB/s", 0),
];

/// CPU time for one tunnel: connect, one byte each way, close.
pub const CONNECT: Metric = metric("connect_cpu", "CONNECT", "CPU-µs", 1);
/// The same over TLS, where each handshake takes up a session of before.
pub const CONNECT_RESUMED: Metric = metric("connect_resumed_cpu", "CONNECT, resumed", "CPU-µs", 1);
/// CPU time for one tunnel with rules: connect, a ClientHello, one byte back, close.
pub const RULES: Metric = metric("rules_cpu", "CONNECT with rules", "CPU-µs", 1);
/// CPU time for one request over HTTP/2.
pub const REQUEST: Metric = metric("request_cpu", "GET", "CPU-µs", 2);
/// Memory of an idle tunnel that moved one byte each way.
pub const IDLE_BYTE: Metric = metric("idle_1b", "idle, after 1 byte", "KiB", 1);
/// And then 32 KiB each way.
pub const IDLE_32K: Metric = metric("idle_32k", "idle, after 32 KiB", "KiB", 1);

/// The sizes of messages, and CPU time, median and 99th percentile of one there and back.
pub const PING: [(usize, [Metric; 3]); 3] = [
    (
        64,
        [
            metric("ping_64_cpu", "64 B, CPU", "CPU-µs", 1),
            metric("ping_64_p50", "64 B, p50", "µs", 0),
            metric("ping_64_p99", "64 B, p99", "µs", 0),
        ],
    ),
    (
        16 * 1024,
        [
            metric("ping_16k_cpu", "16 KiB, CPU", "CPU-µs", 1),
            metric("ping_16k_p50", "16 KiB, p50", "µs", 0),
            metric("ping_16k_p99", "16 KiB, p99", "µs", 0),
        ],
    ),
    (
        32 * 1024,
        [
            metric("ping_32k_cpu", "32 KiB, CPU", "CPU-µs", 1),
            metric("ping_32k_p50", "32 KiB, p50", "µs", 0),
            metric("ping_32k_p99", "32 KiB, p99", "µs", 0),
        ],
    ),
];

/// Ping-pong beside bulk.
pub const MIX_P50: Metric = metric("mix_p50", "mix, p50", "µs", 0);
/// Its 99th percentile.
pub const MIX_P99: Metric = metric("mix_p99", "mix, p99", "µs", 0);
/// What the bulk tunnel got meanwhile.
pub const MIX_RATE: Metric = metric("mix_rate", "mix, bulk", "MiB/s", 0);

/// What one tunnel gets to a client that is 50 ms away, there and back.
pub const AFAR_DOWN: Metric = metric("afar_down", "50 ms, down", "MiB/s", 0);
/// And from it.
pub const AFAR_UP: Metric = metric("afar_up", "50 ms, up", "MiB/s", 0);

/// CPU time of tunnels with a rate each.
pub const THROTTLED_CPU: Metric = metric("throttled_cpu", "1,000 tunnels, CPU", "% of a core", 2);
/// What they moved together.
pub const THROTTLED_RATE: Metric = metric("throttled_rate", "1,000 tunnels", "MiB/s", 1);
/// How far a tunnel is from its rate.
pub const RATE_OFF: Metric = metric("rate_off", "1 tunnel, off its rate", "%", 2);
/// How far any of the tunnels that share a rate is from its share.
pub const SHARE_OFF: Metric = metric("share_off", "100 that share, off the mean", "%", 2);
/// How far all of them are from the rate.
pub const TOGETHER_OFF: Metric = metric("together_off", "100 that share, off the rate", "%", 2);

/// The tables: a title, and the columns.
pub fn tables() -> Vec<(&'static str, Vec<Metric>)> {
    let ping = PING.iter().flat_map(|(_, metrics)| *metrics).collect();

    vec![
        ("Bulk: CPU-seconds of the proxy per GiB, with 1 and 8 tunnels", BULK.to_vec()),
        ("Bulk: CPU-seconds of the driver per GiB, meanwhile", DRIVER.to_vec()),
        ("Bulk: MiB/s", RATE.to_vec()),
        (
            "A tunnel: CPU-µs for connect, one byte each way, close; KiB of memory while idle",
            vec![CONNECT, CONNECT_RESUMED, IDLE_BYTE, IDLE_32K],
        ),
        (
            "Ping-pong over 32 tunnels: CPU-µs of the proxy and µs for one message there and back",
            ping,
        ),
        ("Rules: CPU-µs for connect, a ClientHello, one byte back, close", vec![RULES]),
        ("Requests over HTTP/2 and TLS, no tunnel: CPU-µs for a GET and a short answer", vec![REQUEST]),
        ("1 bulk tunnel over TLS, at 50 ms there and back", vec![AFAR_DOWN, AFAR_UP]),
        (
            "1 bulk tunnel beside 100 tunnels with ping-pong of 64 B; 32 on its connection over HTTP/2",
            vec![MIX_P50, MIX_P99, MIX_RATE],
        ),
        (
            "Rates: % of a core for 1,000 tunnels with 100 KiB/s each (without a limit the servers send at that rate); how well \
             a rate is kept",
            vec![THROTTLED_CPU, THROTTLED_RATE, RATE_OFF, SHARE_OFF, TOGETHER_OFF],
        ),
    ]
}

/// Those of which less is better, and a ratio tells something.
pub fn has_ratio(metric: Metric) -> bool {
    metric.unit != "MiB/s" && !DRIVER.contains(&metric) && metric != RULES && metric != REQUEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<_> = tables()
            .iter()
            .flat_map(|(_, metrics)| metrics.iter().map(|metric| metric.id))
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();

        assert_eq!(ids.len(), count);
    }
}
