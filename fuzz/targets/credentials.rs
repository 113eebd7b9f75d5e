//! Fuzzes a header: of the credentials for the proxy there is one, or none, or the request is refused; and
//! the page and the wish to keep the connection, whatever they are made of.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::credentials::{for_proxy, Audience};
use proxy_connect_core::{page, persistence};

fuzz_target!(|header: &[u8]| {
    let fields: Vec<(&[u8], &[u8])> = header
        .split(|&byte| byte == b'\n')
        .map(|line| {
            let end = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            (&line[..end], line.get(end + 1..).unwrap_or_default())
        })
        .collect();

    let of = |audience| {
        fields.iter().filter(move |(name, _)| Audience::of(name) == Some(audience)).count()
    };

    match for_proxy(fields.iter(), |(name, _)| name) {
        Ok(Some((name, _))) => {
            assert!(of(Audience::Proxy) == 1 && name.eq_ignore_ascii_case(b"Proxy-Authorization"));
        }
        Ok(None) => assert_eq!(of(Audience::Proxy), 0),
        Err(_) => assert!(of(Audience::Proxy) > 1),
    }

    for &(_, value) in &fields {
        assert!(!persistence::is_wanted(true, value) || persistence::is_wanted(true, b""));
    }

    if let Ok(Some(made)) = page::for_proxy(header) {
        assert!(made.len() > header.len());
        assert_eq!(page::for_proxy(&made), Ok(None));
    }
});
