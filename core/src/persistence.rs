//! Owns whether a client wants its connection kept (RFC 9112, section 9.3), read as nginx does: see
//! ngx_http_process_connection() and ngx_http_handler().

/// Whether it does after one more of its `Connection` fields. Before the first, one of HTTP/1.1 does.
pub fn is_wanted(before: bool, value: &[u8]) -> bool {
    if contains(value, b"close") {
        false
    } else {
        before || contains(value, b"keep-alive")
    }
}

/// Whether a value has a word, in any case.
fn contains(value: &[u8], word: &[u8]) -> bool {
    value.windows(word.len()).any(|text| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(values: &[&str], is_http11: bool) -> bool {
        values.iter().fold(is_http11, |before, value| is_wanted(before, value.as_bytes()))
    }

    #[test]
    fn the_version_decides_where_nothing_is_said() {
        for values in [&[][..], &[""], &["upgrade"], &["TE", "clos", "keep alive"]] {
            assert!(wanted(values, true));
            assert!(!wanted(values, false));
        }
    }

    #[test]
    fn the_client_may_say_otherwise() {
        for value in ["close", "Close", "TE, close", "close, TE"] {
            assert!(!wanted(&[value], true), "{value}");
        }

        for value in ["keep-alive", "Keep-Alive", "keep-alive, TE"] {
            assert!(wanted(&[value], false), "{value}");
        }

        assert!(!wanted(&["keep-alive, close"], true));
        assert!(wanted(&["close", "keep-alive"], true));
        assert!(!wanted(&["keep-alive", "close"], true));
    }

    proptest! {
        #[test]
        fn the_last_that_says_something_decides(
            values in prop::collection::vec("(close|keep-alive|TE|)", 0..5),
            is_http11: bool,
        ) {
            let said = values.iter().rev().find_map(|value| match value.as_str() {
                "close" => Some(false),
                "keep-alive" => Some(true),
                _ => None,
            });

            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            prop_assert_eq!(wanted(&values, is_http11), said.unwrap_or(is_http11));
        }
    }
}
