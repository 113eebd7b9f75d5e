//! Owns socket addresses, read and written as nginx reads and writes them.

use std::fmt;
use std::mem::{size_of, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use libc::{sockaddr_storage, socklen_t};
use nginx_sys::{ngx_addr_t, ngx_url_t, sockaddr};

use super::pool::Pool;
use super::{bytes, code, list_of, str_of};

/// The longest text of an address: "unix:" and a path fill a sockaddr_un at most.
const TEXT_MAX: usize = size_of::<libc::sockaddr_un>() + b"unix:".len();

/// What nginx takes for the beginning of a unix socket's path, in any case.
const UNIX: &[u8] = b"unix:";

/// The address of a peer, or of this end of a connection.
#[derive(Clone, Copy)]
pub struct Addr {
    storage: sockaddr_storage,
    len: socklen_t,
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text())
    }
}

/// Addresses are the same when nginx would connect to the same: the port counts.
impl PartialEq for Addr {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// What an address with an optional port turned out to name.
pub enum Named {
    /// An IP address with its port, or a unix socket.
    Addr(Addr),
    /// A name to resolve, and the port.
    Name(Vec<u8>, u16),
}

impl Addr {
    /// Copies an address of nginx's.
    ///
    /// # Safety
    ///
    /// `addr` must point to `len` bytes of an address.
    pub unsafe fn copy(addr: *const sockaddr, len: socklen_t) -> Option<Self> {
        if addr.is_null() || len as usize > size_of::<sockaddr_storage>() {
            return None;
        }

        let mut storage = MaybeUninit::<sockaddr_storage>::zeroed();

        // SAFETY: the caller's promise; `len` fits. All-zero bytes are a sockaddr_storage.
        unsafe {
            storage.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(addr.cast(), len as usize);
            Some(Self { storage: storage.assume_init(), len })
        }
    }

    /// Reads an IP address without a port, an IPv6 address without brackets.
    pub fn parse_ip(pool: Pool, text: &[u8], port: u16) -> Option<Self> {
        let mut parsed = MaybeUninit::<ngx_addr_t>::zeroed();
        let text = str_of(text);

        // SAFETY: a live pool; ngx_parse_addr() only reads the text, and fills `parsed` when it
        // answers NGX_OK. All-zero bytes are an ngx_addr_t.
        let mut addr = unsafe {
            let rc =
                nginx_sys::ngx_parse_addr(pool.as_ptr(), parsed.as_mut_ptr(), text.data, text.len);
            if rc != code::OK {
                return None;
            }

            let parsed = parsed.assume_init();
            Self::copy(parsed.sockaddr, parsed.socklen)?
        };

        addr.set_port(port);
        Some(addr)
    }

    /// Reads a host, a name or an IP address, with an optional port as `proxy_pass` does: a name is resolved by the
    /// system, which may take its time. An IPv6 address has its brackets.
    ///
    /// # Errors
    ///
    /// nginx's words for what is wrong.
    pub fn resolve(pool: Pool, text: &[u8], default_port: u16) -> Result<Vec<Self>, String> {
        let copy = pool.copy(&[text, b"\0"].concat()).ok_or("no memory")?;
        let mut url = MaybeUninit::<ngx_url_t>::zeroed();

        // SAFETY: as in Named::parse(). nginx has filled as many addresses as it says.
        unsafe {
            let url = url.assume_init_mut();
            url.url = str_of(&copy[..text.len()]);
            url.default_port = default_port;

            if nginx_sys::ngx_parse_url(pool.as_ptr(), url) != code::OK {
                return Err(words(url.err));
            }

            let addrs = (0..url.naddrs).filter_map(|place| {
                let addr = &*url.addrs.add(place);
                Self::copy(addr.sockaddr, addr.socklen)
            });

            Ok(addrs.collect())
        }
    }

    /// Reads an IP address with an optional port (0 when there is none), an IPv6 address in
    /// brackets if there is one: the form of `proxy_bind`.
    pub fn parse_local(pool: Pool, text: &[u8]) -> Option<Self> {
        let mut parsed = MaybeUninit::<ngx_addr_t>::zeroed();
        let text = str_of(pool.copy(text)?);

        // SAFETY: as in parse_ip().
        unsafe {
            let rc = nginx_sys::ngx_parse_addr_port(
                pool.as_ptr(),
                parsed.as_mut_ptr(),
                text.data,
                text.len,
            );
            if rc != code::OK {
                return None;
            }

            let parsed = parsed.assume_init();
            Self::copy(parsed.sockaddr, parsed.socklen)
        }
    }

