//! Owns what was measured.

use std::collections::BTreeMap;

use crate::metric::Metric;
use crate::peer::Kind;
use crate::stats::median;

/// All values of all turns.
#[derive(Default)]
pub struct Results {
    values: BTreeMap<(&'static str, Kind), Vec<Value>>,
    turn: usize,
    /// Peers that are not there, or cells that failed, and why; in the order in which they came.
    pub notes: Vec<(Kind, String)>,
}

#[derive(Clone, Copy)]
struct Value {
    turn: usize,
    value: f64,
}

impl Results {
    /// What is added from now on is of another turn.
    pub fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// One value more, of the turn that is on.
    pub fn add(&mut self, kind: Kind, metric: Metric, value: f64) {
        let turn = self.turn;
        self.values.entry((metric.id, kind)).or_default().push(Value { turn, value });
    }

    /// What went wrong; the same once.
    pub fn note(&mut self, kind: Kind, text: String) {
        if !self.notes.contains(&(kind, text.clone())) {
            self.notes.push((kind, text));
        }
    }

    fn of(&self, kind: Kind, metric: Metric) -> &[Value] {
        self.values.get(&(metric.id, kind)).map_or(&[], Vec::as_slice)
    }

    /// The values of all turns.
    pub fn all(&self, kind: Kind, metric: Metric) -> Vec<f64> {
        self.of(kind, metric).iter().map(|one| one.value).collect()
    }

    /// Their median.
    pub fn median(&self, kind: Kind, metric: Metric) -> Option<f64> {
        median(&self.all(kind, metric))
    }

    /// How often as much as `base`: the median of what each turn of both came to. A machine that is slow
    /// for a while is so for both, and a median of each would come from another while.
    pub fn ratio(&self, kind: Kind, base: Kind, metric: Metric) -> Option<f64> {
        let bases = self.of(base, metric);

        let in_turn = |one: &Value| {
            let base = bases.iter().find(|base| base.turn == one.turn && base.value > 0.0)?;
            Some(one.value / base.value)
        };

        median(&self.of(kind, metric).iter().filter_map(in_turn).collect::<Vec<_>>())
    }

    /// The peers of which there is any number.
    pub fn kinds(&self) -> Vec<Kind> {
        let measured = |kind: &Kind| self.values.keys().any(|(_, of)| of == kind);
        Kind::all().filter(measured).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn a_ratio_is_the_median_of_those_of_the_turns() {
        let mut results = Results::default();
        let metric = metric::CONNECT;

        for value in [1.0, 100.0, 3.0, 8.0] {
            results.next_turn();
            results.add(Kind::Module, metric, value);
        }

        assert_eq!(results.ratio(Kind::Module, Kind::Stream, metric), None);
        results.add(Kind::Stream, metric, 4.0);
        assert_eq!(results.ratio(Kind::Module, Kind::Stream, metric), Some(2.0));
        assert_eq!(results.median(Kind::Module, metric), Some(5.5));
        assert_eq!(results.kinds(), [Kind::Module, Kind::Stream]);

        let mut results = Results::default();

        for (value, base) in [(1.0, 1.0), (60.0, 20.0), (20.0, 10.0), (7.0, 0.0)] {
            results.next_turn();
            results.add(Kind::Module, metric, value);
            results.add(Kind::Stream, metric, base);
        }

        assert_eq!(results.ratio(Kind::Module, Kind::Stream, metric), Some(2.0));
    }
}
