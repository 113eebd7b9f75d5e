//! Owns the wait of a CONNECT that came in early data of TLS 1.3 (RFC 8446, section 2.3). Whoever saw them on
//! their way can send them again, and a tunnel is nothing to repeat. So the CONNECT waits for the client's
//! Finished, which nobody else can send: one of the ways that RFC 8470, section 3, gives a server. It waits
//! in front of all that could ask somebody for it: names, upstreams, `auth_request`, the page of a refusal.
//! Then it goes on as any other, and what came with it goes first through the tunnel.

use std::cell::Cell;

use nginx_sys::{ngx_msec_t, NGX_LOG_INFO};
use ngx::http::{HttpModuleServerConf, NgxHttpCoreModule};

#[cfg(http2)]
use super::http2;
use crate::failure::Failure;
use crate::ffi::client::Client;
use crate::ffi::end::End;
use crate::ffi::event::{Alarm, Event, EventHandler};
use crate::ffi::handshake::{self, Handshake};
use crate::ffi::phase::Verdict;
use crate::ffi::request::Request;
use crate::ffi::socket::Socket;
#[cfg(http2)]
use crate::ffi::stream::http2::Stream;
use crate::ffi::timer::request::Timer;
use crate::ffi::tls;

/// What a CONNECT waits with, in the request's pool.
struct Wait {
    /// Says when the client had its time. `None` when the wait is over.
    timer: Cell<Option<Timer>>,
}

/// How far a CONNECT is with its wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Over,
}

/// What the phases have to do for a CONNECT whose handshake is not finished. `None` where it is: the
/// CONNECT goes on. It is asked again when the phases go on after a wait.
pub fn wait(request: Request) -> Option<Verdict> {
    let client = Client::of(request)?;

    let is_early = match client {
        Client::Socket(socket) => tls::awaits_finished(socket),
        #[cfg(http2)]
        Client::Stream(_) => tls::stream_awaits_finished(request),
    };

    if !is_early {
        return None;
    }

    let log = request.connection().log();
    log.set_action(c"SSL handshaking");

    let progress = go_on(request, client).and_then(|progress| match progress {
        Progress::Waiting => begin(request).map(|()| progress),
        Progress::Over => Ok(progress),
    });

    match progress {
        Ok(Progress::Waiting) => Some(Verdict::Wait),
        Ok(Progress::Over) => {
            log.clear_action();
            None
        }
        Err(failure) => {
            request.forbid_post_action();
            Some(Verdict::Refuse(failure.status()))
        }
    }
}

fn begin(request: Request) -> Result<(), Failure> {
    let timer = Timer::new::<Events>(request, Alarm::Handshake).ok_or(Failure::INTERNAL)?;
    timer.set(timeout(&request));

    let wait = Wait { timer: Cell::new(Some(timer)) };
    request.pool().put(wait).ok_or(Failure::INTERNAL)?;
    request.on_client_events::<Events>();

    Ok(())
}

/// How long the client may take: as long as with a header, in milliseconds.
fn timeout(request: &Request) -> ngx_msec_t {
    NgxHttpCoreModule::server_conf(request.raw()).map_or(0, |core| core.client_header_timeout)
}

/// The events of a CONNECT that waits.
struct Events;

impl EventHandler for Events {
    fn handle(request: Request, event: Event) {
        let Some(client) = Client::of(request) else {
            return;
        };

        let progress = match event {
            Event::Expired(_) => Err(time_out(request)),
            _ => go_on(request, client),
        };

        match progress {
            Ok(Progress::Waiting) => (),
            Ok(Progress::Over) => {
                end(request);
                request.connection().log().clear_action();
                request.resume_phases();
            }
            Err(failure) => {
                end(request);
                request.forbid_post_action();
                request.block_client_events();
                request.finalize(failure.status());
            }
        }
    }
}

/// All that comes before the Finished is early data, and belongs to the tunnel.
fn go_on(request: Request, client: Client) -> Result<Progress, Failure> {
    match client {
        Client::Socket(socket) => read(request, socket),
        #[cfg(http2)]
        Client::Stream(stream) => look(request, stream),
    }
}

/// Who reads for a request that has its connection for itself is the request.
fn read(request: Request, client: Socket) -> Result<Progress, Failure> {
    match handshake::go_on(request, client).map_err(|_| Failure::INTERNAL)? {
        Handshake::Finished => Ok(Progress::Over),
        Handshake::Failed => Err(leave(request)),
        Handshake::Pending => {
            client.watch(0).map(|()| Progress::Waiting).map_err(|_| Failure::INTERNAL)
        }
    }
}

/// Who reads for all streams of a connection tells when its handshake is finished.
#[cfg(http2)]
fn look(request: Request, stream: Stream) -> Result<Progress, Failure> {
    if stream.is_reset() {
        return Err(leave(request));
    }

    if !tls::stream_awaits_finished(request) {
        return Ok(Progress::Over);
    }

    http2::note_early(request);
    Ok(Progress::Waiting)
}

fn end(request: Request) {
    if let Some(wait) = request.pool().find::<Wait>() {
        // SAFETY: begin() put it into the request's pool.
        drop(unsafe { wait.as_ref() }.timer.take());
    }
}

/// nginx's own words for a client that is slow with its header.
fn time_out(request: Request) -> Failure {
    request.connection().log().write(
        NGX_LOG_INFO,
        libc::ETIMEDOUT,
        format_args!("client timed out"),
    );
    Failure::REQUEST_TIMEOUT
}

fn leave(request: Request) -> Failure {
    request.connection().log().write(
        NGX_LOG_INFO,
        0,
        format_args!("client prematurely closed connection"),
    );
    Failure::CLIENT_GONE
}
