//! Owns the flow-control window of a tunnel's stream (RFC 9113, section 5.2): when it is opened, and how
//! wide.

use super::growth::{Growth, Part};

/// What a stream may hold before its tunnel has taken anything, where the settings say nothing (RFC 9113,
/// section 6.5.2), in bytes.
pub const DEFAULT: u32 = 65_535;

/// The window of a stream.
///
/// What a client may still send and what it has sent and nobody took come to the window's size, at most. The
/// size grows with what is taken, up to a maximum, and as far as the [`Growth`] of the connection has room: a stream whose
/// upstream takes nothing holds what it began with.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What the client may still send.
    open: u32,
    /// What was taken since the window was opened last.
    taken: u32,
    size: u32,
    max: u32,
    part: Part,
}

/// The client sent more than it was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

impl Window {
    /// A window that the client was told of as one of `size` bytes, and that may grow to `max`.
    pub fn new(size: u32, max: u32) -> Self {
        Self { open: size, taken: 0, size, max: max.max(size), part: Part::default() }
    }

    /// By how much a window is to be opened at once that a client was told of as a smaller one than the
    /// default. Until it hears of either it takes it for one of the default, and may fill that.
    pub fn begin(&mut self) -> Option<u32> {
        let update = DEFAULT.checked_sub(self.size).filter(|&update| update > 0)?;

        self.size = DEFAULT;
        self.max = self.max.max(DEFAULT);
        self.open += 2 * update;
        Some(update)
    }

    /// Notes that the client sent `n` bytes.
    ///
    /// # Errors
    ///
    /// The window has no room for them.
    pub fn receive(&mut self, n: u32) -> Result<(), Overrun> {
        self.open = self.open.checked_sub(n).ok_or(Overrun)?;
        Ok(())
    }

    /// Notes that `n` bytes of what the client sent were taken.
    pub fn take(&mut self, n: u32) {
        self.taken = self.taken.saturating_add(n);
    }

    /// By how much the window is to be opened now: once a quarter of it was taken, with which it grows. `None`
    /// while it is not worth a frame. `growth` is that of the connection.
    pub fn update(&mut self, growth: &mut Growth) -> Option<u32> {
        let shrunk = growth.shrink(&mut self.part, self.taken, self.max);
        self.size -= shrunk;
        self.taken -= shrunk;

        if self.taken == 0 || self.taken < self.size / 4 {
            return None;
        }

        let more = self.size.min(self.max - self.size);
        let grown = growth.grow(&mut self.part, more, self.max);
        let update = self.taken + grown;

        self.size += grown;
        self.taken = 0;
        self.open += update;
        Some(update)
    }

    /// The stream is gone: others may grow in its place.
    pub fn leave(&mut self, growth: &mut Growth) {
        growth.leave(&mut self.part);
    }

    /// What the client may have sent that nobody took, and what it may still send, in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_opens_when_a_quarter_is_taken() {
        let mut window = Window::new(1000, 4000);
        let mut growth = Growth::default();

        assert_eq!(window.receive(1000), Ok(()));
        assert_eq!(window.receive(1), Err(Overrun));
        window.take(249);
        assert_eq!(window.update(&mut growth), None);
        window.take(1);
        assert_eq!(window.update(&mut growth), Some(1250));
        assert_eq!(window.size(), 2000);
        assert_eq!(window.receive(1250), Ok(()));
        assert_eq!(window.receive(1), Err(Overrun));
    }

    #[test]
    fn it_stays_where_nothing_is_taken() {
        let mut window = Window::new(1000, 4000);
        let mut growth = Growth::default();
        assert_eq!(window.receive(1000), Ok(()));
        assert_eq!(window.update(&mut growth), None);
        assert_eq!(window.size(), 1000);
    }

    #[test]
    fn a_small_one_is_opened_at_once() {
        let mut window = Window::new(0, 1 << 20);
        assert_eq!(window.begin(), Some(DEFAULT));
        assert_eq!(window.begin(), None);
        // What came before the settings were read, and what came since.
        assert_eq!(window.receive(2 * DEFAULT), Ok(()));
        assert_eq!(window.receive(1), Err(Overrun));
        assert_eq!(Window::new(DEFAULT, 1).begin(), None);
    }

    #[test]
    fn it_is_never_smaller_than_the_client_was_told() {
        let mut window = Window::new(1000, 10);
        let mut growth = Growth::default();
        assert_eq!(window.receive(1000), Ok(()));
        window.take(1000);
        assert_eq!(window.update(&mut growth), Some(1000));
        assert_eq!(window.update(&mut growth), None);
    }

    proptest! {
        /// However a client sends and an upstream takes: what is held and what may come stay within the size, the
        /// size within the maximum, and a client that waits until all is taken can go on.
        #[test]
        fn it_neither_stalls_nor_hoards(
            size in 1u32..100_000, max in 1u32..1_000_000, steps: Vec<(bool, u16)>
        ) {
            let mut window = Window::new(size, max);
            let mut growth = Growth::default();
            let (mut allowed, mut held) = (size, 0);

            for (sends, n) in steps {
                if sends {
                    let n = u32::from(n).min(allowed);
                    prop_assert_eq!(window.receive(n), Ok(()));
                    allowed -= n;
                    held += n;
                } else {
                    let n = u32::from(n).min(held);
                    window.take(n);
                    held -= n;
                    allowed += window.update(&mut growth).unwrap_or(0);
                }

                prop_assert!(held + allowed <= window.size());
                prop_assert!(window.size() <= max.max(size));
            }

            window.take(held);
            allowed += window.update(&mut growth).unwrap_or(0);
            prop_assert!(allowed > 0);
            prop_assert_eq!(window.receive(allowed + 1), Err(Overrun));
        }
    }
}
