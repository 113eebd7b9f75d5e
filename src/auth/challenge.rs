//! Owns the answer that asks for credentials for the proxy: 407 in the place of 401 (RFC 9110, section
//! 15.5.8), its fields, its page, and whether the connection is kept for the next attempt.

use proxy_connect_core::credentials::{
    is_challenge, is_proxy_challenge, PROXY_AUTHENTICATE, PROXY_AUTHENTICATE_LOWER,
};
use proxy_connect_core::page;

use super::{Access, Auth};
use crate::ffi::client::Client;
use crate::ffi::fields::Field;
use crate::ffi::filter::{Body, Buffer, Buffers, Filter, Header};
use crate::ffi::request::Request;

const UNAUTHORIZED: u16 = 401;
const PROXY_AUTHENTICATION: u16 = 407;

/// The filter of all answers.
pub struct Challenge;

impl Filter for Challenge {
    fn header(request: Request) -> Header {
        let Some(auth) = Auth::of(request) else {
            return Header::Pass;
        };

        let status = request.answer_status();

        if !auth.asks_for_credentials(status) {
            if auth.is_connect {
                request.forbid_keepalive();
            }

            return Header::Pass;
        }

        request.answer_with(PROXY_AUTHENTICATION, page::STATUS_LINE);
        rename_challenges(request);
        auth.is_challenged.set(true);

        if auth.is_connect {
            keep_connection(request, auth);
        }

        if status == UNAUTHORIZED && request.may_have_own_page() {
            auth.is_held.set(true);
            return Header::Hold;
        }

        Header::Pass
    }

    fn body(request: Request, buffers: Buffers) -> Option<Body> {
        if !Auth::of(request).is_some_and(|auth| auth.is_held.replace(false)) {
            return Some(Body::Pass);
        }

        // Tengine has the document's type in a buffer of its own.
        for buffer in buffers.take(2).filter(Buffer::is_constant) {
            replace_page(request, buffer)?;
        }

        Some(Body::Release)
    }
}

/// Looks at the header of an answer once more before it is written: others have added fields of their own.
pub fn finish(request: Request) {
    if Auth::of(request).is_some_and(|auth| auth.is_challenged.get()) {
        rename_challenges(request);
    }
}

impl Auth {
    /// Whether an answer asks for credentials. One of the origin asks for the origin's.
    fn asks_for_credentials(&self, status: u16) -> bool {
        let is_challenge = status == UNAUTHORIZED || status == PROXY_AUTHENTICATION;
        is_challenge && self.access.get() != Access::Granted
    }
}

/// Has all challenges be the proxy's, each once.
fn rename_challenges(request: Request) {
    let fields = request.answer_fields();

    for field in fields.iter().filter(|field| is_challenge(field.name())) {
        let is_same =
            |other: &Field| is_proxy_challenge(other.name()) && other.value() == field.value();

        if fields.iter().any(|other| is_same(&other)) {
            field.take_away();
        } else {
            field.rename(PROXY_AUTHENTICATE, PROXY_AUTHENTICATE_LOWER);
        }
    }
}

/// Keeps the connection for the next attempt, unless the client has sent something meanwhile: that may be for
/// the tunnel that it hoped for, and must not be read as a request.
fn keep_connection(request: Request, auth: &Auth) {
    let is_quiet = Client::of(request).is_some_and(Client::is_quiet) && !request.has_early_bytes();

    if is_quiet && request.is_keepalive() {
        auth.is_kept.set(true);
    } else {
        request.forbid_keepalive();
    }
}

/// Has nginx's own page say 407. `None` without memory.
fn replace_page(request: Request, buffer: Buffer) -> Option<()> {
    let own = buffer.bytes();

    if let Some(made) = page::for_proxy(own).ok()? {
        let more = made.len() - own.len();
        buffer.set(request.pool().copy(&made)?);
        request.lengthen_answer(more);
    }

    Some(())
}
