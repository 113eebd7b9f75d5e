//! Owns lines of the error log, formatted here and not by nginx.

use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nginx_sys::{ngx_err_t, ngx_log_t, ngx_uint_t, NGX_MAX_ERROR_STR};

/// What fits into a line of the log behind its time and level.
pub const LOG_BUFFER_SIZE: usize = NGX_MAX_ERROR_STR as usize - 32;

/// The log of the running cycle.
pub fn ngx_cycle_log() -> NonNull<ngx_log_t> {
    // SAFETY: a cycle is there before any module runs, and it has a log.
    unsafe { NonNull::new_unchecked((*nginx_sys::ngx_cycle).log) }
}

/// Formats into the buffer, and cuts what does not fit.
pub fn write_fmt<'a>(buffer: &'a mut [MaybeUninit<u8>], arguments: fmt::Arguments<'_>) -> &'a [u8] {
    let mut line = Line { buffer, len: 0 };
    let _ = line.write_fmt(arguments);

    // SAFETY: the first `len` bytes were written.
    unsafe { std::slice::from_raw_parts(line.buffer.as_ptr().cast(), line.len) }
}

struct Line<'a> {
    buffer: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.buffer.get_mut(self.len).ok_or(fmt::Error)? = MaybeUninit::new(byte);
            self.len += 1;
        }
        Ok(())
    }
}

/// Writes a line.
///
/// # Safety
///
/// `log` must be a live log.
pub unsafe fn log_error(level: ngx_uint_t, log: *mut ngx_log_t, err: ngx_err_t, line: &[u8]) {
    // SAFETY: a live log; the format takes a length and a pointer.
    unsafe {
        nginx_sys::ngx_log_error_core(level, log, err, c"%*s".as_ptr(), line.len(), line.as_ptr());
    }
}

/// Writes a line about the configuration, with the place in the file.
#[macro_export]
macro_rules! ngx_conf_log_error {
    ($level:expr, $cf:expr, $($argument:tt)+) => {{
        let mut buffer = [const { ::std::mem::MaybeUninit::<u8>::uninit() }; $crate::log::LOG_BUFFER_SIZE];
        let line = $crate::log::write_fmt(&mut buffer, format_args!($($argument)+));
        // SAFETY: as the caller says of `cf`; the format takes a length and a pointer.
        unsafe {
            $crate::ffi::ngx_conf_log_error(
                $level as $crate::ffi::ngx_uint_t, $cf, 0, c"%*s".as_ptr(), line.len(), line.as_ptr(),
            );
        }
    }};
}
