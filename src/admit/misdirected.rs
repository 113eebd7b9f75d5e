//! Owns the warning for a server that verifies clients, and whose CONNECTs nginx gives to other servers of its
//! address, by the names that they ask for, or answers with 421.

use nginx_sys::{
    ngx_conf_t, ngx_http_conf_addr_t, ngx_http_conf_port_t, ngx_http_core_srv_conf_t,
    ngx_http_server_name_t, ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, NGX_LOG_WARN,
};
use ngx::http::{HttpModuleConfExt, HttpModuleMainConf, NgxHttpCoreModule};

use crate::conf::ServerConf;
use crate::ffi::bytes;
use crate::ffi::log::{Log, Shown};

/// Looks for such servers. `None` when there is no `http` block.
///
/// # Safety
///
/// `cf` must be the configuration that a postconfiguration hook got.
pub unsafe fn warn(cf: *mut ngx_conf_t) -> Option<()> {
    // SAFETY: the caller's promise: the configurations of all servers are merged.
    unsafe {
        let cf = cf.as_ref()?;
        let log = Log::from_ptr(cf.log)?;
        let ports = NgxHttpCoreModule::main_conf(cf)?.ports.as_ref()?;

        for port in ports.as_slice::<ngx_http_conf_port_t>() {
            for addr in port.addrs.as_slice::<ngx_http_conf_addr_t>() {
                warn_of(log, addr.servers.as_slice());
            }
        }
    }

    Some(())
}

/// # Safety
///
/// `servers` must be the servers of one address, their configurations merged.
unsafe fn warn_of(log: Log, servers: &[*mut ngx_http_core_srv_conf_t]) {
    // SAFETY: the caller's promise.
    let all = || servers.iter().filter_map(|server| unsafe { server.as_ref() });

    for server in all() {
        // SAFETY: the caller's promise.
        unsafe {
            let neighbour = all().find(|other| !std::ptr::eq(*other, server) && is_named(other));

            if let Some(neighbour) = neighbour.filter(|_| is_undecided(server)) {
                tell(log, server, neighbour);
            }
        }
    }
}

/// # Safety
///
/// `server` and `neighbour` must be merged.
unsafe fn tell(log: Log, server: &ngx_http_core_srv_conf_t, neighbour: &ngx_http_core_srv_conf_t) {
    // SAFETY: the caller's promise.
    let (name, other) = unsafe { (bytes(server.server_name), bytes(neighbour.server_name)) };

    log.write(
        NGX_LOG_WARN,
        0,
        format_args!(
            "the server \"{}\" verifies clients, and shares its address with the server \"{}\": nginx \
             answers a CONNECT by the name that it asks for, with another server or with 421, unless \
             \"proxy_connect_server connection\" is set; \"proxy_connect_server authority\" says that this \
             is meant",
            Shown(name),
            Shown(other),
        ),
    );
}

/// Whether a server takes CONNECT, verifies clients, and does not say which server is to answer.
///
/// # Safety
///
/// `server` must be merged.
unsafe fn is_undecided(server: &ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: the caller's promise; the modules create these as their server configurations.
    unsafe {
        let own = server.http_server_conf_unchecked::<ServerConf>(crate::module());
        let ssl = server.http_server_conf_unchecked::<ngx_http_ssl_srv_conf_t>(
            &*std::ptr::addr_of!(ngx_http_ssl_module),
        );

        own.is_some_and(|own| own.as_ref().is_enabled() && own.as_ref().server_choice().is_none())
            && ssl.is_some_and(|ssl| ssl.as_ref().verify != 0)
    }
}

/// Whether a server has a name by which it can be chosen.
///
/// # Safety
///
/// `server` must be merged.
unsafe fn is_named(server: &ngx_http_core_srv_conf_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { server.server_names.as_slice::<ngx_http_server_name_t>() }
        .iter()
        .any(|name| name.name.len > 0)
}
