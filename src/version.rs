//! Owns what the module tells of itself: its version, the nginx that it was built for, and the one that runs it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use nginx_sys::NGX_LOG_NOTICE;

use crate::ffi;
use crate::ffi::log::Log;

/// The module's version and the nginx that it was built for, in one piece: packaging/install.sh looks for it in the
/// file.
pub const BUILD: &str = concat!(
    "ngx_http_proxy_connect_module/",
    env!("MODULE_VERSION"),
    " for ",
    env!("BUILT_FOR"),
    ": "
);

/// Whether this copy of the module has told its version. nginx tells its own once for each start, too; a file that
/// took another's place before a reload is another copy.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// Tells the log at level notice, once, the version and what is `said` of how CONNECT gets to the module. A mere test
/// of the configuration is no start.
pub fn tell(log: Log, said: &str) {
    if !ffi::is_test() && !IS_TOLD.swap(true, Ordering::Relaxed) {
        log.write(NGX_LOG_NOTICE, 0, format_args!("{BUILD}{said}"));
    }
}

/// The version of the nginx that runs the module, as `1.28.3`.
pub struct Running;

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = ffi::nginx_version();
        write!(f, "{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}
