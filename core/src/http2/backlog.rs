//! Owns the bytes of a client that its upstream has not taken yet.

use std::collections::TryReserveError;

/// Bytes that wait, in their order. It owns memory only while there are some.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Backlog {
    /// What waits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Has more bytes wait.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        // What was taken goes once it is more than what is left, so that no byte is moved often.
        if self.taken > self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }

        self.bytes.try_reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Notes that the first `len` bytes were taken.
    pub fn take(&mut self, len: usize) {
        self.taken += len;

        if self.taken >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However bytes come and are taken: they keep their order, and memory is had for three times as many as wait
        /// at most, and none for none.
        #[test]
        fn bytes_wait_in_their_order(steps: Vec<(bool, u8)>) {
            let mut backlog = Backlog::default();
            let mut model = std::collections::VecDeque::new();
            let (mut next, mut most) = (0u8, 0);

            for (comes, n) in steps {
                if comes {
                    let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                    backlog.push(&bytes).unwrap();
                    model.extend(bytes);
                    most = most.max(model.len());
                } else {
                    let n = usize::from(n).min(model.len());
                    backlog.take(n);
                    model.drain(..n);
                }

                prop_assert!(backlog.bytes().iter().eq(model.iter()));
                prop_assert_eq!((backlog.len(), backlog.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(backlog.bytes.len() <= 3 * most.max(1));
                prop_assert!(!model.is_empty() || backlog.bytes.capacity() == 0);
            }
        }
    }
}
