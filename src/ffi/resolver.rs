//! Owns a running look-up of nginx's resolver. A look-up that is dropped is cancelled.

use std::collections::TryReserveError;

use nginx_sys::{ngx_msec_t, ngx_resolver_ctx_t, ngx_resolver_t};

use super::addr::Addr;
use super::boundary::guard;
use super::event::{Event, EventHandler};
use super::request::Request;
use super::{boxed, code, list_of, str_of};

/// What a look-up found: the addresses of a name in the resolver's rotation, without ports.
pub type Answer = Result<Vec<Addr>, ResolveError>;

/// Why a name has no addresses.
#[derive(Clone, Debug)]
pub struct ResolveError {
    /// nginx's number for it: an RCODE, or `NGX_RESOLVE_TIMEDOUT`.
    pub state: i32,
    /// nginx's words for it.
    pub words: String,
}

/// A look-up that runs, or has just got its answer. Its address is known to nginx, so it lives
/// in a box.
pub struct Lookup {
    ctx: *mut ngx_resolver_ctx_t,
    /// nginx keeps a pointer to the name, and changes it to lower case.
    name: Vec<u8>,
    answer: Option<Answer>,
    request: Request,
}

/// A look-up that could not begin.
#[derive(Clone, Copy, Debug)]
pub enum StartError {
    /// There is no `resolver` directive in force.
    NoResolver,
    /// No memory, or no socket.
    Failed,
}

impl ResolveError {
    /// What stands in place of an answer that a panic took.
    fn bug() -> Self {
        Self { state: -1, words: "a bug of the module".into() }
    }

    /// Whether `resolver_timeout` passed without an answer.
    pub fn is_timeout(&self) -> bool {
        self.state == nginx_sys::NGX_RESOLVE_TIMEDOUT as i32
    }
}

impl Lookup {
    /// Asks the resolver in force for `request` about `name`. The answer may be there at once;
    /// `H` hears of it only when it is not.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the look-up could not begin.
    pub fn start<H: EventHandler>(request: Request, name: &[u8]) -> Result<Box<Self>, StartError> {
        let (resolver, timeout) = resolver_of(request).ok_or(StartError::NoResolver)?;

        // SAFETY: a resolver of the running cycle; null asks for a look-up by name.
        let ctx = unsafe { nginx_sys::ngx_resolve_start(resolver, std::ptr::null_mut()) };

        // NGX_NO_RESOLVER is ((void *) -1).
        if ctx.addr() == usize::MAX {
            return Err(StartError::NoResolver);
        }

        if ctx.is_null() {
            return Err(StartError::Failed);
        }

        // Without a name or a box the context goes with the look-up that is dropped.
        let lookup = Self { ctx, name: Vec::new(), answer: None, request };
        let mut lookup = boxed(lookup).ok_or(StartError::Failed)?;
        lookup.name = list_of(name).map_err(|_| StartError::Failed)?;

        // SAFETY: a fresh context; the look-up is boxed, so that the name and the data pointer
        // stay where they are. Dropping the look-up cancels it.
        let rc = unsafe {
            (*ctx).name = str_of(&lookup.name);
            (*ctx).handler = Some(on_answer::<H>);
            (*ctx).data = std::ptr::from_mut(lookup.as_mut()).cast();
            (*ctx).timeout = timeout;
            nginx_sys::ngx_resolve_name(ctx)
        };

        if rc != code::OK {
            // nginx freed the context itself.
            lookup.ctx = std::ptr::null_mut();
            return Err(StartError::Failed);
        }

        Ok(lookup)
    }

    /// The name that is looked up.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The answer, once it is there.
    pub fn take(&mut self) -> Option<Answer> {
        self.answer.take()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if !self.ctx.is_null() {
            // SAFETY: a context that nginx did not answer yet, and that only this value owns.
            unsafe { nginx_sys::ngx_resolve_name_done(self.ctx) };
        }
    }
}

fn resolver_of(request: Request) -> Option<(*mut ngx_resolver_t, ngx_msec_t)> {
    let conf = request.core_conf()?;
    (!conf.resolver.is_null()).then_some((conf.resolver, conf.resolver_timeout))
}

unsafe extern "C" fn on_answer<H: EventHandler>(ctx: *mut ngx_resolver_ctx_t) {
    // SAFETY: nginx answers once, for a context that start() made, while its look-up, and so the
    // request, lives. The context is ours to end, and its addresses are copied before.
    let (request, waited) = unsafe {
        let lookup = (*ctx).data.cast::<Lookup>();
        let (request, waited) = ((*lookup).request, (*ctx).async_() != 0);
        let log = request.connection().log();

        let answer = guard(log, || answer_of(&*ctx), || Err(ResolveError::bug()));
        (*lookup).answer = Some(answer);
        (*lookup).ctx = std::ptr::null_mut();

        nginx_sys::ngx_resolve_name_done(ctx);
        (request, waited)
    };

    // Without a wait, start() is still running: it returns the answer.
    if waited {
        request.run(H::handle, Event::Resolved);
    }
}

/// # Safety
///
/// `ctx` must be a context that nginx has just answered.
unsafe fn answer_of(ctx: &ngx_resolver_ctx_t) -> Answer {
    let state = ctx.state as i32;

    if state != 0 {
        return Err(ResolveError { state, words: words(state) });
    }

    // SAFETY: the caller's promise.
    unsafe { addresses(ctx) }
        .map_err(|_| ResolveError { state: libc::ENOMEM, words: "no memory".into() })
}

/// # Safety
///
/// As for [`answer_of`].
unsafe fn addresses(ctx: &ngx_resolver_ctx_t) -> Result<Vec<Addr>, TryReserveError> {
    let mut addresses = Vec::new();
    addresses.try_reserve_exact(ctx.naddrs)?;

    for i in 0..ctx.naddrs {
        // SAFETY: nginx filled `naddrs` addresses.
        let addr = unsafe {
            let found = &*ctx.addrs.add(i);
            Addr::copy(found.sockaddr, found.socklen)
        };

        addresses.extend(addr);
    }

    Ok(addresses)
}

fn words(state: i32) -> String {
    // SAFETY: nginx answers any number with a C string that lives forever.
    unsafe { std::ffi::CStr::from_ptr(nginx_sys::ngx_resolver_strerror(state as isize)) }
        .to_string_lossy()
        .into_owned()
}
