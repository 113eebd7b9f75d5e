//! Owns the local addresses that `proxy_connect_bind` names, and which of them a connection goes out
//! from. All of them count as one row: a network stands for each of its addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addresses::{AddressError, Network};

/// An address with the port to bind to, or the addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    is_ipv6: bool,
    first: u128,
    /// How many addresses there are, from the first on; one less for all of IPv6.
    count: u128,
    port: u16,
}

impl Source {
    /// One address; with port 0 the system chooses one.
    pub fn addr(addr: IpAddr, port: u16) -> Self {
        let (is_ipv6, first) = match addr {
            IpAddr::V4(addr) => (false, addr.to_bits().into()),
            IpAddr::V6(addr) => (true, addr.to_bits()),
        };

        Self { is_ipv6, first, count: 1, port }
    }

    /// The addresses of a CIDR that a host may have. Where there are more than two, those of IPv4 are without
    /// the network's own and its broadcast address, those of IPv6 without the Subnet-Router anycast
    /// address (RFC 4291, section 2.6.1). With a CIDR that has bits set behind its prefix comes the network
    /// that it is read as.
    ///
    /// # Errors
    ///
    /// [`AddressError`] when it is none.
    pub fn network(cidr: &[u8]) -> Result<(Self, Option<Network>), AddressError> {
        let (network, corrected) = Network::read(cidr)?;
        let is_ipv6 = network.is_ipv6();
        let (mut first, mut last) = network.range();

        if last - first > 1 {
            first += 1;
            last -= u128::from(!is_ipv6);
        }

        let count = (last - first).saturating_add(1);
        Ok((Self { is_ipv6, first, count, port: 0 }, corrected))
    }

    /// Whether it is the only address that a connection of its family goes out from, and which one.
    pub fn only(&self) -> Option<(IpAddr, u16)> {
        (self.count == 1).then(|| self.nth(0))
    }

    /// The port, 0 for any.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn nth(&self, place: u128) -> (IpAddr, u16) {
        let bits = self.first.wrapping_add(place);

        let addr = match u32::try_from(bits) {
            Ok(bits) if !self.is_ipv6 => Ipv4Addr::from_bits(bits).into(),
            _ => Ipv6Addr::from_bits(bits).into(),
        };

        (addr, self.port)
    }
}

/// How many addresses of a family there are. For more than 2^128 - 1 it is that.
pub fn count(sources: &[Source], is_ipv6: bool) -> u128 {
    of_family(sources, is_ipv6).fold(0, |sum, source| sum.saturating_add(source.count))
}

/// Of all addresses of a family, one after the other and again from the first, the one of this number,
/// with its port. `None` where the family has none.
pub fn pick(sources: &[Source], is_ipv6: bool, number: u128) -> Option<(IpAddr, u16)> {
    let mut place = number.checked_rem(count(sources, is_ipv6))?;

    for source in of_family(sources, is_ipv6) {
        if place < source.count {
            return Some(source.nth(place));
        }

        place -= source.count;
    }

    None
}

fn of_family(sources: &[Source], is_ipv6: bool) -> impl Iterator<Item = &Source> {
    sources.iter().filter(move |source| source.is_ipv6 == is_ipv6)
}

/// The number of a key: the same one wherever it is asked for, and for another key, as good as
/// always, another. It is FNV-1a of 64 bits, twice, each mixed as MurmurHash3 does at its end, because the
/// lowest bits choose.
pub fn number_of(key: &[u8]) -> u128 {
    let half = |seed: u64| mix(key.iter().fold(OFFSET ^ seed, |hash, &byte| fnv(hash, byte)));

    u128::from(half(0)) << 64 | u128::from(half(u64::MAX))
}

