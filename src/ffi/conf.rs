//! Owns the configuration parser's side: a directive's arguments, how it is refused, and values
//! with variables in them.

use std::ffi::{c_char, c_void, OsStr};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_http_compile_complex_value_t, ngx_http_complex_value_t,
    ngx_http_core_srv_conf_t, ngx_module_t, ngx_str_t, NGX_LOG_EMERG, NGX_LOG_WARN,
};
use ngx::core::NGX_CONF_ERROR;
use ngx::http::{HttpModuleConfExt, HttpModuleMainConf, NgxHttpCoreModule};
use ngx::ngx_conf_log_error;

use super::boundary::guard;
use super::log::{Log, Shown};
use super::pool::Pool;
use super::request::Request;
use super::{bytes, code, str_of};

/// The configuration being read.
#[derive(Clone, Copy)]
pub struct Conf(NonNull<ngx_conf_t>);

/// A directive of the module's server configuration `C`.
pub trait Directive<C> {
    /// Takes the arguments into the configuration.
    ///
    /// # Errors
    ///
    /// [`Refused`] says what is wrong with them.
    fn set(conf: &mut C, arguments: Arguments<'_>) -> Result<(), Refused>;
}

/// Why a directive is refused. nginx adds the file and the line.
#[derive(Debug)]
pub enum Refused {
    /// It stands twice in one block.
    Duplicate,
    /// A sentence that names the directive and the value.
    Because(String),
}

/// A directive's arguments, without its name.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    conf: Conf,
    values: &'a [ngx_str_t],
}

/// A value that may hold variables.
#[derive(Clone, Copy, Debug)]
pub struct ComplexValue(NonNull<ngx_http_complex_value_t>);

/// All servers, each with the configuration that `module` creates for it; none without an `http` block.
///
/// # Safety
///
/// `T` must be what `module` creates as its server configuration, and the servers of `of` be read.
pub unsafe fn servers<'a, T>(
    of: &impl HttpModuleConfExt,
    module: &'a ngx_module_t,
) -> impl Iterator<Item = (&'a ngx_http_core_srv_conf_t, NonNull<T>)> {
    // SAFETY: the caller's promise; a configuration outlives its reading.
    let servers = NgxHttpCoreModule::main_conf(of)
        .map(|main| unsafe { main.servers.as_slice::<*const ngx_http_core_srv_conf_t>() });

    servers.unwrap_or_default().to_vec().into_iter().filter_map(
        // SAFETY: as above.
        |server| unsafe {
            let server = server.as_ref()?;
            Some((server, server.http_server_conf_unchecked::<T>(module)?))
        },
    )
}

impl Conf {
    /// # Safety
    ///
    /// `cf` must be what nginx passed to a callback of the configuration, used within it.
    pub unsafe fn from_ptr(cf: *mut ngx_conf_t) -> Option<Self> {
        NonNull::new(cf).map(Self)
    }

    /// The pointer that nginx's functions take.
    pub(super) fn as_ptr(self) -> *mut ngx_conf_t {
        self.0.as_ptr()
    }

    fn raw(&self) -> &ngx_conf_t {
        // SAFETY: see from_ptr().
        unsafe { self.0.as_ref() }
    }

    /// The pool that lives as long as the configuration.
    pub fn pool(self) -> Pool {
        // SAFETY: nginx's parser has a pool.
        unsafe { Pool::from_ptr(self.raw().pool).unwrap_unchecked() }
    }

    fn log(self) -> Log {
        // SAFETY: nginx's parser has a log.
        unsafe { Log::from_ptr(self.raw().log) }.unwrap_or_else(Log::of_cycle)
    }

    /// The file and the line that are being read, as nginx's messages name them.
    pub fn position(self) -> String {
        // SAFETY: nginx's parser has a file while it reads one, none while it reads the command line.
        match unsafe { self.raw().conf_file.as_ref() } {
            // SAFETY: as above; a file's name lives as long as its reading.
            Some(file) => unsafe { format!("{}:{}", Shown(bytes(file.file.name)), file.line) },
            None => "command line".into(),
        }
    }

    /// A path that is meant to begin in the folder of the configuration file. `None` when there is no memory.
    pub fn full_path(self, path: &[u8]) -> Option<PathBuf> {
        let mut name = str_of(self.pool().copy(&[path, b"\0"].concat())?);
        name.len = path.len();

        // SAFETY: nginx's parser has a cycle; the name ends in a zero.
        unsafe {
            let rc = nginx_sys::ngx_conf_full_name(self.raw().cycle, &mut name, 1);
            (rc == code::OK).then(|| OsStr::from_bytes(bytes(name)).into())
        }
    }

    /// Writes a warning with the file and the line.
    pub fn warn(self, message: fmt::Arguments<'_>) {
        ngx_conf_log_error!(NGX_LOG_WARN, self.0.as_ptr(), "{message}");
    }

