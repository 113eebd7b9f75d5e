use super::*;
use proptest::prelude::*;
use std::convert::Infallible;

use Action::{Allow, Deny};

fn rules(list: &[(Action, &str)]) -> AddressRules {
    let mut rules = AddressRules::default();

    for (action, value) in list {
        let (matcher, _) =
            Matcher::read(value.as_bytes()).unwrap_or_else(|e| panic!("{value} {e}"));
        rules.add(*action, value.as_bytes(), matcher);
    }

    rules
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

fn told(decision: Decision<'_>) -> String {
    let value = |rule: &Rule| String::from_utf8_lossy(rule.value()).into_owned();

    match decision {
        Decision::Unnamed => "unnamed".into(),
        Decision::Allowed(rule) => format!("allow {}", value(rule)),
        Decision::Denied(rule) => format!("deny {}", value(rule)),
    }
}

fn judged_with(index: &AddressIndex, addr: IpAddr, own: &[IpAddr]) -> String {
    let is_own = |addr| Ok::<_, Infallible>(own.contains(&addr));
    match index.judge(addr, is_own) {
        Ok(decision) => told(decision),
    }
}

fn judged(list: &[(Action, &str)], addr: &str) -> String {
    judged_with(&rules(list).index(), ip(addr), &[])
}

#[test]
fn the_first_rule_that_matches_decides() {
    let list = [
        (Allow, "10.1.0.0/16"),
        (Deny, "10.0.0.0/8"),
        (Allow, "10.2.0.0/16"),
        (Deny, "2001:db8::/32"),
        (Allow, "all"),
        (Deny, "8.8.8.8"),
    ];

    for (addr, decision) in [
        ("10.1.2.3", "allow 10.1.0.0/16"),
        ("10.2.2.3", "deny 10.0.0.0/8"),
        ("10.0.0.0", "deny 10.0.0.0/8"),
        ("10.255.255.255", "deny 10.0.0.0/8"),
        ("9.255.255.255", "allow all"),
        ("11.0.0.0", "allow all"),
        ("8.8.8.8", "allow all"),
        ("2001:db8:ffff::1", "deny 2001:db8::/32"),
        ("2001:db9::", "allow all"),
    ] {
        assert_eq!(judged(&list, addr), decision, "{addr}");
    }

    assert_eq!(judged(&list[1..4], "11.0.0.0"), "unnamed");
    assert_eq!(judged(&[], "11.0.0.0"), "unnamed");
}

#[test]
fn unix_sockets_are_spoken_of_by_two_words() {
    let unix = |list: &[(Action, &str)], is_own| {
        let index = rules(list).index();
        let decision = index.judge_unix(|| Ok::<_, Infallible>(is_own));
        match decision {
            Ok(decision) => told(decision),
        }
    };

    assert_eq!(unix(&[(Deny, "unix:")], false), "deny unix:");
    assert_eq!(unix(&[(Deny, "all")], false), "deny all");
    assert_eq!(unix(&[(Allow, "unix:"), (Deny, "all")], false), "allow unix:");
    assert_eq!(unix(&[(Deny, "0.0.0.0/0"), (Deny, "::/0")], false), "unnamed");
    assert_eq!(unix(&[(Deny, "special")], false), "unnamed");
    assert_eq!(unix(&[(Deny, "special")], true), "deny special");
    assert_eq!(unix(&[(Allow, "unix:"), (Deny, "self")], true), "allow unix:");
}

#[test]
fn own_addresses_take_their_turn() {
    let own = [ip("192.0.2.1"), ip("2001:db8::1")];
    let judged = |list: &[_], addr| judged_with(&rules(list).index(), ip(addr), &own);

    assert_eq!(judged(&[(Deny, "self")], "192.0.2.1"), "deny self");
    assert_eq!(judged(&[(Deny, "self")], "::ffff:192.0.2.1"), "deny self");
    assert_eq!(judged(&[(Deny, "self")], "64:ff9b::192.0.2.1"), "deny self");
    assert_eq!(judged(&[(Deny, "self")], "192.0.2.2"), "unnamed");
    assert_eq!(judged(&[(Allow, "192.0.2.1"), (Deny, "self")], "192.0.2.1"), "allow 192.0.2.1");
    assert_eq!(judged(&[(Allow, "self"), (Deny, "all")], "192.0.2.1"), "allow self");
    assert_eq!(judged(&[(Allow, "self"), (Deny, "all")], "192.0.2.2"), "deny all");
    assert_eq!(judged(&[(Deny, "special")], "2001:db8::1"), "deny special");
}

#[test]
fn own_addresses_are_asked_for_only_where_it_matters() {
    let asked = |list: &[_], addr| {
        let mut count = 0;
        let index = rules(list).index();
        let is_own = |_| {
            count += 1;
            Ok::<_, Infallible>(false)
        };
        let _ = index.judge(ip(addr), is_own);
        count
    };

    assert_eq!(asked(&[(Deny, "private")], "8.8.8.8"), 0);
    assert_eq!(asked(&[(Deny, "special")], "10.0.0.1"), 0);
    assert_eq!(asked(&[(Allow, "8.8.8.8"), (Deny, "special")], "8.8.8.8"), 0);
    assert_eq!(asked(&[(Deny, "special")], "8.8.8.8"), 1);
}

#[test]
fn an_error_of_whoever_is_asked_is_passed_on() {
    let index = rules(&[(Deny, "self")]).index();
    assert_eq!(index.judge(ip("8.8.8.8"), |_| Err("no descriptor")), Err("no descriptor"));
    assert_eq!(index.judge_unix(|| Err("no descriptor")), Err("no descriptor"));
}

#[test]
fn groups_hold_what_the_registries_say() {
    for (addr, group) in [
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.0", "private"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.168.255.255", "private"),
        ("fc00::", "private"),
        ("fdff:ffff::1", "private"),
        ("169.254.169.254", "linklocal"),
        ("fe80::1", "linklocal"),
        ("febf:ffff::1", "linklocal"),
        ("100.64.0.0", "shared"),
        ("100.127.255.255", "shared"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("0.1.2.3", "reserved"),
        ("192.0.0.0", "reserved"),
        ("192.0.0.8", "reserved"),
        ("192.0.0.11", "reserved"),
        ("192.0.0.170", "reserved"),
        ("192.0.2.1", "reserved"),
        ("192.88.99.2", "reserved"),
        ("198.18.0.0", "reserved"),
        ("198.19.255.255", "reserved"),
        ("198.51.100.1", "reserved"),
        ("203.0.113.1", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("64:ff9b:1::808:808", "reserved"),
        ("100::1", "reserved"),
        ("100:0:0:1::1", "reserved"),
        ("2001:2::1", "reserved"),
        ("2001:10::1", "reserved"),
        ("2001:1::4", "reserved"),
        ("2001:1ff::1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("3fff::1", "reserved"),
        ("5f00::1", "reserved"),
        ("fec0::1", "reserved"),
        ("::808:808", "reserved"),
        ("::ffff:0:808:808", "reserved"),
    ] {
        assert_eq!(judged(&[(Deny, group)], addr), format!("deny {group}"), "{addr}");
        assert_eq!(judged(&[(Deny, "special")], addr), "deny special", "{addr}");

        for other in ["loopback", "private", "linklocal", "shared", "multicast", "reserved"] {
            if other != group {
                assert_eq!(judged(&[(Deny, other)], addr), "unnamed", "{addr} in {other}");
            }
        }
    }
}

#[test]
fn what_is_globally_reachable_is_in_no_group() {
    for addr in [
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.0.9",
        "192.0.0.10",
        "192.0.1.0",
        "192.31.196.1",
        "192.52.193.1",
        "192.167.255.255",
        "192.169.0.0",
        "192.175.48.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "64:ff9b::808:808",
        "2001:1::1",
        "2001:1::2",
        "2001:1::3",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:3f:ffff::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700::1111",
        "2620:4f:8000::1",
        "3ffe:ffff::",
        "4000::1",
    ] {
        assert_eq!(judged(&[(Deny, "special")], addr), "unnamed", "{addr}");
    }
}

#[test]
fn an_address_in_another_is_judged_too() {
    for addr in [
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1:a00:0:100::",
        "64:ff9b:1:a00:0:100:808:808",
        "64:ff9b:1:10a:0:1::",
        "64:ff9b:1:1:a:0:100::",
        "2002:a00:1::1",
        "2001:0:a00:1::1",
        "2001:0:808:808:0:0:f5ff:fffe",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
    ] {
        assert_eq!(judged(&[(Deny, "10.0.0.0/8")], addr), "deny 10.0.0.0/8", "{addr}");
    }

    for addr in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::", "2606:4700::5eff:a00:1"] {
        assert_eq!(judged(&[(Deny, "special")], addr), "unnamed", "{addr}");
    }

    // A gateway that a network has for itself, and that is allowed as such.
    let list = [(Allow, "64:ff9b:1::/48"), (Deny, "special")];
    assert_eq!(judged(&list, "64:ff9b:1::8.8.8.8"), "unnamed");
    assert_eq!(judged(&list, "64:ff9b:1::10.0.0.1"), "deny special");
}

#[test]
fn the_unspecified_address_is_this_hosts() {
    assert_eq!(judged(&[(Deny, "127.0.0.1")], "0.0.0.0"), "deny 127.0.0.1");
    assert_eq!(judged(&[(Deny, "loopback")], "0.0.0.0"), "deny loopback");
    assert_eq!(judged(&[(Deny, "loopback")], "::"), "deny loopback");
    assert_eq!(judged(&[(Deny, "loopback")], "::ffff:0.0.0.0"), "deny loopback");
    assert_eq!(judged(&[(Deny, "reserved")], "0.0.0.0"), "deny reserved");
    assert_eq!(judged(&[(Deny, "reserved")], "::"), "deny reserved");
}

#[test]
fn a_mapped_address_is_one_of_ipv4_and_nothing_else() {
    let list = [(Allow, "10.0.0.0/8"), (Deny, "all")];
    assert_eq!(judged(&list, "::ffff:10.0.0.1"), "allow 10.0.0.0/8");
    assert_eq!(judged(&[(Deny, "::ffff:10.0.0.0/104")], "10.0.0.1"), "deny ::ffff:10.0.0.0/104");
    assert_eq!(judged(&[(Deny, "::ffff:0:0/96")], "10.0.0.1"), "deny ::ffff:0:0/96");
    assert_eq!(judged(&[(Deny, "::/0")], "::ffff:10.0.0.1"), "unnamed");
}

#[test]
fn all_forms_have_to_be_allowed() {
    let list = [(Allow, "64:ff9b::/96"), (Allow, "8.8.8.8"), (Deny, "all")];
    assert_eq!(judged(&list, "64:ff9b::8.8.8.8"), "allow 64:ff9b::/96");
    assert_eq!(judged(&list, "64:ff9b::8.8.4.4"), "deny all");
    assert_eq!(judged(&list[1..], "64:ff9b::8.8.8.8"), "deny all");
    assert_eq!(judged(&list[..1], "64:ff9b::8.8.8.8"), "unnamed");
}

#[test]
fn low_bits_are_told() {
    let told = |value: &str| {
        Matcher::read(value.as_bytes()).map(|(_, network)| network.map(|it| it.to_string()))
    };

    for (value, network) in [
        ("10.0.0.1/8", Some("10.0.0.0/8")),
        ("10.0.0.0/8", None),
        ("10.0.0.1/32", None),
        ("10.0.0.1", None),
        ("1.2.3.4/0", Some("0.0.0.0/0")),
        ("2001:db8::1/64", Some("2001:db8::/64")),
        ("2001:db8::1/128", None),
        ("::1/0", Some("::/0")),
        ("::ffff:10.0.0.1/104", Some("10.0.0.0/8")),
        ("::ffff:10.0.0.1", None),
    ] {
        assert_eq!(told(value), Ok(network.map(str::to_owned)), "{value}");
    }
}

#[test]
fn refuses_what_is_no_address() {
    for value in [
        "",
        "10.0.0",
        "10.1",
        "010.0.0.1",
        "0x7f.0.0.1",
        "2130706433",
        "1.2.3.4.5",
        "1.2.3.256",
        "[::1]",
        "::1%eth0",
        "fe80::1%1",
        "10.0.0.1:443",
        "example.com",
        "ALL",
        "Private",
        "special ",
        "unix",
        "file:x",
        "/8",
        " 10.0.0.1",
        "10.0.0.1 ",
        "1.2.3.4.",
        ":::",
        "privat\u{e9}",
        "*",
    ] {
        assert_eq!(Matcher::read(value.as_bytes()), Err(AddressError::Invalid), "{value}");
    }

    for (value, max) in [
        ("10.0.0.0/33", 32),
        ("10.0.0.0/", 32),
        ("10.0.0.0/+8", 32),
        ("10.0.0.0/8/8", 32),
        ("10.0.0.0/255.0.0.0", 32),
        ("10.0.0.0/-1", 32),
        ("::/129", 128),
        ("::/999", 128),
        ("::/x", 128),
    ] {
        assert_eq!(Matcher::read(value.as_bytes()), Err(AddressError::Prefix(max)), "{value}");
    }

    assert_eq!(Matcher::read(b"unix:/run/a"), Err(AddressError::Path));
    assert_eq!(Matcher::read(b"\xff"), Err(AddressError::Invalid));
}

#[test]
fn tells_of_rules_that_deny_nothing() {
    assert!(rules(&[]).denies_nothing());
    assert!(rules(&[(Allow, "private"), (Allow, "all")]).denies_nothing());
    assert!(!rules(&[(Allow, "private"), (Deny, "all")]).denies_nothing());
}

#[test]
fn tells_of_a_rule_that_allows_all() {
    let allows = |list: &[_]| rules(list).allows_all().map(|rule| rule.value().to_vec());

    assert_eq!(allows(&[(Deny, "all")]), None);
    assert_eq!(allows(&[(Allow, "10.0.0.0/8"), (Allow, "special")]), None);
    assert_eq!(allows(&[(Deny, "special"), (Allow, "all")]), Some(b"all".to_vec()));
    assert_eq!(allows(&[(Allow, "0.0.0.0/0")]), Some(b"0.0.0.0/0".to_vec()));
    assert_eq!(allows(&[(Allow, "::/0")]), Some(b"::/0".to_vec()));
}

/// Addresses of a small part of the space, so that rules and questions meet.
fn some_addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| IpAddr::from([10, 0, a & 7, b])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        (any::<u16>(), any::<u16>())
            .prop_map(|(a, b)| { IpAddr::from([0x2606, 0, 0, 0, 0, 0, a & 7, b]) }),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn some_rule() -> impl Strategy<Value = (bool, IpAddr, u8)> {
    (any::<bool>(), some_addr(), 0u8..=128).prop_map(|(allow, addr, prefix)| {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        (allow, addr, len - prefix.min(len) / 4)
    })
}

/// Whether `addr` is in a network, bit by bit.
fn holds_plainly(network: IpAddr, prefix: u8, addr: IpAddr) -> bool {
    let bits = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => format!("4{:032b}", addr.to_bits()),
        IpAddr::V6(addr) => format!("6{:0128b}", addr.to_bits()),
    };

    addr.to_canonical() == addr && bits(addr).starts_with(&bits(network)[..=usize::from(prefix)])
}

proptest! {
    #[test]
    fn decides_as_a_list_read_from_its_top(
        list in prop::collection::vec(some_rule(), 0..60),
        addrs in prop::collection::vec(some_addr(), 1..40),
    ) {
        let mut rules = AddressRules::default();
        for (allow, addr, prefix) in &list {
            let value = format!("{addr}/{prefix}");
            let (matcher, _) = Matcher::read(value.as_bytes())?;
            rules.add(if *allow { Allow } else { Deny }, value.as_bytes(), matcher);
        }
        let index = rules.index();

        for addr in addrs {
            // What stands for others has tests of its own.
            prop_assume!(forms::of(addr).iter().eq([addr]));

            let first = list.iter().find(|(_, network, prefix)| holds_plainly(*network, *prefix, addr));
            let plain = match first {
                None => "unnamed".to_owned(),
                Some((true, network, prefix)) => format!("allow {network}/{prefix}"),
                Some((false, network, prefix)) => format!("deny {network}/{prefix}"),
            };
            prop_assert_eq!(judged_with(&index, addr, &[]), plain, "{}", addr);
        }
    }

    #[test]
    fn reads_what_it_writes(addr in some_addr(), prefix in 0u8..=128) {
        let prefix = prefix.min(if addr.is_ipv4() { 32 } else { 128 });
        let (matcher, _) = Matcher::read(format!("{addr}/{prefix}").as_bytes())?;

        let Matcher::Network(network) = matcher else {
            return Err(TestCaseError::fail("no network"));
        };
        prop_assert_eq!(Matcher::read(network.to_string().as_bytes()), Ok((matcher, None)));
    }

    #[test]
    fn takes_any_bytes(value in prop::collection::vec(any::<u8>(), 0..50)) {
        let _ = Matcher::read(&value);
    }

    #[test]
    fn takes_what_looks_like_a_value(value in "[0-9a-f.:/%x ]{0,45}") {
        let _ = Matcher::read(value.as_bytes());
    }

    #[test]
    fn a_carrier_is_denied_with_what_it_carries(v4 in any::<u32>()) {
        let addr = Ipv4Addr::from_bits(v4);
        let [a, b, c, d] = addr.octets();
        let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let index = rules(&[(Deny, &addr.to_string())]).index();

        for carrier in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, hi, lo),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, hi, lo),
            Ipv6Addr::new(0x2002, hi, lo, 1, 2, 3, 4, 5),
            Ipv6Addr::new(0x2001, 0, hi, lo, 1, 2, 3, 4),
            Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !hi, !lo),
        ] {
            prop_assert_eq!(judged_with(&index, carrier.into(), &[]), format!("deny {addr}"));
        }
    }
}
