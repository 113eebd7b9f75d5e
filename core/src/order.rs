//! Owns which addresses of a name are tried, and in which order.

/// Leaves at most `limit` addresses, each once, in the order in which they are to be tried. A name
/// server may give thousands, and the same one again and again: that costs a comparison with those
/// that are kept for each.
pub fn choose<T: PartialEq>(addrs: &mut Vec<T>, limit: usize, is_ipv6: impl Fn(&T) -> bool) {
    deduplicate(addrs, limit, &is_ipv6);
    interleave(addrs, is_ipv6);
    addrs.truncate(limit);
}

/// Leaves the first `limit` addresses of each family, each once: no more of a family can be among the
/// first `limit` of all, however they are interleaved.
fn deduplicate<T: PartialEq>(addrs: &mut Vec<T>, limit: usize, is_ipv6: impl Fn(&T) -> bool) {
    let mut kept = 0;
    let mut of_family = [0; 2];

    for place in 0..addrs.len() {
        let count = &mut of_family[usize::from(is_ipv6(&addrs[place]))];

        if *count < limit && !addrs[..kept].contains(&addrs[place]) {
            *count += 1;
            addrs.swap(kept, place);
            kept += 1;
        }
    }

    addrs.truncate(kept);
}

/// Interleaves two families of addresses (RFC 8305, section 4), so that a family which leads
/// nowhere costs one attempt, not all of them. The first stays the first, and each family keeps
/// its own order.
fn interleave<T>(addrs: &mut [T], is_ipv6: impl Fn(&T) -> bool) {
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

    use super::{choose, deduplicate, interleave};

    fn order(addrs: &[&'static str]) -> Vec<&'static str> {
        let mut addrs = addrs.to_vec();
        interleave(&mut addrs, |addr| addr.contains(':'));
        addrs
    }

    fn chosen(addrs: &[&'static str], limit: usize) -> Vec<&'static str> {
        let mut addrs = addrs.to_vec();
        choose(&mut addrs, limit, |addr| addr.contains(':'));
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

    #[test]
    fn copies_are_chosen_once() {
        assert_eq!(chosen(&["a"; 500], 16), ["a"]);
        assert_eq!(chosen(&["a", "b", "a", "::1", "::1", "b", "c"], 16), ["a", "::1", "b", "c"]);
    }

    #[test]
    fn both_families_are_among_the_chosen() {
        assert_eq!(chosen(&["a", "b", "c", "d", "::1", "::2"], 4), ["a", "::1", "b", "::2"]);
        assert_eq!(chosen(&["a", "b", "c", "d", "::1", "::2"], 1), ["a"]);
        assert_eq!(chosen(&["a", "b"], 0), [""; 0]);
    }

    /// What `choose` is to come to, in the plainest way.
    fn chosen_plainly(addrs: &[(bool, u8)], limit: usize) -> Vec<(bool, u8)> {
        let mut chosen: Vec<(bool, u8)> = Vec::new();

        for addr in addrs {
            if !chosen.contains(addr) {
                chosen.push(*addr);
            }
        }

        interleave(&mut chosen, |addr| addr.0);
        chosen.truncate(limit);
        chosen
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

        #[test]
        fn the_chosen_are_the_first_of_all_that_differ(
            addrs in prop::collection::vec((any::<bool>(), 0u8..12), 0..60),
            limit in 0usize..20,
        ) {
            let mut chosen = addrs.clone();
            choose(&mut chosen, limit, |addr| addr.0);

            prop_assert_eq!(chosen, chosen_plainly(&addrs, limit));
        }

        #[test]
        fn little_is_compared(addrs in prop::collection::vec(any::<(bool, u8)>(), 0..200)) {
            let mut left = addrs.clone();
            deduplicate(&mut left, 4, |addr| addr.0);

            for family in [false, true] {
                prop_assert!(left.iter().filter(|addr| addr.0 == family).count() <= 4);
            }
        }
    }
}
