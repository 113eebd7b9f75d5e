//! Owns the boundary between nginx's C code and ours: a panic does not cross it.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use nginx_sys::NGX_LOG_ALERT;

use super::log::Log;

/// Runs `callback`; a panic in it is logged as an alert, and `on_panic` says what to answer.
pub fn guard<T>(log: Log, callback: impl FnOnce() -> T, on_panic: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(answer) => answer,
        Err(panic) => {
            log.write(NGX_LOG_ALERT, 0, format_args!("a bug: {}", message(panic.as_ref())));
            on_panic()
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}
