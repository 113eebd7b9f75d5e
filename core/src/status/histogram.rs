//! Owns how long things take, or how many they are: a count for each of some bounds, and their sum.

use super::worker::Counter;

/// How many bounds a histogram may have.
const BOUNDS_MAX: usize = 16;

/// The bounds of times before a tunnel stands, in milliseconds.
pub const SHORT: Bounds =
    Bounds(&[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000]);

/// The bounds of times that tunnels stand, in milliseconds.
pub const LONG: Bounds = Bounds(&[
    100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 21_600_000,
    86_400_000,
]);

/// The bounds of how many addresses a dial tries.
pub const FEW: Bounds = Bounds(&[1, 2, 3, 4, 8, 16]);

/// The greatest value that counts for a place, for each place but the last, which takes all that is greater.
#[derive(Clone, Copy, Debug)]
pub struct Bounds(&'static [u64]);

/// A histogram in shared memory, which one worker writes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram {
    counts: [Counter; BOUNDS_MAX],
    sum: Counter,
}

/// The sum of some.
#[derive(Clone, Debug)]
pub struct Summary {
    bounds: Bounds,
    counts: [u64; BOUNDS_MAX],
    sum: u64,
}

impl Bounds {
    fn place(self, value: u64) -> usize {
        self.0.partition_point(|bound| *bound < value)
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&self, bounds: Bounds, value: u64) {
        if let Some(count) = self.counts.get(bounds.place(value)) {
            count.add(1);
            self.sum.add(value);
        }
    }
}

impl Summary {
    /// Nothing yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, counts: [0; BOUNDS_MAX], sum: 0 }
    }

    /// Adds what a worker has counted.
    pub fn take(&mut self, histogram: &Histogram) {
        for (all, one) in self.counts.iter_mut().zip(&histogram.counts) {
            *all += one.get();
        }

        self.sum += histogram.sum.get();
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All values together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// For each bound how many values are not greater, as Prometheus wants it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bounds.0.iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound, *sum))
        })
    }

    /// The bound that at least `percent` of a hundred values are not greater than; that of the last place has
    /// none, nor has a histogram without values.
    pub fn quantile(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        let enough = |sum: u64| u128::from(sum) * 100 >= u128::from(count) * u128::from(percent);

        if count == 0 {
            return None;
        }

        self.cumulative().find(|(_, sum)| enough(*sum)).map(|(bound, _)| bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn summary(bounds: Bounds, values: &[u64]) -> Summary {
        let histogram = Histogram::default();
        values.iter().for_each(|value| histogram.add(bounds, *value));

        let mut summary = Summary::new(bounds);
        summary.take(&histogram);
        summary
    }

    #[test]
    fn a_bound_counts_what_is_not_greater() {
        let summary = summary(FEW, &[1, 1, 2, 4, 5, 100]);
        let expected = [(1, 2), (2, 3), (3, 3), (4, 4), (8, 5), (16, 5)];

        assert_eq!(summary.cumulative().collect::<Vec<_>>(), expected);
        assert_eq!((summary.count(), summary.sum()), (6, 113));
        assert_eq!(summary.quantile(50), Some(2));
        assert_eq!(summary.quantile(99), None);
    }

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(summary(SHORT, &[]).quantile(50), None);
    }

    #[test]
    fn the_bounds_fit() {
        for bounds in [SHORT, LONG, FEW] {
            assert!(bounds.0.len() < BOUNDS_MAX && bounds.0.is_sorted());
        }
    }

    proptest! {
        #[test]
        fn every_value_counts_once(values in prop::collection::vec(any::<u32>(), 0..50)) {
            let values: Vec<u64> = values.into_iter().map(u64::from).collect();

            for bounds in [SHORT, LONG, FEW] {
                let summary = summary(bounds, &values);
                prop_assert_eq!(summary.count(), values.len() as u64);
                prop_assert_eq!(summary.sum(), values.iter().sum::<u64>());
                prop_assert!(summary.cumulative().is_sorted());
            }
        }
    }
}
