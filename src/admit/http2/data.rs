//! Owns the bytes of tunnels among those that were read, until they are given to them.

use std::io::IoSlice;
use std::ops::Range;

use proxy_connect_core::relay::PIECES;

use crate::ffi::stream::http2::Streams;

/// Where the bytes of tunnels lie among those that were read, until they are given to them: those of one
/// together, so that its upstream gets them in one piece.
pub struct Data {
    parts: [(u32, Range<usize>); PARTS],
    len: usize,
}

/// How many parts are gathered, at most.
const PARTS: usize = PIECES;

impl Default for Data {
    fn default() -> Self {
        Self { parts: [const { (0, 0..0) }; PARTS], len: 0 }
    }
}

impl Data {
    /// Adds a part. False when there is no room.
    pub fn push(&mut self, id: u32, range: Range<usize>) -> bool {
        let Some(part) = self.parts.get_mut(self.len) else {
            return false;
        };

        *part = (id, range);
        self.len += 1;
        true
    }

    /// Gives all parts, which lie in `bytes`, to their streams, in the order of the first of each.
    pub fn give(&mut self, streams: &Streams, bytes: &[u8]) {
        let mut pieces = [IoSlice::new(&[]); PARTS];
        let mut rest = self.len;

        while let Some(&(id, _)) = self.parts[..rest].first() {
            let (mut count, mut left) = (0, 0);

            for place in 0..rest {
                let (other, range) = self.parts[place].clone();

                if other == id {
                    pieces[count] = IoSlice::new(&bytes[range]);
                    count += 1;
                } else {
                    self.parts[left] = (other, range);
                    left += 1;
                }
            }

            rest = left;
            streams.give(id, &pieces[..count]);
        }

        self.len = 0;
    }
}

/// The same for what there may be.
pub fn give(data: &mut Option<Data>, streams: &Streams, bytes: &[u8]) {
    if let Some(data) = data {
        data.give(streams, bytes);
    }
}
