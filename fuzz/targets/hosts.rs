//! Reads a file of hosts, as the directives for them do, and looks for each of what it has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::hosts::{Hosts, Pattern};
use proxy_connect_core::list;

fuzz_target!(|file: &[u8]| {
    let mut hosts = Hosts::default();
    let patterns: Vec<_> =
        list::values(file).filter_map(|(_, value)| Pattern::read(value).ok()).collect();

    for pattern in &patterns {
        hosts.add(pattern.clone());
    }

    for pattern in patterns {
        match pattern {
            Pattern::Exact(name) => assert!(hosts.find(&name).is_some()),
            Pattern::Suffix(name) => {
                assert!(hosts.find(&name).is_some());
                assert!(hosts.find(&[b"a.", &name[..]].concat()).is_some());
            }
            Pattern::Wildcard(name) => {
                assert!(hosts.find(&[b"a.b.", &name[..]].concat()).is_some())
            }
            Pattern::Addr(addr) => assert!(hosts.find_addr(addr).is_some()),
            Pattern::Regex(regex) => assert!(!regex.is_empty()),
        }
    }

    let _ = hosts.find(file);
});
