//! Owns what all tunnels of a worker share: the buffer that bytes are copied through, and the
//! pipes that they go through without being copied.

use std::cell::Cell;
use std::collections::TryReserveError;

use nginx_sys::{ngx_msec_t, NGX_LOG_ERR, NGX_LOG_NOTICE};
use proxy_connect_core::relay;

use crate::ffi;
use crate::ffi::log::Log;
use crate::ffi::pipe::{self, Pipe, PipeError};

/// The size of the buffer: eight records of TLS, which leave together, or eight frames of HTTP/2 with their headers.
const BUFFER: usize = 128 * 1024;

/// How many pipes a worker opens at most: an unprivileged user gets 256 of this size for all its
/// processes (`pipe-user-pages-soft`).
const PIPES: usize = 64;

/// How many pipes stay open while no tunnel needs them.
const IDLE_PIPES: usize = 16;

/// For so long no pipe is asked for after the system refused one, in milliseconds.
const PAUSE: ngx_msec_t = 1_000;

/// What all tunnels of a worker share.
pub struct Shared {
    buffer: Vec<u8>,
    idle: Vec<PooledPipe>,
    /// When the system last refused a pipe.
    refused: Option<ngx_msec_t>,
    /// Why, until somebody logged it.
    error: Option<PipeError>,
}

/// A pipe that counts among those of the worker.
pub struct PooledPipe(Pipe);

thread_local! {
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

/// How many pipes this worker has open.
pub fn open_pipes() -> usize {
    OPEN.get()
}

impl Shared {
    /// The buffer, and no pipes yet.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn new() -> Result<Self, TryReserveError> {
        let (mut buffer, mut idle) = (Vec::new(), Vec::new());
        buffer.try_reserve_exact(BUFFER)?;
        buffer.resize(BUFFER, 0);
        idle.try_reserve_exact(IDLE_PIPES)?;

        Ok(Self { buffer, idle, refused: None, error: None })
    }

    /// Tells why a pipe was refused, if that was not told yet, and whether it was.
    pub fn tell_error(&mut self, log: Log) -> bool {
        let Some(error) = self.error.take() else {
            return false;
        };

        log_refused(log, &error);
        true
    }

    fn may_open(&self) -> bool {
        OPEN.get() < PIPES && self.refused.is_none_or(|at| ffi::now().wrapping_sub(at) >= PAUSE)
    }
}

impl relay::Workspace for Shared {
    type Pipe = PooledPipe;

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn take_pipe(&mut self) -> Option<PooledPipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }

        if !self.may_open() {
            return None;
        }

        match Pipe::open() {
            Ok(pipe) => Some(PooledPipe::new(pipe)),
            Err(error) => {
                self.refused = Some(ffi::now());
                self.error = Some(error);
                None
            }
        }
    }

    fn give_back(&mut self, pipe: PooledPipe) {
        if self.idle.len() < IDLE_PIPES {
            self.idle.push(pipe);
        }
    }
}

impl PooledPipe {
    fn new(pipe: Pipe) -> Self {
        OPEN.set(OPEN.get() + 1);
        Self(pipe)
    }
}

impl AsMut<Pipe> for PooledPipe {
    fn as_mut(&mut self) -> &mut Pipe {
        &mut self.0
    }
}

impl Drop for PooledPipe {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

fn log_refused(log: Log, error: &PipeError) {
    match error {
        PipeError::Open(error) => log.write(
            NGX_LOG_ERR,
            error.raw_os_error().unwrap_or_default(),
            format_args!("pipe2() failed, bytes are copied instead"),
        ),
        PipeError::Size(error) => log.write(
            NGX_LOG_NOTICE,
            error.raw_os_error().unwrap_or_default(),
            format_args!(
                "a pipe of {} bytes was refused, bytes are copied instead",
                pipe::CAPACITY
            ),
        ),
    }
}
