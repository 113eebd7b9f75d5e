//! Owns the addresses that `proxy_connect_allow_address` and `proxy_connect_deny_address` speak of:
//! how a rule is read, and which of them decides about an address.
//!
//! | file | owns |
//! |---|---|
//! | `special` | the groups of addresses, after IANA's registries |
//! | `forms` | the addresses that one address stands for |
//! | `segments` | which of thousands of networks is the first to hold an address |

mod forms;
mod segments;
mod special;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use segments::{Segments, SegmentsBuilder};

pub use special::Group;

/// Whether a rule lets an address pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `proxy_connect_allow_address`
    Allow,
    /// `proxy_connect_deny_address`
    Deny,
}

/// Addresses from `first` to `last` of one family, none of them an IPv4 address in IPv6 clothes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

/// What one value of the directives names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// `all`: unix sockets, too.
    All,
    /// `unix:`: every unix socket.
    Unix,
    /// A group of addresses.
    Group(Group),
    /// An address, or a CIDR.
    Network(Network),
}

/// Why a value is refused. Each sentence follows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Neither an address nor a word that is known.
    #[error(
        "is not an IP address without port and brackets, a CIDR, \"unix:\", \"all\", or one of \
         the groups \"loopback\", \"private\", \"linklocal\", \"shared\", \"multicast\", \
         \"reserved\", \"self\", \"special\""
    )]
    Invalid,
    /// A CIDR whose prefix is no number, or longer than an address.
    #[error("has no prefix length from 0 to {0} behind its \"/\"")]
    Prefix(u8),
    /// A path behind `unix:`.
    #[error("names a single unix socket, write \"unix:\" for all of them")]
    Path,
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    action: Action,
    value: Box<[u8]>,
}

/// The rules of a block in the order in which they are written. The first that matches decides.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    rules: Vec<Rule>,
    matchers: Vec<Matcher>,
}

/// The same rules, ready to be asked: a question costs the same for one network and for many thousand.
#[derive(Clone, Debug)]
pub struct AddressIndex {
    rules: Vec<Rule>,
    ipv4: Segments,
    ipv6: Segments,
    /// The first rule about unix sockets.
    unix: Option<u32>,
    /// The first rule about this host's own addresses.
    own: Option<u32>,
}

/// What the rules say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// No rule matches: it may be connected to.
    Unnamed,
    /// A rule allows it.
    Allowed(&'a Rule),
    /// A rule denies it.
    Denied(&'a Rule),
}

impl Action {
    /// The directive's name.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Allow => "proxy_connect_allow_address",
            Self::Deny => "proxy_connect_deny_address",
        }
    }
}

impl Rule {
    /// Whether it lets pass what it matches.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The value as the configuration has it.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

impl Network {
    /// The network of `prefix` bits around `addr`, whose lower bits are dropped. `prefix` is at most
    /// the bits of the address. What lies in ::ffff:0:0/96 is the network of IPv4 (RFC 4291, section
    /// 2.5.5.2).
    const fn new(addr: IpAddr, prefix: u8) -> Self {
        match addr {
            IpAddr::V4(addr) => Self::ipv4(addr.to_bits(), prefix),
            IpAddr::V6(addr) => match addr.to_ipv4_mapped() {
                Some(ipv4) if prefix >= 96 => Self::ipv4(ipv4.to_bits(), prefix - 96),
                _ => Self::ipv6(addr.to_bits(), prefix),
            },
        }
    }

    const fn ipv4(bits: u32, prefix: u8) -> Self {
        let addr = Ipv4Addr::from_bits(bits & !host_bits(prefix, 32) as u32);
        Self { addr: IpAddr::V4(addr), prefix }
    }

    const fn ipv6(bits: u128, prefix: u8) -> Self {
        Self { addr: IpAddr::V6(Ipv6Addr::from_bits(bits & !host_bits(prefix, 128))), prefix }
    }

    /// Reads an address, or a CIDR. With one that has bits set behind its prefix comes the network that it
    /// is read as.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when it is none.
    pub fn read(value: &[u8]) -> Result<(Self, Option<Self>), AddressError> {
        let text = std::str::from_utf8(value).map_err(|_| AddressError::Invalid)?;
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };

        let addr: IpAddr = addr.parse().map_err(|_| AddressError::Invalid)?;
        let len = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => read_prefix(digits, len)?,
            None => len,
        };

        let network = Self::new(addr, prefix);
        Ok((network, has_host_bits(addr, prefix).then_some(network)))
    }

    /// Whether its addresses are those of IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.addr.is_ipv6()
    }

    /// Whether every address of its family is in it.
    pub fn is_whole_family(&self) -> bool {
        self.prefix == 0
    }

    /// The first and the last address, as numbers.
    pub(crate) fn range(&self) -> (u128, u128) {
        let (first, len) = match self.addr {
            IpAddr::V4(addr) => (u128::from(addr.to_bits()), 32),
            IpAddr::V6(addr) => (addr.to_bits(), 128),
        };

        (first, first | host_bits(self.prefix, len))
    }
}

/// The bits behind the first `prefix` of `len`.
const fn host_bits(prefix: u8, len: u8) -> u128 {
    match len - prefix {
        0 => 0,
        bits => u128::MAX >> (128 - bits),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Matcher {
    /// Reads one value of the directives. With a CIDR that has bits set behind its prefix comes the
    /// network that it is read as.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when it is none.
    pub fn read(value: &[u8]) -> Result<(Self, Option<Network>), AddressError> {
        match value {
            b"all" => return Ok((Self::All, None)),
            b"unix:" => return Ok((Self::Unix, None)),
            _ if value.starts_with(b"unix:") => return Err(AddressError::Path),
            _ => {}
        }

        if let Some(group) = Group::named(value) {
            return Ok((Self::Group(group), None));
        }

        let (network, corrected) = Network::read(value)?;
        Ok((Self::Network(network), corrected))
    }

    /// Whether it leaves no address of a family out.
    pub fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => network.is_whole_family(),
            Self::Unix | Self::Group(_) => false,
        }
    }
}

