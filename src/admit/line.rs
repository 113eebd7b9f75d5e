//! Owns the request line of a CONNECT: what it names is judged here, once, in time for nginx to choose the
//! server by it. All that comes later sees this one form of it.

use std::ptr::NonNull;

use proxy_connect_core::target::{self, Authority, AuthorityError};

use super::uri;
use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::request::Request;
use crate::ffi::{bytes, str_of};

/// What a request line names, in the request's pool.
enum Judged {
    Authority(Authority<'static>),
    Nothing(AuthorityError),
}

/// Judges the request line of a CONNECT that the core has read but not used yet. Answers whether nginx
/// may go on with it: else the request is not worth more of its header, and [`authority`] tells why.
pub fn judge(request: Request, line: &[u8]) -> bool {
    uri::clear(request);

    let Some(judged) = read(request, line) else {
        return false;
    };

    if let Judged::Authority(authority) = &judged {
        choose_server(request, authority);
    }

    let goes_on = matches!(judged, Judged::Authority(_));
    request.pool().put(judged).is_some() && goes_on
}

/// `None` when there is no memory.
fn read(request: Request, line: &[u8]) -> Option<Judged> {
    let text = match target::read_line(line) {
        Ok(text) => text,
        Err(error) => return Some(Judged::Nothing(error)),
    };

    let authority = text.at(request.pool().copy(text.as_bytes())?);

    if authority.has_literal() && !is_ipv6(request, authority.bare_host()) {
        return Some(Judged::Nothing(AuthorityError::InvalidLiteral));
    }

    Some(Judged::Authority(authority))
}

fn is_ipv6(request: Request, text: &[u8]) -> bool {
    let addr = Addr::parse_ip(request.pool(), text, 0);
    addr.is_some_and(|addr| addr.is_ipv6())
}

/// Has the core choose the server by the authority, as by that of an absolute-form, or stay with the one
/// that the connection has: `proxy_connect_server`.
fn choose_server(request: Request, authority: &Authority<'static>) {
    let stays = ServerConf::of(&request).is_some_and(ServerConf::is_of_connection);

    // SAFETY: a live request of whose line the core has not looked at these fields yet; the text lives
    // as long as the request.
    unsafe {
        let r = request.as_ptr();

        if stays {
            (*r).headers_in.server = str_of(authority.host());

            #[cfg(request_port)]
            {
                (*r).port = authority.port();
            }
        } else {
            let text = authority.text().as_ptr_range();
            (*r).host_start = text.start.cast_mut();
            (*r).host_end = text.end.cast_mut();
        }
    }
}

/// What a CONNECT, or the CONNECT that a subrequest came from, names. `None` where there is no CONNECT, or no
/// memory.
pub fn authority(request: &Request) -> Option<Result<Authority<'_>, AuthorityError>> {
    let main = request.main();
    let judged = main.pool().find::<Judged>().or_else(|| judge_anothers(main))?;

    // SAFETY: it lies in the request's pool.
    match unsafe { judged.as_ref() } {
        Judged::Authority(authority) => Some(Ok(*authority)),
        Judged::Nothing(error) => Some(Err(*error)),
    }
}

/// Judges what a core has let through by itself, for another module: where nobody else wants CONNECT, it is
/// left to the core.
fn judge_anothers(request: Request) -> Option<NonNull<Judged>> {
    // SAFETY: the core points the line into the header buffer, which lives as long as the request.
    let line = unsafe { bytes(request.raw().request_line) };

    if line.is_empty() || !request.is_connect() || !request.has_request_line() {
        return None;
    }

    request.pool().put(read(request, line)?)
}
