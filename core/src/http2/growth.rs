//! Owns how far the windows of one connection's streams grow together: a client may open many streams whose
//! upstreams read for a while and then stop, and what each may send then is the worker's to hold.

/// How many of the largest windows the growth of all of a connection's is together.
pub const WINDOWS: u64 = 2;

/// What the windows of a connection have grown by, beyond what their streams began with.
///
/// It is shared out: each stream that takes bytes may have an equal part of it, and more only while one part more is left
/// for another. A stream that has more than its part when there is less gives it back with what it takes. What a client may
/// send already can't be taken back: a stream that takes nothing keeps what it has.
#[derive(Debug, Default)]
pub struct Growth {
    /// In bytes.
    sum: u64,
    /// How many streams have a part.
    parts: u64,
}

/// What one window has of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// In bytes.
    grown: u32,
    is_counted: bool,
}

impl Part {
    /// By how much the window has grown, in bytes.
    pub fn grown(&self) -> u32 {
        self.grown
    }
}

impl Growth {
    /// Has a window that may grow to `max` bytes grow by up to `more`. By how much it does.
    pub fn grow(&mut self, part: &mut Part, more: u32, max: u32) -> u32 {
        if !std::mem::replace(&mut part.is_counted, true) {
            self.parts += 1;
        }

        let (share, room) = (self.share(max), self.room(max));
        let own = share.saturating_sub(part.grown.into());
        let of_others = room.saturating_sub(share);
        let grown = u64::from(more).min(room).min(own.max(of_others)) as u32;

        part.grown += grown;
        self.sum += u64::from(grown);
        grown
    }

    /// Has a window that may grow to `max` bytes give back up to `less` of what others lack. By how much it shrinks.
    pub fn shrink(&mut self, part: &mut Part, less: u32, max: u32) -> u32 {
        let share = self.share(max);
        let over = u64::from(part.grown).saturating_sub(share);
        let lacking = share.saturating_sub(self.room(max));
        let shrunk = u64::from(less).min(over).min(lacking) as u32;

        part.grown -= shrunk;
        self.sum -= u64::from(shrunk);
        shrunk
    }

    /// Has the part of a stream that is gone.
    pub fn leave(&mut self, part: &mut Part) {
        self.sum -= u64::from(part.grown);
        self.parts -= u64::from(part.is_counted);
        *part = Part::default();
    }

    fn share(&self, max: u32) -> u64 {
        WINDOWS * u64::from(max) / self.parts.max(1)
    }

    fn room(&self, max: u32) -> u64 {
        (WINDOWS * u64::from(max)).saturating_sub(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1000;

    fn grow_all(growth: &mut Growth, parts: &mut [Part]) {
        for _ in 0..20 {
            for part in &mut *parts {
                growth.shrink(part, 100, MAX);
                growth.grow(part, 100.min(MAX - part.grown()), MAX);
            }
        }
    }

    #[test]
    fn two_streams_have_all() {
        let (mut growth, mut parts) = (Growth::default(), [Part::default(); 2]);
        grow_all(&mut growth, &mut parts);
        assert_eq!(parts.map(|part| part.grown()), [MAX; 2]);
    }

    #[test]
    fn those_that_have_more_give_it_back() {
        let (mut growth, mut parts) = (Growth::default(), [Part::default(); 4]);
        grow_all(&mut growth, &mut parts[..2]);
        assert_eq!(growth.grow(&mut parts[2], 1, MAX), 0);
        grow_all(&mut growth, &mut parts);
        assert_eq!(parts.map(|part| part.grown()), [MAX / 2; 4]);

        growth.leave(&mut parts[0]);
        growth.leave(&mut parts[1]);
        grow_all(&mut growth, &mut parts[2..]);
        assert_eq!(parts.map(|part| part.grown()), [0, 0, MAX, MAX]);
    }

    #[test]
    fn many_small_ones_leave_a_large_one_alone() {
        let (mut growth, mut small, mut large) =
            (Growth::default(), [Part::default(); 50], [Part::default()]);

        for part in &mut small {
            growth.grow(part, 1, MAX);
        }

        grow_all(&mut growth, &mut large);
        assert_eq!(large[0].grown(), MAX);
    }

    proptest! {
        /// Whoever asks for how much, in whatever order: the sum stays within the bound, and is that of the parts; and once
        /// all that are there ask, each has its part.
        #[test]
        fn the_sum_has_a_bound(steps: Vec<(u8, u8, u16)>) {
            let (mut growth, mut parts) = (Growth::default(), [Part::default(); 8]);

            for (what, who, n) in steps {
                let part = &mut parts[usize::from(who) % 8];

                match what % 4 {
                    0 => growth.leave(part),
                    1 => { growth.shrink(part, n.into(), MAX); }
                    _ => { growth.grow(part, u32::from(n).min(MAX - part.grown()), MAX); }
                }

                prop_assert!(parts.iter().all(|part| part.grown() <= MAX));
                prop_assert_eq!(growth.sum, parts.iter().map(|part| u64::from(part.grown())).sum::<u64>());
                prop_assert!(growth.sum <= WINDOWS * u64::from(MAX));
            }

            grow_all(&mut growth, &mut parts);
            prop_assert!(parts.iter().all(|part| part.grown() == MAX / 4));
        }
    }
}
