//! Owns the page that nginx itself makes for 401, as one for 407, which nginx has since 1.31.0.

use std::collections::TryReserveError;

/// What the page says, in its title and its heading.
const UNAUTHORIZED: &[u8] = b"401 Authorization Required";
const PROXY_AUTHENTICATION: &[u8] = b"407 Proxy Authentication Required";

/// The reason and status of 407 (RFC 9110, section 15.5.8), as a status line has them.
pub const STATUS_LINE: &[u8] = PROXY_AUTHENTICATION;

/// How nginx's own pages begin.
const BEGINNINGS: [&[u8]; 2] = [b"<html>", b"<!DOCTYPE"];

/// The page for 407, from the beginning of nginx's page for 401. `None` for anything else.
///
/// # Errors
///
/// No memory.
pub fn for_proxy(page: &[u8]) -> Result<Option<Vec<u8>>, TryReserveError> {
    if !BEGINNINGS.iter().any(|beginning| page.starts_with(beginning)) {
        return Ok(None);
    }

    let count = page.windows(UNAUTHORIZED.len()).filter(|text| *text == UNAUTHORIZED).count();

    if count == 0 {
        return Ok(None);
    }

    let mut made = Vec::new();
    made.try_reserve_exact(page.len() + count * (PROXY_AUTHENTICATION.len() - UNAUTHORIZED.len()))?;

    let mut rest = page;

    while let Some((byte, after)) = rest.split_first() {
        match rest.strip_prefix(UNAUTHORIZED) {
            Some(after) => {
                made.extend_from_slice(PROXY_AUTHENTICATION);
                rest = after;
            }
            None => {
                made.push(*byte);
                rest = after;
            }
        }
    }

    Ok(Some(made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn says_407_in_title_and_heading() {
        let page =
            b"<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n\
            <center><h1>401 Authorization Required</h1></center>\r\n";
        let expected =
            b"<html>\r\n<head><title>407 Proxy Authentication Required</title></head>\r\n\
            <body>\r\n<center><h1>407 Proxy Authentication Required</h1></center>\r\n";

        assert_eq!(for_proxy(page), Ok(Some(expected.to_vec())));
    }

    #[test]
    fn leaves_other_pages_alone() {
        for page in [
            &b""[..],
            b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n",
            b"401 Authorization Required",
            b"<html>401 authorization required",
        ] {
            assert_eq!(for_proxy(page), Ok(None), "{}", page.escape_ascii());
        }
    }

    proptest! {
        /// Nothing but the words changes.
        #[test]
        fn changes_the_words_alone(parts in prop::collection::vec("[a-z <>]{0,9}", 1..5)) {
            let page = format!("<html>{}", parts.join("401 Authorization Required"));
            let made = parts.join("407 Proxy Authentication Required");
            let expected =
                (parts.len() > 1).then(|| format!("<html>{made}").into_bytes());

            prop_assert_eq!(for_proxy(page.as_bytes()), Ok(expected));
        }

        #[test]
        fn never_panics(page: Vec<u8>) {
            let _ = for_proxy(&page);
        }
    }
}
