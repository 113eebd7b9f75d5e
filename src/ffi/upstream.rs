//! Owns nginx's groups of servers, the `upstream {}` blocks: finding one, having its balancer choose a server,
//! and telling it what became of that; the states that `$upstream_addr` and its like tell; and which groups are those of
//! parents, with the states of their servers.

use std::ffi::{c_char, CStr};
use std::ptr::{null_mut, NonNull};

use libc::socklen_t;
use nginx_sys::{
    ngx_conf_t, ngx_http_request_t, ngx_http_upstream_srv_conf_t, ngx_http_upstream_t, ngx_int_t,
    ngx_msec_t, ngx_uint_t, off_t, sockaddr,
};
use proxy_connect_core::status::parents::{ServerStates, STATES};

use super::addr::Addr;
use super::bytes;
use super::code;
use super::conf::Conf;
use super::configured::Configured;
use super::request::Request;
use super::variable::NoMemory;

// src/ffi/upstream.c
extern "C" {
    fn proxy_connect_group_of_conf(
        cf: *mut ngx_conf_t,
        name: *const u8,
        len: usize,
    ) -> *mut ngx_http_upstream_srv_conf_t;
    fn proxy_connect_group_of_request(
        r: *mut ngx_http_request_t,
        name: *const u8,
        len: usize,
    ) -> *mut ngx_http_upstream_srv_conf_t;
    fn proxy_connect_group_begin(
        r: *mut ngx_http_request_t,
        uscf: *mut ngx_http_upstream_srv_conf_t,
        connect_timeout: ngx_msec_t,
        schema: *const c_char,
    ) -> *mut ngx_http_upstream_t;
    fn proxy_connect_group_get(
        r: *mut ngx_http_request_t,
        u: *mut ngx_http_upstream_t,
        sockaddr: *mut *mut sockaddr,
        socklen: *mut socklen_t,
    ) -> ngx_int_t;
    fn proxy_connect_group_tries(u: *mut ngx_http_upstream_t) -> ngx_uint_t;
    fn proxy_connect_group_free(u: *mut ngx_http_upstream_t, state: ngx_uint_t);
    fn proxy_connect_group_end(r: *mut ngx_http_request_t, u: *mut ngx_http_upstream_t);
    fn proxy_connect_group_states(
        uscf: *mut ngx_http_upstream_srv_conf_t,
        counts: *mut ngx_uint_t,
    ) -> ngx_int_t;
    fn proxy_connect_state_push(r: *mut ngx_http_request_t) -> ngx_int_t;
    fn proxy_connect_state_peer(
        r: *mut ngx_http_request_t,
        name: *const u8,
        len: usize,
    ) -> ngx_int_t;
    fn proxy_connect_state_connected(r: *mut ngx_http_request_t, time: ngx_msec_t);
    fn proxy_connect_state_answered(r: *mut ngx_http_request_t, time: ngx_msec_t);
    fn proxy_connect_state_end(
        r: *mut ngx_http_request_t,
        status: ngx_uint_t,
        time: ngx_msec_t,
        sent: off_t,
        received: off_t,
    );
}

/// An `upstream {}` block. It lives as long as the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(NonNull<ngx_http_upstream_srv_conf_t>);

/// A balancer at work for one request. Dropped, the server that it has chosen last is given back, and the
/// request has no upstream any more.
pub struct Balancer {
    request: Request,
    upstream: NonNull<ngx_http_upstream_t>,
}

/// Why a balancer has chosen no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoServer {
    /// None is left that lives.
    Busy,
    /// No memory, or an error that the balancer has logged.
    Failed,
}

/// What became of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It did what it was to do.
    Done,
    /// It did not do for this request.
    Unfit,
    /// It failed: `max_fails` counts it.
    Failed,
}

thread_local! {
    static PARENTS: Configured<Group> = const { Configured::new() };
}

/// Begins a configuration.
pub fn begin() {
    PARENTS.with(Configured::begin);
}

/// The configuration that was read is in force.
pub fn commit() {
    PARENTS.with(Configured::commit);
}

/// The groups of parents, as far as this worker knows them.
pub fn parents() -> Vec<Group> {
    PARENTS.with(Configured::all)
}

impl Group {
    /// Notes that the configuration that is read names the group as one of parents.
    pub fn add_to_parents(self) {
        PARENTS.with(|parents| parents.add(self));
    }

    /// Notes that a variable has.
    pub fn note_as_parents(self) {
        PARENTS.with(|parents| parents.note(self));
    }

    /// Its name.
    pub fn name<'a>(self) -> &'a [u8] {
        // SAFETY: nginx keeps it as long as the configuration.
        unsafe { bytes(self.0.as_ref().host) }
    }

    /// How many of its servers are in each state, as this worker sees it. `None` where its balancer keeps that to itself.
    pub fn states(self) -> Option<ServerStates> {
        let mut counts: [ngx_uint_t; STATES] = [0; STATES];

        // SAFETY: a group of the configuration in force, and room for as many numbers as there are states.
        match unsafe { proxy_connect_group_states(self.0.as_ptr(), counts.as_mut_ptr()) } {
            code::OK => Some(counts.map(|count| count as u64)),
            _ => None,
        }
    }

