//! Owns which streams of CONNECTs were closed while their clients may not know of it: what is on its way then
//! breaks no rule (RFC 9113, section 5.1).

/// How many are known at most: of more, clients learn by the end of their connection.
const MAX: usize = 256;

/// The streams that were closed last.
#[derive(Debug, Default)]
pub(super) struct Closed {
    streams: Vec<u32>,
    /// Which of them is the oldest, once there are as many as may be.
    oldest: usize,
    /// The highest number of all.
    highest: u32,
}

impl Closed {
    /// Notes that a stream was closed. Without memory it is forgotten.
    pub fn add(&mut self, stream: u32) {
        self.highest = self.highest.max(stream);

        if self.streams.len() == MAX {
            self.streams[self.oldest] = stream;
            self.oldest = (self.oldest + 1) % MAX;
        } else if self.streams.try_reserve(1).is_ok() {
            self.streams.push(stream);
        }
    }

    /// Whether a stream is known to be closed.
    pub fn has(&self, stream: u32) -> bool {
        stream <= self.highest && self.streams.contains(&stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let mut closed = Closed::default();
        (0..1000).for_each(|n| closed.add(2 * n + 1));

        assert_eq!(closed.streams.len(), MAX);
        assert!((1000 - 256..1000).all(|n| closed.has(2 * n + 1)));
        assert!(!closed.has(2 * (1000 - 257) + 1) && !closed.has(2));
    }
}
