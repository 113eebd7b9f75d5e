//! Owns which credentials stand in a request's header. While access is decided they are those for the proxy,
//! in the place of the origin's, and so they are in what `auth_request` sends. The content that a request gets
//! which is no CONNECT may be the origin's: it sees the client's credentials for that, and no others.
//! `$remote_user` and the access log know the proxy's user throughout.

use std::collections::TryReserveError;

use nginx_sys::{ngx_cycle_t, ngx_http_phase_handler_t, ngx_http_request_t, ngx_int_t};
use proxy_connect_core::credentials::{
    for_proxy, Audience, Duplicate, AUTHORIZATION, AUTHORIZATION_LOWER,
};

use super::{Access, Auth};
use crate::admit::checker::{guarded, replace, Checker};
use crate::ffi::fields::{named, Entry, Field};
use crate::ffi::phase::{PhaseHandler, Verdict};
use crate::ffi::request::Request;
use crate::ffi::{bytes, code};

/// The credentials of a request.
pub struct Credentials {
    for_proxy: Option<Entry>,
    for_origin: Vec<Entry>,
}

/// Why the credentials can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// There are two for the proxy.
    Duplicate,
    /// There is no memory.
    NoMemory,
}

impl From<Duplicate> for TakeError {
    fn from(_: Duplicate) -> Self {
        Self::Duplicate
    }
}

impl From<TryReserveError> for TakeError {
    fn from(_: TryReserveError) -> Self {
        Self::NoMemory
    }
}

impl Credentials {
    /// Puts the credentials for the proxy in the place of those for the origin, or nothing where there are
    /// none.
    pub fn take(request: Request) -> Result<Self, TakeError> {
        let fields = request.fields();
        let is_of = |field: &Field, audience| Audience::of(field.name()) == Some(audience);

        let for_proxy = for_proxy(fields.iter(), |field| field.name())?
            .map(|field| named(field.entry(), AUTHORIZATION, AUTHORIZATION_LOWER));

        let mut for_origin = Vec::new();

        for field in fields.iter().filter(|field| is_of(field, Audience::Origin)) {
            for_origin.try_reserve(1)?;
            for_origin.push(field.entry());
        }

        if for_proxy.is_some() || !for_origin.is_empty() {
            request
                .replace_fields(|field| Audience::of(field.name()).is_none(), for_proxy.as_slice())
                .ok_or(TakeError::NoMemory)?;
        }

        request.set_credentials(for_proxy).ok_or(TakeError::NoMemory)?;

        Ok(Self { for_proxy, for_origin })
    }

    /// The value of those for the proxy. It lives as long as the request.
    pub fn for_proxy<'a>(&self) -> Option<&'a [u8]> {
        // SAFETY: the texts of an entry lie in the request's pool.
        self.for_proxy.as_ref().map(|entry| unsafe { bytes(entry.value) })
    }

    /// Has the header show those for the origin. `None` without memory.
    fn show_for_origin(&self, request: Request) -> Option<()> {
        self.show(request, self.for_proxy.as_slice(), &self.for_origin)
    }

    /// Has the header show those for the proxy. `None` without memory.
    fn show_for_proxy(&self, request: Request) -> Option<()> {
        self.show(request, &self.for_origin, self.for_proxy.as_slice())
    }

    /// What another module has put there stays.
    fn show(&self, request: Request, hidden: &[Entry], shown: &[Entry]) -> Option<()> {
        if self.for_proxy.is_none() && self.for_origin.is_empty() {
            return Some(());
        }

        let stays = |field: Field| !hidden.iter().chain(shown).any(|entry| field.is_copy_of(entry));

        let is_taken = request
            .fields()
            .iter()
            .any(|field| stays(field) && Audience::of(field.name()) == Some(Audience::Origin));

        request.replace_fields(stays, if is_taken { &[] } else { shown })
    }
}

/// Those for the proxy that stand in the header as the client sent it. They live as long as the request.
///
/// # Errors
///
/// [`Duplicate`] where there are two.
pub fn find<'a>(request: Request) -> Result<Option<&'a [u8]>, Duplicate> {
    let field = for_proxy(request.fields().iter(), |field| field.name())?;
    // SAFETY: the texts of a field lie in the request's pool.
    Ok(field.map(|field| unsafe { bytes(field.entry().value) }))
}

/// Stands before the access phase: a request that an internal redirect brought here is judged again.
pub struct BeforeAccess;

impl PhaseHandler for BeforeAccess {
    fn handle(request: Request) -> Verdict {
        let shown = match Auth::of(request).filter(|auth| !auth.is_connect) {
            Some(auth) if request.is_redirected() => auth.credentials.show_for_proxy(request),
            _ => Some(()),
        };

        match shown {
            Some(()) => Verdict::Decline,
            None => Verdict::Refuse(500),
        }
    }
}

/// Lets the request have its content. `None` without memory.
pub fn grant(request: Request) -> Option<()> {
    let Some(auth) = Auth::of(request).filter(|auth| !auth.is_connect) else {
        return Some(());
    };

    if auth.access.get() == Access::Pending {
        auth.access.set(match request.is_error_page() {
            true => Access::Refused,
            false => Access::Granted,
        });
    }

    auth.credentials.show_for_origin(request)
}

/// The core's checker of the content phase.
const CORE: Checker = nginx_sys::ngx_http_core_content_phase;

const FAILED: ngx_int_t = nginx_sys::NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// Has requests that get their content be granted it where handlers in front of the content are ones of the
/// content phase, which does not ask them where a location has a handler of its own. `None` when there is no `http` block.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn watch_content(cycle: *mut ngx_cycle_t) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe { replace(cycle, CORE, content) }
}

unsafe extern "C" fn content(
    r: *mut ngx_http_request_t,
    ph: *mut ngx_http_phase_handler_t,
) -> ngx_int_t {
    // SAFETY: nginx calls a checker with a live request and its place in the phases.
    unsafe {
        guarded(r, || match Request::from_ptr(r).and_then(grant) {
            Some(()) => CORE(r, ph),
            None => {
                nginx_sys::ngx_http_finalize_request(r, FAILED);
                code::OK
            }
        })
    }
}
