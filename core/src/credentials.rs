//! Owns which header fields carry credentials: a client's own ones for the origin, those for the proxy (RFC
//! 9110, sections 11.6 and 11.7), and the challenges that ask for either.

/// The field with the credentials for the origin, as it is written.
pub const AUTHORIZATION: &[u8] = b"Authorization";
/// The same as nginx looks for it.
pub const AUTHORIZATION_LOWER: &[u8] = b"authorization";

/// The field with the challenge of a proxy, as it is written.
pub const PROXY_AUTHENTICATE: &[u8] = b"Proxy-Authenticate";
/// The same as nginx looks for it.
pub const PROXY_AUTHENTICATE_LOWER: &[u8] = b"proxy-authenticate";

const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";
const AUTHENTICATE: &[u8] = b"WWW-Authenticate";

/// Whose credentials a field of a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// `Authorization`: the origin's.
    Origin,
    /// `Proxy-Authorization`: the proxy's.
    Proxy,
}

impl Audience {
    /// `None` for a field without credentials.
    pub fn of(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(AUTHORIZATION) {
            Some(Self::Origin)
        } else if name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) {
            Some(Self::Proxy)
        } else {
            None
        }
    }
}

/// A request with more than one `Proxy-Authorization`: nobody can say which of them another would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate;

/// The credentials for the proxy among the fields of a request; `name` tells a field's name.
///
/// # Errors
///
/// [`Duplicate`], whether the two differ or not.
pub fn for_proxy<T>(
    fields: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &[u8],
) -> Result<Option<T>, Duplicate> {
    let mut found = fields.filter(|field| Audience::of(name(field)) == Some(Audience::Proxy));
    let first = found.next();

    match found.next() {
        Some(_) => Err(Duplicate),
        None => Ok(first),
    }
}

/// Whether a field of a response asks for credentials for the origin: `WWW-Authenticate`.
pub fn is_challenge(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(AUTHENTICATE)
}

/// Whether a field of a response asks for credentials for the proxy: `Proxy-Authenticate`.
pub fn is_proxy_challenge(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(PROXY_AUTHENTICATE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find<'a>(names: &[&'a [u8]]) -> Result<Option<&'a [u8]>, Duplicate> {
        for_proxy(names.iter().copied(), |name| name)
    }

    #[test]
    fn knows_the_fields_by_their_names() {
        assert_eq!(Audience::of(b"authorization"), Some(Audience::Origin));
        assert_eq!(Audience::of(b"PROXY-AUTHORIZATION"), Some(Audience::Proxy));

        for name in [
            &b""[..],
            b"Proxy_Authorization",
            b"Proxy-Authorization ",
            b"Proxy-Authentication",
            b"X-Proxy-Authorization",
            b"Authorizatio",
        ] {
            assert_eq!(Audience::of(name), None, "{}", name.escape_ascii());
        }

        assert!(is_challenge(b"www-authenticate"));
        assert!(!is_challenge(b"Proxy-Authenticate"));
        assert!(is_proxy_challenge(b"proxy-authenticate"));
        assert!(!is_proxy_challenge(b"WWW-Authenticate"));
    }

    #[test]
    fn the_two_ways_to_write_a_name_are_one() {
        assert!(AUTHORIZATION.eq_ignore_ascii_case(AUTHORIZATION_LOWER));
        assert!(PROXY_AUTHENTICATE.eq_ignore_ascii_case(PROXY_AUTHENTICATE_LOWER));
    }

    #[test]
    fn takes_one_and_refuses_two() {
        assert_eq!(find(&[b"Host", b"Authorization"]), Ok(None));
        assert_eq!(
            find(&[b"Authorization", b"Proxy-Authorization", b"Host"]),
            Ok(Some(&b"Proxy-Authorization"[..]))
        );
        assert_eq!(find(&[b"Proxy-Authorization", b"proxy-authorization"]), Err(Duplicate));
    }

    proptest! {
        /// However a name is written it is the same field, and nothing but its letters' case may differ.
        #[test]
        fn case_does_not_matter(upper in prop::collection::vec(any::<bool>(), 19)) {
            let name: Vec<u8> = PROXY_AUTHORIZATION
                .iter()
                .zip(upper)
                .map(|(byte, upper)| match upper {
                    true => byte.to_ascii_uppercase(),
                    false => byte.to_ascii_lowercase(),
                })
                .collect();

            prop_assert_eq!(Audience::of(&name), Some(Audience::Proxy));
        }

        #[test]
        fn another_name_is_another_field(name: Vec<u8>) {
            prop_assume!(!name.eq_ignore_ascii_case(PROXY_AUTHORIZATION));
            prop_assert_ne!(Audience::of(&name), Some(Audience::Proxy));
        }

        /// What is found does not depend on the fields around it; two are always refused.
        #[test]
        fn finds_it_wherever_it_stands(
            mut names in prop::collection::vec("[A-Za-z-]{0,20}", 0..8),
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        ) {
            names.retain(|name| Audience::of(name.as_bytes()) != Some(Audience::Proxy));

            for place in &places {
                let place = place.index(names.len() + 1);
                names.insert(place, "Proxy-Authorization".into());
            }

            let fields: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            let expected = match places.len() {
                0 => Ok(None),
                1 => Ok(Some(PROXY_AUTHORIZATION)),
                _ => Err(Duplicate),
            };

            prop_assert_eq!(find(&fields), expected);
        }
    }
}
