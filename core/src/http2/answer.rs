//! Owns the HEADERS that answer a CONNECT (RFC 9113, section 8.1), with CONTINUATIONs where one frame is too small.

use std::collections::TryReserveError;

use super::frame::{flag, kind, Frame, HEADER};
use super::hpack::{write_bytes, write_number, write_string};

/// How many bytes a frame has at most: each client takes as many (RFC 9113, section 4.2).
const PAYLOAD: usize = 16 * 1024;

/// The names of `:status` in the static table, and of one with the value 200.
const STATUS: usize = 8;

/// The frames of an answer with `status` and `fields` on `stream`, which goes on. No entry of a table is made; that it
/// is to be empty is told first where a client has to hear of it, which says with `resizes` that it has asked for another
/// size (RFC 7541, section 4.2).
///
/// # Errors
///
/// No memory.
pub fn answer<'a>(
    stream: u32,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    resizes: bool,
) -> Result<Vec<u8>, TryReserveError> {
    let mut block = Vec::new();

    if resizes {
        write_number(&mut block, 0x20, 5, 0)?;
    }

    if status == 200 {
        write_number(&mut block, 0x80, 7, STATUS)?;
    } else {
        write_number(&mut block, 0, 4, STATUS)?;
        write_string(&mut block, &digits(status))?;
    }

    for (name, value) in fields {
        write_number(&mut block, 0, 4, 0)?;
        write_number(&mut block, 0, 7, name.len())?;
        block.try_reserve(name.len())?;
        block.extend(name.iter().map(u8::to_ascii_lowercase));
        write_string(&mut block, value)?;
    }

    frames(stream, &block)
}

fn digits(status: u16) -> [u8; 3] {
    [status / 100, status / 10, status].map(|digit| b'0' + (digit % 10) as u8)
}

fn frames(stream: u32, block: &[u8]) -> Result<Vec<u8>, TryReserveError> {
    let mut frames = Vec::new();
    let mut kind = kind::HEADERS;
    let mut left = block.len();

    frames.try_reserve_exact(block.len() + HEADER * block.len().div_ceil(PAYLOAD))?;

    for piece in block.chunks(PAYLOAD) {
        left -= piece.len();
        let flags = if left == 0 { flag::END_HEADERS } else { 0 };

        write_bytes(&mut frames, &Frame { len: piece.len(), kind, flags, stream }.write())?;
        write_bytes(&mut frames, piece)?;
        kind = kind::CONTINUATION;
    }

    Ok(frames)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

    fn of(status: u16, fields: Fields<'_>, resizes: bool) -> Vec<u8> {
        answer(5, status, fields.iter().copied(), resizes).unwrap()
    }

    #[test]
    fn an_answer_is_headers() {
        assert_eq!(of(200, &[], false), b"\0\0\x01\x01\x04\0\0\0\x05\x88");
        assert_eq!(of(200, &[], true), b"\0\0\x02\x01\x04\0\0\0\x05\x20\x88");
        assert_eq!(
            of(299, &[(b"X-Name", b"Value")], false),
            b"\0\0\x13\x01\x04\0\0\0\x05\x08\x03299\0\x06x-name\x05Value"
        );
    }

    /// What the `h2` crate's like understands.
    #[test]
    fn a_large_answer_has_continuations() {
        let value = vec![b'v'; 40_000];
        let frames = of(403, &[(b"a", &value), (b"B", b"c")], false);
        let (mut rest, mut block, mut kinds) = (&frames[..], vec![], vec![]);

        while let Some((header, behind)) = rest.split_first_chunk::<HEADER>() {
            let frame = Frame::read(*header);
            assert!(frame.len <= PAYLOAD && frame.stream == 5);
            kinds.push((frame.kind, frame.flags));
            block.extend_from_slice(&behind[..frame.len]);
            rest = &behind[frame.len..];
        }

        assert_eq!(kinds, [(1, 0), (9, 0), (9, 4)]);

        let mut fields = vec![];
        httlib_hpack::Decoder::default().decode(&mut block, &mut fields).unwrap();
        let fields: Vec<_> = fields.into_iter().map(|(name, value, _)| (name, value)).collect();
        let expected: [(&[u8], &[u8]); 3] = [(b":status", b"403"), (b"a", &value), (b"b", b"c")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
    }
}
