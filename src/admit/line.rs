//! Owns the request line of a CONNECT: what it names is judged here, once, in time for nginx to choose the
//! server by it. All that comes later sees this one form of it.

use proxy_connect_core::target::{self, Authority, AuthorityError};

use super::uri;
use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::request::Request;
use crate::ffi::str_of;

/// What a request line names, in the request's pool.
enum Judged {
    Authority(Authority<'static>),
    Nothing(AuthorityError),
}

/// Judges the request line of a CONNECT that the core has read but not used yet. Answers whether nginx
/// may go on with it: else the request is not worth more of its header, and [`authority`] tells why.
pub fn judge(request: Request, line: &[u8]) -> bool {
    uri::clear(request);

    let judged = match read(request, line) {
        Some(Ok(authority)) => {
            choose_server(request, &authority);
            Judged::Authority(authority)
        }
        Some(Err(error)) => Judged::Nothing(error),
        None => return false,
    };

    let goes_on = matches!(judged, Judged::Authority(_));
    request.pool().put(judged).is_some() && goes_on
}

/// `None` when there is no memory.
fn read(request: Request, line: &[u8]) -> Option<Result<Authority<'static>, AuthorityError>> {
    let text = match target::read_line(line) {
        Ok(text) => text,
        Err(error) => return Some(Err(error)),
    };

    let authority = text.at(request.pool().copy(text.as_bytes())?);

    if authority.has_literal() && !is_ipv6(request, authority.bare_host()) {
        return Some(Err(AuthorityError::InvalidLiteral));
    }

    Some(Ok(authority))
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

/// What a CONNECT, or the CONNECT that a subrequest came from, names. `None` where it was not judged: it
/// is no CONNECT, or there was no memory.
pub fn authority(request: &Request) -> Option<Result<Authority<'_>, AuthorityError>> {
    let judged = request.main().pool().find::<Judged>()?;

    // SAFETY: judge() put it into the request's pool.
    match unsafe { judged.as_ref() } {
        Judged::Authority(authority) => Some(Ok(*authority)),
        Judged::Nothing(error) => Some(Err(*error)),
    }
}
