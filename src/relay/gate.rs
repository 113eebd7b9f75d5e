//! Owns the first bytes of a client while they are held: reading them, until it is known what they are, and for how
//! long that may take.

use std::collections::TryReserveError;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::client_hello::{Opening, Preread};
use proxy_connect_core::relay::{Received, Source};

use super::shared::PooledPipe;
use crate::ffi::client::Client;
use crate::ffi::timer::Timer;

/// A client whose bytes are held. A tunnel that holds none has no gate.
pub struct Gate {
    preread: Preread,
    /// Runs from the client's first byte on. A client that says nothing is held for as long as it likes.
    timer: Timer,
    /// For how long, in milliseconds.
    timeout: ngx_msec_t,
    is_running: bool,
    end: Option<End>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is known what the bytes are.
    Known,
    /// The client has come to its end of file.
    Eof,
    /// The time is over.
    Late,
}

/// The connection of the client is broken.
pub struct Broken;

impl Gate {
    /// A gate that begins with `early` bytes; `timer` is to run for `timeout` milliseconds.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn new(timer: Timer, timeout: ngx_msec_t, early: &[u8]) -> Result<Self, TryReserveError> {
        let mut gate =
            Self { preread: Preread::default(), timer, timeout, is_running: false, end: None };

        gate.take(early)?;
        Ok(gate)
    }

    /// Reads what the client has sent, through `buffer`.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn read(
        &mut self,
        client: &mut Client,
        buffer: &mut [u8],
    ) -> Result<Result<(), Broken>, TryReserveError> {
        while !self.is_over() && Source::<PooledPipe>::is_readable(client) {
            match Source::<PooledPipe>::receive(client, buffer) {
                Received::Bytes(n) => self.take(&buffer[..n])?,
                Received::Eof => self.end = Some(End::Eof),
                Received::Blocked => break,
                Received::Broken => return Ok(Err(Broken)),
            }
        }

        Ok(Ok(()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        if self.preread.push(bytes)? {
            self.end = Some(End::Known);
        } else if !self.is_running && !self.preread.is_empty() {
            self.is_running = true;
            self.timer.set(self.timeout);
        }

        Ok(())
    }

    /// Ends the reading when the time is over.
    pub fn time_out(&mut self) {
        self.end.get_or_insert(End::Late);
    }

    /// Whether nothing more is read.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the time was over before it was known what the bytes are.
    pub fn is_late(&self) -> bool {
        self.end == Some(End::Late)
    }

    /// What the bytes are.
    pub fn opening(&self) -> Opening {
        self.preread.opening()
    }

    /// Whether the client takes what it gets for TLS.
    pub fn is_tls(&self) -> bool {
        self.preread.is_tls()
    }

    /// All bytes, and whether the end of file came behind them.
    pub fn into_parts(self) -> (Vec<u8>, bool) {
        (self.preread.into_bytes(), self.end == Some(End::Eof))
    }
}