/// The offset basis of FNV-1a.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        match (text.parse(), Source::network(text.as_bytes())) {
            (Ok(addr), _) => Source::addr(addr, 0),
            (_, Ok((source, _))) => source,
            (_, Err(error)) => panic!("{text} {error}"),
        }
    }

    fn picked(sources: &[&str], is_ipv6: bool, number: u128) -> Option<String> {
        let sources: Vec<_> = sources.iter().map(|text| source(text)).collect();
        pick(&sources, is_ipv6, number).map(|(addr, _)| addr.to_string())
    }

    fn row(sources: &[&str], is_ipv6: bool, len: u128) -> Vec<String> {
        (0..len).filter_map(|number| picked(sources, is_ipv6, number)).collect()
    }

    #[test]
    fn addresses_come_in_turn() {
        let sources = ["192.0.2.1", "2001:db8::1", "192.0.2.9", "2001:db8::2"];

        assert_eq!(row(&sources, false, 3), ["192.0.2.1", "192.0.2.9", "192.0.2.1"]);
        assert_eq!(row(&sources, true, 3), ["2001:db8::1", "2001:db8::2", "2001:db8::1"]);
    }

    #[test]
    fn a_network_stands_for_its_hosts() {
        let sources = ["198.51.100.7", "192.0.2.0/30"];
        assert_eq!(
            row(&sources, false, 4),
            ["198.51.100.7", "192.0.2.1", "192.0.2.2", "198.51.100.7"]
        );

        assert_eq!(row(&["192.0.2.4/31"], false, 2), ["192.0.2.4", "192.0.2.5"]);
        assert_eq!(row(&["192.0.2.4/32"], false, 2), ["192.0.2.4", "192.0.2.4"]);
        assert_eq!(
            row(&["2001:db8::/126"], true, 3),
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"]
        );
        assert_eq!(row(&["2001:db8::4/127"], true, 2), ["2001:db8::4", "2001:db8::5"]);
        assert_eq!(row(&["::ffff:192.0.2.0/126"], false, 2), ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn a_family_that_is_not_there_has_none() {
        assert_eq!(picked(&["192.0.2.1"], true, 0), None);
        assert_eq!(picked(&["2001:db8::/64"], false, 5), None);
        assert_eq!(picked(&[], false, 0), None);
    }

    #[test]
    fn the_largest_networks_have_no_end() {
        assert_eq!(
            picked(&["::/0"], true, u128::MAX - 1).as_deref(),
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        );
        assert_eq!(
            picked(&["0.0.0.0/0"], false, (1 << 32) - 3).as_deref(),
            Some("255.255.255.254")
        );
        assert_eq!(count(&[source("::/0"), source("::/0")], true), u128::MAX);
    }

    #[test]
    fn low_bits_are_told() {
        let read = Source::network(b"192.0.2.7/24").ok().and_then(|(_, network)| network);
        assert_eq!(read.map(|network| network.to_string()), Some("192.0.2.0/24".into()));
        assert!(Source::network(b"192.0.2.0/33").is_err());
        assert!(Source::network(b"192.0.2.0/").is_err());
        assert!(Source::network(b"host/24").is_err());
        assert!(Source::network(b"").is_err());
    }

    #[test]
    fn an_address_keeps_its_port() {
        let sources = [Source::addr([192, 0, 2, 1].into(), 4000)];
        assert_eq!(pick(&sources, false, 9), Some(([192, 0, 2, 1].into(), 4000)));
        assert_eq!(sources[0].only(), Some(([192, 0, 2, 1].into(), 4000)));
        assert_eq!(source("192.0.2.0/30").only(), None);
    }

    #[test]
    fn a_key_has_the_same_number_for_ever() {
        assert_eq!(number_of(b""), 0xefd0_1f60_ba99_2926_15e8_0848_6c71_1b04);
        assert_eq!(number_of(b"alice"), 0x3507_d047_a67c_08f4_ea7c_f13a_113a_6c47);
    }

    #[test]
    fn keys_spread_over_few_and_many() {
        for sources in
            [&["192.0.2.1", "192.0.2.2", "192.0.2.3"][..], &["192.0.2.0/29"], &["2001:db8::/48"]]
        {
            let is_ipv6 = sources[0].contains(':');
            let mut seen = HashMap::new();

            for key in 0..3000 {
                let number = number_of(format!("10.0.{}.{}", key / 256, key % 256).as_bytes());
                *seen.entry(picked(sources, is_ipv6, number)).or_insert(0) += 1;
            }

            match is_ipv6 {
                true => assert_eq!(seen.len(), 3000),
                false => {
                    let fair = 3000 / seen.len();
                    assert!(seen.len() == if sources.len() == 3 { 3 } else { 6 });
                    assert!(
                        seen.values().all(|&n| n > fair * 8 / 10 && n < fair * 12 / 10),
                        "{seen:?}"
                    );
                }
            }
        }
    }

    fn any_source() -> impl Strategy<Value = Source> {
        prop_oneof![
            (any::<IpAddr>(), any::<u16>()).prop_map(|(addr, port)| Source::addr(addr, port)),
            (any::<Ipv4Addr>(), 0u8..33)
                .prop_map(|(addr, prefix)| source(&format!("{addr}/{prefix}"))),
            (any::<Ipv6Addr>(), 0u8..129)
                .prop_map(|(addr, prefix)| source(&format!("{addr}/{prefix}"))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_picked_is_one_of_them(
            sources in prop::collection::vec(any_source(), 0..6),
            is_ipv6: bool,
            number: u128,
        ) {
            match pick(&sources, is_ipv6, number) {
                None => prop_assert_eq!(count(&sources, is_ipv6), 0),
                Some((addr, port)) => {
                    prop_assert_eq!(addr.is_ipv6(), is_ipv6);
                    let Source { first: bits, .. } = Source::addr(addr, port);
                    prop_assert!(sources.iter().any(|source| source.is_ipv6 == is_ipv6
                        && source.port == port
                        && (source.first..=source.first.saturating_add(source.count - 1)).contains(&bits)));
                }
            }
        }

        #[test]
        fn a_turn_has_each_once(prefixes in prop::collection::vec(27u8..33, 1..4)) {
            let sources: Vec<_> =
                (0..).zip(&prefixes).map(|(n, prefix)| source(&format!("10.0.{n}.0/{prefix}"))).collect();
            let len = count(&sources, false);
            let turn: HashSet<_> = (0..len).map(|number| pick(&sources, false, number)).collect();
            prop_assert_eq!(turn.len() as u128, len);
            prop_assert_eq!(pick(&sources, false, len), pick(&sources, false, 0));
        }

        #[test]
        fn network_and_broadcast_are_no_hosts(addr: Ipv4Addr, prefix in 0u8..31, number: u128) {
            let picked = pick(&[source(&format!("{addr}/{prefix}"))], false, number);
            let Some((IpAddr::V4(addr), 0)) = picked else { panic!("{picked:?}") };
            let host = addr.to_bits() & (u32::MAX >> prefix);
            prop_assert!(host != 0 && host != u32::MAX >> prefix);
        }

        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Source::network(&text);
        }
    }
}