fn read_prefix(digits: &str, max: u8) -> Result<u8, AddressError> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = digits.parse().ok().filter(|&prefix| is_number && prefix <= max);

    prefix.ok_or(AddressError::Prefix(max))
}

fn has_host_bits(addr: IpAddr, prefix: u8) -> bool {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()) & host_bits(prefix, 32) != 0,
        IpAddr::V6(addr) => addr.to_bits() & host_bits(prefix, 128) != 0,
    }
}

impl AddressRules {
    /// Adds a rule behind the others.
    pub fn add(&mut self, action: Action, value: &[u8], matcher: Matcher) {
        self.rules.push(Rule { action, value: value.into() });
        self.matchers.push(matcher);
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether nothing is denied: an address that no rule matches is allowed, too.
    pub fn denies_nothing(&self) -> bool {
        self.rules.iter().all(|rule| rule.action == Action::Allow)
    }

    /// The first rule that allows whatever there is, or all of a family: what stands behind it has no
    /// say about that.
    pub fn allows_all(&self) -> Option<&Rule> {
        let rules = self.rules.iter().zip(&self.matchers);

        rules
            .filter(|(rule, matcher)| rule.action == Action::Allow && matcher.is_all())
            .map(|(rule, _)| rule)
            .next()
    }

    /// Makes the rules ready to be asked.
    pub fn index(&self) -> AddressIndex {
        let (mut ipv4, mut ipv6) = (SegmentsBuilder::default(), SegmentsBuilder::default());
        let (mut unix, mut own) = (None, None);

        let mut add = |network: Network, rule| {
            let (first, last) = network.range();
            let segments = if network.addr.is_ipv4() { &mut ipv4 } else { &mut ipv6 };
            segments.add(first, last, rule);
        };

        for (rule, matcher) in (0..).zip(&self.matchers) {
            match matcher {
                Matcher::Network(network) => add(*network, rule),
                Matcher::Group(group) => group.each_network(|network| add(network, rule)),
                Matcher::Unix => {}
                Matcher::All => {
                    add(Network::ipv4(0, 0), rule);
                    add(Network::ipv6(0, 0), rule);
                }
            }

            if matches!(matcher, Matcher::Unix | Matcher::All) {
                unix.get_or_insert(rule);
            }

            if matches!(matcher, Matcher::Group(group) if group.has_own()) {
                own.get_or_insert(rule);
            }
        }

        AddressIndex {
            rules: self.rules.clone(),
            ipv4: ipv4.build(),
            ipv6: ipv6.build(),
            unix,
            own,
        }
    }
}

impl AddressIndex {
    /// What the rules say of `addr`, and of each address that it stands for, such as the IPv4 address
    /// in one of NAT64: it is denied when any of them is, and allowed when all of them are.
    ///
    /// Whether one of them is this host's own is asked of `is_own`, and only where it matters.
    ///
    /// # Errors
    ///
    /// That of `is_own`.
    pub fn judge<E>(
        &self,
        addr: IpAddr,
        mut is_own: impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<Decision<'_>, E> {
        let mut allowed = None;
        let mut is_unnamed = false;

        for form in forms::of(addr).iter() {
            let found = self.find(self.rule_of(form), || is_own(form))?;

            match found.map(|rule| (rule.action, rule)) {
                Some((Action::Deny, rule)) => return Ok(Decision::Denied(rule)),
                Some((Action::Allow, rule)) => allowed = allowed.or(Some(rule)),
                None => is_unnamed = true,
            }
        }

        Ok(match allowed {
            Some(rule) if !is_unnamed => Decision::Allowed(rule),
            _ => Decision::Unnamed,
        })
    }

    /// The first rule about this host's own addresses, if it denies them.
    pub fn denial_of_own(&self) -> Option<&Rule> {
        let rule = self.rules.get(self.own? as usize)?;
        (rule.action == Action::Deny).then_some(rule)
    }

    /// What the rules say of a unix socket, of which `is_own` tells whether this nginx listens on it.
    ///
    /// # Errors
    ///
    /// That of `is_own`.
    pub fn judge_unix<E>(
        &self,
        is_own: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Decision<'_>, E> {
        Ok(match self.find(self.unix, is_own)? {
            Some(rule) if rule.action == Action::Deny => Decision::Denied(rule),
            Some(rule) => Decision::Allowed(rule),
            None => Decision::Unnamed,
        })
    }

    fn rule_of(&self, form: IpAddr) -> Option<u32> {
        match form {
            IpAddr::V4(addr) => self.ipv4.find(u128::from(addr.to_bits())),
            IpAddr::V6(addr) => self.ipv6.find(addr.to_bits()),
        }
    }

    /// The rule that decides: `named`, or one about own addresses that stands before it.
    fn find<E>(
        &self,
        named: Option<u32>,
        is_own: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Option<&Rule>, E> {
        let first = match self.own {
            Some(own) if named.is_none_or(|named| own < named) && is_own()? => Some(own),
            _ => named,
        };

        Ok(first.and_then(|rule| self.rules.get(rule as usize)))
    }
}
