//! Owns the points that `perf`, `bpftrace` and `gdb` can watch (USDT, provider `proxy_connect`). Each is an instruction that
//! does nothing, and a note in the file that says where it is and where its arguments lie. The first argument is the
//! address of the request, which tells tunnels apart while they live. docs/observability.md has all of them.

use nginx_sys::{ngx_err_t, ngx_msec_t};
use probe::probe;

use crate::failure::Failure;
use crate::ffi::addr::Addr;
use crate::ffi::request::Request;
use crate::relay::Counted;

/// A CONNECT set out.
#[inline]
pub fn opened(request: Request) {
    probe!(proxy_connect, opened, request.as_ptr());
}

/// Its tunnel begins to stand, `msec` milliseconds after the first connect, with so many attempts.
#[inline]
pub fn established(request: Request, msec: ngx_msec_t, attempts: u64) {
    probe!(proxy_connect, established, request.as_ptr(), msec, attempts);
}

/// There is none: a rule refused it, or it failed.
#[inline]
pub fn ended(request: Request, failure: Failure) {
    let word = failure.error().map_or("", |error| error.token());
    let (status, len) = (failure.status(), word.len());

    if failure.is_refusal() {
        probe!(proxy_connect, refused, request.as_ptr(), status, word.as_ptr(), len);
    } else {
        probe!(proxy_connect, failed, request.as_ptr(), status, word.as_ptr(), len);
    }
}

/// One that stood is over, for this reason, after `msec` milliseconds.
#[inline]
pub fn closed(request: Request, reason: &str, counted: Counted, msec: ngx_msec_t) {
    let (word, len) = (reason.as_ptr(), reason.len());
    let (sent, received) = (counted.sent, counted.received);
    probe!(proxy_connect, closed, request.as_ptr(), word, len, sent, received, msec);
}

/// An attempt to connect begins.
#[inline]
pub fn dial_begun(request: Request, addr: &Addr) {
    let (addr, len) = addr.raw();
    probe!(proxy_connect, dial_begun, request.as_ptr(), addr, len);
}

/// It is done: 0 where the connection stands, else why it does not. ECANCELED is that of one that was given up.
#[inline]
pub fn dial_done(request: Request, errno: ngx_err_t) {
    probe!(proxy_connect, dial_done, request.as_ptr(), errno);
}

/// An end is not read for `msec` milliseconds, as a rate wants it.
#[inline]
pub fn throttled(request: Request, msec: ngx_msec_t) {
    probe!(proxy_connect, throttled, request.as_ptr(), msec);
}
