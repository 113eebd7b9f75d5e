//! Owns the reading of a hooked connection: finds a CONNECT where a request begins, and shows it
//! to the parser in disguise.

use nginx_sys::{ngx_connection_t, ngx_http_connection_t};
use proxy_connect_core::disguise::{beginning, disguise, Beginning, HELD_MAX};

use super::hook::Hook;
use crate::ffi::boundary::guard;
use crate::ffi::code;
use crate::ffi::log::Log;

/// Has our receive function stand in the place of the connection's own.
///
/// # Safety
///
/// `c` must be an open connection, and `hook` its own.
pub unsafe fn attach(c: *mut ngx_connection_t, hook: &mut Hook) {
    // SAFETY: the caller's promise.
    unsafe {
        hook.receive = (*c).recv;
        (*c).recv = Some(receive);
    }
}

/// Gives the connection its own receive function back.
///
/// # Safety
///
/// As for [`attach`].
pub unsafe fn detach(c: *mut ngx_connection_t, hook: &mut Hook) {
    // SAFETY: the caller's promise.
    unsafe { (*c).recv = hook.receive };
}

/// The hook of a connection that is read through it. On other connections this costs no look-up.
///
/// # Safety
///
/// As for [`Hook::of`].
pub unsafe fn hook_of<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Hook> {
    type Receive = unsafe extern "C" fn(*mut ngx_connection_t, *mut u8, usize) -> isize;

    // SAFETY: the caller's promise.
    unsafe {
        let hooked = (*c).recv.is_some_and(|own| std::ptr::fn_addr_eq(own, receive as Receive));
        hooked.then(|| Hook::of(c)).flatten()
    }
}

/// Stands in the place of `c->recv`.
unsafe extern "C" fn receive(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: nginx calls it with an open connection, and with room for `size` bytes.
    guard(Log::of_cycle(), || unsafe { read(c, buf, size) }, || code::ERROR)
}

/// # Safety
///
/// `c` must be an open connection that is read through its hook, to which no other reference is
/// in use; `buf` must have room for `size` bytes.
unsafe fn read(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(hook) = Hook::of(c) else {
            return code::ERROR;
        };

        let Some(own) = hook.receive else {
            return code::ERROR;
        };

        // A request is being read, or the connection is none of HTTP/1.x any more.
        if (*c).data != hook.http || size <= HELD_MAX {
            return own(c, buf, size);
        }

        let buffer = std::slice::from_raw_parts_mut(buf, size);
        let proxy_protocol = (*(*c).data.cast::<ngx_http_connection_t>()).proxy_protocol() != 0;

        begin(hook, buffer, proxy_protocol, |rest| own(c, rest.as_mut_ptr(), rest.len()))
    }
}

/// Reads the beginning of a request into `buffer`, by `read`, and answers as `c->recv` does.
fn begin(
    hook: &mut Hook,
    buffer: &mut [u8],
    proxy_protocol: bool,
    read: impl Fn(&mut [u8]) -> isize,
) -> isize {
    let mut len = hook.held.release(buffer);

    loop {
        let n = read(&mut buffer[len..]);

        if n <= 0 {
            hook.held.keep(&buffer[..len]);
            return n;
        }

        len += n as usize;

        match beginning(&buffer[..len], proxy_protocol) {
            Beginning::Connect(at) => {
                disguise(buffer, at);
                hook.disguised = true;
                return len as isize;
            }
            Beginning::Unclear(at) if at > 0 => {
                // nginx takes the PROXY protocol header now, and reads the request anew.
                hook.held.keep(&buffer[at..len]);
                return at as isize;
            }
            Beginning::Unclear(_) => (),
            Beginning::Other => return len as isize,
        }
    }
}

/// Looks for a CONNECT behind the request that is over: nginx may have read the next one with
/// it.
pub fn next_request(hook: &mut Hook, buffer: &mut [u8]) -> usize {
    match beginning(buffer, false) {
        Beginning::Connect(at) => {
            disguise(buffer, at);
            hook.disguised = true;
            buffer.len()
        }
        Beginning::Unclear(_) => {
            hook.held.keep(buffer);
            0
        }
        Beginning::Other => buffer.len(),
    }
}
