//! HTTP CONNECT tunnels for nginx.
//!
//! Owns what nginx sees of the module: its contexts, its directive table and its hooks. A
//! CONNECT walks through the other files in one direction:
//!
//! admit → authorise → resolve → dial → reply → relay → finalise

mod admit;
mod answer;
mod auth;
mod authorise;
mod conf;
mod dial;
mod failure;
mod ffi;
mod parent;
mod phases;
mod probes;
mod relay;
mod reply;
mod resolve;
mod sni;
mod status;
mod tunnel;
mod variables;
mod verdict;
mod version;

use std::ffi::{c_char, c_void};
use std::ptr::{addr_of, addr_of_mut, null_mut};

use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_module_t, ngx_int_t, ngx_module_t, ngx_str_t,
    ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_CONF_TAKE2,
    NGX_CONF_TAKE3, NGX_CONF_TAKE4, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MODULE, NGX_HTTP_SIF_CONF, NGX_HTTP_SRV_CONF,
    NGX_HTTP_SRV_CONF_OFFSET,
};

use conf::location::LocationConf;
use conf::{
    access, addresses, bind, connecting, hosts, limits, location, parent as parents, parent_ssl,
    preread, rate_zone, reasons, response, server, socket, timeouts, transfer, upstream,
    ServerConf,
};
use ffi::boundary::guard;
use ffi::code;
use ffi::conf::{Conf, Directive};
use ffi::log::Log;
use ngx::core::NGX_CONF_ERROR;
use ngx::ngx_string;

/// The module's context among nginx's HTTP modules.
static MODULE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: Some(create_server_conf),
    merge_srv_conf: Some(merge_server_conf),
    create_loc_conf: Some(create_location_conf),
    merge_loc_conf: Some(merge_location_conf),
};

/// A directive that stands in a `server` block.
const SERVER: u32 = NGX_HTTP_SRV_CONF;

/// A directive that stands in `http`, too, for all servers that don't have their own.
const HTTP_OR_SERVER: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF;

