//! Owns frames (RFC 9113, section 4.1): the header of each, and those that are written whole.

/// The length of a frame's header, in bytes.
pub const HEADER: usize = 9;

/// The connection preface of a client (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a frame is (RFC 9113, section 6), as far as it concerns a tunnel.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub const RST_STREAM: u8 = 3;
    /// PING.
    pub const PING: u8 = 6;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// The flags of a frame.
pub mod flag {
    /// The answer to one, of PING.
    pub const ACK: u8 = 0x1;
    /// The last frame of its stream, of DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// The last frame of a field block, of HEADERS and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// Padding is there, of DATA and HEADERS.
    pub const PADDED: u8 = 0x8;
    /// A priority is there, of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// Why a stream is reset (RFC 9113, section 7), as far as it concerns a tunnel.
pub mod code {
    /// What was sent breaks the protocol.
    pub const PROTOCOL_ERROR: u32 = 0x1;
    /// More came than the window has room for.
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    /// The connection to the upstream was reset, or the tunnel cut.
    pub const CONNECT_ERROR: u32 = 0xa;
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The length of the payload, in bytes, below 2^24.
    pub len: usize,
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream, without the reserved bit; 0 for the connection.
    pub stream: u32,
}

impl Frame {
    /// Reads a header.
    pub fn read(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;

        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Writes the header.
    pub fn write(self) -> [u8; HEADER] {
        let [_, a, b, c] = (self.len as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether all of `flags` are set.
    pub fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// The length of a frame whose payload is one number, in bytes.
pub const NUMBER_FRAME: usize = HEADER + 4;

/// A WINDOW_UPDATE (RFC 9113, section 6.9).
pub fn window_update(stream: u32, increment: u32) -> [u8; NUMBER_FRAME] {
    number(kind::WINDOW_UPDATE, stream, increment)
}

/// A RST_STREAM (RFC 9113, section 6.4) with one of the [`code`]s.
pub fn rst_stream(stream: u32, code: u32) -> [u8; NUMBER_FRAME] {
    number(kind::RST_STREAM, stream, code)
}

/// An answer to a PING that nobody has sent (RFC 9113, section 6.7): to nginx one like any other, of which it makes nothing.
pub fn pong() -> [u8; HEADER + 8] {
    let mut frame = [0; HEADER + 8];
    let header = Frame { len: 8, kind: kind::PING, flags: flag::ACK, stream: 0 };
    frame[..HEADER].copy_from_slice(&header.write());
    frame
}

fn number(kind: u8, stream: u32, number: u32) -> [u8; NUMBER_FRAME] {
    let mut frame = [0; NUMBER_FRAME];
    frame[..HEADER].copy_from_slice(&Frame { len: 4, kind, flags: 0, stream }.write());
    frame[HEADER..].copy_from_slice(&number.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_written_as_it_was_read(mut bytes: [u8; HEADER]) {
            bytes[5] &= 0x7f;
            prop_assert_eq!(Frame::read(bytes).write(), bytes);
        }
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let frame = Frame::read([0, 1, 2, 3, 4, 0x80, 0, 0, 5]);
        assert_eq!(frame, Frame { len: 258, kind: 3, flags: 4, stream: 5 });
    }

    #[test]
    fn numbers_are_frames() {
        assert_eq!(window_update(3, 0x10203), [0, 0, 4, 8, 0, 0, 0, 0, 3, 0, 1, 2, 3]);
        assert_eq!(rst_stream(5, code::CONNECT_ERROR), [0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 10]);
        assert_eq!(pong(), [0, 0, 8, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
