//! Owns writing to nginx's error log.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{ngx_err_t, ngx_log_t, ngx_msec_t, ngx_uint_t};

/// What every line of the module begins with.
const PREFIX: &str = "proxy_connect: ";

/// The log of a connection or of the cycle. A connection's adds the context by itself: what it
/// was doing, client, server, request and host.
#[derive(Clone, Copy, Debug)]
pub struct Log(NonNull<ngx_log_t>);

impl Log {
    /// # Safety
    ///
    /// `log` must be a log that outlives the use of the handle.
    pub unsafe fn from_ptr(log: *mut ngx_log_t) -> Option<Self> {
        NonNull::new(log).map(Self)
    }

    /// The log of the running cycle, for what belongs to no connection.
    pub fn of_cycle() -> Self {
        Self(ngx::log::ngx_cycle_log())
    }

    /// The pointer that nginx's functions take.
    pub fn as_ptr(self) -> *mut ngx_log_t {
        self.0.as_ptr()
    }

    /// Writes one line at `level` (`NGX_LOG_ERR` and so on); `errno` is printed unless it is 0.
    pub fn write(self, level: u32, errno: ngx_err_t, message: fmt::Arguments<'_>) {
        let level = level as ngx_uint_t;

        // SAFETY: a live log, see from_ptr().
        if level > unsafe { self.0.as_ref().log_level } {
            return;
        }

        let mut buffer = [const { MaybeUninit::uninit() }; ngx::log::LOG_BUFFER_SIZE];
        let line = ngx::log::write_fmt(&mut buffer, format_args!("{PREFIX}{message}"));

        // SAFETY: a live log, see from_ptr(); the line is initialised bytes.
        unsafe { ngx::log::log_error(level, self.0.as_ptr(), errno, line) };
    }

    /// Says what the connection is doing, for the lines to come: they read `while <action>`.
    pub fn set_action(self, action: &'static CStr) {
        // SAFETY: a live log, see from_ptr(); nginx only reads the action.
        unsafe { (*self.0.as_ptr()).action = action.as_ptr().cast_mut() };
    }

    /// Takes back what [`Log::set_action`] said.
    #[cfg(ngx_feature = "http_ssl")]
    pub fn clear_action(self) {
        // SAFETY: a live log, see from_ptr().
        unsafe { (*self.0.as_ptr()).action = std::ptr::null_mut() };
    }
}

/// Bytes of the network or the configuration, as they are shown in a log line.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// The same for what stands in a line without quotes: no space makes two words of it.
pub struct Word<'a>(pub &'a [u8]);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, word) in self.0.split(|&byte| byte == b' ').enumerate() {
            let space = if place == 0 { "" } else { "\\x20" };
            write!(f, "{space}{}", Shown(word))?;
        }

        Ok(())
    }
}

/// When the log was last told of something that many tunnels can come upon.
pub struct Seldom(Cell<Option<ngx_msec_t>>);

impl Seldom {
    /// How often it is told of it at most, in milliseconds.
    const PERIOD: ngx_msec_t = 60_000;

    /// It was not told yet.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Whether it is time to tell it; it is taken for told then.
    pub fn is_due(&self) -> bool {
        let now = super::now();
        let is_due = self.0.get().is_none_or(|at| now.wrapping_sub(at) >= Self::PERIOD);

        if is_due {
            self.0.set(Some(now));
        }

        is_due
    }
}
