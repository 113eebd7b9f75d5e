//! Owns what a client sends behind its first ClientHello, until it is known that no second one comes. A server of
//! TLS 1.3 may ask for one (HelloRetryRequest, RFC 8446, section 4.1.4), and servers take the name of the second.
//!
//! In front of it may stand a ChangeCipherSpec (appendix D.4) and, where they were offered, early data that the
//! server passes over (section 4.2.10). Everything else says that the handshake has gone on, or will fail.

use std::collections::TryReserveError;

use super::preread::{is_record, CLIENT_HELLO, HANDSHAKE, HEADER};

/// So much is looked through, in bytes: servers pass over 16 KiB of early data.
pub const PASSED_MAX: usize = 128 * 1024;

/// The type of a record of data.
const APPLICATION_DATA: u8 = 23;

/// What follows a ClientHello.
#[derive(Debug)]
pub struct Retry {
    has_early_data: bool,
    /// What came and has not been taken out.
    bytes: Vec<u8>,
    /// How many of these may go on.
    passed: usize,
    /// How many bytes more the current record has, which may go on.
    left: usize,
    /// All that went on, in bytes.
    total: usize,
}

/// What was found behind a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// Something that no second ClientHello can follow.
    Other,
    /// A handshake that begins as a ClientHello does, or as none may: it is to be read.
    Hello,
}

/// What the next record is.
enum Record {
    /// One that a second ClientHello may follow, with its length.
    Passes(usize),
    Found(Found),
}

impl Retry {
    /// What follows a ClientHello, which may have offered early data.
    pub fn new(has_early_data: bool) -> Self {
        Self { has_early_data, bytes: Vec::new(), passed: 0, left: 0, total: 0 }
    }

    /// Takes bytes that came.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Found, TryReserveError> {
        self.bytes.try_reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);

        loop {
            self.pass_record();

            if self.left > 0 {
                return Ok(Found::Nothing);
            }

            match self.next() {
                Record::Passes(len) => self.left = len,
                Record::Found(found) => return Ok(found),
            }
        }
    }

    /// Takes out the bytes that may go on. The ones that stay are the beginning of a record.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn take_passed(&mut self) -> Result<Vec<u8>, TryReserveError> {
        let mut rest = Vec::new();
        rest.try_reserve_exact(self.bytes.len() - self.passed)?;
        rest.extend_from_slice(&self.bytes[self.passed..]);

        let mut passed = std::mem::replace(&mut self.bytes, rest);
        passed.truncate(self.passed);
        self.passed = 0;
        Ok(passed)
    }

    /// All bytes that were not taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pass_record(&mut self) {
        let n = self.left.min(self.bytes.len() - self.passed);
        self.passed += n;
        self.left -= n;
        self.total = self.total.saturating_add(n);
    }

    fn next(&self) -> Record {
        if self.total > PASSED_MAX {
            return Record::Found(Found::Other);
        }

        record(&self.bytes[self.passed..], self.has_early_data)
            .unwrap_or(Record::Found(Found::Nothing))
    }
}

/// The record that `bytes` begin with. `None` while that can't be said.
fn record(bytes: &[u8], has_early_data: bool) -> Option<Record> {
    let content_type = *bytes.first()?;

    if !is_record(content_type) || (content_type == APPLICATION_DATA && !has_early_data) {
        return Some(Record::Found(Found::Other));
    }

    let len = HEADER + usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));

    if content_type != HANDSHAKE {
        return Some(Record::Passes(len));
    }

    // One that is empty is for who reads hellos.
    let is_hello = len == HEADER || *bytes.get(HEADER)? == CLIENT_HELLO;
    Some(Record::Found(if is_hello { Found::Hello } else { Found::Other }))
}
