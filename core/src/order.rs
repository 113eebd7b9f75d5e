//! Owns the order in which the addresses of a name are tried.

/// Interleaves two families of addresses (RFC 8305, section 4), so that a family which leads
/// nowhere costs one attempt, not all of them. The first stays the first, and each family keeps
/// its own order.
pub fn interleave<T>(addrs: Vec<T>, is_ipv6: impl Fn(&T) -> bool) -> Vec<T> {
    let Some(first) = addrs.first().map(&is_ipv6) else {
        return addrs;
    };

    let len = addrs.len();
    let (mine, other): (Vec<T>, Vec<T>) =
        addrs.into_iter().partition(|addr| is_ipv6(addr) == first);
    let (mut mine, mut other) = (mine.into_iter(), other.into_iter());
    let mut ordered = Vec::with_capacity(len);

    while ordered.len() < len {
        ordered.extend(mine.next());
        ordered.extend(other.next());
    }

    ordered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::interleave;

    fn order(addrs: &[&'static str]) -> Vec<&'static str> {
        interleave(addrs.to_vec(), |addr| addr.contains(':'))
    }

    #[test]
    fn the_family_of_the_first_begins() {
        assert_eq!(order(&["a", "b", "::1", "::2"]), ["a", "::1", "b", "::2"]);
        assert_eq!(order(&["::1", "a", "b", "::2"]), ["::1", "a", "::2", "b"]);
    }

    #[test]
    fn what_is_left_of_one_family_comes_last() {
        assert_eq!(order(&["a", "b", "c", "::1"]), ["a", "::1", "b", "c"]);
        assert_eq!(order(&["a", "b"]), ["a", "b"]);
        assert_eq!(order(&[]), [""; 0]);
    }

    proptest! {
        #[test]
        fn each_family_keeps_its_order(addrs in prop::collection::vec(any::<(bool, u8)>(), 0..20)) {
            let ordered = interleave(addrs.clone(), |addr| addr.0);

            for family in [false, true] {
                let of = |list: &[(bool, u8)]| -> Vec<(bool, u8)> {
                    list.iter().copied().filter(|addr| addr.0 == family).collect()
                };
                prop_assert_eq!(of(&ordered), of(&addrs));
            }
            prop_assert_eq!(ordered.first(), addrs.first());
        }
    }
}
