//! Owns memory that all workers share, and that outlives a configuration, a reload, and the binary: the nginx that an
//! upgrade begins finds what the one before had.
//!
//! nginx's own zones are gone with the process that made them. On Linux the memory is a file without a name
//! (memfd_create(2)), whose descriptor an upgrade passes on, as it does with listening sockets.

use std::cell::RefCell;
use std::io;
use std::ptr::{null_mut, NonNull};

use libc::c_int;

thread_local! {
    /// What this process has. Workers begin with a copy.
    static MAPPED: RefCell<Vec<Mapped>> = const { RefCell::new(Vec::new()) };
}

/// One piece of memory. It stays as long as the process: a worker that nginx begins anew needs it, whatever
/// became of a configuration that was read meanwhile.
struct Mapped {
    title: String,
    len: usize,
    start: NonNull<u8>,
}

/// The memory `title` of `len` bytes, all of them 0 where it is new: that of this process, or of the nginx that began
/// this one, where there is some. It is aligned to a page.
///
/// # Errors
///
/// The system gives none.
pub fn named(title: &str, len: usize) -> io::Result<NonNull<u8>> {
    MAPPED.with_borrow_mut(|mapped| {
        let known = mapped.iter().find(|one| one.title == title && one.len == len);

        if let Some(known) = known {
            return Ok(known.start);
        }

        let start = map(inherited(title, len).or_else(|| create(title, len)), len)?;
        mapped.push(Mapped { title: title.into(), len, start });
        Ok(start)
    })
}

/// Without a descriptor it is memory that an upgrade does not pass on.
fn map(descriptor: Option<c_int>, len: usize) -> io::Result<NonNull<u8>> {
    let (flags, descriptor) = match descriptor {
        Some(descriptor) => (libc::MAP_SHARED, descriptor),
        None => (libc::MAP_SHARED | libc::MAP_ANON, -1),
    };

    // SAFETY: a new mapping, in a place of the system's choice.
    let start = unsafe {
        libc::mmap(null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, 0)
    };

    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }

    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(target_os = "linux")]
fn create(title: &str, len: usize) -> Option<c_int> {
    let name = std::ffi::CString::new(title).ok()?;
    let len = libc::off_t::try_from(len).ok()?;

    // SAFETY: the name ends in a zero; the descriptor is nobody else's. It is to stay open when an upgrade
    // begins another binary.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_memfd_create, name.as_ptr(), 0);
        let descriptor = c_int::try_from(descriptor).ok().filter(|&descriptor| descriptor >= 0)?;

        if libc::ftruncate(descriptor, len) != 0 {
            libc::close(descriptor);
            return None;
        }

        Some(descriptor)
    }
}

/// The descriptor of that title and length that this process was begun with.
#[cfg(target_os = "linux")]
fn inherited(title: &str, len: usize) -> Option<c_int> {
    let link = format!("/memfd:{title} (deleted)");

    std::fs::read_dir("/proc/self/fd").ok()?.flatten().find_map(|entry| {
        if std::fs::read_link(entry.path()).ok()?.to_str() != Some(&link) {
            return None;
        }

        let is_whole = std::fs::metadata(entry.path()).is_ok_and(|file| file.len() == len as u64);
        entry.file_name().to_str()?.parse().ok().filter(|_| is_whole)
    })
}

#[cfg(not(target_os = "linux"))]
fn create(_title: &str, _len: usize) -> Option<c_int> {
    None
}

#[cfg(not(target_os = "linux"))]
fn inherited(_title: &str, _len: usize) -> Option<c_int> {
    None
}
