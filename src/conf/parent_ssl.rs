//! Owns TLS to the parents of a server, as `proxy_ssl_*` has it to an upstream. What differs: certificates are
//! verified, and the name is told, unless it is said otherwise.

use std::cell::OnceCell;

use super::read::{because, compile, flag, once};
use super::ServerConf;
use crate::ffi::client_tls::{has_commands, is_protocol, is_supported, Context, Settings};
use crate::ffi::conf::{Arguments, ComplexValue, Conf, Directive, Refused};
use crate::ffi::log::Shown;

const NAME: &str = "proxy_connect_ssl_name";
const SERVER_NAME: &str = "proxy_connect_ssl_server_name";
const VERIFY: &str = "proxy_connect_ssl_verify";
const VERIFY_DEPTH: &str = "proxy_connect_ssl_verify_depth";
const TRUSTED_CERTIFICATE: &str = "proxy_connect_ssl_trusted_certificate";
const CERTIFICATE: &str = "proxy_connect_ssl_certificate";
const CERTIFICATE_KEY: &str = "proxy_connect_ssl_certificate_key";
const PROTOCOLS: &str = "proxy_connect_ssl_protocols";
const SESSION_REUSE: &str = "proxy_connect_ssl_session_reuse";
const CONF_COMMAND: &str = "proxy_connect_ssl_conf_command";

const DEFAULT_PROTOCOLS: &[u8] = b"TLSv1.2 TLSv1.3";
const DEFAULT_CIPHERS: &[u8] = b"DEFAULT";
const DEFAULT_VERIFY_DEPTH: usize = 1;

/// What a block says of TLS to parents.
#[derive(Debug, Default)]
pub struct ParentSsl {
    name: Option<ComplexValue>,
    server_name: Option<bool>,
    verify: Option<bool>,
    verify_depth: Option<usize>,
    trusted_certificate: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
    certificate: Option<Vec<u8>>,
    certificate_key: Option<Vec<u8>>,
    protocols: Option<Vec<u8>>,
    ciphers: Option<Vec<u8>>,
    session_reuse: Option<bool>,
    commands: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// What is made of it, where it is needed.
    context: OnceCell<Context>,
}

impl ParentSsl {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        self.name = self.name.or(http.name);
        self.server_name = self.server_name.or(http.server_name);
        self.verify = self.verify.or(http.verify);
        self.verify_depth = self.verify_depth.or(http.verify_depth);
        self.session_reuse = self.session_reuse.or(http.session_reuse);

        for (own, of_http) in [
            (&mut self.trusted_certificate, &http.trusted_certificate),
            (&mut self.crl, &http.crl),
            (&mut self.certificate, &http.certificate),
            (&mut self.certificate_key, &http.certificate_key),
            (&mut self.protocols, &http.protocols),
            (&mut self.ciphers, &http.ciphers),
        ] {
            if own.is_none() {
                own.clone_from(of_http);
            }
        }

        if self.commands.is_none() {
            self.commands.clone_from(&http.commands);
        }
    }

    fn verifies(&self) -> bool {
        self.verify.unwrap_or(true)
    }

    /// Makes what handshakes begin with; `user` says where a parent is named that needs it.
    fn prepare(&self, cf: Conf, user: &str) -> Result<(), String> {
        if self.context.get().is_some() {
            return Ok(());
        }

        if !is_supported() {
            return Err(format!(
                "https {user} needs an nginx with OpenSSL, 1.13.0 or newer: build it with --with-http_ssl_module"
            ));
        }

        if self.verifies() && self.trusted_certificate.is_none() {
            return Err(format!(
                "no \"{TRUSTED_CERTIFICATE}\" to verify the parent with that is named {user}: name the file of those \
                 that are trusted, or say \"{VERIFY} off\""
            ));
        }

        if self.certificate.is_some() && self.certificate_key.is_none() {
            return Err(format!(
                "no \"{CERTIFICATE_KEY}\" for the \"{CERTIFICATE}\" of the server"
            ));
        }

        fn text(text: &Option<Vec<u8>>) -> &[u8] {
            text.as_deref().unwrap_or_default()
        }

        let settings = Settings {
            protocols: self.protocols.as_deref().unwrap_or(DEFAULT_PROTOCOLS),
            ciphers: self.ciphers.as_deref().unwrap_or(DEFAULT_CIPHERS),
            certificate: text(&self.certificate),
            certificate_key: text(&self.certificate_key),
            trusted_certificate: self.verifies().then(|| text(&self.trusted_certificate)),
            crl: text(&self.crl),
            verify_depth: self.verify_depth.unwrap_or(DEFAULT_VERIFY_DEPTH),
            session_reuse: self.session_reuse.unwrap_or(true),
            commands: self.commands.as_deref().unwrap_or_default(),
        };

        match Context::new(cf, &settings) {
            Some(context) => {
                let _ = self.context.set(context);
                Ok(())
            }
            None => Err(format!(
                "TLS to the parent that is named {user} can't be prepared, see above: \"proxy_connect_ssl_...\""
            )),
        }
    }
}

