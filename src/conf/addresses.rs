//! Owns what a block says of the addresses that may be connected to.

use std::cell::OnceCell;
use std::rc::Rc;

use proxy_connect_core::addresses::{Action, AddressIndex, AddressRules, Matcher};

use super::read::{because, compile_one, each_value, once, Value};
use super::ServerConf;
use crate::ffi::conf::{Arguments, ComplexValue, Conf, Directive, Refused};
use crate::ffi::log::Shown;

const ALLOW_UPSTREAM: &str = "proxy_connect_allow_upstream";

/// What a block says of addresses.
#[derive(Debug, Default)]
pub struct Addresses {
    rules: AddressRules,
    /// The file and the line of the first.
    position: String,
    /// The rules ready to be asked, this block's or those of `http`: made once, for all servers.
    index: OnceCell<Rc<AddressIndex>>,
    /// `proxy_connect_allow_upstream`.
    upstream: Option<Rc<[ComplexValue]>>,
}

impl Addresses {
    /// Takes from `http` what is not set here. A block with one rule of its own takes none from there, as with
    /// nginx's `allow` and `deny`.
    pub fn inherit(&mut self, http: &Self) {
        if let Some(index) = self.made_index().or_else(|| http.made_index()) {
            self.index = OnceCell::from(index);
        }

        if self.upstream.is_none() {
            self.upstream = http.upstream.clone();
        }
    }

    fn made_index(&self) -> Option<Rc<AddressIndex>> {
        let is_there = !self.rules.is_empty();
        is_there.then(|| self.index.get_or_init(|| Rc::new(self.rules.index())).clone())
    }
}

impl ServerConf {
    /// `proxy_connect_allow_address` and `proxy_connect_deny_address`, if there are any.
    pub fn addresses(&self) -> Option<&AddressIndex> {
        self.addresses.index.get().map(Rc::as_ref)
    }

    /// `proxy_connect_allow_upstream`, if it is there: one of the strings has to say yes.
    pub fn upstream_strings(&self) -> Option<&[ComplexValue]> {
        self.addresses.upstream.as_deref()
    }
}

/// `proxy_connect_allow_address address | CIDR | unix: | group | all | file:path ...`
pub struct ProxyConnectAllowAddress;

impl Directive<ServerConf> for ProxyConnectAllowAddress {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        add(conf, Action::Allow, arguments)
    }
}

/// `proxy_connect_deny_address address | CIDR | unix: | group | all | file:path ...`
pub struct ProxyConnectDenyAddress;

impl Directive<ServerConf> for ProxyConnectDenyAddress {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        add(conf, Action::Deny, arguments)
    }
}

fn add(conf: &mut ServerConf, action: Action, arguments: Arguments<'_>) -> Result<(), Refused> {
    if conf.addresses.position.is_empty() {
        conf.addresses.position = arguments.conf().position();
    }

    each_value(action.directive(), arguments, |value| {
        let matcher = read(arguments.conf(), value)?;
        conf.addresses.rules.add(action, value.text, matcher);
        Ok(())
    })
}

fn read(conf: Conf, value: &Value<'_>) -> Result<Matcher, Refused> {
    match Matcher::read(value.text) {
        Ok((matcher, None)) => Ok(matcher),
        Ok((matcher, Some(network))) => {
            conf.warn(format_args!("{value} has low bits set, it is read as {network}"));
            Ok(matcher)
        }
        Err(error) => because(format!("{value} {error}")),
    }
}

/// `proxy_connect_allow_upstream string ...`
pub struct ProxyConnectAllowUpstream;

impl Directive<ServerConf> for ProxyConnectAllowUpstream {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        once(&mut conf.addresses.upstream, || {
            let compile = |text| compile_one(ALLOW_UPSTREAM, arguments, text);
            arguments.iter().map(compile).collect()
        })
    }
}

/// Warns of rules that do nothing: they allow some addresses, and none is denied.
pub fn warn(conf: Conf, server: &ServerConf) {
    let Addresses { rules, position, .. } = &server.addresses;

    // A rule that allows an address does something beside a list of hosts.
    if !rules.is_empty() && rules.denies_nothing() && server.allowed_hosts().is_none() {
        conf.warn(format_args!(
            "\"proxy_connect_allow_address\" in {position} allows what is allowed anyway: no address is \
             denied, put \"proxy_connect_deny_address all\" behind it"
        ));
    }
}

/// Refuses rules that undo each other: with `proxy_connect_allow_host` an IP address in a CONNECT passes where
/// a rule allows it, and a rule for all would let any pass.
///
/// # Errors
///
/// A sentence that says what to do.
pub fn check(conf: &ServerConf, http: &ServerConf) -> Result<(), String> {
    let own = Some(&conf.addresses.rules).filter(|rules| !rules.is_empty());
    let rules = own.unwrap_or(&http.addresses.rules);

    match (rules.allows_all(), conf.allow_host_position()) {
        (Some(rule), Some(position)) => Err(format!(
            "\"{}\" in the \"{}\" directive lets any IP address pass that a CONNECT names, in spite of \
             \"proxy_connect_allow_host\" in {position}: leave it out, addresses that no rule matches \
             are connected to",
            Shown(rule.value()),
            rule.action().directive()
        )),
        _ => Ok(()),
    }
}
