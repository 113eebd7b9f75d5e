//! Owns a field block that comes in pieces: HEADERS, and the CONTINUATIONs behind it; and the frames that one is shown in.

use std::collections::TryReserveError;
use std::ops::Range;

use crate::http2::frame::{flag, kind, Frame, HEADER};
use crate::http2::hpack::{self, write_bytes, HpackError};

/// How large a block may be, in bytes, as it comes over the connection.
const BLOCK_MAX: usize = 64 * 1024;

/// How many CONTINUATIONs a block may have.
const CONTINUATIONS_MAX: usize = 64;

/// The first byte of the frames that a block is said in, and how long these are at most for its sake.
pub(super) const LENGTH: &[u8] = &[0];
const LENGTH_MAX: usize = 0xffff;

/// The bytes of a priority.
const PRIORITY: usize = 5;

/// A field block that is collected.
#[derive(Debug)]
pub(super) struct Block {
    /// Of HEADERS; END_HEADERS may be of a CONTINUATION.
    flags: u8,
    stream: u32,
    /// The payload of HEADERS, without its padding once it is whole, and then those of the others.
    bytes: Vec<u8>,
    /// How many bytes of the fields are whole ones.
    whole: usize,
    continuations: usize,
}

/// A block that is too large, or a payload that is malformed.
#[derive(Debug)]
pub(super) struct Unfit;

impl Block {
    /// That of a HEADERS.
    pub fn new(frame: Frame) -> Self {
        let (flags, stream) = (frame.flags, frame.stream);
        Self { flags, stream, bytes: Vec::new(), whole: 0, continuations: 0 }
    }

    /// A CONTINUATION has begun.
    pub fn go_on(&mut self, frame: Frame) {
        self.flags |= frame.flags & flag::END_HEADERS;
        self.continuations += 1;
    }

    /// Takes bytes of a payload, as many as there may be.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        let room = BLOCK_MAX - self.bytes.len();
        write_bytes(&mut self.bytes, &bytes[..bytes.len().min(room)]).map_err(|_| Unfit)?;

        if bytes.len() > room || self.continuations > CONTINUATIONS_MAX {
            return Err(Unfit);
        }

        Ok(())
    }

    /// A frame is whole.
    pub fn end_frame(&mut self) -> Result<(), Unfit> {
        if self.continuations > CONTINUATIONS_MAX {
            return Err(Unfit);
        }

        self.strip()
    }

    /// Drops the padding of HEADERS, which is whole.
    fn strip(&mut self) -> Result<(), Unfit> {
        if self.flags & flag::PADDED == 0 {
            return Ok(());
        }

        let padding = usize::from(*self.bytes.first().ok_or(Unfit)?);
        let len = (self.bytes.len() - 1).checked_sub(padding).ok_or(Unfit)?;

        self.bytes.truncate(1 + len);
        self.bytes.remove(0);
        self.flags &= !flag::PADDED;
        Ok(())
    }

    /// Looks at what there is of fields, each once. Where there may be padding it is not known yet.
    ///
    /// # Errors
    ///
    /// [`HpackError`]: whatever follows, this will be none.
    pub fn skim(&mut self) -> Result<(), HpackError> {
        let begin = self.priority_len() + self.whole;

        match self.bytes.get(begin..) {
            Some(fields) if self.flags & flag::PADDED == 0 => self.whole += hpack::skim(fields)?,
            _ => (),
        }

        Ok(())
    }

    /// Whether no CONTINUATION follows the frame that is whole now.
    pub fn is_whole(&self) -> bool {
        self.flags & flag::END_HEADERS != 0
    }

    pub fn stream(&self) -> u32 {
        self.stream
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    fn priority_len(&self) -> usize {
        priority_len(self.flags)
    }

    /// The priority, empty when there is none.
    pub fn priority(&self) -> &[u8] {
        self.bytes.get(..self.priority_len()).unwrap_or_default()
    }

    /// The fields. `None` when HEADERS is too short for what it announces.
    pub fn fields(&self) -> Option<&[u8]> {
        self.bytes.get(self.priority_len()..)
    }
}

fn priority_len(flags: u8) -> usize {
    if flags & flag::PRIORITY == 0 {
        0
    } else {
        PRIORITY
    }
}

/// Where the fields are in the payload of a HEADERS that no CONTINUATION follows. `None` for another, and for one that
/// is padded, too large or malformed, or has flags that mean nothing: what comes in pieces is shown without those.
pub(super) fn fields_of(frame: Frame) -> Option<Range<usize>> {
    let begin = priority_len(frame.flags);
    let is_plain = frame.flags & !(flag::END_STREAM | flag::PRIORITY) == flag::END_HEADERS;

    (is_plain && (begin..=BLOCK_MAX).contains(&frame.len)).then_some(begin..frame.len)
}

/// Makes frames of a block that lies behind room for the header of the first.
pub(super) fn frame_block(
    output: &mut Vec<u8>,
    flags: u8,
    stream: u32,
) -> Result<(), TryReserveError> {
    let len = output.len() - HEADER;
    let (first, rest) = (len.min(LENGTH_MAX), len.saturating_sub(LENGTH_MAX));
    let ends = if rest > 0 { flags & !flag::END_HEADERS } else { flags };
    let header = Frame { len: first, kind: kind::HEADERS, flags: ends, stream };

    output[..HEADER].copy_from_slice(&header.write());

    if rest > 0 {
        let (kind, flags) = (kind::CONTINUATION, flag::END_HEADERS);
        let header = Frame { len: rest, kind, flags, stream };
        output.try_reserve(HEADER)?;
        output.splice(HEADER + first..HEADER + first, header.write());
    }

    Ok(())
}
