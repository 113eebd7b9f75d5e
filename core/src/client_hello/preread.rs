//! Owns the first bytes of a client, until it can be said what they are: TLS or not, and the ClientHello, which
//! may come in many records (RFC 8446, section 5.1) and segments. The bytes are kept as they came, to be handed on.

use std::cmp::Ordering;
use std::collections::TryReserveError;

use super::{ClientHello, Malformed, Reader};

/// The longest ClientHello, in bytes. One with the keys of post-quantum groups has less than 2 KiB, one with
/// a large ticket less than 20.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// How many bytes are kept of a ClientHello that is not whole. Room for one of 20 KiB in records of one byte each.
pub const KEPT_MAX: usize = 128 * 1024;

/// The length of a record's header, and the most that may follow it.
pub(super) const HEADER: usize = 5;
const RECORD_MAX: usize = 1 << 14;

/// Types of records: the first and the last that TLS has, and that of a handshake.
const FIRST_TYPE: u8 = 20;
const LAST_TYPE: u8 = 24;
pub(super) const HANDSHAKE: u8 = 22;

/// The type and the length in front of a handshake's message.
const MESSAGE_HEADER: usize = 4;
pub(super) const CLIENT_HELLO: u8 = 1;

/// The first bytes of a client.
#[derive(Debug, Default)]
pub struct Preread {
    bytes: Vec<u8>,
    /// Where the next record begins in them.
    next: usize,
    /// What the records before it have of the message.
    message: Vec<u8>,
    /// What is known already.
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    NotTls,
    /// The message is the ClientHello.
    Whole,
    Malformed(Malformed),
}

/// What the first bytes of a client are.
// It lies on the stack for a moment; a box would ask for memory.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// There is none.
    Nothing,
    /// They are no TLS: no record of it has such a first byte. A ClientHello in the format of SSL 2.0 counts as
    /// that; it can't have a name.
    NotTls,
    /// TLS that begins as it should.
    Tls(ClientHello),
    /// What could be taken for TLS, and is not as it should be.
    Malformed(Malformed),
}

impl Preread {
    /// Takes bytes that came. True when it can be said what they are; what comes behind is of no interest then.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, TryReserveError> {
        self.bytes.try_reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);

        while self.known.is_none() && self.take_record()? {}

        if self.known.is_none() && self.bytes.len() > KEPT_MAX {
            self.known = Some(Known::Malformed(Malformed::TooLong));
        }

        Ok(self.known.is_some())
    }

    /// What the bytes are. Those of a ClientHello that is not whole are malformed: ask when
    /// [`Preread::push`] says so, or when no more will come.
    pub fn opening(&self) -> Opening {
        match self.known {
            None if self.is_empty() => Opening::Nothing,
            None => Opening::Malformed(Malformed::Unfinished),
            Some(Known::NotTls) => Opening::NotTls,
            Some(Known::Malformed(why)) => Opening::Malformed(why),
            Some(Known::Whole) => match ClientHello::read(&self.message[MESSAGE_HEADER..]) {
                Ok(hello) => Opening::Tls(hello),
                Err(why) => Opening::Malformed(why),
            },
        }
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the client takes what it gets for records of TLS.
    pub fn is_tls(&self) -> bool {
        self.bytes.first().is_some_and(|&byte| is_record(byte))
    }

    /// The bytes up to the end of the ClientHello, and those behind it.
    pub fn split(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.next)
    }

    /// All bytes, as they came.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes the next record, if it is whole. False when it isn't.
    fn take_record(&mut self) -> Result<bool, TryReserveError> {
        let came = &self.bytes[self.next..];

        if self.next == 0 && came.first().is_some_and(|&byte| !is_record(byte)) {
            self.known = Some(Known::NotTls);
            return Ok(false);
        }

        let len = match record_len(came) {
            Ok(Some(len)) => len,
            Ok(None) => return Ok(false),
            Err(why) => {
                self.known = Some(Known::Malformed(why));
                return Ok(false);
            }
        };

        let Some(fragment) = came.get(HEADER..HEADER + len) else {
            return Ok(false);
        };

        self.message.try_reserve(len)?;
        self.message.extend_from_slice(fragment);
        self.next += HEADER + len;
        self.known = look(&self.message);

        Ok(true)
    }
}

/// Whether a record of TLS may begin so. The version that follows does not count: a server may pass over it.
pub(super) fn is_record(byte: u8) -> bool {
    (FIRST_TYPE..=LAST_TYPE).contains(&byte)
}

/// The length of a record of a handshake, without its header. `None` while that is not whole.
fn record_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let &[content_type, _, _, high, low, ..] = bytes else {
        return Ok(None);
    };

    match (content_type, usize::from(u16::from_be_bytes([high, low]))) {
        (HANDSHAKE, len @ 1..=RECORD_MAX) => Ok(Some(len)),
        (HANDSHAKE, _) => Err(Malformed::RecordLength),
        _ => Err(Malformed::OtherRecord),
    }
}

/// What the beginning of a handshake is, once that can be said.
fn look(message: &[u8]) -> Option<Known> {
    if *message.first()? != CLIENT_HELLO {
        return Some(Known::Malformed(Malformed::OtherMessage));
    }

    let len = MESSAGE_HEADER + Reader(message.get(1..)?).number(3).ok()?;

    if len > MESSAGE_MAX {
        return Some(Known::Malformed(Malformed::TooLong));
    }

    match message.len().cmp(&len) {
        Ordering::Less => None,
        Ordering::Equal => Some(Known::Whole),
        Ordering::Greater => Some(Known::Malformed(Malformed::Trailing)),
    }
}
