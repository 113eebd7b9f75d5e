//! Owns the order in which the addresses of a name are tried.

/// Interleaves two families of addresses (RFC 8305, section 4), so that a family which leads
/// nowhere costs one attempt, not all of them. The first stays the first, and each family keeps
/// its own order.
pub fn interleave<T>(addrs: &mut [T], is_ipv6: impl Fn(&T) -> bool) {
    for place in 1..addrs.len() {
        let wanted = !is_ipv6(&addrs[place - 1]);

        if let Some(offset) = addrs[place..].iter().position(|addr| is_ipv6(addr) == wanted) {
            addrs[place..=place + offset].rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::interleave;

    fn order(addrs: &[&'static str]) -> Vec<&'static str> {
        let mut addrs = addrs.to_vec();
        interleave(&mut addrs, |addr| addr.contains(':'));
        addrs
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
            let mut ordered = addrs.clone();
            interleave(&mut ordered, |addr| addr.0);

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
