//! Owns through which parent the tunnels of a server go, what it is told, and when another one is tried.

use std::cell::OnceCell;
use std::ptr::NonNull;
use std::rc::Rc;

use nginx_sys::ngx_msec_t;
use proxy_connect_core::parent::connect::{basic, is_hop_by_hop, is_name, is_value};
use proxy_connect_core::parent::next::{Condition, Conditions};
use proxy_connect_core::parent::way::{Name, Scheme, Way};

use super::read::{because, compile, compile_one, flag, once};
use super::timeouts::msec;
use super::ServerConf;
use crate::ffi::addr::Addr;
use crate::ffi::conf::{Arguments, ComplexValue, Conf, Directive, Refused};
use crate::ffi::log::Shown;
use crate::ffi::parse_size;
use crate::ffi::request::Request;
use crate::ffi::rewrite::{is_in_if, run_in_if, Code};
use crate::ffi::upstream::Group;
use crate::tunnel::Tunnel;

const PASS: &str = "proxy_connect_pass";
const PASS_USER: &str = "proxy_connect_pass_user";
const PASS_AUTH: &str = "proxy_connect_pass_auth";
const PASS_RESOLVE: &str = "proxy_connect_pass_resolve";
const BUFFER_SIZE: &str = "proxy_connect_pass_buffer_size";
const SET_HEADER: &str = "proxy_connect_set_header";
const NEXT_UPSTREAM: &str = "proxy_connect_next_upstream";
const TRIES: &str = "proxy_connect_next_upstream_tries";
const TIMEOUT: &str = "proxy_connect_next_upstream_timeout";

/// How many bytes the answer of a parent may have without a directive, and with one.
const DEFAULT_BUFFER_SIZE: usize = 8 << 10;
const BUFFER_SIZE_MIN: usize = 256;
const BUFFER_SIZE_MAX: usize = 1 << 20;

/// `proxy_connect_pass`
#[derive(Debug)]
pub struct Pass {
    value: ComplexValue,
    /// The file and the line.
    position: String,
    place: OnceCell<Place>,
}

/// Where a parent is, as far as that is known at the start.
#[derive(Clone, Debug)]
pub enum Place {
    /// A group of servers, of which the balancer chooses one.
    Group(Group),
    /// The addresses of a host.
    Addrs(Vec<Addr>),
}

/// What a block says of the parents.
#[derive(Debug, Default)]
pub struct Parents {
    pass: Option<Rc<Pass>>,
    /// Those of its `if`s.
    conditional: Vec<NonNull<Pass>>,
    user: Option<Option<User>>,
    auth: Option<bool>,
    resolve: Option<bool>,
    buffer_size: Option<usize>,
    fields: Option<Rc<Vec<FieldConf>>>,
    next: Option<Conditions>,
    tries: Option<usize>,
    timeout: Option<ngx_msec_t>,
}

/// `proxy_connect_pass_user`
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The user.
    pub name: ComplexValue,
    /// The password.
    pub password: ComplexValue,
}

/// `proxy_connect_set_header`
#[derive(Debug)]
pub struct FieldConf {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value: an empty one takes the field away.
    pub value: ComplexValue,
}

impl Pass {
    /// The text that says which way the tunnel of `request` takes. `None` without memory.
    pub fn evaluate(&self, request: Request) -> Option<&[u8]> {
        match self.value.constant() {
            Some(text) => Some(text),
            None => self.value.evaluate(request),
        }
    }

    /// Whether it may lead through a parent.
    pub fn is_through(&self) -> bool {
        self.value.constant() != Some(b"direct")
    }

    /// Where the parent is, for a value without variables.
    pub fn place(&self) -> Option<&Place> {
        self.place.get()
    }

