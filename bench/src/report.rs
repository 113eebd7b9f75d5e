//! Owns what a reader gets: the tables, the targets, the CSV.

use std::fmt::Write;

use crate::metric::{self, Metric};
use crate::peer::Kind;
use crate::results::Results;
use crate::targets::targets;

/// A table in Markdown, with columns that stand under each other.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();

    let mut text = String::new();

    for (number, row) in rows.iter().enumerate() {
        push_row(&mut text, row, &widths);

        if number == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| {
                if column == 0 {
                    "-".repeat(*width)
                } else {
                    "-".repeat(width - 1) + ":"
                }
            });

            push_row(&mut text, &rule.collect::<Vec<_>>(), &widths);
        }
    }

    text
}

fn push_row(text: &mut String, row: &[String], widths: &[usize]) {
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - cell.chars().count());

        *text += "| ";
        *text += if column == 0 { "" } else { &padding };
        *text += cell;
        *text += if column == 0 { &padding } else { "" };
        *text += " ";
    }

    *text += "|\n";
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.digits$}"))
}

/// What a peer is compared with: nginx stream as it listens, and the bare relay.
fn bases(kind: Kind) -> [Kind; 2] {
    [if kind.is_tls() { Kind::StreamTls } else { Kind::Stream }, Kind::Bare]
}

fn rows(
    results: &Results,
    metrics: &[Metric],
    cell: impl Fn(Kind, Metric) -> String,
) -> Vec<Vec<String>> {
    let mut head = vec![String::new()];
    head.extend(metrics.iter().map(|metric| metric.title.to_owned()));

    let mut rows = vec![head];

    let is_measured =
        |kind: Kind| metrics.iter().any(|metric| results.median(kind, *metric).is_some());

    for kind in results.kinds().into_iter().filter(|kind| is_measured(*kind)) {
        let mut row = vec![kind.title().to_owned()];
        row.extend(metrics.iter().map(|metric| cell(kind, *metric)));
        rows.push(row);
    }

    rows
}

fn ratios(results: &Results, kind: Kind, metric: Metric) -> String {
    let [stream, bare] = bases(kind).map(|base| number(results.ratio(kind, base, metric), 2));
    format!("{stream} / {bare}")
}

/// All tables, the targets, and what is missing.
pub fn markdown(results: &Results, heading: &str) -> String {
    let mut text = String::new();

    for (title, metrics) in metric::tables() {
        let medians = rows(results, &metrics, |kind, metric| {
            number(results.median(kind, metric), metric.digits)
        });

        // Writing to a String can't fail.
        let _ = write!(text, "{heading} {title}\n\n{}\n", table(&medians));

        if metrics.iter().all(|metric| metric::has_ratio(*metric)) {
            let ratios = rows(results, &metrics, |kind, metric| ratios(results, kind, metric));
            let _ = write!(
                text,
                "The same as ratios, turn by turn: to nginx stream (of a TLS listener: to nginx stream with \
                 one) / to the bare relay.\n\n{}\n",
                table(&ratios)
            );
        }
    }

    let _ = write!(text, "{heading} Targets\n\n{}", table(&target_rows(results)));

    if !results.notes.is_empty() {
        let _ = write!(text, "\n{heading} Not measured\n\n");

        for (kind, note) in &results.notes {
            let _ = writeln!(text, "- {}: {note}", kind.title());
        }
    }

    text
}

fn target_rows(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![["this module", "came to", "limit", ""].map(String::from).to_vec()];

    for target in targets(results) {
        let digits = if target.limit >= 1000.0 { 0 } else { 2 };
        let sign = target.sign();

        rows.push(vec![
            target.text.clone(),
            target
                .value
                .map_or_else(|| "–".into(), |value| format!("{value:.digits$} {}", target.unit)),
            format!("{sign} {:.digits$} {}", target.limit, target.unit),
            target.verdict().to_owned(),
        ]);
    }

    rows
}

/// One line for each number of each peer.
pub fn csv(results: &Results) -> String {
    let mut text = String::from("metric,unit,peer,median,min,max,turns,to_stream,to_bare_relay\n");

    for (_, metrics) in metric::tables() {
        for metric in metrics {
            for kind in results.kinds() {
                if let Some(median) = results.median(kind, metric) {
                    push_csv(&mut text, results, kind, metric, median);
                }
            }
        }
    }

    text
}

fn push_csv(text: &mut String, results: &Results, kind: Kind, metric: Metric, median: f64) {
    let values = results.all(kind, metric);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);

    let [stream, bare] = bases(kind).map(|base| {
        results.ratio(kind, base, metric).map_or_else(String::new, |ratio| format!("{ratio:.3}"))
    });

    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "{},{},{},{median:.4},{least:.4},{most:.4},{},{stream},{bare}",
        metric.id,
        metric.unit,
        kind.id(),
        values.len(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [vec!["", "µs"], vec!["this", "1.25"], vec!["other one", "10.50"]]
            .map(|row| row.into_iter().map(String::from).collect::<Vec<_>>());

        assert_eq!(
            table(&rows),
            "|           |    µs |\n\
             | --------- | ----: |\n\
             | this      |  1.25 |\n\
             | other one | 10.50 |\n"
        );
    }

    fn some() -> Results {
        let mut results = Results::default();

        for (kind, value) in [(Kind::Module, 80.0), (Kind::Stream, 100.0), (Kind::Bare, 50.0)] {
            results.add(kind, metric::CONNECT, value);
        }

        results.note(Kind::Squid, "squid is not installed".into());
        results.note(Kind::Squid, "squid is not installed".into());
        results
    }

    #[test]
    fn csv_has_medians_and_ratios() {
        let text = csv(&some());

        assert!(
            text.contains("\nconnect_cpu,CPU-µs,module,80.0000,80.0000,80.0000,1,0.800,1.600\n")
        );
        assert!(!text.contains("squid"));
    }

    #[test]
    fn markdown_names_what_is_missing() {
        let text = markdown(&some(), "##");

        assert!(text.contains("0.80 / 1.60"));
        assert_eq!(text.matches("- squid: squid is not installed").count(), 1);
        assert!(text.contains("| CONNECT, to nginx stream "));
        assert!(text.contains("not measured"));
    }
}