/// The module's directives.
static mut COMMANDS: [ngx_command_t; 60] = [
    command::<access::ProxyConnect>(ngx_string!("proxy_connect"), SERVER | NGX_CONF_NOARGS),
    command::<access::ProxyConnectAllow>(
        ngx_string!("proxy_connect_allow"),
        SERVER | NGX_CONF_1MORE,
    ),
    command::<conf::auth::ProxyConnectAuth>(
        ngx_string!("proxy_connect_auth"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<timeouts::ProxyConnectConnectTimeout>(
        ngx_string!("proxy_connect_connect_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<timeouts::ProxyConnectDataTimeout>(
        ngx_string!("proxy_connect_data_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<timeouts::ProxyConnectReadTimeout>(
        ngx_string!("proxy_connect_read_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<timeouts::ProxyConnectSendTimeout>(
        ngx_string!("proxy_connect_send_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<upstream::ProxyConnectAddress>(
        ngx_string!("proxy_connect_address"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<bind::ProxyConnectBind>(
        ngx_string!("proxy_connect_bind"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<connecting::ProxyConnectPrefer>(
        ngx_string!("proxy_connect_prefer"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<connecting::ProxyConnectProxyProtocol>(
        ngx_string!("proxy_connect_proxy_protocol"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<socket::ProxyConnectSocketKeepalive>(
        ngx_string!("proxy_connect_socket_keepalive"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<socket::ProxyConnectSocketSndbuf>(
        ngx_string!("proxy_connect_socket_sndbuf"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<socket::ProxyConnectSocketRcvbuf>(
        ngx_string!("proxy_connect_socket_rcvbuf"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<socket::ProxyConnectSocketMark>(
        ngx_string!("proxy_connect_socket_mark"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<response::ProxyConnectResponse>(
        ngx_string!("proxy_connect_response"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<transfer::ProxyConnectSplice>(
        ngx_string!("proxy_connect_splice"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<transfer::ProxyConnectSendLowat>(
        ngx_string!("proxy_connect_send_lowat"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<transfer::ProxyConnectHttp2Window>(
        ngx_string!("proxy_connect_http2_window"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<server::ProxyConnectServer>(
        ngx_string!("proxy_connect_server"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<reasons::ProxyConnectProxyStatus>(
        ngx_string!("proxy_connect_proxy_status"),
        HTTP_OR_SERVER | NGX_CONF_TAKE12,
    ),
    command::<reasons::ProxyConnectReportOnly>(
        ngx_string!("proxy_connect_report_only"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<addresses::ProxyConnectAllowAddress>(
        ngx_string!("proxy_connect_allow_address"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<addresses::ProxyConnectDenyAddress>(
        ngx_string!("proxy_connect_deny_address"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<addresses::ProxyConnectAllowUpstream>(
        ngx_string!("proxy_connect_allow_upstream"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<hosts::ProxyConnectAllowHost>(
        ngx_string!("proxy_connect_allow_host"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<hosts::ProxyConnectDenyHost>(
        ngx_string!("proxy_connect_deny_host"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<preread::ProxyConnectVerifySni>(
        ngx_string!("proxy_connect_verify_sni"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<preread::ProxyConnectPrereadTimeout>(
        ngx_string!("proxy_connect_preread_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<preread::ProxyConnectSslPreread>(
        ngx_string!("proxy_connect_ssl_preread"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<limits::ProxyConnectTunnelTime>(
        ngx_string!("proxy_connect_tunnel_time"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<limits::ProxyConnectMaxBytes>(
        ngx_string!("proxy_connect_max_bytes"),
        HTTP_OR_SERVER | NGX_CONF_TAKE12,
    ),
    command::<limits::ProxyConnectDownloadRate>(
        ngx_string!("proxy_connect_download_rate"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<limits::ProxyConnectUploadRate>(
        ngx_string!("proxy_connect_upload_rate"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<rate_zone::ProxyConnectRateZone>(
        ngx_string!("proxy_connect_rate_zone"),
        HTTP_OR_SERVER | NGX_CONF_TAKE3 | NGX_CONF_TAKE4,
    ),
    command::<conf::status::ProxyConnectStatusZone>(
        ngx_string!("proxy_connect_status_zone"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    location_command::<location::ProxyConnectStatus>(
        ngx_string!("proxy_connect_status"),
        NGX_CONF_NOARGS | NGX_CONF_TAKE1,
    ),
    location_command::<location::ProxyConnectTunnels>(
        ngx_string!("proxy_connect_tunnels"),
        NGX_CONF_NOARGS | NGX_CONF_TAKE12,
    ),
    command::<parents::ProxyConnectPass>(
        ngx_string!("proxy_connect_pass"),
        HTTP_OR_SERVER | NGX_HTTP_SIF_CONF | NGX_CONF_TAKE1,
    ),
    command::<parents::ProxyConnectPassUser>(
        ngx_string!("proxy_connect_pass_user"),
        HTTP_OR_SERVER | NGX_CONF_TAKE12,
    ),
    command::<parents::ProxyConnectPassAuth>(
        ngx_string!("proxy_connect_pass_auth"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parents::ProxyConnectPassResolve>(
        ngx_string!("proxy_connect_pass_resolve"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parents::ProxyConnectPassBufferSize>(
        ngx_string!("proxy_connect_pass_buffer_size"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parents::ProxyConnectSetHeader>(
        ngx_string!("proxy_connect_set_header"),
        HTTP_OR_SERVER | NGX_CONF_TAKE2,
    ),
    command::<parents::ProxyConnectNextUpstream>(
        ngx_string!("proxy_connect_next_upstream"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<parents::ProxyConnectNextUpstreamTries>(
        ngx_string!("proxy_connect_next_upstream_tries"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parents::ProxyConnectNextUpstreamTimeout>(
        ngx_string!("proxy_connect_next_upstream_timeout"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslName>(
        ngx_string!("proxy_connect_ssl_name"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslServerName>(
        ngx_string!("proxy_connect_ssl_server_name"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslVerify>(
        ngx_string!("proxy_connect_ssl_verify"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslVerifyDepth>(
        ngx_string!("proxy_connect_ssl_verify_depth"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslTrustedCertificate>(
        ngx_string!("proxy_connect_ssl_trusted_certificate"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslCrl>(
        ngx_string!("proxy_connect_ssl_crl"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslCertificate>(
        ngx_string!("proxy_connect_ssl_certificate"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslCertificateKey>(
        ngx_string!("proxy_connect_ssl_certificate_key"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslProtocols>(
        ngx_string!("proxy_connect_ssl_protocols"),
        HTTP_OR_SERVER | NGX_CONF_1MORE,
    ),
    command::<parent_ssl::ProxyConnectSslCiphers>(
        ngx_string!("proxy_connect_ssl_ciphers"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslSessionReuse>(
        ngx_string!("proxy_connect_ssl_session_reuse"),
        HTTP_OR_SERVER | NGX_CONF_TAKE1,
    ),
    command::<parent_ssl::ProxyConnectSslConfCommand>(
        ngx_string!("proxy_connect_ssl_conf_command"),
        HTTP_OR_SERVER | NGX_CONF_TAKE2,
    ),
    ngx_command_t::empty(),
];

/// The module, under the name by which nginx's build and `load_module` know it.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_proxy_connect_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(MODULE_CONTEXT) as *mut c_void,
    commands: addr_of_mut!(COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

/// The context of the second module.
static FILTER_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(install_last_filter),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// A second module, which has a place of its own among nginx's filters; `config` says where.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static mut ngx_http_proxy_connect_filter_module: ngx_module_t = ngx_module_t {
    ctx: addr_of!(FILTER_CONTEXT) as *mut c_void,
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

/// What `load_module` looks for in a shared object.
#[cfg(feature = "export-modules")]
mod exports {
    #![allow(missing_docs, non_upper_case_globals)]

    use std::ffi::c_char;
    use std::ptr::{addr_of, null};

    use nginx_sys::ngx_module_t;

    use super::{ngx_http_proxy_connect_filter_module, ngx_http_proxy_connect_module};

    #[no_mangle]
    pub static mut ngx_modules: [*const ngx_module_t; 3] = [
        addr_of!(ngx_http_proxy_connect_module),
        addr_of!(ngx_http_proxy_connect_filter_module),
        null(),
    ];

    #[no_mangle]
    pub static mut ngx_module_names: [*const c_char; 3] = [
        c"ngx_http_proxy_connect_module".as_ptr(),
        c"ngx_http_proxy_connect_filter_module".as_ptr(),
        null(),
    ];

    /// The second one comes before the filters that write a header, as in `config`.
    #[no_mangle]
    pub static mut ngx_module_order: [*const c_char; 3] = [
        c"ngx_http_proxy_connect_filter_module".as_ptr(),
        c"ngx_http_range_header_filter_module".as_ptr(),
        null(),
    ];
}

/// The module, for looking up its contexts and configurations.
fn module() -> &'static ngx_module_t {
    // SAFETY: nginx writes the module while it reads its configuration, and not while a callback
    // of ours runs.
    unsafe { &*addr_of!(ngx_http_proxy_connect_module) }
}

/// A directive, by where it may stand and how many arguments it takes. What `http` says is the server
/// configuration that nginx merges into those of the servers.
const fn command<D: Directive<ServerConf>>(name: ngx_str_t, type_: u32) -> ngx_command_t {
    ngx_command_t {
        name,
        type_: type_ as ngx_uint_t,
        set: Some(ffi::conf::set::<ServerConf, D>),
        conf: NGX_HTTP_SRV_CONF_OFFSET,
        offset: 0,
        post: null_mut(),
    }
}

/// A directive that stands in a location.
const fn location_command<D: Directive<LocationConf>>(
    name: ngx_str_t,
    arguments: u32,
) -> ngx_command_t {
    ngx_command_t {
        name,
        type_: (NGX_HTTP_LOC_CONF | arguments) as ngx_uint_t,
        set: Some(ffi::conf::set::<LocationConf, D>),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: null_mut(),
    }
}

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    hook(|| {
        ffi::status_zone::begin();
        status::control::begin();
        ffi::upstream::begin();

        if let Err(sentence) = admit::check_core() {
            // SAFETY: nginx passes the configuration that it reads.
            let conf = unsafe { Conf::from_ptr(cf) }?;
            conf.refuse(&sentence);
            return None;
        }

        // SAFETY: as above.
        unsafe {
            admit::prepare(cf)?;
            variables::register(cf)
        }
    })
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration that it read.
    hook(|| unsafe {
        if let Err((zone, error)) = ffi::status_zone::map_all() {
            let sentence = format!(
                "no memory for the zone \"{zone}\" of \"proxy_connect_status_zone\": {error}"
            );
            Conf::from_ptr(cf)?.refuse(&sentence);
            return None;
        }

        variables::install(cf)?;
        status::install(cf)?;
        phases::install(cf)
    })
}

unsafe extern "C" fn init_process(_cycle: *mut ngx_cycle_t) -> ngx_int_t {
    hook(status::control::start)
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard(Log::of_cycle(), ffi::status_zone::leave, || ());
}

unsafe extern "C" fn install_last_filter(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx passes the configuration that it read.
    hook(|| unsafe { answer::install(cf) })
}

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    hook(|| {
        ffi::status_zone::commit();
        status::control::commit();
        ffi::upstream::commit();

        // SAFETY: nginx passes the cycle that it has made, and every module has added its filters.
        unsafe {
            admit::start(cycle);
            // Without an http block there is nothing to do.
            let _ = auth::start(cycle);
        }

        Some(())
    })
}

/// Runs a hook of the configuration; its failure, or a panic in it, stops nginx.
fn hook(work: impl FnOnce() -> Option<()>) -> ngx_int_t {
    match guard(Log::of_cycle(), work, || None) {
        Some(()) => code::OK,
        None => code::ERROR,
    }
}

unsafe extern "C" fn create_server_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let create = || {
        // SAFETY: nginx passes the configuration that it reads.
        unsafe { Conf::from_ptr(cf) }
            .and_then(|conf| conf.pool().put(ServerConf::default()))
            .map_or(null_mut(), |conf| conf.as_ptr().cast())
    };

    guard(Log::of_cycle(), create, null_mut)
}

unsafe extern "C" fn merge_server_conf(
    cf: *mut ngx_conf_t,
    parent: *mut c_void,
    child: *mut c_void,
) -> *mut c_char {
    // SAFETY: both come from create_server_conf(), and are two of them.
    let merge = || unsafe {
        if let (Some(parent), Some(child)) =
            (parent.cast::<ServerConf>().as_ref(), child.cast::<ServerConf>().as_mut())
        {
            let refuse = |sentence: String| {
                Conf::from_ptr(cf).map_or(NGX_CONF_ERROR, |cf| cf.refuse(&sentence))
            };

            if let Err(sentence) = child.inherit(parent) {
                return refuse(sentence);
            }

            if let Some(cf) = Conf::from_ptr(cf) {
                addresses::warn(cf, child);
            }

            if child.is_enabled() {
                if let Err(sentence) = admit::enable(cf) {
                    return refuse(sentence);
                }

                if let Some(Err(sentence)) = Conf::from_ptr(cf).map(|cf| child.find_parents(cf)) {
                    return refuse(sentence);
                }

                let own = std::mem::size_of::<tunnel::Tunnel>();
                ffi::request_pool::fit(cf, own, cfg!(http2) && child.takes_http2());
            }
        }

        null_mut()
    };

    guard(Log::of_cycle(), merge, || NGX_CONF_ERROR)
}

unsafe extern "C" fn create_location_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let create = || {
        // SAFETY: nginx passes the configuration that it reads.
        unsafe { Conf::from_ptr(cf) }
            .and_then(|conf| conf.pool().put(LocationConf::default()))
            .map_or(null_mut(), |conf| conf.as_ptr().cast())
    };

    guard(Log::of_cycle(), create, null_mut)
}

/// A location has a page of its own or none: there is nothing to merge.
unsafe extern "C" fn merge_location_conf(
    cf: *mut ngx_conf_t,
    _parent: *mut c_void,
    _child: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes the configuration whose locations it merges.
    let prepare = || unsafe { auth::prepare_location(cf) };

    match guard(Log::of_cycle(), prepare, || None) {
        Some(()) => null_mut(),
        None => NGX_CONF_ERROR,
    }
}