    /// Writes an error with the file and the line; answers what stops nginx.
    pub fn refuse(self, sentence: &str) -> *mut c_char {
        ngx_conf_log_error!(NGX_LOG_EMERG, self.0.as_ptr(), "{sentence}");
        NGX_CONF_ERROR
    }

    /// Has the workers keep the right to bind to addresses that are not this host's, as
    /// `proxy_bind ... transparent` does. Whether nginx can bind to such an address at all.
    #[cfg(transparent = "workers")]
    pub fn allow_transparent(self) -> bool {
        // SAFETY: the cycle holds the core module's configuration at its index.
        unsafe {
            let index = nginx_sys::ngx_core_module.index;
            let core =
                *(*self.raw().cycle).conf_ctx.add(index).cast::<*mut nginx_sys::ngx_core_conf_t>();

            if let Some(core) = core.as_mut() {
                core.transparent = 1;
            }
        }

        true
    }

    /// Before 1.13.8 workers have that right as root only, before 1.11.0 nginx does not ask for it.
    #[cfg(not(transparent = "workers"))]
    pub fn allow_transparent(self) -> bool {
        cfg!(transparent = "connections")
    }
}

impl<'a> Arguments<'a> {
    /// The configuration being read.
    pub fn conf(self) -> Conf {
        self.conf
    }

    /// The arguments.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: nginx's tokens live in the configuration's pool.
        self.values.iter().map(|value| unsafe { bytes(*value) })
    }

    /// The first argument; empty when there is none.
    pub fn first(self) -> &'a [u8] {
        self.iter().next().unwrap_or_default()
    }

    /// Compiles one of the arguments, which may hold variables. `None` when nginx refused; it
    /// said why.
    pub fn compile(self, argument: &[u8]) -> Option<ComplexValue> {
        let mut value = str_of(argument);

        // SAFETY: all-zero bytes are an ngx_http_complex_value_t and an
        // ngx_http_compile_complex_value_t, as nginx itself makes them.
        let (complex, mut ccv) = unsafe {
            let complex = MaybeUninit::<ngx_http_complex_value_t>::zeroed().assume_init();
            (
                self.conf.pool().put(complex)?,
                MaybeUninit::<ngx_http_compile_complex_value_t>::zeroed().assume_init(),
            )
        };

        ccv.cf = self.conf.0.as_ptr();
        ccv.value = &mut value;
        ccv.complex_value = complex.as_ptr();

        // SAFETY: all pointers outlive the call; the token that the value refers to lives in the
        // configuration's pool.
        let rc = unsafe { nginx_sys::ngx_http_compile_complex_value(&mut ccv) };

        (rc == code::OK).then_some(ComplexValue(complex))
    }
}

impl ComplexValue {
    /// The text, when there are no variables in it.
    pub fn constant(&self) -> Option<&[u8]> {
        // SAFETY: compiled into the configuration's pool, which outlives the handle.
        unsafe {
            let complex = self.0.as_ref();
            complex.lengths.is_null().then(|| bytes(complex.value))
        }
    }

    /// What the configuration itself says before the first variable: nobody else has a hand in it.
    pub fn beginning(&self) -> &[u8] {
        // SAFETY: as in constant(). nginx keeps the text that it compiled.
        let text = unsafe { bytes(self.0.as_ref().value) };
        text.split(|&byte| byte == b'$').next().unwrap_or_default()
    }

    /// The text for `request`. `None` when there is no memory. It lives as long as the request.
    pub fn evaluate<'a>(&self, request: Request) -> Option<&'a [u8]> {
        let mut value = str_of(b"");

        // SAFETY: compiled by nginx; a live request, in whose pool the text is put.
        unsafe {
            let rc =
                nginx_sys::ngx_http_complex_value(request.as_ptr(), self.0.as_ptr(), &mut value);
            (rc == code::OK).then(|| bytes(value))
        }
    }
}

/// The C side of a directive: `ngx_command_t`'s `set`.
///
/// # Safety
///
/// For nginx's parser to call, with a command whose `conf` is the server's and a server
/// configuration that is a `C`.
pub unsafe extern "C" fn set<C, D: Directive<C>>(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx's parser passes its own state, the command and the configuration; the first
    // of the arguments is the directive's name.
    let (parsed, arguments, conf) = unsafe {
        let (Some(parsed), Some(conf)) = (Conf::from_ptr(cf), conf.cast::<C>().as_mut()) else {
            return NGX_CONF_ERROR;
        };

        let values: &[ngx_str_t] =
            parsed.raw().args.as_ref().map(|args| args.as_slice()).unwrap_or_default();

        (parsed, Arguments { conf: parsed, values: values.get(1..).unwrap_or_default() }, conf)
    };

    let bug = || Err(Refused::Because("an error of the module stopped it".into()));

    match guard(parsed.log(), || D::set(conf, arguments), bug) {
        Ok(()) => std::ptr::null_mut(),
        Err(Refused::Duplicate) => c"is duplicate".as_ptr().cast_mut(),
        Err(Refused::Because(sentence)) => parsed.refuse(&sentence),
    }
}