impl ServerConf {
    /// Makes what handshakes with a parent begin with.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing.
    pub(super) fn prepare_ssl(&self, cf: Conf, user: &str) -> Result<(), String> {
        self.parent_ssl.prepare(cf, user)
    }

    /// The same for a server whose parents are named by a variable: they may have none that needs it.
    ///
    /// # Errors
    ///
    /// As for [`ServerConf::prepare_ssl`].
    pub(super) fn may_prepare_ssl(&self, cf: Conf, user: &str) -> Result<(), String> {
        let ssl = &self.parent_ssl;

        if !is_supported() || (ssl.verifies() && ssl.trusted_certificate.is_none()) {
            return Ok(());
        }

        ssl.prepare(cf, user)
    }

    /// What handshakes with a parent begin with. `None` where the configuration has nothing for them.
    pub fn ssl_context(&self) -> Option<Context> {
        self.parent_ssl.context.get().copied()
    }

    /// `proxy_connect_ssl_name`
    pub fn ssl_name(&self) -> Option<ComplexValue> {
        self.parent_ssl.name
    }

    /// `proxy_connect_ssl_server_name`
    pub fn tells_ssl_name(&self) -> bool {
        self.parent_ssl.server_name.unwrap_or(true)
    }

    /// `proxy_connect_ssl_verify`
    pub fn verifies_ssl(&self) -> bool {
        self.parent_ssl.verifies()
    }
}

/// A directive that takes the name of a file, or a list for OpenSSL.
macro_rules! texts {
    ($($type:ident, $field:ident, $text:literal;)+) => {
        $(
            #[doc = $text]
            pub struct $type;

            impl Directive<ServerConf> for $type {
                fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
                    once(&mut conf.parent_ssl.$field, || Ok(arguments.first().to_vec()))
                }
            }
        )+
    };
}

texts! {
    ProxyConnectSslTrustedCertificate, trusted_certificate, "`proxy_connect_ssl_trusted_certificate file`";
    ProxyConnectSslCrl, crl, "`proxy_connect_ssl_crl file`";
    ProxyConnectSslCertificate, certificate, "`proxy_connect_ssl_certificate file`";
    ProxyConnectSslCertificateKey, certificate_key, "`proxy_connect_ssl_certificate_key file`";
    ProxyConnectSslCiphers, ciphers, "`proxy_connect_ssl_ciphers ciphers`";
}

/// A directive that is on or off.
macro_rules! flags {
    ($($type:ident, $field:ident, $name:ident, $text:literal;)+) => {
        $(
            #[doc = $text]
            pub struct $type;

            impl Directive<ServerConf> for $type {
                fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
                    once(&mut conf.parent_ssl.$field, || flag($name, arguments))
                }
            }
        )+
    };
}

flags! {
    ProxyConnectSslServerName, server_name, SERVER_NAME, "`proxy_connect_ssl_server_name on | off`";
    ProxyConnectSslVerify, verify, VERIFY, "`proxy_connect_ssl_verify on | off`";
    ProxyConnectSslSessionReuse, session_reuse, SESSION_REUSE, "`proxy_connect_ssl_session_reuse on | off`";
}

/// `proxy_connect_ssl_name name`
pub struct ProxyConnectSslName;

impl Directive<ServerConf> for ProxyConnectSslName {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parent_ssl.name, || compile(NAME, arguments))
    }
}

/// `proxy_connect_ssl_verify_depth number`
pub struct ProxyConnectSslVerifyDepth;

impl Directive<ServerConf> for ProxyConnectSslVerifyDepth {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parent_ssl.verify_depth, || {
            let value = arguments.first();
            let depth =
                std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<u16>().ok());

            match depth {
                Some(depth) => Ok(depth.into()),
                None => because(format!(
                    "invalid number \"{}\" in the \"{VERIFY_DEPTH}\" directive, give one such as \"2\"",
                    Shown(value)
                )),
            }
        })
    }
}

/// `proxy_connect_ssl_protocols [TLSv1] [TLSv1.1] [TLSv1.2] [TLSv1.3] ...`
pub struct ProxyConnectSslProtocols;

impl Directive<ServerConf> for ProxyConnectSslProtocols {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parent_ssl.protocols, || {
            match arguments.iter().find(|name| is_supported() && !is_protocol(name)) {
                Some(name) => because(format!(
                    "invalid value \"{}\" in the \"{PROTOCOLS}\" directive, give protocols such as \"TLSv1.3\"",
                    Shown(name)
                )),
                None => Ok(arguments.iter().collect::<Vec<_>>().join(&b' ')),
            }
        })
    }
}

/// `proxy_connect_ssl_conf_command name value`
pub struct ProxyConnectSslConfCommand;

impl Directive<ServerConf> for ProxyConnectSslConfCommand {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        if !has_commands() {
            return because(format!(
                "\"{CONF_COMMAND}\" needs nginx 1.19.4 or newer with OpenSSL 1.0.2 or newer"
            ));
        }

        let value = arguments.iter().nth(1).unwrap_or_default();
        let commands = conf.parent_ssl.commands.get_or_insert_default();
        commands.push((arguments.first().to_vec(), value.to_vec()));
        Ok(())
    }
}
