//! Owns the way to the configuration of nginx's http core.

use nginx_sys::{
    ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_http_module,
    ngx_http_request_t, ngx_module_t,
};
use std::ffi::c_void;
use std::ptr::NonNull;

type Table = *mut *mut c_void;

/// What has a configuration of http: the tables of main, server and location; null if it has none.
pub trait HttpModuleConfExt {
    /// The three tables.
    fn tables(&self) -> Option<[Table; 3]>;

    /// The server's configuration of a module.
    ///
    /// # Safety
    ///
    /// `T` must be the type of that configuration.
    unsafe fn http_server_conf_unchecked<T>(&self, module: &ngx_module_t) -> Option<NonNull<T>> {
        entry(self.tables()?[1], module)
    }
}

fn entry<T>(table: Table, module: &ngx_module_t) -> Option<NonNull<T>> {
    if table.is_null() {
        return None;
    }

    // SAFETY: nginx's table has an entry for each module of http.
    NonNull::new(unsafe { *table.add(module.ctx_index) }.cast())
}

impl HttpModuleConfExt for ngx_http_conf_ctx_t {
    fn tables(&self) -> Option<[Table; 3]> {
        Some([self.main_conf, self.srv_conf, self.loc_conf])
    }
}

impl HttpModuleConfExt for ngx_http_request_t {
    fn tables(&self) -> Option<[Table; 3]> {
        Some([self.main_conf, self.srv_conf, self.loc_conf])
    }
}

impl HttpModuleConfExt for ngx_conf_t {
    fn tables(&self) -> Option<[Table; 3]> {
        // SAFETY: within http the context is that of http.
        unsafe { self.ctx.cast::<ngx_http_conf_ctx_t>().as_ref()?.tables() }
    }
}

impl HttpModuleConfExt for ngx_cycle_t {
    fn tables(&self) -> Option<[Table; 3]> {
        // SAFETY: nginx's table has an entry for each module; that of http is its context.
        unsafe {
            let context = *self.conf_ctx.add(ngx_http_module.index);
            context.cast::<ngx_http_conf_ctx_t>().as_ref()?.tables()
        }
    }
}

impl HttpModuleConfExt for ngx_http_core_srv_conf_t {
    fn tables(&self) -> Option<[Table; 3]> {
        // SAFETY: a server has a context.
        unsafe { self.ctx.as_ref()?.tables() }
    }
}

/// nginx's http core.
pub struct NgxHttpCoreModule;

fn core_entry<T>(tables: Option<[Table; 3]>, which: usize) -> Option<NonNull<T>> {
    // SAFETY: a static of nginx, whose index is fixed when modules are counted.
    entry(tables?[which], unsafe { &*std::ptr::addr_of!(ngx_http_core_module) })
}

/// The main configuration of http.
pub trait HttpModuleMainConf {
    /// Its type.
    type MainConf: 'static;
    /// To read.
    fn main_conf(of: &impl HttpModuleConfExt) -> Option<&'static Self::MainConf> {
        // SAFETY: the type is that of the core's configuration; it lives as long as the cycle.
        unsafe { Some(core_entry(of.tables(), 0)?.as_ref()) }
    }
    /// To change, while nginx reads the configuration.
    fn main_conf_mut(of: &impl HttpModuleConfExt) -> Option<&'static mut Self::MainConf> {
        // SAFETY: the type is that of the core's configuration; it lives as long as the cycle.
        unsafe { Some(core_entry(of.tables(), 0)?.as_mut()) }
    }
}

impl HttpModuleMainConf for NgxHttpCoreModule {
    type MainConf = ngx_http_core_main_conf_t;
}

/// The configuration of a server.
pub trait HttpModuleServerConf {
    /// Its type.
    type ServerConf: 'static;
    /// To read.
    fn server_conf(of: &impl HttpModuleConfExt) -> Option<&'static Self::ServerConf> {
        // SAFETY: the type is that of the core's configuration; it lives as long as the cycle.
        unsafe { Some(core_entry(of.tables(), 1)?.as_ref()) }
    }
    /// To change, while nginx reads the configuration.
    fn server_conf_mut(of: &impl HttpModuleConfExt) -> Option<&'static mut Self::ServerConf> {
        // SAFETY: the type is that of the core's configuration; it lives as long as the cycle.
        unsafe { Some(core_entry(of.tables(), 1)?.as_mut()) }
    }
}

impl HttpModuleServerConf for NgxHttpCoreModule {
    type ServerConf = ngx_http_core_srv_conf_t;
}

/// The configuration of a location.
pub trait HttpModuleLocationConf {
    /// Its type.
    type LocationConf: 'static;
    /// To read.
    fn location_conf(of: &impl HttpModuleConfExt) -> Option<&'static Self::LocationConf> {
        // SAFETY: the type is that of the core's configuration; it lives as long as the cycle.
        unsafe { Some(core_entry(of.tables(), 2)?.as_ref()) }
    }
    /// To change, while nginx reads the configuration.
    fn location_conf_mut(of: &impl HttpModuleConfExt) -> Option<&'static mut Self::LocationConf> {
        // SAFETY: as in location_conf().
        unsafe { Some(core_entry(of.tables(), 2)?.as_mut()) }
    }
}

impl HttpModuleLocationConf for NgxHttpCoreModule {
    type LocationConf = ngx_http_core_loc_conf_t;
}
