//! Owns the arithmetic: medians, and a histogram for latencies.

use std::time::Duration;

/// The median; of an even number of values the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);

    let middle = sorted.len() / 2;

    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The bits of a value that are kept: buckets are at most 1/32 wide.
const PRECISION: u32 = 5;
const LINEAR: u64 = 1 << PRECISION;
const BUCKETS: usize = (64 - PRECISION as usize + 1) << PRECISION;

/// Counts of durations in nanoseconds, in buckets that grow with the value.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS], count: 0 }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < LINEAR {
        return value as usize;
    }

    let shift = 63 - value.leading_zeros() - PRECISION;
    (((shift + 1) as usize) << PRECISION) + ((value >> shift) - LINEAR) as usize
}

/// The lowest value of a bucket.
fn floor_of(bucket: usize) -> u64 {
    let group = bucket >> PRECISION;
    let offset = bucket as u64 & (LINEAR - 1);

    match group {
        0 => offset,
        _ => (LINEAR + offset) << (group - 1),
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
    }

    /// How many were counted.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// The time in microseconds that `part` of all (0 to 1) stay below: the middle of its bucket.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;

        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;

            if seen >= rank && *count > 0 {
                let low = floor_of(bucket) as f64;
                let high = if bucket + 1 < BUCKETS { floor_of(bucket + 1) as f64 } else { low };
                return Some((low + high) / 2.0 / 1000.0);
            }
        }

        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        for bucket in 0..BUCKETS - 1 {
            let (low, next) = (floor_of(bucket), floor_of(bucket + 1));
            assert!(low < next, "bucket {bucket}");
            assert!(next - low <= (low / LINEAR).max(1), "bucket {bucket}");
            assert_eq!(bucket_of(low), bucket);
            assert_eq!(bucket_of(next - 1), bucket);
        }

        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_of_a_known_spread() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), None);

        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }

        for (part, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.percentile(part).unwrap_or_default();
            assert!((found - micros).abs() <= micros / 30.0, "{part}: {found}");
        }

        histogram.clear();
        assert_eq!(histogram.count(), 0);
        assert_eq!(histogram.percentile(0.5), None);
    }
}
