//! Owns the plot: bars for the numbers that tell most, as SVG.

use std::fmt::Write;

use crate::metric::{self, Metric};
use crate::peer::Kind;
use crate::results::Results;

const COLUMNS: usize = 2;
const PANEL_WIDTH: usize = 560;
const LABEL_WIDTH: usize = 200;
const BAR_WIDTH: usize = 280;
const BAR: usize = 14;
const STEP: usize = 20;
const HEAD: usize = 40;
const GAP: usize = 24;

fn panels() -> [(&'static str, Metric); 6] {
    let [.., down_8, up_8, _] = metric::BULK;
    let [_, _, (_, [_, p50_32k, _])] = metric::PING;

    [
        ("Bulk down, 8 tunnels: CPU-seconds per GiB", down_8),
        ("Bulk up, 8 tunnels: CPU-seconds per GiB", up_8),
        ("Connect, one byte each way, close: CPU-µs", metric::CONNECT),
        ("Idle tunnel after 32 KiB each way: KiB", metric::IDLE_32K),
        ("32 KiB ping-pong over 32 tunnels, p50: µs", p50_32k),
        ("64 B ping-pong beside bulk, p99: µs", metric::MIX_P99),
    ]
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Module | Kind::ModuleTls => "#b7410e",
        Kind::Bare | Kind::Direct => "#8a949e",
        _ => "#3b6ea5",
    }
}

/// The whole plot.
pub fn svg(results: &Results) -> String {
    let mut kinds = results.kinds();
    kinds.retain(|kind| !kind.has_rules() && !kind.has_parent() && !kind.is_web());
    let panel_height = HEAD + kinds.len() * STEP + GAP;
    let panels = panels();
    let width = COLUMNS * PANEL_WIDTH;
    let height = panels.len().div_ceil(COLUMNS) * panel_height;

    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );

    for (number, (title, metric)) in panels.into_iter().enumerate() {
        let x = number % COLUMNS * PANEL_WIDTH + 16;
        let y = number / COLUMNS * panel_height;

        panel(&mut text, results, &kinds, title, metric, (x, y));
    }

    text += "</svg>\n";
    text
}

fn panel(
    text: &mut String,
    results: &Results,
    kinds: &[Kind],
    title: &str,
    metric: Metric,
    (x, y): (usize, usize),
) {
    let medians: Vec<_> = kinds.iter().map(|kind| results.median(*kind, metric)).collect();
    let most = medians.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);

    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "<text x=\"{x}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\" fill=\"#1c2126\">{title}</text>",
        y + 24
    );

    for (row, (kind, median)) in kinds.iter().zip(medians).enumerate() {
        let top = y + HEAD + row * STEP;
        let start = x + LABEL_WIDTH;
        let length = median.map_or(0.0, |value| value / most * BAR_WIDTH as f64);
        let label = median
            .map_or_else(|| "not measured".into(), |value| format!("{value:.*}", metric.digits));

        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\" fill=\"#1c2126\">{}</text>\
             <rect x=\"{start}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{baseline}\" fill=\"#1c2126\">{label}</text>",
            start - 8,
            kind.title(),
            colour(*kind),
            start as f64 + length + 6.0,
            baseline = top + BAR - 3,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_peer_in_each_panel() {
        let mut results = Results::default();
        results.add(Kind::Module, metric::CONNECT, 50.0);
        results.add(Kind::Stream, metric::CONNECT, 100.0);

        let text = svg(&results);

        assert_eq!(text.matches("<rect x=").count(), 12);
        assert!(text.contains("width=\"140.0\" height=\"14\" fill=\"#b7410e\""));
        assert!(text.contains("width=\"280.0\" height=\"14\" fill=\"#3b6ea5\""));
        assert_eq!(text.matches("not measured").count(), 10);
    }
}
