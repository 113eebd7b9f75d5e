//! Owns which addresses have a server whose tunnels may be streams of HTTP/2, and HTTP/2 at all. A client says whom it
//! wants by SNI or `:authority`, so all servers of an address count.

use std::cell::RefCell;

use nginx_sys::{
    in6_addr, in_addr_t, ngx_array_t, ngx_cycle_t, ngx_http_addr_conf_t, ngx_http_conf_addr_t,
    ngx_http_conf_port_t, ngx_http_core_srv_conf_t, ngx_http_in6_addr_t, ngx_http_in_addr_t,
    ngx_http_port_t, ngx_listening_t, ngx_uint_t, sockaddr, sockaddr_in, sockaddr_in6,
};
use ngx::http::{HttpModuleConfExt, HttpModuleMainConf, NgxHttpCoreModule};

use crate::admit::hook::listen::{hooks_all_http2, is_http};
use crate::conf::ServerConf;

// src/ffi/stream/http2.c
extern "C" {
    fn proxy_connect_h2_is_offered(addr: *const ngx_http_conf_addr_t) -> ngx_uint_t;
}

thread_local! {
    /// Those of the cycle that was made last, in their order. Connections of an older one are known already.
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Finds them.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn find(cycle: &mut ngx_cycle_t) {
    let mut found = Vec::new();

    // SAFETY: the caller's promise: what the core reads of `listen` lives until the hooks have run.
    unsafe {
        let ports = NgxHttpCoreModule::main_conf(cycle).map(|main| main.ports);
        let servers = ports
            .and_then(|ports| ports.as_ref())
            .map(|ports| with_tunnels(ports))
            .unwrap_or_default();

        if !servers.is_empty() {
            for ls in cycle.listening.as_slice::<ngx_listening_t>() {
                if is_http(ls) {
                    let behind = confs(ls).filter(|place| servers.iter().any(|of| of.is_at(place)));
                    found.extend(behind.map(|place| place.conf as usize));
                }
            }
        }
    }

    found.sort_unstable();
    ADDRESSES.with(|addresses| addresses.replace(found));
}

/// Whether an address has one.
pub fn has(conf: *const ngx_http_addr_conf_t) -> bool {
    ADDRESSES.with(|addresses| addresses.borrow().binary_search(&(conf as usize)).is_ok())
}

/// Whether any of the addresses that connections of `ls` come to has one.
///
/// # Safety
///
/// `ls` must be a socket of the HTTP module, after [`find`].
#[cfg(admit = "patched")]
pub unsafe fn is_behind(ls: &ngx_listening_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { confs(ls) }.any(|place| has(place.conf))
}

/// What a `listen` names.
struct Listen {
    addr: *const sockaddr,
    len: usize,
}

/// What the core looks up for the local address of a connection.
struct Place {
    listening: Listen,
    at: At,
    conf: *const ngx_http_addr_conf_t,
}

/// Which local address that is.
enum At {
    V4(in_addr_t),
    V6(in6_addr),
    /// The only one of its socket.
    Only,
}

/// The addresses that have a server with tunnels.
///
/// # Safety
///
/// `ports` must be what the core has read.
unsafe fn with_tunnels(ports: &ngx_array_t) -> Vec<Listen> {
    let mut listens = Vec::new();

    // SAFETY: the caller's promise.
    unsafe {
        for port in ports.as_slice::<ngx_http_conf_port_t>() {
            for addr in port.addrs.as_slice::<ngx_http_conf_addr_t>() {
                let mut servers = addr.servers.as_slice().iter();

                if proxy_connect_h2_is_offered(addr) != 0
                    && (hooks_all_http2() || servers.any(|server| takes_tunnels(*server)))
                {
                    let (addr, len) = (addr.opt.sockaddr.cast_const(), addr.opt.socklen);
                    listens.push(Listen { addr, len: len as usize });
                }
            }
        }
    }

    listens
}

/// # Safety
///
/// `server` must be one of the cycle that is being made.
unsafe fn takes_tunnels(server: *const ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: the caller's promise; the module creates ServerConf as its server configurations.
    unsafe {
        server
            .as_ref()
            .and_then(|server| server.http_server_conf_unchecked::<ServerConf>(crate::module()))
            .is_some_and(|conf| conf.as_ref().takes_http2())
    }
}

/// What connections of `ls` may come to.
///
/// # Safety
///
/// `ls` must be a socket of the HTTP module.
unsafe fn confs(ls: &ngx_listening_t) -> impl Iterator<Item = Place> + '_ {
    // SAFETY: the caller's promise.
    let port = unsafe { &*ls.servers.cast::<ngx_http_port_t>() };
    // SAFETY: as above.
    let family = unsafe { i32::from((*ls.sockaddr).sa_family) };

    (0..port.naddrs).map(move |n| {
        // SAFETY: as above: there are so many, of the socket's family.
        let (at, conf) = unsafe {
            if family == libc::AF_INET6 {
                let addr = &*port.addrs.cast::<ngx_http_in6_addr_t>().add(n);
                (At::V6(addr.addr6), &raw const addr.conf)
            } else {
                let addr = &*port.addrs.cast::<ngx_http_in_addr_t>().add(n);
                let at = if family == libc::AF_INET { At::V4(addr.addr) } else { At::Only };
                (at, &raw const addr.conf)
            }
        };

        let listening = Listen { addr: ls.sockaddr, len: ls.socklen as usize };
        Place { listening, at, conf }
    })
}

impl Listen {
    /// Whether this is the `listen` of a place.
    ///
    /// # Safety
    ///
    /// Both must have addresses that live.
    unsafe fn is_at(&self, place: &Place) -> bool {
        let other = &place.listening;

        // SAFETY: the caller's promise; the family says what an address is.
        unsafe {
            if (*self.addr).sa_family != (*other.addr).sa_family {
                return false;
            }

            match place.at {
                At::V4(addr) => {
                    let (own, other) =
                        (&*self.addr.cast::<sockaddr_in>(), &*other.addr.cast::<sockaddr_in>());
                    own.sin_port == other.sin_port && own.sin_addr.s_addr == addr
                }
                At::V6(addr) => {
                    let (own, other) =
                        (&*self.addr.cast::<sockaddr_in6>(), &*other.addr.cast::<sockaddr_in6>());
                    own.sin6_port == other.sin6_port && octets(&own.sin6_addr) == octets(&addr)
                }
                At::Only => self.bytes() == other.bytes(),
            }
        }
    }

    /// # Safety
    ///
    /// Its address must live.
    unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.addr.cast(), self.len) }
    }
}

fn octets(addr: &in6_addr) -> [u8; 16] {
    // SAFETY: it is 16 bytes, in whatever way they are named.
    unsafe { std::mem::transmute_copy(addr) }
}
