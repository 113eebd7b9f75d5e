//! Owns what is kept for a hooked connection, and which listening sockets hook theirs.

use std::ffi::c_void;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_connection_t, ngx_cycle_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_connection_t, ngx_http_core_srv_conf_t, ngx_listening_t, ngx_log_handler_pt,
    ngx_recv_pt,
};
use ngx::http::{HttpModuleConfExt, HttpModuleMainConf, NgxHttpCoreModule};
use proxy_connect_core::disguise::Held;

use super::receive::receive;
use crate::conf::ServerConf;
use crate::ffi::pool::Pool;

/// For tests: hooks every HTTP listening socket, whatever its servers say.
const HOOK_ALL: &str = "PROXY_CONNECT_HOOK_ALL";

/// What is kept for a hooked connection, in its pool.
pub struct Hook {
    /// The connection's own receive function.
    pub receive: ngx_recv_pt,
    /// The log's own handler, once ours stands in its place.
    pub log: ngx_log_handler_pt,
    /// The core's handler of a finished TLS handshake.
    pub handshaked: Option<unsafe extern "C" fn(*mut ngx_connection_t)>,
    /// What `c->data` is while no request is being read.
    pub http: *mut c_void,
    /// Bytes of what may become a CONNECT.
    pub held: Held,
    /// The request being read was shown to the parser in disguise.
    pub disguised: bool,
    /// The header of the request was read to its end: another request may follow.
    pub whole: bool,
}

impl Hook {
    /// The hook of a connection, if it has one.
    ///
    /// # Safety
    ///
    /// `c` must be an open connection, and no other reference to its hook may be in use.
    pub unsafe fn of<'a>(c: *mut ngx_connection_t) -> Option<&'a mut Self> {
        // SAFETY: the caller's promise; the hook lives as long as the pool.
        unsafe { Pool::from_ptr((*c).pool)?.find::<Self>().map(|mut hook| hook.as_mut()) }
    }
}

/// Hooks the HTTP listening sockets on which a server has `proxy_connect`. `None` when there are
/// none.
///
/// # Safety
///
/// `cycle` must be the cycle that an init_module hook got.
pub unsafe fn install(cycle: *mut ngx_cycle_t) -> Option<()> {
    let all = std::env::var_os(HOOK_ALL).is_some();

    // SAFETY: the caller's promise. The ports lie in the parser's temporary pool, which nginx
    // destroys after the init_module hooks.
    unsafe {
        let cycle = cycle.as_mut()?;
        let cmcf = NgxHttpCoreModule::main_conf(cycle)?;
        let ports = cmcf.ports.as_ref()?.as_slice::<ngx_http_conf_port_t>();

        for ls in cycle.listening.as_slice_mut::<ngx_listening_t>() {
            if is_http(ls) && (all || ports.iter().any(|port| takes_connect(port, ls))) {
                ls.handler = Some(init_connection);
            }
        }
    }

    Some(())
}

fn is_http(ls: &ngx_listening_t) -> bool {
    ls.type_ == libc::SOCK_STREAM
        && ls.handler.is_some_and(|handler| {
            std::ptr::fn_addr_eq(
                handler,
                nginx_sys::ngx_http_init_connection as unsafe extern "C" fn(_),
            )
        })
}

/// # Safety
///
/// `port` must be one of the configuration that `ls` came from.
unsafe fn takes_connect(port: &ngx_http_conf_port_t, ls: &ngx_listening_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let addrs = port.addrs.as_slice::<ngx_http_conf_addr_t>();

        addrs.iter().any(|addr| same_socket(addr, ls))
            && addrs.iter().flat_map(|addr| servers(addr)).any(|server| has_connect(*server))
    }
}

/// # Safety
///
/// As for [`takes_connect`].
unsafe fn same_socket(addr: &ngx_http_conf_addr_t, ls: &ngx_listening_t) -> bool {
    // SAFETY: nginx filled both addresses.
    unsafe {
        nginx_sys::ngx_cmp_sockaddr(addr.opt.sockaddr, addr.opt.socklen, ls.sockaddr, ls.socklen, 1)
            == 0
    }
}

/// # Safety
///
/// As for [`takes_connect`].
unsafe fn servers(addr: &ngx_http_conf_addr_t) -> &[*mut ngx_http_core_srv_conf_t] {
    // SAFETY: an array of pointers to server configurations.
    unsafe { addr.servers.as_slice() }
}

/// # Safety
///
/// `server` must be a server's configuration.
unsafe fn has_connect(server: *mut ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: the caller's promise; the module creates ServerConf as its server configurations.
    unsafe {
        server
            .as_ref()
            .and_then(|server| server.http_server_conf_unchecked::<ServerConf>(crate::module()))
            .is_some_and(|conf| conf.as_ref().is_enabled())
    }
}

/// Stands in the place of ngx_http_init_connection().
unsafe extern "C" fn init_connection(c: *mut ngx_connection_t) {
    // SAFETY: nginx calls the handler of a listening socket with the connection that it accepted.
    unsafe {
        // With a deferred accept there are bytes already, and nginx would read them before we
        // are in between.
        let ready = (*(*c).read).ready();
        (*(*c).read).set_ready(0);

        nginx_sys::ngx_http_init_connection(c);

        // nginx closed it.
        if (*c).fd == -1 {
            return;
        }

        attach(c);

        if ready != 0 {
            resume(c);
        }
    }
}

/// # Safety
///
/// `c` must be a connection that nginx has just initialised.
unsafe fn attach(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let hook = Hook {
            receive: (*c).recv,
            log: None,
            handshaked: None,
            http: (*c).data,
            held: Held::default(),
            disguised: false,
            whole: false,
        };

        // Without memory the connection works as any other: CONNECT is refused.
        if Pool::from_ptr((*c).pool).and_then(|pool| pool.put(hook)).is_none() {
            return;
        }

        #[cfg(ngx_feature = "http_ssl")]
        if is_ssl(c) {
            super::tls::attach(c);
            return;
        }

        (*c).recv = Some(receive);
    }
}

/// Whether the connection begins with a TLS handshake.
///
/// # Safety
///
/// As for [`attach`].
#[cfg(ngx_feature = "http_ssl")]
unsafe fn is_ssl(c: *mut ngx_connection_t) -> bool {
    // SAFETY: the caller's promise: the data is an ngx_http_connection_t.
    unsafe { NonNull::new((*c).data.cast::<ngx_http_connection_t>()) }
        .is_some_and(|http| unsafe { http.as_ref() }.ssl() != 0)
}

/// Goes on where nginx would have after a deferred accept.
///
/// # Safety
///
/// As for [`attach`].
unsafe fn resume(c: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe {
        let read = (*c).read;
        (*read).set_ready(1);

        if nginx_sys::ngx_use_accept_mutex != 0 {
            nginx_sys::ngx_post_event(read, std::ptr::addr_of_mut!(nginx_sys::ngx_posted_events));
        } else if let Some(handler) = (*read).handler {
            handler(read);
        }
    }
}
