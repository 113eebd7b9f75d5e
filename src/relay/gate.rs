//! Owns the first bytes of a client while they are held: reading them, until it is known what they are, and for how
//! long that may take. Where a second ClientHello may follow, what comes behind the first is looked at, and goes on.

use std::collections::TryReserveError;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::client_hello::retry::Found;
use proxy_connect_core::client_hello::{Opening, Preread, Retry};
use proxy_connect_core::relay::{Received, Source};

use super::shared::PooledPipe;
use crate::ffi::client::Client;
use crate::ffi::timer::request::Timer;

/// A client whose bytes are held. A tunnel that holds none has no gate.
pub struct Gate {
    stage: Stage,
    /// Runs from the first byte of what is held on. A client that says nothing has all the time.
    timer: Timer,
    /// For how long, in milliseconds.
    timeout: ngx_msec_t,
    is_running: bool,
    is_second: bool,
    end: Option<End>,
    /// What may go on already.
    passed: Vec<u8>,
}

enum Stage {
    /// All is held, until it is known what it is.
    Opening(Preread),
    /// The first ClientHello has gone on, and so does what can't be the second.
    Behind(Retry),
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
        let mut gate = Self {
            stage: Stage::Opening(Preread::default()),
            timer,
            timeout,
            is_running: false,
            is_second: false,
            end: None,
            passed: Vec::new(),
        };

        gate.take(early)?;
        Ok(gate)
    }

    /// Reads what the client has sent, through `buffer`, until there is something to do with it.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn read(
        &mut self,
        client: &mut Client,
        buffer: &mut [u8],
    ) -> Result<Result<(), Broken>, TryReserveError> {
        while self.end.is_none() && self.passed.is_empty() && is_readable(client) {
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
        match &mut self.stage {
            Stage::Opening(preread) => {
                if preread.push(bytes)? {
                    self.end = Some(End::Known);
                } else if !self.is_running && !preread.is_empty() {
                    self.is_running = true;
                    self.timer.set(self.timeout);
                }
            }
            Stage::Behind(retry) => match retry.push(bytes)? {
                Found::Nothing => self.passed = retry.take_passed()?,
                Found::Other => self.end = Some(End::Known),
                Found::Hello => return self.open_again(),
            },
        }

        Ok(())
    }

    /// A second ClientHello has begun.
    fn open_again(&mut self) -> Result<(), TryReserveError> {
        if let Stage::Behind(retry) = &mut self.stage {
            self.passed = retry.take_passed()?;
        }

        let hello = std::mem::replace(&mut self.stage, Stage::Opening(Preread::default()));
        self.is_second = true;
        self.is_running = false;
        self.take(&hello.into_bytes())
    }

    /// Has the gate stay for what follows the first ClientHello, which goes on.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn follow(&mut self, has_early_data: bool) -> Result<Vec<u8>, TryReserveError> {
        let retry = Stage::Behind(Retry::new(has_early_data));
        let opening = std::mem::replace(&mut self.stage, retry);

        let Stage::Opening(preread) = opening else {
            return Ok(opening.into_bytes());
        };

        let (hello, behind) = preread.split();
        let len = hello.len();
        // What is whole was read no further.
        self.end = None;
        self.timer.stop();
        self.take(behind)?;

        let mut hello = preread.into_bytes();
        hello.truncate(len);
        Ok(hello)
    }

    /// Takes out what may go on already.
    pub fn take_passed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.passed)
    }

    /// Ends the reading when the time is over.
    pub fn time_out(&mut self) {
        if let Stage::Opening(_) = self.stage {
            self.end.get_or_insert(End::Late);
        }
    }

    /// Whether nothing more is read.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the time was over before it was known what the bytes are.
    pub fn is_late(&self) -> bool {
        self.end == Some(End::Late)
    }

    /// Whether the first ClientHello has gone on, and what is held is no second one.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Behind(_))
    }

    /// Whether a ClientHello has gone on already.
    pub fn is_second(&self) -> bool {
        self.is_second
    }

    /// What the bytes are.
    pub fn opening(&self) -> Opening {
        match &self.stage {
            Stage::Opening(preread) => preread.opening(),
            Stage::Behind(_) => Opening::Nothing,
        }
    }

    /// Whether the client takes what it gets for TLS.
    pub fn is_tls(&self) -> bool {
        match &self.stage {
            Stage::Opening(preread) => preread.is_tls(),
            Stage::Behind(_) => true,
        }
    }

    /// All bytes that are held, and whether the end of file came behind them.
    pub fn into_parts(self) -> (Vec<u8>, bool) {
        (self.stage.into_bytes(), self.end == Some(End::Eof))
    }
}

impl Stage {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Opening(preread) => preread.into_bytes(),
            Self::Behind(retry) => retry.into_bytes(),
        }
    }
}

fn is_readable(client: &Client) -> bool {
    Source::<PooledPipe>::is_readable(client)
}
