//! Owns look-ups of names, with the context of today's nginx: it says whether the answer came at once
//! (`async_`, since 1.13.8), and its addresses are socket addresses (since 1.5.8).

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

use crate::bindings::{self as raw, *};

/// A look-up.
#[allow(non_camel_case_types)]
pub struct ngx_resolver_ctx_t {
    /// The name; nginx keeps a pointer to it.
    pub name: ngx_str_t,
    /// Who gets the answer.
    pub handler: Option<unsafe extern "C" fn(*mut ngx_resolver_ctx_t)>,
    /// Theirs.
    pub data: *mut c_void,
    /// How long it may take.
    pub timeout: ngx_msec_t,
    /// 0, or why there is no answer.
    pub state: ngx_int_t,
    /// How many addresses there are.
    pub naddrs: ngx_uint_t,
    /// The addresses.
    pub addrs: *mut ngx_addr_t,
    raw: *mut raw::ngx_resolver_ctx_t,
    /// What `addrs` points to.
    list: Vec<ngx_addr_t>,
    /// What the list points to, where nginx itself has no socket addresses.
    #[cfg(resolver = "ipv4")]
    converted: Vec<libc::sockaddr_in>,
}

impl ngx_resolver_ctx_t {
    /// Whether the answer did not come at once.
    pub fn async_(&self) -> u32 {
        u32::from(!ptr::eq(STARTING.get(), self))
    }
}

/// Begins a look-up: null without memory, `NGX_NO_RESOLVER` without a resolver.
///
/// # Safety
///
/// A resolver of the running cycle.
pub unsafe fn ngx_resolve_start(
    resolver: *mut ngx_resolver_t,
    _: *mut ngx_resolver_ctx_t,
) -> *mut ngx_resolver_ctx_t {
    // SAFETY: the caller's promise.
    let raw = unsafe { raw::ngx_resolve_start(resolver, ptr::null_mut()) };

    if raw.is_null() || raw.addr() == usize::MAX {
        return raw.cast();
    }

    Box::into_raw(Box::new(ngx_resolver_ctx_t {
        name: ngx_str_t::empty(),
        handler: None,
        data: ptr::null_mut(),
        timeout: 0,
        state: 0,
        naddrs: 0,
        addrs: ptr::null_mut(),
        raw,
        list: Vec::new(),
        #[cfg(resolver = "ipv4")]
        converted: Vec::new(),
    }))
}

/// Asks for the name. Where that fails the context is gone.
///
/// # Safety
///
/// A context that was filled in.
pub unsafe fn ngx_resolve_name(ctx: *mut ngx_resolver_ctx_t) -> ngx_int_t {
    // SAFETY: a context of ngx_resolve_start(). It is gone when the answer came at once:
    // whoever is answered ends the look-up.
    unsafe {
        let raw = (*ctx).raw;
        (*raw).name = (*ctx).name;
        (*raw).handler = Some(answered);
        (*raw).data = ctx.cast();
        (*raw).timeout = (*ctx).timeout;
        #[cfg(resolver = "ipv4")]
        as_today(&mut *raw);

        STARTING.set(ctx);
        let rc = raw::ngx_resolve_name(raw);
        STARTING.set(ptr::null_mut());

        if rc != NGX_OK as ngx_int_t {
            drop(Box::from_raw(ctx));
        }

        rc
    }
}

/// Does what a later nginx does by itself: asks for addresses, and for a name without a dot at its
/// end.
///
/// # Safety
///
/// A context with a name.
#[cfg(resolver = "ipv4")]
unsafe fn as_today(raw: &mut raw::ngx_resolver_ctx_t) {
    raw.type_ = NGX_RESOLVE_A as ngx_int_t;

    // SAFETY: a name has as many bytes as it says.
    if raw.name.len > 0 && unsafe { *raw.name.data.add(raw.name.len - 1) } == b'.' {
        raw.name.len -= 1;
    }
}

thread_local! {
    /// The look-up that is being started.
    static STARTING: Cell<*mut ngx_resolver_ctx_t> = const { Cell::new(ptr::null_mut()) };
}

/// Ends a look-up, answered or not.
///
/// # Safety
///
/// A context that was not ended.
pub unsafe fn ngx_resolve_name_done(ctx: *mut ngx_resolver_ctx_t) {
    // SAFETY: the caller's promise.
    unsafe {
        raw::ngx_resolve_name_done((*ctx).raw);
        drop(Box::from_raw(ctx));
    }
}

unsafe extern "C" fn answered(raw: *mut raw::ngx_resolver_ctx_t) {
    // SAFETY: nginx answers a look-up with its own context, whose data is ours.
    unsafe {
        let ctx = (*raw).data.cast::<ngx_resolver_ctx_t>();
        (*ctx).state = (*raw).state;
        (*ctx).naddrs = (*raw).naddrs;

        if (*ctx).state == 0 {
            (*ctx).copy(&*raw);
        }

        if let Some(handler) = (*ctx).handler {
            handler(ctx);
        }
    }
}

impl ngx_resolver_ctx_t {
    /// # Safety
    ///
    /// The context of an answer.
    unsafe fn copy(&mut self, raw: &raw::ngx_resolver_ctx_t) {
        if raw.naddrs > 0 {
            // SAFETY: nginx filled `naddrs` addresses.
            self.list(unsafe { std::slice::from_raw_parts(raw.addrs, raw.naddrs) });
        }

        self.addrs = self.list.as_mut_ptr();
    }

    #[cfg(not(resolver = "ipv4"))]
    fn list(&mut self, found: &[Found]) {
        self.list = found.iter().map(|found| addr(found.sockaddr, found.socklen)).collect();
    }

    #[cfg(resolver = "ipv4")]
    fn list(&mut self, found: &[Found]) {
        self.converted = found.iter().map(|&found| with_family(found)).collect();
        let len = size_of::<libc::sockaddr_in>() as socklen_t;
        self.list = self.converted.iter_mut().map(|at| addr((&raw mut *at).cast(), len)).collect();
    }
}

fn addr(sockaddr: *mut sockaddr, socklen: socklen_t) -> ngx_addr_t {
    ngx_addr_t { sockaddr, socklen, name: ngx_str_t::empty() }
}

#[cfg(resolver = "ipv4")]
fn with_family(found: Found) -> libc::sockaddr_in {
    // SAFETY: zeroes are a sockaddr_in.
    let mut addr: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    addr.sin_family = libc::AF_INET as libc::sa_family_t;
    addr.sin_addr.s_addr = found;
    addr
}

#[cfg(resolver = "ipv4")]
type Found = in_addr_t;
#[cfg(all(not(resolver = "ipv4"), lacks = "ngx_resolver_addr_t"))]
type Found = ngx_addr_t;
#[cfg(all(not(resolver = "ipv4"), not(lacks = "ngx_resolver_addr_t")))]
type Found = ngx_resolver_addr_t;
