//! Owns the reading of a hooked connection: nginx's parser is shown no more at once than it may see, and
//! between two reads of it the request is made what the client sent.

use nginx_sys::{ngx_connection_t, ngx_http_request_t};
use proxy_connect_core::disguise::Reading;

use super::request;
use crate::admit::hook::{proxy_protocol, Hook};
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

/// The same, of a connection whose first request comes next.
///
/// # Safety
///
/// As for [`attach`].
#[cfg(ngx_feature = "http_ssl")]
pub unsafe fn begin(c: *mut ngx_connection_t, hook: &mut Hook) {
    // SAFETY: the caller's promise.
    unsafe { attach(c, hook) };
    hook.reading.begin();
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

        let buffer = std::slice::from_raw_parts_mut(buf, size);
        let read = |room: &mut [u8]| own(c, room.as_mut_ptr(), room.len());

        if hook.reading == Reading::Preface {
            match preface(c, hook, buffer) {
                Preface::Over => hook.reading.begin(),
                Preface::Next(len) => return read(&mut buffer[..len]),
            }
        }

        if hook.reading.is_in_line() && !is_read_on(c, buffer) {
            request::reveal((*c).data.cast(), hook.reading);
            hook.reading.give_up();
        }

        if hook.reading.is_open() && hook.rest.is_empty() {
            return read(buffer);
        }

        show(c, hook, buffer, read)
    }
}

/// What comes before the first request.
enum Preface {
    /// Nothing more.
    Over,
    /// So many bytes may be read at once.
    Next(usize),
}

/// Looks whether the first request begins. It must not be read together with a PROXY protocol header: where
/// that ends nginx says.
///
/// # Safety
///
/// As for [`read`].
unsafe fn preface(c: *mut ngx_connection_t, hook: &mut Hook, buffer: &mut [u8]) -> Preface {
    #[cfg(ngx_feature = "http_ssl")]
    // SAFETY: the caller's promise.
    if unsafe { crate::admit::hook::tls::is_handshaking(c) } {
        return Preface::Next(buffer.len());
    }

    // SAFETY: the caller's promise; nothing was read of it if a PROXY protocol header is due.
    let header = unsafe {
        if !proxy_protocol::is_due(c, hook.http) {
            return Preface::Over;
        }

        proxy_protocol::look(c, buffer)
    };

    match header {
        Some(len) => {
            hook.reading.begin();
            Preface::Next(len)
        }
        // nginx refuses what is not whole.
        None => Preface::Next(buffer.len()),
    }
}

/// Whether the parser wants more of the request line, for `buffer`. Where it has refused the line, nginx
/// answers, and discards what comes behind it in another place.
///
/// # Safety
///
/// As for [`read`]; a request line must be being read, or have been refused.
unsafe fn is_read_on(c: *mut ngx_connection_t, buffer: &[u8]) -> bool {
    // SAFETY: the caller's promise: the request is the connection's data.
    unsafe {
        let r = (*c).data.cast::<ngx_http_request_t>();
        (*r).header_in
            .as_ref()
            .is_some_and(|header_in| std::ptr::eq(header_in.last, buffer.as_ptr()))
    }
}

/// Shows what may be shown of the bytes that are there, reads more by `read` where that says too little,
/// and answers as `c->recv` does.
///
/// # Safety
///
/// As for [`read`].
unsafe fn show(
    c: *mut ngx_connection_t,
    hook: &mut Hook,
    buffer: &mut [u8],
    read: impl Fn(&mut [u8]) -> isize,
) -> isize {
    let mut raw = take_rest(hook, buffer);

    loop {
        // SAFETY: the caller's promise.
        unsafe { prepare(c, hook) };

        if raw > 0 {
            let shown = hook.reading.show(&mut buffer[..raw]);

            if shown > 0 {
                // SAFETY: the caller's promise.
                unsafe { keep_rest(c, hook, &buffer[shown..raw]) };
                return shown as isize;
            }

            if hook.reading == Reading::LineEnd {
                continue;
            }
        }

        // SAFETY: the caller's promise.
        let n = if unsafe { is_exhausted(c, hook) } {
            code::AGAIN
        } else if raw < buffer.len() {
            read(&mut buffer[raw..])
        } else {
            return show_one(hook, buffer, read);
        };

        if n <= 0 {
            hook.rest.place = buffer.as_ptr();
            hook.rest.len = raw;
            return n;
        }

        raw += n as usize;
    }
}

