//! Owns what a block says of how a standing tunnel moves its bytes.

use proxy_connect_core::relay::Splice;

use super::read::{because, once};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_size;
use crate::ffi::socket::{send_lowat, SendLowat};

/// How the bytes are moved.
#[derive(Debug, Default)]
pub struct Transfer {
    splice: Option<Splicing>,
    send_lowat: Option<usize>,
    /// `Some(None)` for `off`.
    http2_window: Option<Option<u32>>,
}

/// `proxy_connect_splice`: whether bytes may go through a pipe, and to whom.
#[derive(Clone, Copy, Debug, Default)]
struct Splicing {
    splice: Splice,
    /// To a client of TLS as well, where the system makes the records (kTLS).
    ktls: bool,
}

impl Transfer {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.splice = self.splice.or(http.splice);
        self.send_lowat = self.send_lowat.or(http.send_lowat);
        self.http2_window = self.http2_window.or(http.http2_window);
    }
}

impl ServerConf {
    /// Whether `proxy_connect_splice` lets bytes go through a pipe.
    pub fn splice(&self) -> Splice {
        self.transfer.splice.unwrap_or_default().splice
    }

    /// Whether `proxy_connect_splice` lets them do so to a client of TLS, where the system makes the records.
    pub fn splices_into_ktls(&self) -> bool {
        self.transfer.splice.unwrap_or_default().ktls
    }

    /// `proxy_connect_send_lowat`, in bytes: how much room the upstream's connection needs before it
    /// is called writable. 0 leaves that to the system.
    pub fn send_lowat(&self) -> usize {
        self.transfer.send_lowat.unwrap_or_default()
    }
}

/// How large a window becomes where nobody says it: one tunnel gets 50 MiB/s over a path of 50 ms with it.
const HTTP2_WINDOW: u32 = 8 << 20;

/// What a window has to be at least: as much as any client may send before it has read the settings.
const HTTP2_WINDOW_MIN: usize = 64 << 10;

/// What a window may be at most (RFC 9113, section 6.9.1).
const HTTP2_WINDOW_MAX: usize = (1 << 31) - 1;

impl ServerConf {
    /// `proxy_connect_http2_window`, in bytes: what the client of a tunnel over HTTP/2 may have sent that the
    /// upstream has not taken. `None` where there are no such tunnels.
    pub fn http2_window(&self) -> Option<u32> {
        self.transfer.http2_window.unwrap_or(Some(HTTP2_WINDOW))
    }

    /// Whether the server takes CONNECT over HTTP/2.
    pub fn takes_http2(&self) -> bool {
        self.is_enabled() && self.http2_window().is_some()
    }
}

/// `proxy_connect_http2_window size | off`
pub struct ProxyConnectHttp2Window;

impl Directive<ServerConf> for ProxyConnectHttp2Window {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.transfer.http2_window, || http2_window(arguments))
    }
}

fn http2_window(arguments: Arguments<'_>) -> Result<Option<u32>, Refused> {
    let value = arguments.first();

    if value == b"off" {
        return Ok(None);
    }

    let size = parse_size(value)
        .filter(|size| (HTTP2_WINDOW_MIN..=HTTP2_WINDOW_MAX).contains(size))
        .and_then(|size| u32::try_from(size).ok());

    match size {
        Some(size) => Ok(Some(size)),
        None => because(format!(
            "invalid size \"{}\" in the \"proxy_connect_http2_window\" directive, give one from \"64k\" \
             to \"2047m\", or \"off\"",
            Shown(value)
        )),
    }
}

/// `proxy_connect_splice on | off | auto | ktls`
pub struct ProxyConnectSplice;

impl Directive<ServerConf> for ProxyConnectSplice {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.transfer.splice, || splice(arguments))
    }
}

fn splice(arguments: Arguments<'_>) -> Result<Splicing, Refused> {
    let plain = |splice| Ok(Splicing { splice, ktls: false });

    match arguments.first() {
        b"off" => plain(Splice::Off),
        b"auto" => plain(Splice::Auto),
        b"on" if cfg!(target_os = "linux") => plain(Splice::On),
        b"ktls" if cfg!(target_os = "linux") => Ok(Splicing { splice: Splice::Auto, ktls: true }),
        word @ (b"on" | b"ktls") => because(format!(
            "\"proxy_connect_splice {}\" needs splice(2), which only Linux has: set \"auto\"",
            Shown(word)
        )),
        other => because(format!(
            "invalid value \"{}\" in the \"proxy_connect_splice\" directive, it must be \"on\", \
             \"off\", \"auto\" or \"ktls\"",
            Shown(other)
        )),
    }
}

/// `proxy_connect_send_lowat size`, as nginx's own `proxy_send_lowat`, see
/// ngx_http_proxy_lowat_check()
pub struct ProxyConnectSendLowat;

impl Directive<ServerConf> for ProxyConnectSendLowat {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.transfer.send_lowat, || lowat(arguments))
    }
}

fn lowat(arguments: Arguments<'_>) -> Result<usize, Refused> {
    let value = arguments.first();

    let Some(size) = parse_size(value) else {
        return because(format!(
            "invalid size \"{}\" in the \"proxy_connect_send_lowat\" directive, give one such as \
             \"1k\"",
            Shown(value)
        ));
    };

    match send_lowat() {
        SendLowat::Below(limit) if size >= limit => because(format!(
            "\"proxy_connect_send_lowat\" must be less than {limit} (sysctl \
             net.inet.tcp.sendspace)"
        )),
        SendLowat::Any | SendLowat::Below(_) => Ok(size),
        SendLowat::Unsupported => {
            let conf = arguments.conf();
            conf.warn(format_args!("\"proxy_connect_send_lowat\" is not supported, ignored"));
            Ok(0)
        }
    }
}