    /// Copies an IP address of nginx's, whose length its family tells. `None` for any other.
    ///
    /// # Safety
    ///
    /// `addr` must be null or point to an address.
    pub unsafe fn copy_inet(addr: *const sockaddr) -> Option<Self> {
        // SAFETY: the caller's promise.
        let len = match i32::from(unsafe { addr.as_ref()? }.sa_family) {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => return None,
        };

        // SAFETY: as above, of that length.
        unsafe { Self::copy(addr, len as socklen_t) }
    }

    /// The address with its port.
    pub fn of(addr: IpAddr, port: u16) -> Self {
        // SAFETY: all-zero bytes are a sockaddr_storage.
        let mut storage = unsafe { MaybeUninit::<sockaddr_storage>::zeroed().assume_init() };
        let place = std::ptr::addr_of_mut!(storage);

        // SAFETY: the storage has room for the address of any family, and is aligned for it.
        let len = unsafe {
            match addr {
                IpAddr::V4(addr) => {
                    let place = place.cast::<libc::sockaddr_in>();
                    (*place).sin_family = libc::AF_INET as _;
                    (*place).sin_addr.s_addr = addr.to_bits().to_be();
                    size_of::<libc::sockaddr_in>()
                }
                IpAddr::V6(addr) => {
                    let place = place.cast::<libc::sockaddr_in6>();
                    (*place).sin6_family = libc::AF_INET6 as _;
                    (*place).sin6_addr.s6_addr = addr.octets();
                    size_of::<libc::sockaddr_in6>()
                }
            }
        };

        Self { storage, len: len as socklen_t }.with_port(port)
    }

    /// The IP address with its port. `None` for a unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.ip().map(|ip| SocketAddr::new(ip, self.port()))
    }

    /// The address family, `AF_INET` and so on.
    pub fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    /// Whether the address is a unix socket.
    pub fn is_unix(&self) -> bool {
        self.family() == libc::AF_UNIX
    }

    /// Whether the address is one of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.family() == libc::AF_INET6
    }

    /// The IP address. `None` for a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        let addr = std::ptr::addr_of!(self.storage);

        // SAFETY: the storage has room for the address of any family, and is aligned for it.
        unsafe {
            match self.family() {
                libc::AF_INET => {
                    let addr = (*addr.cast::<libc::sockaddr_in>()).sin_addr;
                    Some(Ipv4Addr::from(u32::from_be(addr.s_addr)).into())
                }
                libc::AF_INET6 => {
                    Some((*addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr.into())
                }
                _ => None,
            }
        }
    }

    /// The path of a unix socket. `None` for an IP address.
    pub fn unix_path(&self) -> Option<Vec<u8>> {
        let text = self.text();
        let path = text.as_bytes().strip_prefix(UNIX)?;
        self.is_unix().then(|| path.to_vec())
    }

    /// The port, 0 where there is none.
    pub fn port(&self) -> u16 {
        let addr = std::ptr::addr_of!(self.storage);

        // SAFETY: the storage has room for the address of any family, and is aligned for it.
        let port = unsafe {
            match self.family() {
                libc::AF_INET => (*addr.cast::<libc::sockaddr_in>()).sin_port,
                libc::AF_INET6 => (*addr.cast::<libc::sockaddr_in6>()).sin6_port,
                _ => 0,
            }
        };

        u16::from_be(port)
    }

    fn set_port(&mut self, port: u16) {
        // SAFETY: an address of the length that its family has; a unix address has no port and
        // is left alone.
        unsafe { nginx_sys::ngx_inet_set_port(self.as_mut_ptr(), port) };
    }

    /// The same address with another port.
    pub fn with_port(mut self, port: u16) -> Self {
        self.set_port(port);
        self
    }

    /// It as the system has it, with its length, to be looked at.
    pub fn raw(&self) -> (*const sockaddr, socklen_t) {
        (std::ptr::addr_of!(self.storage).cast(), self.len)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut sockaddr {
        std::ptr::addr_of_mut!(self.storage).cast()
    }

    pub(super) fn len(&self) -> socklen_t {
        self.len
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: copy() checked that `len` bytes lie within the storage, all of which is initialised.
        unsafe {
            std::slice::from_raw_parts(
                std::ptr::addr_of!(self.storage).cast::<u8>(),
                self.len as usize,
            )
        }
    }

    /// The address as nginx writes it: "127.0.0.1:443", "[::1]:443" or "unix:/path".
    pub fn text(&self) -> AddrText {
        let mut text = AddrText { buffer: [0; TEXT_MAX], len: 0 };
        let mut addr = *self;

        // SAFETY: a complete address, and a buffer of the length that is passed with it.
        text.len = unsafe {
            nginx_sys::ngx_sock_ntop(
                addr.as_mut_ptr(),
                addr.len,
                text.buffer.as_mut_ptr(),
                TEXT_MAX,
                1,
            )
        };

        text
    }
}