/// Shows the one byte that there is room for, when the next one has to be known for that.
fn show_one(hook: &mut Hook, buffer: &mut [u8], read: impl Fn(&mut [u8]) -> isize) -> isize {
    let mut pair = [buffer[0], 0];
    let n = read(&mut pair[1..]);

    if n <= 0 {
        hook.rest.place = buffer.as_ptr();
        hook.rest.len = buffer.len();
        return n;
    }

    // One of them is shown at least; the other one next time.
    hook.reading.show(&mut pair);
    buffer[0] = pair[0];
    hook.rest.owed = Some(pair[1]);

    1
}

/// Puts what was read before and not shown at the beginning of `buffer`, and says how much it is.
fn take_rest(hook: &mut Hook, buffer: &mut [u8]) -> usize {
    let len = std::mem::take(&mut hook.rest.len);

    if let Some(byte) = hook.rest.owed.take() {
        buffer[0] = byte;
        return 1;
    }

    // It lies there already. Who reads into another place, as nginx does where it discards what comes
    // behind a request, has no use for it.
    if std::ptr::eq(hook.rest.place, buffer.as_ptr()) && len <= buffer.len() {
        len
    } else {
        0
    }
}

/// Keeps what was read and not shown, and has nginx read on at once where it can be shown then.
///
/// # Safety
///
/// As for [`read`].
unsafe fn keep_rest(c: *mut ngx_connection_t, hook: &mut Hook, rest: &[u8]) {
    hook.rest.place = rest.as_ptr();
    hook.rest.len = rest.len();

    // SAFETY: the caller's promise: the events of an open connection live.
    let event = unsafe { &mut *(*c).read };
    let has_turn = hook.reading.conceals() || !hook.reading.holds(rest.len());

    if has_turn {
        hook.rest.readiness.get_or_insert(event.ready() != 0);
        event.set_ready(1);
    } else if let Some(is_ready) = hook.rest.readiness.take() {
        event.set_ready(u32::from(is_ready));
    }
}

/// Whether the socket has nothing more to read, though its event was said to be ready.
///
/// # Safety
///
/// As for [`read`].
unsafe fn is_exhausted(c: *mut ngx_connection_t, hook: &mut Hook) -> bool {
    let is_exhausted = hook.rest.readiness.take() == Some(false);

    if is_exhausted {
        // SAFETY: as in keep_rest().
        unsafe { (*(*c).read).set_ready(0) };
    }

    is_exhausted
}

/// Looks at what nginx has read behind a request that is over, which may be a CONNECT. Answers how much
/// of it may be shown.
///
/// # Safety
///
/// As for [`read`]; `behind` must not be empty and lie in nginx's buffer, with no byte shown behind it.
pub unsafe fn look_ahead(c: *mut ngx_connection_t, hook: &mut Hook, behind: &mut [u8]) -> usize {
    let shown = hook.reading.show(behind);

    // SAFETY: the caller's promise.
    unsafe { keep_rest(c, hook, &behind[shown..]) };
    shown
}

/// Has nginx's parser, which has read all that was shown, find what the client sent; and what it names,
/// before it is used.
///
/// # Safety
///
/// As for [`read`].
unsafe fn prepare(c: *mut ngx_connection_t, hook: &mut Hook) {
    if !hook.reading.conceals() && hook.reading != Reading::LineEnd {
        return;
    }

    // SAFETY: the caller's promise: a request whose line is being read is the connection's data.
    unsafe {
        let r = (*c).data.cast::<ngx_http_request_t>();

        match hook.reading {
            Reading::LineEnd => request::judge(r),
            reading => request::reveal(r, reading),
        }
    }
}
