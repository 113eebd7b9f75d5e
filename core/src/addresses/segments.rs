//! Owns finding the first of many ranges that holds a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No range holds the numbers of a segment.
const NONE: u32 = u32::MAX;

/// Numbers, cut where another range is the first to hold them: a search among them is all that a
/// question costs.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    /// Where each segment begins; it ends before the next.
    starts: Vec<u128>,
    /// The range of each segment that was numbered lowest, or [`NONE`].
    firsts: Vec<u32>,
}

/// Ranges that are still to be cut.
#[derive(Debug, Default)]
pub struct SegmentsBuilder(Vec<(u128, u128, u32)>);

impl SegmentsBuilder {
    /// Adds the numbers from `first` to `last` under the number of their range.
    pub fn add(&mut self, first: u128, last: u128, range: u32) {
        self.0.push((first, last, range));
    }

    /// Cuts the ranges.
    pub fn build(mut self) -> Segments {
        self.0.sort_unstable();

        let mut cuts: Vec<u128> = self.0.iter().map(|range| range.0).collect();
        cuts.extend(self.0.iter().filter_map(|range| range.1.checked_add(1)));
        cuts.sort_unstable();
        cuts.dedup();

        let mut ranges = self.0.into_iter().peekable();
        // The ranges that have begun, the lowest numbered on top. Those that are over are dropped when
        // they come up.
        let mut open = BinaryHeap::new();
        let mut segments = Segments::default();

        for cut in cuts {
            while let Some((_, last, range)) = ranges.next_if(|range| range.0 == cut) {
                open.push(Reverse((range, last)));
            }

            while open.peek().is_some_and(|Reverse((_, last))| *last < cut) {
                open.pop();
            }

            let first = open.peek().map_or(NONE, |Reverse((range, _))| *range);

            if segments.firsts.last() != Some(&first) {
                segments.starts.push(cut);
                segments.firsts.push(first);
            }
        }

        segments.starts.shrink_to_fit();
        segments.firsts.shrink_to_fit();
        segments
    }
}

impl Segments {
    /// The lowest number of a range that holds `number`.
    pub fn find(&self, number: u128) -> Option<u32> {
        let behind = self.starts.partition_point(|&start| start <= number);
        let first = self.firsts.get(behind.checked_sub(1)?)?;

        (*first != NONE).then_some(*first)
    }
}
