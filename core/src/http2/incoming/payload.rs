//! Owns the payload of a DATA frame of a tunnel (RFC 9113, section 6.1): which of its bytes are the tunnel's, which are padding.

use super::block::Unfit;
use super::{Part, What};
use crate::http2::frame::{flag, Frame};

/// A payload of which not all was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    stream: u32,
    /// How many bytes are to come.
    left: usize,
    padding: Padding,
    /// Whether it is the last of its stream, and nobody was told.
    is_last: bool,
}

#[derive(Clone, Copy, Debug)]
enum Padding {
    /// Its length comes next.
    Announced,
    /// So many bytes at the end.
    Known(usize),
}

impl Payload {
    /// That of a DATA frame.
    ///
    /// # Errors
    ///
    /// [`Unfit`]: it is padded and has no room for the length of that.
    pub fn new(frame: Frame) -> Result<Self, Unfit> {
        let padding = match frame.has(flag::PADDED) {
            true if frame.len == 0 => return Err(Unfit),
            true => Padding::Announced,
            false => Padding::Known(0),
        };

        let (stream, left, is_last) = (frame.stream, frame.len, frame.has(flag::END_STREAM));
        Ok(Self { stream, left, padding, is_last })
    }

    /// What the first of `bytes` are; there are none where [`Payload::is_seen`] says so.
    ///
    /// # Errors
    ///
    /// [`Unfit`]: there is more padding than bytes.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, Unfit> {
        // The end follows the last byte, and takes none.
        if self.left == 0 {
            self.is_last = false;
            return Ok(Part { len: 0, what: What::Ended(self.stream) });
        }

        let (len, what, padding) = match self.padding {
            Padding::Announced => {
                let padding = usize::from(bytes[0]);

                if padding >= self.left {
                    return Err(Unfit);
                }
                (1, What::Padding(self.stream), padding)
            }
            Padding::Known(padding) if self.left > padding => {
                (bytes.len().min(self.left - padding), What::Data(self.stream), padding)
            }
            Padding::Known(padding) => {
                (bytes.len().min(self.left), What::Padding(self.stream), padding)
            }
        };

        self.left -= len;
        self.padding = Padding::Known(padding.min(self.left));
        Ok(Part { len, what })
    }

    /// Whether all its bytes were seen.
    pub fn is_seen(&self) -> bool {
        self.left == 0
    }

    /// Whether there is nothing more to tell of it.
    pub fn is_over(&self) -> bool {
        self.is_seen() && !self.is_last
    }
}
