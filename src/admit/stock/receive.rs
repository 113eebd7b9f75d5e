//! Owns the reading of a hooked connection: finds a CONNECT where a request begins, and shows it
//! to the parser in disguise.

use nginx_sys::{ngx_connection_t, ngx_http_connection_t};

use super::hook::Hook;
use super::restore;
use crate::ffi::code;

/// How a CONNECT begins.
pub const METHOD: &[u8; 8] = b"CONNECT ";

/// What the parser is shown in its place: a method, a space, and the scheme of absolute-form.
pub const DISGUISE: &[u8; 8] = b"CON a://";

/// More bytes than this before a method are not waited through.
const HELD_MAX: usize = 64;

/// How a PROXY protocol header of version 2 begins.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes that were read and may be the beginning of a CONNECT. nginx's parser works on pieces:
/// what it has seen once it does not look at again.
pub struct Held {
    bytes: [u8; HELD_MAX],
    len: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            bytes: [0; HELD_MAX],
            len: 0,
        }
    }
}

impl Held {
    /// Keeps `bytes`, at most [`HELD_MAX`].
    fn keep(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }

    /// Moves what is kept to the beginning of `buffer`, and says how much that was.
    fn release(&mut self, buffer: &mut [u8]) -> usize {
        let len = std::mem::take(&mut self.len);
        buffer[..len].copy_from_slice(&self.bytes[..len]);
        len
    }
}

/// What the bytes at the beginning of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// A CONNECT, which begins here.
    Connect(usize),
    /// What may become one; it begins here.
    Unclear(usize),
    /// Something else.
    Other,
}

/// Stands in the place of `c->recv`.
pub unsafe extern "C" fn receive(c: *mut ngx_connection_t, buf: *mut u8, size: usize) -> isize {
    // SAFETY: nginx calls it with an open connection, and with room for `size` bytes. No other
    // reference to the hook is in use.
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

        restore::watch_log(c, hook);

        let buffer = std::slice::from_raw_parts_mut(buf, size);
        let proxy_protocol = (*(*c).data.cast::<ngx_http_connection_t>()).proxy_protocol() != 0;

        begin(hook, buffer, proxy_protocol, |rest| {
            own(c, rest.as_mut_ptr(), rest.len())
        })
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
                buffer[at..at + METHOD.len()].copy_from_slice(DISGUISE);
                hook.disguised = true;
                return len as isize;
            }
            Beginning::Unclear(at) if at > 0 && proxy_protocol => {
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
            buffer[at..at + METHOD.len()].copy_from_slice(DISGUISE);
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

fn beginning(bytes: &[u8], proxy_protocol: bool) -> Beginning {
    let header = if proxy_protocol {
        proxy_header(bytes)
    } else {
        0
    };
    let request = &bytes[header..];

    // nginx skips empty lines before a request.
    let blank = request
        .iter()
        .take_while(|&&byte| byte == b'\r' || byte == b'\n')
        .count();
    let line = &request[blank..];

    if line.starts_with(METHOD) {
        Beginning::Connect(header + blank)
    } else if !request.is_empty() && METHOD.starts_with(line) && request.len() <= HELD_MAX {
        Beginning::Unclear(header)
    } else {
        Beginning::Other
    }
}

/// The length of a PROXY protocol header; 0 when it is not whole, which nginx refuses.
fn proxy_header(bytes: &[u8]) -> usize {
    if let Some(rest) = bytes.strip_prefix(PROXY_V2) {
        let [_, _, high, low, ..] = rest else {
            return 0;
        };

        let len = PROXY_V2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low]));
        return if len <= bytes.len() { len } else { 0 };
    }

    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) if bytes.starts_with(b"PROXY ") => end + 1,
        _ => 0,
    }
}