    /// The group of that name in the configuration that is being read. All blocks must be read.
    pub fn of_conf(conf: Conf, name: &[u8]) -> Option<Self> {
        // SAFETY: nginx's parser, and a name with its length.
        NonNull::new(unsafe {
            proxy_connect_group_of_conf(conf.as_ptr(), name.as_ptr(), name.len())
        })
        .map(Self)
    }

    /// The group of that name.
    pub fn of_request(request: Request, name: &[u8]) -> Option<Self> {
        // SAFETY: a live request, and a name with its length.
        NonNull::new(unsafe {
            proxy_connect_group_of_request(request.as_ptr(), name.as_ptr(), name.len())
        })
        .map(Self)
    }
}

impl Balancer {
    /// Sets the balancer of `group` to work for `request`. It may look at the timeout, in milliseconds, and the log
    /// shows the scheme in front of a server's address. `None` where it can't, as it has logged, or without memory.
    pub fn begin(
        request: Request,
        group: Group,
        connect_timeout: ngx_msec_t,
        scheme: &'static CStr,
    ) -> Option<Self> {
        // SAFETY: a live request without an upstream, a group of its configuration, a text that lives for ever.
        let upstream = NonNull::new(unsafe {
            proxy_connect_group_begin(
                request.as_ptr(),
                group.0.as_ptr(),
                connect_timeout,
                scheme.as_ptr(),
            )
        })?;

        Some(Self { request, upstream })
    }

    /// Has the next server chosen. The one before must be given back.
    ///
    /// # Errors
    ///
    /// [`NoServer`]
    pub fn choose(&mut self) -> Result<Addr, NoServer> {
        let mut addr = null_mut();
        let mut len = 0;

        // SAFETY: a live request and its upstream.
        let rc = unsafe {
            proxy_connect_group_get(
                self.request.as_ptr(),
                self.upstream.as_ptr(),
                &mut addr,
                &mut len,
            )
        };

        match rc {
            // SAFETY: the balancer's address, with its length.
            code::OK => unsafe { Addr::copy(addr, len) }.ok_or(NoServer::Failed),
            code::BUSY => Err(NoServer::Busy),
            _ => Err(NoServer::Failed),
        }
    }

    /// Gives the chosen server back, if there is one.
    pub fn give_back(&mut self, became: Became) {
        let state = match became {
            Became::Done => 0,
            Became::Unfit => nginx_sys::NGX_PEER_NEXT,
            Became::Failed => nginx_sys::NGX_PEER_FAILED,
        };

        // SAFETY: the upstream lies in the pool of a request that lives.
        unsafe { proxy_connect_group_free(self.upstream.as_ptr(), state as ngx_uint_t) };
    }

    /// How many servers the balancer would still try.
    pub fn tries(&self) -> usize {
        // SAFETY: as in give_back().
        unsafe { proxy_connect_group_tries(self.upstream.as_ptr()) }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // SAFETY: a request that lives, and the upstream that lies in its pool.
        unsafe { proxy_connect_group_end(self.request.as_ptr(), self.upstream.as_ptr()) };
    }
}

/// What the variables of nginx's upstream module tell of the attempt that is under way.
impl Request {
    /// Begins an attempt.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn push_upstream_state(self) -> Result<(), NoMemory> {
        // SAFETY: a live request.
        done(unsafe { proxy_connect_state_push(self.as_ptr()) })
    }

    /// `$upstream_addr`
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn set_upstream_addr(self, addr: &[u8]) -> Result<(), NoMemory> {
        // SAFETY: a live request, and a text with its length, which is copied.
        done(unsafe { proxy_connect_state_peer(self.as_ptr(), addr.as_ptr(), addr.len()) })
    }

    /// `$upstream_connect_time`, in milliseconds.
    pub fn set_upstream_connect_time(self, msec: ngx_msec_t) {
        // SAFETY: a live request.
        unsafe { proxy_connect_state_connected(self.as_ptr(), msec) };
    }

    /// `$upstream_header_time`, in milliseconds; the balancer may be told.
    pub fn set_upstream_header_time(self, msec: ngx_msec_t) {
        // SAFETY: a live request.
        unsafe { proxy_connect_state_answered(self.as_ptr(), msec) };
    }

    /// Ends the attempt: `$upstream_status`, 0 for none, `$upstream_response_time` in milliseconds,
    /// `$upstream_bytes_sent` and `$upstream_bytes_received`.
    pub fn end_upstream_state(self, status: u16, msec: ngx_msec_t, sent: u64, received: u64) {
        let [sent, received] = [sent, received].map(|n| off_t::try_from(n).unwrap_or(off_t::MAX));

        // SAFETY: a live request.
        unsafe {
            proxy_connect_state_end(self.as_ptr(), status.into(), msec, sent, received);
        }
    }
}

fn done(rc: ngx_int_t) -> Result<(), NoMemory> {
    match rc {
        code::OK => Ok(()),
        _ => Err(NoMemory),
    }
}
