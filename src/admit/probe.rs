//! Owns asking the core that loads the module what its parser makes of authority-form. nginx's
//! signature of a module does not tell a patched core from a stock one, and a request of the one
//! is not a request of the other.

use std::mem::MaybeUninit;

use nginx_sys::{ngx_buf_t, ngx_connection_t, ngx_http_request_t};

use crate::ffi::code;
use crate::ffi::log::Log;

/// What the parser is shown.
const LINE: &[u8] = b"CONNECT a:1 HTTP/1.1\r\n";

/// How many bytes longer the core's request may be than the one that the module was built for.
const ROOM: usize = 1024;

/// A request with room behind it, for a core that has more fields.
#[repr(C)]
struct Roomy {
    request: ngx_http_request_t,
    room: [u8; ROOM],
}

/// Whether the core has the fields of a patch, and where the module expects them.
#[cfg(any(admit = "patched", core_patch = "another"))]
pub fn has_fields() -> bool {
    parse(|request, line| {
        let host = request.connect_host_start.cast_const();
        let end = request.connect_host_end.cast_const();

        host == line[8..].as_ptr() && end == line[9..].as_ptr()
    })
    .unwrap_or(false)
}

/// Has the core's parser read a line of authority-form. `None` when it refuses the line; `look`
/// sees the request and the line that it took.
pub fn parse<T>(look: impl FnOnce(&ngx_http_request_t, &[u8]) -> T) -> Option<T> {
    // On the heap: a core that writes behind its own idea of a request must not reach the stack.
    let mut roomy = Box::new(MaybeUninit::<Roomy>::zeroed());
    let mut line = LINE.to_vec();
    let bytes = line.as_mut_ptr_range();

    // SAFETY: all-zero bytes are a request that nothing was read of, a connection and a buffer. The
    // parser keeps to the buffer's bytes, to fields of the request, and to the connection's log.
    unsafe {
        let mut connection = MaybeUninit::<ngx_connection_t>::zeroed().assume_init();
        connection.log = Log::of_cycle().as_ptr();

        let mut buffer = MaybeUninit::<ngx_buf_t>::zeroed().assume_init();
        (buffer.start, buffer.pos) = (bytes.start, bytes.start);
        (buffer.last, buffer.end) = (bytes.end, bytes.end);

        let request = roomy.as_mut_ptr().cast::<ngx_http_request_t>();
        (*request).connection = &mut connection;
        let answer = nginx_sys::ngx_http_parse_request_line(request, &mut buffer);

        (answer == code::OK).then(|| look(&*request, &line))
    }
}
