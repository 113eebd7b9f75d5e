//! Reads a file of addresses, as the directives for them do, and asks about each of what it has.

#![no_main]

use std::convert::Infallible;
use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::addresses::{Action, AddressRules, Matcher};
use proxy_connect_core::list;

fuzz_target!(|file: &[u8]| {
    let mut rules = AddressRules::default();
    let mut addrs: Vec<IpAddr> = Vec::new();

    for (line, value) in list::values(file) {
        let Ok((matcher, read_as)) = Matcher::read(value) else {
            continue;
        };

        // What it is read as is read as the same.
        if let Some(network) = read_as {
            assert_eq!(Matcher::read(network.to_string().as_bytes()), Ok((matcher, None)));
        }

        let addr = String::from_utf8_lossy(value);
        addrs.extend(addr.split('/').next().and_then(|addr| addr.parse::<IpAddr>().ok()));
        rules.add(if line % 2 == 0 { Action::Allow } else { Action::Deny }, value, matcher);
    }

    let index = rules.index();

    for addr in addrs {
        let one = index.judge(addr, |_| Ok::<_, Infallible>(false));
        // An IPv4 address in an IPv6 one is the same.
        assert_eq!(index.judge(addr.to_canonical(), |_| Ok::<_, Infallible>(false)), one);
    }
});
