//! Owns what a block says of the hosts that a CONNECT may name.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use proxy_connect_core::hosts::{Hosts, Match, Pattern};

use super::read::{because, each_value, Value};
use super::ServerConf;
use crate::ffi::conf::{Arguments, Conf, Directive, Refused};
use crate::ffi::log::{Log, Shown};
use crate::ffi::regex::{NoVerdict, Regex};

/// What a block says of hosts. A list of its own stands in place of that of `http`.
#[derive(Debug, Default)]
pub struct HostLists {
    allow: Option<Rc<HostList>>,
    deny: Option<Rc<HostList>>,
}

/// The values of one directive.
#[derive(Debug)]
pub struct HostList {
    directive: &'static str,
    /// The file and the line of the first.
    position: String,
    hosts: Hosts,
    regexes: Vec<Regex>,
}

/// What a CONNECT, or a TLS client in it, names.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name in its canonical form: in lower case, without a dot at its end.
    Name(&'a [u8]),
    /// An IP address.
    Addr(IpAddr),
}

/// The value of a list that matches. It is shown as the directive and the value.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    directive: &'static str,
    value: FoundValue<'a>,
}

#[derive(Clone, Copy, Debug)]
enum FoundValue<'a> {
    Listed(Match<'a>),
    Regex(&'a Regex),
}

impl HostLists {
    /// Takes from `http` what is not set here.
    pub fn inherit(&mut self, http: &Self) {
        for (own, of_http) in [(&mut self.allow, &http.allow), (&mut self.deny, &http.deny)] {
            if own.is_none() {
                own.clone_from(of_http);
            }
        }
    }
}

impl ServerConf {
    /// `proxy_connect_allow_host`, if there is any: a host has to be in it.
    pub fn allowed_hosts(&self) -> Option<&HostList> {
        self.hosts.allow.as_deref()
    }

    /// `proxy_connect_deny_host`, if there is any: a host must not be in it.
    pub fn denied_hosts(&self) -> Option<&HostList> {
        self.hosts.deny.as_deref()
    }

    /// Where `proxy_connect_allow_host` stands.
    pub(super) fn allow_host_position(&self) -> Option<&str> {
        self.allowed_hosts().map(|list| list.position.as_str())
    }
}

impl HostList {
    fn new(directive: &'static str, conf: Conf) -> Self {
        Self { directive, position: conf.position(), hosts: Hosts::default(), regexes: Vec::new() }
    }

    /// The value that matches `host`. No name matches an IP address.
    ///
    /// # Errors
    ///
    /// A regular expression came to no end, and told the log so.
    pub fn find<'a>(&'a self, host: Host<'a>, log: Log) -> Result<Option<Found<'a>>, NoVerdict> {
        let found = match host {
            Host::Addr(addr) => self.hosts.find_addr(addr).map(FoundValue::Listed),
            Host::Name(name) => match self.hosts.find(name) {
                Some(found) => Some(FoundValue::Listed(found)),
                None => self.find_regex(name, log)?.map(FoundValue::Regex),
            },
        };

        Ok(found.map(|value| Found { directive: self.directive, value }))
    }

    fn find_regex(&self, name: &[u8], log: Log) -> Result<Option<&Regex>, NoVerdict> {
        for regex in &self.regexes {
            if regex.matches(name, log)? {
                return Ok(Some(regex));
            }
        }

        Ok(None)
    }

    fn add(&mut self, conf: Conf, value: &Value<'_>) -> Result<(), Refused> {
        match Pattern::read(value.text) {
            Err(error) => because(format!("{value} {error}")),
            Ok(Pattern::Regex(regex)) => self.add_regex(conf, value, regex),
            Ok(pattern) => {
                self.hosts.add(pattern);
                Ok(())
            }
        }
    }

    fn add_regex(&mut self, conf: Conf, value: &Value<'_>, regex: &[u8]) -> Result<(), Refused> {
        if has_capital(regex) {
            conf.warn(format_args!(
                "{value} has capital letters, and names are matched in lower case"
            ));
        }

        match Regex::compile(conf, regex) {
            Ok(regex) => self.regexes.push(regex),
            Err(words) => return because(format!("{value} is no regular expression: {words}")),
        }

        Ok(())
    }
}

/// Whether a regular expression asks for a capital letter: `\D` and its like do not.
fn has_capital(regex: &[u8]) -> bool {
    let mut is_escaped = false;

    regex.iter().any(|byte| {
        let is_capital = byte.is_ascii_uppercase() && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_capital
    })
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.directive)?;

        match self.value {
            FoundValue::Listed(found) => write!(f, "{found}"),
            FoundValue::Regex(regex) => write!(f, "~{}", Shown(regex.pattern())),
        }
    }
}

/// `proxy_connect_allow_host name | .suffix | *.suffix | ~regex | address | file:path ...`
pub struct ProxyConnectAllowHost;

impl Directive<ServerConf> for ProxyConnectAllowHost {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        add(&mut conf.hosts.allow, "proxy_connect_allow_host", arguments)
    }
}

/// `proxy_connect_deny_host name | .suffix | *.suffix | ~regex | address | file:path ...`
pub struct ProxyConnectDenyHost;

impl Directive<ServerConf> for ProxyConnectDenyHost {
    fn set(conf: &mut ServerConf, arguments: Arguments<'_>) -> Result<(), Refused> {
        add(&mut conf.hosts.deny, "proxy_connect_deny_host", arguments)
    }
}

fn add(
    place: &mut Option<Rc<HostList>>,
    directive: &'static str,
    arguments: Arguments<'_>,
) -> Result<(), Refused> {
    let conf = arguments.conf();
    let list = place.get_or_insert_with(|| Rc::new(HostList::new(directive, conf)));

    // Nobody shares a list while the blocks are read: servers take that of `http` afterwards.
    match Rc::get_mut(list) {
        Some(list) => each_value(directive, arguments, |value| list.add(conf, value)),
        None => Err(Refused::Duplicate),
    }
}
