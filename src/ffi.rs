//! The edge to nginx: raw bindings go in, safe types come out. Nearly all `unsafe` of the module
//! stands here, and nothing here decides anything about CONNECT.
//!
//! | module | owns |
//! |---|---|
//! | [`addr`] | socket addresses, read and written as nginx does |
//! | `before_connect` | what is done to the socket of a peer before connect(2) |
//! | [`boundary`] | what happens to a panic that reaches a C caller |
//! | [`client`] | the client's end of a tunnel |
//! | [`content`] | answers that the module itself makes for a location |
//! | [`client_tls`] | TLS to a server, with nginx as its client |
//! | [`conf`] | the configuration parser's side: arguments, errors, complex values |
//! | [`connection`] | what a socket and a stream have in common: identity and log |
//! | [`end`] | what a standing tunnel asks of its ends on the event loop |
//! | [`error_pages`] | what `error_page` says, as it is for users of a proxy |
//! | [`event`] | what can happen to a tunnel, as values |
//! | [`fields`] | the header fields of a request and its answer |
//! | [`filter`] | a filter of answers |
//! | `handshake` | a TLS handshake that a request came before the end of |
//! | [`log`] | the error log |
//! | [`ngx_event`] | nginx's events: readiness, timers, posting |
//! | [`own`] | which addresses are this host's own |
//! | [`phase`] | phase handlers |
//! | [`pipe`] | pipes, and splice(2) |
//! | [`peer`] | connecting to an upstream, and its events |
//! | [`process`] | which process this is, and whether another still is |
//! | [`pool`] | memory that lives as long as a request or a configuration |
//! | [`rate_zone`] | zones of shared memory with a table of buckets |
//! | [`regex`] | regular expressions of the configuration |
//! | [`request`] | the request and its handlers |
//! | [`request_bits`] | the bit fields of a request |
//! | [`request_pool`] | the size of a request's pool |
//! | [`resolver`] | a running look-up of nginx's resolver |
//! | [`shared_memory`] | memory that all workers share, and that an upgrade of the binary passes on |
//! | [`status_zone`] | zones in which tunnels are counted |
//! | [`rewrite`] | directives in an `if` of a server |
//! | [`socket`] | connections that have their socket for themselves, as ends of a relay |
//! | `stream` | ends of tunnels that are streams |
//! | [`timer`] | events that are timers and nothing else: of a request, a connection, a worker |
//! | [`tls`] | options of a connection's TLS |
//! | [`upstream`] | groups of servers: `upstream {}` |
//! | [`variable`] | registering variables, their getters and setters |
//!
//! Handles such as [`request::Request`] are copies of a pointer that nginx passed to a callback.
//! They are good until that callback returns, or until the request is finalised within it:
//! whoever finalises a request returns right away.

pub mod addr;
mod before_connect;
pub mod boundary;
pub mod client;
pub mod client_tls;
pub mod conf;
mod configured;
pub mod connection;
pub mod content;
pub mod end;
pub mod error_pages;
pub mod event;
pub mod fields;
pub mod filter;
#[cfg(ngx_feature = "http_ssl")]
pub mod handshake;
pub mod log;
pub mod ngx_event;
pub mod own;
pub mod peer;
pub mod phase;
#[cfg_attr(not(target_os = "linux"), path = "ffi/no_pipe.rs")]
pub mod pipe;
pub mod pool;
pub mod process;
pub mod rate_zone;
pub mod regex;
pub mod request;
pub mod request_bits;
pub mod request_pool;
pub mod resolver;
pub mod rewrite;
pub mod shared_memory;
pub mod socket;
pub mod status_zone;
#[cfg(http2)]
pub mod stream;
pub mod timer;
pub mod tls;
pub mod upstream;
pub mod variable;

use std::ptr::NonNull;

use nginx_sys::{ngx_int_t, ngx_msec_t, ngx_str_t};

/// nginx's return codes, in the type that its functions return.
pub mod code {
    use nginx_sys::ngx_int_t;

    /// Done, without a fault.
    pub const OK: ngx_int_t = nginx_sys::NGX_OK as ngx_int_t;
    /// Failed.
    pub const ERROR: ngx_int_t = nginx_sys::NGX_ERROR as ngx_int_t;
    /// Not finished, an event will come.
    pub const AGAIN: ngx_int_t = nginx_sys::NGX_AGAIN as ngx_int_t;
    /// Taken over by the callee.
    pub const DONE: ngx_int_t = nginx_sys::NGX_DONE as ngx_int_t;
    /// Left to the next.
    pub const DECLINED: ngx_int_t = nginx_sys::NGX_DECLINED as ngx_int_t;
    /// None is free.
    pub const BUSY: ngx_int_t = nginx_sys::NGX_BUSY as ngx_int_t;
}

