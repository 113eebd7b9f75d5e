//! Owns the DATA frames of a tunnel (RFC 9113, section 6.1): where the bytes lie that they are made of, and their headers.

use super::frame::{flag, kind, Frame, HEADER};

/// How many bytes a frame has at most: with its header it fills a record of TLS, 16384 bytes (RFC 8446, section 5.1).
/// Each client takes frames as large (RFC 9113, section 4.2).
pub const PAYLOAD: usize = RECORD - HEADER;

/// The most that a record of TLS takes, in bytes.
pub const RECORD: usize = 16 * 1024;

/// Makes frames of `stream` of the `len` bytes that lie in `buffer`, all but the last with [`PAYLOAD`] of them, each
/// behind room for its header. What they are then, at the beginning of `buffer`, without a gap.
pub fn frame(buffer: &mut [u8], len: usize, stream: u32) -> &[u8] {
    let mut left = len;
    let mut at = 0;

    while left > 0 {
        let len = left.min(PAYLOAD);
        let header = Frame { len, kind: kind::DATA, flags: 0, stream }.write();

        buffer[at..at + HEADER].copy_from_slice(&header);
        at += HEADER + len;
        left -= len;
    }

    &buffer[..at]
}

/// How many frames `len` bytes are.
pub fn count(len: usize) -> usize {
    len.div_ceil(PAYLOAD)
}

/// The last frame of a stream, which has no bytes.
pub fn end(stream: u32) -> [u8; HEADER] {
    Frame { len: 0, kind: kind::DATA, flags: flag::END_STREAM, stream }.write()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_end_is_an_empty_frame() {
        assert_eq!(end(7), [0, 0, 0, 0, 1, 0, 0, 0, 7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_have_all_bytes_in_their_order(len in 1usize..5 * PAYLOAD, stream in 1u32..1 << 31) {
            let mut buffer = vec![0; len + HEADER * count(len)];
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();

            for (place, piece) in bytes.chunks(PAYLOAD).enumerate() {
                buffer[place * RECORD + HEADER..][..piece.len()].copy_from_slice(piece);
            }

            let mut rest = frame(&mut buffer, len, stream);
            let mut got = Vec::new();
            let mut frames = 0;

            while let Some((header, more)) = rest.split_first_chunk::<HEADER>() {
                let frame = Frame::read(*header);
                prop_assert_eq!((frame.kind, frame.flags, frame.stream), (kind::DATA, 0, stream));
                prop_assert!(frame.len == PAYLOAD || more.len() == frame.len);
                got.extend_from_slice(&more[..frame.len]);
                rest = &more[frame.len..];
                frames += 1;
            }

            prop_assert_eq!(got, bytes);
            prop_assert_eq!(frames, count(len));
        }
    }
}