impl Named {
    /// Reads what `proxy_pass` would read as a server: an IP address or a name, each with an
    /// optional port, or `unix:` and a path.
    ///
    /// # Errors
    ///
    /// nginx's words for what is wrong with the text.
    pub fn parse(pool: Pool, text: &[u8], default_port: u16) -> Result<Self, String> {
        // An nginx as old as 1.8 looks at the byte behind an IPv6 address: it must be no colon.
        let copy = pool.copy(&[text, b"\0"].concat()).ok_or("no memory")?;
        let mut url = MaybeUninit::<ngx_url_t>::zeroed();

        // SAFETY: all-zero bytes are an ngx_url_t, as nginx itself makes them. The pool and the
        // copy of the text outlive the call, and the results that lie in the pool are copied.
        unsafe {
            let url = url.assume_init_mut();
            url.url = str_of(&copy[..text.len()]);
            url.default_port = default_port;
            url.set_no_resolve(1);

            if nginx_sys::ngx_parse_url(pool.as_ptr(), url) != code::OK {
                return Err(words(url.err));
            }

            match url.addrs.as_ref() {
                Some(addr) => Self::addr(addr),
                None => {
                    let name = list_of(bytes(url.host)).map_err(|_| "no memory")?;
                    Ok(Self::Name(name, url.port))
                }
            }
        }
    }

    /// Reads a text that a client may have had a hand in: as [`Named::parse`] does, but it names no unix
    /// socket. "unix:443" is a host and its port.
    ///
    /// # Errors
    ///
    /// As for [`Named::parse`].
    pub fn parse_inet(pool: Pool, text: &[u8], default_port: u16) -> Result<Self, String> {
        if !is_unix(text) {
            return Self::parse(pool, text, default_port);
        }

        let (host, port) = text.split_at(UNIX.len() - 1);

        match port_of(&port[1..]) {
            Some(port) => Ok(Self::Name(list_of(host).map_err(|_| "no memory")?, port)),
            None => {
                Err("a variable can't begin with \"unix:\", write that into the directive,".into())
            }
        }
    }

    /// # Safety
    ///
    /// `addr` must be an address that nginx filled.
    unsafe fn addr(addr: &ngx_addr_t) -> Result<Self, String> {
        // SAFETY: the caller's promise.
        let addr = unsafe { Addr::copy(addr.sockaddr, addr.socklen) };
        addr.map(Self::Addr).ok_or_else(|| "too long an address".into())
    }
}

/// Whether nginx would read a unix socket's path out of a text that begins so.
pub fn is_unix(text: &[u8]) -> bool {
    text.get(..UNIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(UNIX))
}

/// A port as nginx reads it: it may have leading zeros.
fn port_of(digits: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(digits).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());

    digits.parse().ok().filter(|&port| is_number && port != 0)
}

/// # Safety
///
/// `words` must be null or a C string.
unsafe fn words(words: *const std::ffi::c_char) -> String {
    if words.is_null() {
        return "not an address".into();
    }

    // SAFETY: the caller's promise.
    unsafe { std::ffi::CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// The text of an address.
#[derive(Clone, Copy)]
pub struct AddrText {
    buffer: [u8; TEXT_MAX],
    len: usize,
}

impl AddrText {
    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl fmt::Display for AddrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}
