//! Owns the request line of a CONNECT: what it names is judged here, once, in time for nginx to choose the
//! server by it. All that comes later sees this one form of it.

use std::cell::Cell;
use std::ptr::NonNull;

use ngx::http::{HttpModuleServerConf, NgxHttpCoreModule};
use proxy_connect_core::http2::fields::SectionError as Complaint;
#[cfg(http2)]
use proxy_connect_core::http2::incoming::Connect;
use proxy_connect_core::target::{self, Authority, AuthorityError};

use super::uri;
use crate::conf::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::request::Request;
use crate::ffi::{bytes, str_of};

/// What a request line names, in the request's pool.
struct Judged {
    named: Result<Authority<'static>, Complaint>,
    /// It announces a body of which nginx knows nothing.
    has_hidden_body: bool,
    /// The log was told what is wrong with it.
    is_told: Cell<bool>,
}

/// The length of "CONNECT".
#[cfg(http2)]
const METHOD_LEN: usize = 7;

/// The name of a server that has none, for a request that names none.
static NOBODY: [u8; 1] = *b"-";

/// Judges the request line of a CONNECT that the core has read but not used yet. Of one that names nothing,
/// or has no memory, [`authority`] tells when its header is read.
pub fn judge(request: Request, line: &[u8]) {
    uri::clear(request);

    let judged = read(request, line);

    match judged.as_ref().map(|judged| judged.named) {
        Some(Ok(authority)) => choose_server(request, &authority),
        _ => keep_server(request),
    }

    if let Some(judged) = judged {
        let _ = request.pool().put(judged);
    }
}

/// Notes what a CONNECT over a stream names, for which the core has chosen the server already, and has it look
/// like one of a request line in variables and logs. Of one that names nothing [`authority`] tells.
#[cfg(http2)]
pub fn judge_stream(request: Request, connect: &Connect) {
    uri::forget(request);
    note_line(request, &connect.authority);

    let named = match &connect.named {
        Ok(text) => request.pool().copy(text.as_bytes()).map(|place| {
            let place: &'static [u8] = place;
            check_literal(request, text.at(place))
        }),
        Err(error) => Some(Err(*error)),
    };

    match named {
        Some(Ok(authority)) => set_host(request, &authority),
        _ => keep_server(request),
    }

    if let Some(named) = named {
        let has_hidden_body = connect.has_body;
        let _ = request.pool().put(Judged { named, has_hidden_body, is_told: Cell::new(false) });
    }
}

/// Has the request line be what that of HTTP/1 would be.
#[cfg(http2)]
fn note_line(request: Request, authority: &[u8]) {
    let authority = if authority.is_empty() { &NOBODY } else { authority };

    let Some(line) = request.pool().join(&[b"CONNECT ", authority, b" HTTP/2.0"]) else {
        return;
    };

    // SAFETY: a live request before its phases, to which no reference is held.
    unsafe {
        let r = request.as_ptr();
        (*r).request_line = str_of(line);
        (*r).method_name = str_of(&line[..METHOD_LEN]);
    }
}

/// Has the core know the host, where it was shown another for the sake of the server.
#[cfg(http2)]
fn set_host(request: Request, authority: &Authority<'static>) {
    // SAFETY: a live request before its phases, to which no reference is held; the text lives as long.
    unsafe {
        let r = request.as_ptr();
        (*r).headers_in.server = str_of(authority.host());

        #[cfg(request_port)]
        {
            (*r).port = authority.port();
        }

        if let Some(host) = (*r).headers_in.host.as_mut() {
            host.value = str_of(authority.text());
        }
    }
}

/// `None` when there is no memory.
fn read(request: Request, line: &[u8]) -> Option<Judged> {
    let named = match target::read_line(line) {
        Ok(text) => check_literal(request, text.at(request.pool().copy(text.as_bytes())?)),
        Err(error) => Err(error.into()),
    };

    Some(Judged { named, has_hidden_body: false, is_told: Cell::new(false) })
}

fn check_literal(
    request: Request,
    authority: Authority<'static>,
) -> Result<Authority<'static>, Complaint> {
    if authority.has_literal() && !is_ipv6(request, authority.bare_host()) {
        return Err(AuthorityError::InvalidLiteral.into());
    }

    Ok(authority)
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

/// Has a request that names nothing stay with the server that the connection has: the Host header chooses
/// none either.
fn keep_server(request: Request) {
    let name = NgxHttpCoreModule::server_conf(request.raw())
        .map(|core| core.server_name)
        .filter(|name| name.len > 0)
        .unwrap_or(str_of(&NOBODY));

    // SAFETY: a live request, to which no reference is held; the name outlives it.
    unsafe {
        let headers = &mut (*request.as_ptr()).headers_in;
        headers.server = name;

        // A stream's is what was shown in place of an authority.
        if request.is_stream() {
            if let Some(host) = headers.host.as_mut() {
                host.value = name;
            }
        }
    }
}

/// Takes back the name of a server that has none.
pub fn forget_nobody(request: Request) {
    // SAFETY: a live request, to which no reference is held.
    unsafe {
        let server = &mut (*request.as_ptr()).headers_in.server;

        if std::ptr::eq(server.data, NOBODY.as_ptr()) {
            server.len = 0;
        }
    }
}

/// What a CONNECT, or the CONNECT that a subrequest came from, names. `None` where there is no CONNECT, or no
/// memory.
pub fn authority(request: &Request) -> Option<Result<Authority<'_>, Complaint>> {
    judged(request.main()).map(|judged| judged.named)
}

/// Whether a CONNECT announces a body, with a field that nginx was shown or was not.
pub fn announces_body(request: Request) -> bool {
    request.announces_body() || judged(request).is_some_and(|judged| judged.has_hidden_body)
}

/// What is wrong with the request line of a CONNECT that was judged, for the log, once.
pub fn take_complaint(request: Request) -> Option<Complaint> {
    let judged = judged(request)?;
    judged.named.err().filter(|_| !judged.is_told.replace(true))
}

fn judged<'a>(request: Request) -> Option<&'a Judged> {
    let judged = request.pool().find::<Judged>().or_else(|| judge_anothers(request))?;

    // SAFETY: it lies in the request's pool.
    Some(unsafe { judged.as_ref() })
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