    fn prepare(&self, cf: Conf, server: &ServerConf) -> Result<(), String> {
        let user = format!("in the \"{PASS}\" directive in {}", self.position);

        let Some(text) = self.value.constant() else {
            let is_https = self.value.beginning().starts_with(Scheme::Https.prefix().as_bytes());

            return match is_https {
                true => server.prepare_ssl(cf, &user),
                false => server.may_prepare_ssl(cf, &user),
            };
        };

        let Ok(Way::Parent(name)) = Way::read(text) else {
            return Ok(());
        };

        if name.scheme == Some(Scheme::Https) {
            server.prepare_ssl(cf, &user)?;
        }

        if self.place.get().is_none() {
            // Nobody has set it meanwhile.
            let _ = self.place.set(self.find(cf, text, name)?);
        }

        Ok(())
    }

    fn find(&self, cf: Conf, text: &[u8], name: Name<'_>) -> Result<Place, String> {
        let position = &self.position;
        let shown = Shown(text);

        match (Group::of_conf(cf, name.host), name.port) {
            (Some(group), None) => {
                group.add_to_parents();
                return Ok(Place::Group(group));
            }
            (Some(_), Some(port)) => {
                return Err(format!(
                    "\"{shown}\" in the \"{PASS}\" directive in {position} has the port {port}, and upstream \
                     \"{}\" has servers with ports of their own: leave it out",
                    Shown(name.host)
                ));
            }
            (None, _) => {}
        }

        if name.scheme.is_none() && name.port.is_none() {
            return Err(format!(
                "\"{shown}\" in the \"{PASS}\" directive in {position} is no upstream: write \"upstream {shown} \
                 {{ ... }}\", or for a host \"http://{shown}\" or \"{shown}:PORT\""
            ));
        }

        match resolve(cf, name) {
            Ok(addrs) => Ok(Place::Addrs(addrs)),
            Err(words) => {
                Err(format!("{words} in \"{shown}\" of the \"{PASS}\" directive in {position}"))
            }
        }
    }
}

fn resolve(cf: Conf, name: Name<'_>) -> Result<Vec<Addr>, String> {
    let scheme = name.scheme.unwrap_or_default();
    let port = name.port.unwrap_or(scheme.default_port());
    Addr::resolve(cf.pool(), name.host, port)
}

impl Parents {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        if self.pass.is_none() {
            self.pass.clone_from(&http.pass);
        }

        self.user = self.user.or(http.user);
        self.auth = self.auth.or(http.auth);
        self.resolve = self.resolve.or(http.resolve);
        self.buffer_size = self.buffer_size.or(http.buffer_size);
        self.next = self.next.or(http.next);
        self.tries = self.tries.or(http.tries);
        self.timeout = self.timeout.or(http.timeout);

        if self.fields.is_none() {
            self.fields.clone_from(&http.fields);
        }
    }

    /// Refuses directives that say different things of the same field.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn check(&self) -> Result<(), String> {
        if self.auth == Some(true) && self.user.flatten().is_some() {
            return Err(format!(
                "\"{PASS_USER}\" and \"{PASS_AUTH} on\" both give a parent credentials, keep one of them: \
                 \"{PASS_USER} off\", or \"{PASS_AUTH} off\""
            ));
        }

        Ok(())
    }
}

impl ServerConf {
    /// `proxy_connect_pass`. `None` where tunnels go to their destinations.
    pub fn pass(&self) -> Option<&Pass> {
        self.parents.pass.as_deref()
    }

    /// Whether any of its tunnels may lead through a parent.
    pub fn has_parent(&self) -> bool {
        self.pass().is_some_and(Pass::is_through) || !self.parents.conditional.is_empty()
    }

    /// Finds the parents of a server that takes CONNECT, as far as they are known by now: all blocks are read.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn find_parents(&self, cf: Conf) -> Result<(), String> {
        // SAFETY: it lies in the configuration's pool, and is shared from there on.
        let conditional = self.parents.conditional.iter().map(|pass| unsafe { pass.as_ref() });

