//! Owns the groups of addresses, after IANA's registries of special-purpose addresses for IPv4 and
//! IPv6 (RFC 6890, RFC 8190).

use std::net::IpAddr;

use super::Network;

/// A group of addresses that a rule may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `loopback`
    Loopback,
    /// `private`
    Private,
    /// `linklocal`: the metadata services of clouds are here.
    LinkLocal,
    /// `shared`: between a carrier and its customers.
    Shared,
    /// `multicast`
    Multicast,
    /// `reserved`: all else that the registries don't call globally reachable.
    Reserved,
    /// `self`: every address of this host at the moment, and whatever this nginx listens on.
    Own,
    /// `special`: all of these.
    Special,
}

use Group::*;

/// The groups that `special` consists of.
const PARTS: [Group; 7] = [Loopback, Private, LinkLocal, Shared, Multicast, Reserved, Own];

const LOOPBACK: [Network; 2] = [
    ipv4([127, 0, 0, 0], 8),             // RFC 1122, section 3.2.1.3
    ipv6([0, 0, 0, 0, 0, 0, 0, 1], 128), // RFC 4291, section 2.5.3
];

const PRIVATE: [Network; 4] = [
    ipv4([10, 0, 0, 0], 8),                 // RFC 1918
    ipv4([172, 16, 0, 0], 12),              // RFC 1918
    ipv4([192, 168, 0, 0], 16),             // RFC 1918
    ipv6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), // RFC 4193
];

const LINK_LOCAL: [Network; 2] = [
    ipv4([169, 254, 0, 0], 16),              // RFC 3927
    ipv6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // RFC 4291, section 2.5.6
];

const SHARED: [Network; 1] = [
    ipv4([100, 64, 0, 0], 10), // RFC 6598
];

const MULTICAST: [Network; 2] = [
    ipv4([224, 0, 0, 0], 4),                // RFC 5771
    ipv6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // RFC 4291, section 2.7
];

/// What of [`RESERVED`] is in another group, or globally reachable all the same.
const EXCEPT: [Network; 10] = [
    ipv4([192, 0, 0, 9], 32),                 // RFC 7723: Port Control Protocol
    ipv4([192, 0, 0, 10], 32),                // RFC 8155: TURN
    ipv6([0, 0, 0, 0, 0, 0, 0, 1], 128),      // loopback
    ipv6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), // RFC 7723
    ipv6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), // RFC 8155
    ipv6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), // RFC 9665: DNS-SD registration
    ipv6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),  // RFC 7450: AMT
    ipv6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), // RFC 7535: AS112
    ipv6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), // RFC 7343: ORCHIDv2
    ipv6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), // RFC 9374: DRIP
];

const RESERVED: [Network; 18] = [
    ipv4([0, 0, 0, 0], 8),       // RFC 791, section 3.2; RFC 1122, section 3.2.1.3
    ipv4([192, 0, 0, 0], 24),    // RFC 6890
    ipv4([192, 0, 2, 0], 24),    // RFC 5737
    ipv4([192, 88, 99, 0], 24),  // RFC 7526, RFC 6751
    ipv4([198, 18, 0, 0], 15),   // RFC 2544
    ipv4([198, 51, 100, 0], 24), // RFC 5737
    ipv4([203, 0, 113, 0], 24),  // RFC 5737
    ipv4([240, 0, 0, 0], 4),     // RFC 1112, section 4; RFC 919: broadcast
    ipv6([0, 0, 0, 0, 0, 0, 0, 0], 96), // RFC 4291, sections 2.5.2 and 2.5.5.1
    ipv6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), // RFC 2765, section 2.1: IPv4-translated
    ipv6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // RFC 8215
    ipv6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), // RFC 6666
    ipv6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), // RFC 9780
    ipv6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // RFC 2928: Teredo and RFC 5180 in it
    ipv6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // RFC 3849
    ipv6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // RFC 9637
    ipv6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), // RFC 9602
    ipv6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // RFC 3879
];

const fn ipv4(octets: [u8; 4], prefix: u8) -> Network {
    Network::ipv4(u32::from_be_bytes(octets), prefix)
}

const fn ipv6(words: [u16; 8], prefix: u8) -> Network {
    let [a, b, c, d, e, f, g, h] = words;
    Network::ipv6(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits(), prefix)
}

impl Group {
    /// The group of that name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"loopback" => Loopback,
            b"private" => Private,
            b"linklocal" => LinkLocal,
            b"shared" => Shared,
            b"multicast" => Multicast,
            b"reserved" => Reserved,
            b"self" => Own,
            b"special" => Special,
            _ => return None,
        })
    }

    /// Whether this host's own addresses belong to it.
    pub fn has_own(self) -> bool {
        matches!(self, Own | Special)
    }

    /// Tells `tell` of each network of the group that is always in it.
    pub(super) fn each_network(self, mut tell: impl FnMut(Network)) {
        self.tell(&mut tell);
    }

    fn tell(self, tell: &mut dyn FnMut(Network)) {
        match self {
            Loopback => LOOPBACK.into_iter().for_each(tell),
            Private => PRIVATE.into_iter().for_each(tell),
            LinkLocal => LINK_LOCAL.into_iter().for_each(tell),
            Shared => SHARED.into_iter().for_each(tell),
            Multicast => MULTICAST.into_iter().for_each(tell),
            Reserved => RESERVED.into_iter().for_each(|network| around(network, tell)),
            Own => {}
            Special => PARTS.into_iter().for_each(|part| part.tell(tell)),
        }
    }
}

/// Tells of `network` without the exceptions: halves it where there are any.
fn around(network: Network, tell: &mut dyn FnMut(Network)) {
    let (first, last) = network.range();
    let of_family = EXCEPT.iter().filter(|other| other.addr.is_ipv4() == network.addr.is_ipv4());
    let inside = |other: &Network| (first..=last).contains(&other.range().0);

    if EXCEPT.contains(&network) {
        return;
    }

    if !of_family.clone().any(inside) {
        return tell(network);
    }

    let (len, prefix) = match network.addr {
        IpAddr::V4(_) => (32, network.prefix + 1),
        IpAddr::V6(_) => (128, network.prefix + 1),
    };

    for bits in [first, first | 1 << (len - prefix)] {
        around(
            if len == 32 {
                Network::ipv4(bits as u32, prefix)
            } else {
                Network::ipv6(bits, prefix)
            },
            tell,
        );
    }
}
