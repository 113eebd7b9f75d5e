//! Fuzzes `Proxy-Status`: no byte of a name or a sentence ends a field or its string.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::proxy_status::{is_name, ProxyStatus};

fuzz_target!(|bytes: &[u8]| {
    let (name, details) = bytes.split_at(bytes.len() / 2);

    if is_name(name) {
        let status = ProxyStatus { name, error: None, next_hop: Some(details), details: Some(details) };
        assert!(status.to_string().bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
});
