//! Fuzzes the request line: what is taken has one form, and that form is taken for itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_connect_core::target::{complaint, read_line, AuthorityText};

fuzz_target!(|line: &[u8]| {
    let read = read_line(line);
    assert!(read.is_err() || complaint(line).is_none());

    if let Ok(text) = read {
        let bytes = text.as_bytes();
        let authority = text.at(bytes);

        assert!(!authority.host().is_empty() && authority.port() != 0);
        assert!(!authority.host().iter().any(u8::is_ascii_uppercase));

        let again = AuthorityText::read(bytes);
        assert!(again.is_ok_and(|again| again.as_bytes() == bytes));
    }
});
