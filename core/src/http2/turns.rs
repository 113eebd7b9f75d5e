//! Owns whose turn it is to send, among the streams of a connection that takes no more than it can.

use std::collections::VecDeque;

/// How much a stream may send out of turn, in bytes: a message, which others don't wait for noticeably.
pub const SMALL: usize = 4 * 1024;

/// The streams of a connection that wait, in the order in which they came.
///
/// While any waits, nobody sends before it. Small messages do, which a stream that sends without end has none of.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: VecDeque<u32>,
    /// Whose turn it is.
    called: Option<u32>,
}

impl Turns {
    /// How much `stream` may send now, in bytes, 0 for nothing: then it waits. The connection takes bytes if it
    /// `is_open`, small messages if it `has_room` for them; `is_bulk` says that the stream sent more than one of
    /// those last.
    pub fn allow(&mut self, stream: u32, is_open: bool, has_room: bool, is_bulk: bool) -> usize {
        let is_first = self.waiting.is_empty() || self.called == Some(stream);

        if is_open && is_first {
            return usize::MAX;
        }

        if has_room && !is_bulk {
            return SMALL;
        }

        self.wait(stream);
        0
    }

    fn wait(&mut self, stream: u32) {
        self.called.take_if(|called| *called == stream);

        // Without memory it waits for its next event.
        if !self.waiting.contains(&stream) && self.waiting.try_reserve(1).is_ok() {
            self.waiting.push_back(stream);
        }
    }

    /// Calls the stream that has waited longest, while the connection takes bytes.
    pub fn call(&mut self) -> Option<u32> {
        self.called = self.waiting.pop_front();

        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }

        self.called
    }

    /// Whether any waits.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets a stream.
    pub fn remove(&mut self, stream: u32) {
        self.waiting.retain(|&other| other != stream);
        self.called.take_if(|called| *called == stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_sends_first() {
        let mut turns = Turns::default();

        assert_eq!(turns.allow(1, true, true, true), usize::MAX);
        // The connection takes no more.
        assert_eq!(turns.allow(1, false, true, true), 0);
        assert_eq!(turns.allow(3, false, true, true), 0);
        assert_eq!(turns.allow(3, false, true, true), 0);
        assert_eq!(turns.allow(5, false, true, false), SMALL);
        assert_eq!(turns.allow(7, false, false, false), 0);

        // It does again.
        assert_eq!(turns.call(), Some(1));
        assert_eq!(turns.allow(3, true, true, true), 0);
        assert_eq!(turns.allow(1, true, true, true), usize::MAX);
        assert_eq!(turns.allow(1, false, true, true), 0);
        assert_eq!(turns.call(), Some(3));
        assert_eq!(turns.call(), Some(7));
        assert!(turns.is_waiting());
        assert_eq!(turns.call(), Some(1));
        assert!(!turns.is_waiting());
        assert_eq!(turns.call(), None);
    }

    #[test]
    fn who_is_gone_is_not_called() {
        let mut turns = Turns::default();
        turns.allow(1, false, false, true);
        turns.allow(3, false, false, true);
        turns.remove(1);
        assert_eq!(turns.call(), Some(3));
    }

    /// Whoever sends without end: each gets as much as the others, however few bytes the connection takes at once.
    #[test]
    fn all_get_as_much() {
        let mut turns = Turns::default();
        let mut sent = [0usize; 7];

        for round in 0..7000 {
            // It takes 10 pieces until it is full; one stream has news now and then.
            let mut room = 10 - round % 3;

            while room > 0 {
                let stream = turns.call().unwrap_or((round % 7) as u32);

                while room > 0 && turns.allow(stream, true, false, true) > 0 {
                    sent[stream as usize] += 1;
                    room -= 1;
                }

                turns.allow(stream, false, false, true);
            }

            turns.allow((round * 5 % 7) as u32, true, false, true);
        }

        let (least, most) = (sent.iter().min(), sent.iter().max());
        let (Some(&least), Some(&most)) = (least, most) else { return };
        assert!(most - least <= most / 10, "{sent:?}");
    }
}