/// Whether nginx only tests its configuration (`nginx -t`).
pub fn is_test() -> bool {
    // SAFETY: nginx sets it when it reads its command line.
    unsafe { nginx_sys::ngx_test_config != 0 }
}

/// The version of the nginx that runs the module, as `1028003`.
pub fn nginx_version() -> usize {
    // SAFETY: the core's own module, whose version the compiler wrote.
    unsafe { (*std::ptr::addr_of!(nginx_sys::ngx_core_module)).version }
}

/// The time of the event loop's current iteration, in milliseconds.
pub fn now() -> ngx_msec_t {
    // SAFETY: a word that only this thread's event loop writes, between callbacks.
    unsafe { nginx_sys::ngx_current_msec }
}

/// The same as the time of day, in milliseconds since 1970.
pub fn wall_clock() -> u64 {
    // SAFETY: nginx points it to a time that it does not change, before it reads a configuration.
    let time = unsafe { nginx_sys::ngx_cached_time.cast_const().as_ref() };

    time.map_or(0, |time| {
        u64::try_from(time.sec).unwrap_or_default() * 1_000
            + u64::try_from(time.msec).unwrap_or_default()
    })
}

/// Milliseconds until `time`, 0 when it has passed.
pub fn until(time: ngx_msec_t) -> ngx_msec_t {
    let left = time.wrapping_sub(now());
    if left > ngx_msec_t::MAX / 2 {
        0
    } else {
        left
    }
}

/// A number that nobody can tell beforehand, as far as that matters to nginx: its ngx_random(), which gives 31
/// bits.
pub fn random() -> u128 {
    extern "C" {
        fn random() -> std::ffi::c_long;
    }

    // SAFETY: the generator of the C library, which nginx seeds for each worker.
    (0..5).fold(0, |number, _| (number << 31) ^ u128::from(unsafe { random() }.unsigned_abs()))
}

/// The bytes of an nginx string.
///
/// # Safety
///
/// `string` must point to `len` readable bytes that neither move nor change during `'a`.
pub unsafe fn bytes<'a>(string: ngx_str_t) -> &'a [u8] {
    if string.len == 0 || string.data.is_null() {
        return &[];
    }

    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(string.data, string.len) }
}

/// A copy of `items` in memory of its own.
///
/// # Errors
///
/// No memory.
pub fn list_of<T: Copy>(items: &[T]) -> Result<Vec<T>, std::collections::TryReserveError> {
    let mut list = Vec::new();
    list.try_reserve_exact(items.len())?;
    list.extend_from_slice(items);
    Ok(list)
}

/// A value in memory of its own. `None` when there is none.
pub fn boxed<T>(value: T) -> Option<Box<T>> {
    let layout = std::alloc::Layout::new::<T>();

    if layout.size() == 0 {
        return Some(Box::new(value));
    }

    // SAFETY: memory of the global allocator with the layout of a T, which is written before it
    // becomes a box.
    unsafe {
        let place = NonNull::new(std::alloc::alloc(layout).cast::<T>())?;
        place.write(value);
        Some(Box::from_raw(place.as_ptr()))
    }
}

/// An nginx string that refers to `bytes`.
pub fn str_of(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// Reads a time as nginx's directives do, in milliseconds: `10s`, `500ms`, `1m 30s`.
pub fn parse_msec(text: &[u8]) -> Option<ngx_msec_t> {
    let mut line = str_of(text);

    // SAFETY: ngx_parse_time() only reads the line; 0 asks for milliseconds.
    let msec: ngx_int_t = unsafe { nginx_sys::ngx_parse_time(&mut line, 0) };

    if text.is_empty() || msec == code::ERROR {
        return None;
    }

    ngx_msec_t::try_from(msec).ok()
}

/// Reads a size as nginx's directives do, in bytes: `1000`, `8k`, `1m`.
pub fn parse_size(text: &[u8]) -> Option<usize> {
    let mut line = str_of(text);

    // SAFETY: ngx_parse_size() only reads the line, which it wants not to be empty.
    let size = (!text.is_empty()).then(|| unsafe { nginx_sys::ngx_parse_size(&mut line) })?;

    usize::try_from(size).ok()
}

/// Reads a size as nginx's directives do where one may be large, in bytes: `1000`, `8k`, `1m`, `2g`.
pub fn parse_offset(text: &[u8]) -> Option<u64> {
    let mut line = str_of(text);

    // SAFETY: ngx_parse_offset() only reads the line, which it wants not to be empty.
    let size = (!text.is_empty()).then(|| unsafe { nginx_sys::ngx_parse_offset(&mut line) })?;

    u64::try_from(size).ok()
}