        self.pass().into_iter().chain(conditional).try_for_each(|pass| pass.prepare(cf, self))
    }

    /// `proxy_connect_pass_user`
    pub fn pass_user(&self) -> Option<User> {
        self.parents.user.flatten()
    }

    /// `proxy_connect_pass_auth`: whether a parent gets the client's credentials, and the client its challenge.
    pub fn passes_auth(&self) -> bool {
        self.parents.auth.unwrap_or_default()
    }

    /// `proxy_connect_pass_resolve`: whether a parent gets an address in place of a name.
    pub fn pass_resolves(&self) -> bool {
        self.parents.resolve.unwrap_or_default()
    }

    /// `proxy_connect_pass_buffer_size`, in bytes.
    pub fn pass_buffer_size(&self) -> usize {
        self.parents.buffer_size.unwrap_or(DEFAULT_BUFFER_SIZE)
    }

    /// `proxy_connect_set_header`
    pub fn pass_fields(&self) -> &[FieldConf] {
        self.parents.fields.as_deref().map_or(&[], Vec::as_slice)
    }

    /// `proxy_connect_next_upstream`
    pub fn next_upstream(&self) -> Conditions {
        self.parents.next.unwrap_or_default()
    }

    /// `proxy_connect_next_upstream_tries`, `None` for any number.
    pub fn next_upstream_tries(&self) -> Option<usize> {
        self.parents.tries.filter(|&tries| tries > 0)
    }

    /// `proxy_connect_next_upstream_timeout`, in milliseconds, `None` for any time.
    pub fn next_upstream_timeout(&self) -> Option<ngx_msec_t> {
        self.parents.timeout.filter(|&timeout| timeout > 0)
    }
}

/// `proxy_connect_pass direct | [http://|https://|socks5://]host[:port] | name`
pub struct ProxyConnectPass;

impl Directive<ServerConf> for ProxyConnectPass {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        if !is_in_if(arguments.conf()) {
            return once(&mut conf.parents.pass, || pass(arguments).map(Rc::new));
        }

        if cfg!(no_rewrite) {
            return because(format!(
                "\"{PASS}\" in an \"if\" does nothing: this core runs no rewrite phase for CONNECT, take a \"map\""
            ));
        }

        match run_in_if(arguments.conf(), pass(arguments)?) {
            Some(pass) => {
                conf.parents.conditional.push(pass);
                Ok(())
            }
            None => because("no memory is left"),
        }
    }
}

impl Code for Pass {
    fn run(&'static self, request: Request) {
        if let Some(tunnel) = Tunnel::current(request) {
            tunnel.overrides.pass.set(Some(self));
        }
    }
}

fn pass(arguments: Arguments<'_>) -> Result<Pass, Refused> {
    let value = compile(PASS, arguments)?;

    if let Some(Err(error)) = value.constant().map(Way::read) {
        let shown = Shown(arguments.first());
        return because(format!("\"{shown}\" in the \"{PASS}\" directive {error}"));
    }

    Ok(Pass { value, position: arguments.conf().position(), place: OnceCell::new() })
}

/// `proxy_connect_pass_user name password | off`
pub struct ProxyConnectPassUser;

impl Directive<ServerConf> for ProxyConnectPassUser {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.user, || user(arguments))
    }
}

fn user(arguments: Arguments<'_>) -> Result<Option<User>, Refused> {
    let Some(password) = arguments.iter().nth(1) else {
        return match arguments.first() {
            b"off" => Ok(None),
            _ => because(format!("\"{PASS_USER}\" takes a name and a password, or \"off\"")),
        };
    };

    let user = User {
        name: compile(PASS_USER, arguments)?,
        password: compile_one(PASS_USER, arguments, password)?,
    };

    // What it says is not shown: it is a secret.
    if let (Some(name), Some(password)) = (user.name.constant(), user.password.constant()) {
        if let Err(error) = basic(name, password) {
            return because(format!(
                "the name or the password of the \"{PASS_USER}\" directive {error}"
            ));
        }
    }

    Ok(Some(user))
}

/// `proxy_connect_pass_auth on | off`
pub struct ProxyConnectPassAuth;

impl Directive<ServerConf> for ProxyConnectPassAuth {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.auth, || flag(PASS_AUTH, arguments))
    }
}

