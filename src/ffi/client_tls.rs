//! Owns TLS to a server, with nginx as its client: `client_tls.c` says why through the C compiler.

use std::ffi::{c_char, c_void, CStr};
use std::ptr::NonNull;

use nginx_sys::{ngx_conf_t, ngx_connection_t, ngx_int_t, ngx_str_t, ngx_uint_t};

use super::conf::Conf;
use super::variable::NoMemory;
use super::{code, str_of};

/// What handshakes begin with: protocols, certificates and the like. It lives as long as the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Context(NonNull<c_void>);

/// What a context is made of. Texts may be empty where that means nothing.
pub struct Settings<'a> {
    /// Names of protocols with spaces between them.
    pub protocols: &'a [u8],
    /// A list as OpenSSL reads it.
    pub ciphers: &'a [u8],
    /// The file of our certificate.
    pub certificate: &'a [u8],
    /// The file of its key.
    pub certificate_key: &'a [u8],
    /// The file of those that are trusted; `None` where nothing is verified.
    pub trusted_certificate: Option<&'a [u8]>,
    /// The file of revoked ones.
    pub crl: &'a [u8],
    /// How long a chain of certificates may be.
    pub verify_depth: usize,
    /// Whether a session goes on in the next connection.
    pub session_reuse: bool,
    /// Commands of OpenSSL, with their values.
    pub commands: &'a [(Vec<u8>, Vec<u8>)],
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is done.
    Done,
    /// An event will tell.
    Pending,
    /// It failed, and nginx has logged why.
    Failed,
}

/// `proxy_connect_ssl_conf_t`
#[repr(C)]
struct RawSettings {
    protocols: ngx_str_t,
    ciphers: ngx_str_t,
    certificate: ngx_str_t,
    certificate_key: ngx_str_t,
    trusted_certificate: ngx_str_t,
    crl: ngx_str_t,
    verify: ngx_uint_t,
    verify_depth: ngx_uint_t,
    session_reuse: ngx_uint_t,
    commands: *const [ngx_str_t; 2],
    ncommands: ngx_uint_t,
}

type Handler = unsafe extern "C" fn(*mut ngx_connection_t);

// src/ffi/client_tls.c
extern "C" {
    fn proxy_connect_ssl_is_supported() -> ngx_uint_t;
    fn proxy_connect_ssl_has_commands() -> ngx_uint_t;
    fn proxy_connect_ssl_protocol(name: *const u8, len: usize) -> ngx_uint_t;
    fn proxy_connect_ssl_create(cf: *mut ngx_conf_t, conf: *const RawSettings) -> *mut c_void;
    fn proxy_connect_ssl_begin(
        ssl: *mut c_void,
        c: *mut ngx_connection_t,
        name: *const u8,
        len: usize,
        server_name: ngx_uint_t,
        handler: Handler,
    ) -> ngx_int_t;
    fn proxy_connect_ssl_is_handshaked(c: *mut ngx_connection_t) -> ngx_uint_t;
    fn proxy_connect_ssl_verify(
        c: *mut ngx_connection_t,
        name: *const u8,
        len: usize,
    ) -> *const c_char;
    fn proxy_connect_close(c: *mut ngx_connection_t);
}

/// Whether this nginx can do it: it has OpenSSL, and is 1.13.0 or newer.
pub fn is_supported() -> bool {
    // SAFETY: a constant.
    unsafe { proxy_connect_ssl_is_supported() != 0 }
}

/// Whether it takes commands of OpenSSL: since 1.19.4.
pub fn has_commands() -> bool {
    // SAFETY: a constant.
    unsafe { proxy_connect_ssl_has_commands() != 0 }
}

/// Whether nginx knows a protocol of that name.
pub fn is_protocol(name: &[u8]) -> bool {
    // SAFETY: a name with its length.
    unsafe { proxy_connect_ssl_protocol(name.as_ptr(), name.len()) != 0 }
}

impl Context {
    /// Makes a context. `None` where something is wrong with the settings, as nginx has logged.
    pub fn new(conf: Conf, settings: &Settings<'_>) -> Option<Self> {
        // OpenSSL wants an end to each of them.
        let copy = |text: &[u8]| {
            let copy = conf.pool().copy(&[text, b"\0"].concat())?;
            Some(str_of(&copy[..text.len()]))
        };

        let mut commands = Vec::new();

        for (name, value) in settings.commands {
            commands.push([copy(name)?, copy(value)?]);
        }

        let raw = RawSettings {
            protocols: copy(settings.protocols)?,
            ciphers: copy(settings.ciphers)?,
            certificate: copy(settings.certificate)?,
            certificate_key: copy(settings.certificate_key)?,
            trusted_certificate: copy(settings.trusted_certificate.unwrap_or_default())?,
            crl: copy(settings.crl)?,
            verify: settings.trusted_certificate.is_some().into(),
            verify_depth: settings.verify_depth,
            session_reuse: settings.session_reuse.into(),
            commands: commands.as_ptr(),
            ncommands: commands.len(),
        };

        // SAFETY: nginx's parser; an ngx_keyval_t is two strings, and the texts of all live as long as the configuration.
        NonNull::new(unsafe { proxy_connect_ssl_create(conf.as_ptr(), &raw) }).map(Self)
    }
}

/// Begins a handshake, see [`Peer::begin_tls`](super::peer::Peer::begin_tls).
///
/// # Safety
///
/// `connection` must be open, without TLS, with a request that lives as its data.
pub(super) unsafe fn begin(
    context: Context,
    connection: *mut ngx_connection_t,
    name: &[u8],
    tells_name: bool,
    handler: Handler,
) -> Result<Handshake, NoMemory> {
    // SAFETY: the caller's promise, and a name with its length.
    let rc = unsafe {
        proxy_connect_ssl_begin(
            context.0.as_ptr(),
            connection,
            name.as_ptr(),
            name.len(),
            tells_name.into(),
            handler,
        )
    };

    match rc {
        code::OK => Ok(Handshake::Done),
        code::AGAIN => Ok(Handshake::Pending),
        code::DECLINED => Ok(Handshake::Failed),
        _ => Err(NoMemory),
    }
}

/// How a handshake ended whose end was told.
///
/// # Safety
///
/// `connection` must be open.
pub(super) unsafe fn handshake(connection: *mut ngx_connection_t) -> Handshake {
    // SAFETY: the caller's promise.
    match unsafe { proxy_connect_ssl_is_handshaked(connection) } {
        0 => Handshake::Failed,
        _ => Handshake::Done,
    }
}

/// What is wrong with the server's certificate.
///
/// # Safety
///
/// `connection` must be one over TLS whose handshake is done.
pub(super) unsafe fn verify(
    connection: *mut ngx_connection_t,
    name: &[u8],
) -> Option<&'static str> {
    // SAFETY: the caller's promise; null, or a text of OpenSSL's or of ours that lives for ever.
    unsafe {
        let words = proxy_connect_ssl_verify(connection, name.as_ptr(), name.len());
        (!words.is_null()).then(|| CStr::from_ptr(words).to_str().unwrap_or("it is not valid"))
    }
}

/// Closes a connection, one over TLS with a close_notify unless that is forbidden.
///
/// # Safety
///
/// `connection` must be open, and nobody use it afterwards.
pub(super) unsafe fn close(connection: *mut ngx_connection_t) {
    // SAFETY: the caller's promise.
    unsafe { proxy_connect_close(connection) };
}
