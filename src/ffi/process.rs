//! Owns what is known of processes: which one this is, and whether another still is.

use proxy_connect_core::status::zone::Process;

/// This one.
pub fn this() -> Process {
    // SAFETY: a word that nginx sets when a process begins.
    let pid = unsafe { nginx_sys::ngx_pid };
    let pid = u64::try_from(pid).unwrap_or_default();

    Process { pid, began: began(pid).unwrap_or_default() }
}

/// Whether `process` still is. One that can't be seen is taken for one that is.
pub fn is_alive(process: Process) -> bool {
    let Ok(pid) = libc::pid_t::try_from(process.pid) else {
        return false;
    };

    // SAFETY: nothing is sent; it is only asked whether it could be.
    let is_there = unsafe { libc::kill(pid, 0) } == 0
        || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH);

    // Its pid may have been given to another.
    is_there
        && (process.began == 0 || began(process.pid).is_none_or(|began| began == process.began))
}

/// When a process began, in clock ticks since the system did: field 22 of proc(5)'s stat.
#[cfg(target_os = "linux")]
fn began(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;

    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn began(_pid: u64) -> Option<u64> {
    None
}