/// `proxy_connect_pass_resolve on | off`
pub struct ProxyConnectPassResolve;

impl Directive<ServerConf> for ProxyConnectPassResolve {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.resolve, || flag(PASS_RESOLVE, arguments))
    }
}

/// `proxy_connect_pass_buffer_size size`
pub struct ProxyConnectPassBufferSize;

impl Directive<ServerConf> for ProxyConnectPassBufferSize {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.buffer_size, || {
            let value = arguments.first();
            let is_size = |size: &usize| (BUFFER_SIZE_MIN..=BUFFER_SIZE_MAX).contains(size);

            match parse_size(value).filter(is_size) {
                Some(size) => Ok(size),
                None => because(format!(
                    "invalid size \"{}\" in the \"{BUFFER_SIZE}\" directive, give one from \"256\" to \"1m\"",
                    Shown(value)
                )),
            }
        })
    }
}

/// `proxy_connect_set_header field value`
pub struct ProxyConnectSetHeader;

impl Directive<ServerConf> for ProxyConnectSetHeader {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        let field = field(arguments)?;

        // Nobody shares the list while the blocks are read: servers take that of `http` afterwards.
        match Rc::get_mut(conf.parents.fields.get_or_insert_default()) {
            Some(fields) => fields.push(field),
            None => return Err(Refused::Duplicate),
        }

        Ok(())
    }
}

fn field(arguments: Arguments<'_>) -> Result<FieldConf, Refused> {
    let name = arguments.first();
    let shown = Shown(name);

    if !is_name(name) {
        return because(format!(
            "invalid field \"{shown}\" in the \"{SET_HEADER}\" directive, give the name of a header field"
        ));
    }

    if is_hop_by_hop(name) {
        return because(format!(
            "the field \"{shown}\" in the \"{SET_HEADER}\" directive is the connection's own, or tells of a body, \
             which a CONNECT has none of: leave it out"
        ));
    }

    let value = compile_one(SET_HEADER, arguments, arguments.iter().nth(1).unwrap_or_default())?;

    if value.constant().is_some_and(|text| !is_value(text)) {
        return because(format!(
            "the value of \"{shown}\" in the \"{SET_HEADER}\" directive has a control character"
        ));
    }

    Ok(FieldConf { name: name.to_vec(), value })
}

/// `proxy_connect_next_upstream error | timeout | denied | http_502 | http_503 | http_504 | http_407 | off ...`
pub struct ProxyConnectNextUpstream;

impl Directive<ServerConf> for ProxyConnectNextUpstream {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.next, || {
            if arguments.first() == b"off" && arguments.iter().count() == 1 {
                return Ok(Conditions::NONE);
            }

            arguments.iter().try_fold(Conditions::NONE, |conditions, name| {
                match Condition::named(name) {
                    Some(condition) => Ok(conditions.with(condition)),
                    None => because(format!(
                        "invalid value \"{}\" in the \"{NEXT_UPSTREAM}\" directive, give some of \"error\", \
                         \"timeout\", \"denied\", \"http_502\", \"http_503\", \"http_504\", \"http_407\", or \
                         \"off\" alone",
                        Shown(name)
                    )),
                }
            })
        })
    }
}

/// `proxy_connect_next_upstream_tries number`
pub struct ProxyConnectNextUpstreamTries;

impl Directive<ServerConf> for ProxyConnectNextUpstreamTries {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.tries, || {
            let value = arguments.first();
            let is_number = value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());

            match number.filter(|_| is_number) {
                Some(number) => Ok(number),
                None => because(format!(
                    "invalid number \"{}\" in the \"{TRIES}\" directive, give one such as \"3\", or \"0\" for any",
                    Shown(value)
                )),
            }
        })
    }
}

/// `proxy_connect_next_upstream_timeout time`
pub struct ProxyConnectNextUpstreamTimeout;

impl Directive<ServerConf> for ProxyConnectNextUpstreamTimeout {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.parents.timeout, || msec(TIMEOUT, arguments))
    }
}
