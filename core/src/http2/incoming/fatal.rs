//! Owns why a connection can't go on, and what the core is shown then, so that it closes the connection with the right code.

use std::collections::TryReserveError;

use super::block::Unfit;
use crate::http2::frame::{flag, kind, rst_stream, Frame};
use crate::http2::hpack::{write_bytes, HpackError};

/// What is left of a block that is a valid one to nobody.
pub(super) const INVALID_BLOCK: &[u8] = &[0x80];

/// The same of one that ends within a field, for which the core has another code.
const TRUNCATED_BLOCK: &[u8] = &[0x10];

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fatal {
    Protocol,
    /// A field block of this stream.
    Compression(u32),
    /// One that ends within a field.
    Truncated(u32),
}

impl Fatal {
    /// What `error` in a field block of `stream` is.
    pub fn of(error: HpackError, stream: u32) -> Self {
        match error {
            HpackError::Truncated => Self::Truncated(stream),
            _ => Self::Compression(stream),
        }
    }

    /// Appends what the core is shown.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn write(self, output: &mut Vec<u8>) -> Result<(), TryReserveError> {
        match self {
            Self::Protocol => (),
            Self::Compression(stream) => write_block(output, stream, INVALID_BLOCK)?,
            Self::Truncated(stream) => write_block(output, stream, TRUNCATED_BLOCK)?,
        }

        // No frame of this kind is for the connection.
        write_bytes(output, &rst_stream(0, 0))
    }
}

impl From<Unfit> for Fatal {
    fn from(_: Unfit) -> Self {
        Self::Protocol
    }
}

fn write_block(output: &mut Vec<u8>, stream: u32, block: &[u8]) -> Result<(), TryReserveError> {
    let flags = flag::END_HEADERS | flag::END_STREAM;
    let header = Frame { len: block.len(), kind: kind::HEADERS, flags, stream };

    write_bytes(output, &header.write())?;
    write_bytes(output, block)
}
