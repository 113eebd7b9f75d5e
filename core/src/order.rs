//! Owns which addresses of a name are tried, and in which order.

/// Which family of addresses is tried first, or alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// That of the name server's first address.
    #[default]
    None,
    /// IPv6.
    Ipv6,
    /// IPv4.
    Ipv4,
    /// IPv6, and never IPv4.
    Ipv6Only,
    /// IPv4, and never IPv6.
    Ipv4Only,
}

impl Preference {
    /// Whether an address may be tried at all.
    pub fn admits(self, is_ipv6: bool) -> bool {
        match self {
            Self::None | Self::Ipv6 | Self::Ipv4 => true,
            Self::Ipv6Only => is_ipv6,
            Self::Ipv4Only => !is_ipv6,
        }
    }

    /// Whether an address is one of those to begin with.
    fn begins_with(self, is_ipv6: bool) -> bool {
        match self {
            Self::None => true,
            Self::Ipv6 | Self::Ipv6Only => is_ipv6,
            Self::Ipv4 | Self::Ipv4Only => !is_ipv6,
        }
    }

    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "off",
            Self::Ipv6 => "ipv6",
            Self::Ipv4 => "ipv4",
            Self::Ipv6Only => "ipv6_only",
            Self::Ipv4Only => "ipv4_only",
        }
    }

    /// The one of this name, if there is one.
    pub fn named(name: &[u8]) -> Option<Self> {
        [Self::None, Self::Ipv6, Self::Ipv4, Self::Ipv6Only, Self::Ipv4Only]
            .into_iter()
            .find(|preference| preference.name().as_bytes() == name)
    }
}

/// Leaves at most `limit` addresses, each once, in the order in which they are to be tried. A name
/// server may give thousands, and the same one again and again: that costs a comparison with those
/// that are kept for each.
pub fn choose<T: PartialEq>(
    addrs: &mut Vec<T>,
    limit: usize,
    preference: Preference,
    is_ipv6: impl Fn(&T) -> bool,
) {
    addrs.retain(|addr| preference.admits(is_ipv6(addr)));
    deduplicate(addrs, limit, &is_ipv6);
    begin_with(addrs, |addr| preference.begins_with(is_ipv6(addr)));
    interleave(addrs, is_ipv6);
    addrs.truncate(limit);
}

/// Puts the first of those that are preferred before all others.
fn begin_with<T>(addrs: &mut [T], is_preferred: impl Fn(&T) -> bool) {
    if let Some(place) = addrs.iter().position(is_preferred) {
        addrs[..=place].rotate_right(1);
    }
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

    use super::{choose, deduplicate, interleave, Preference};

    fn order(addrs: &[&'static str]) -> Vec<&'static str> {
        let mut addrs = addrs.to_vec();
        interleave(&mut addrs, |addr| addr.contains(':'));
        addrs
    }

    fn chosen(addrs: &[&'static str], limit: usize) -> Vec<&'static str> {
        preferred(addrs, limit, Preference::None)
    }

    fn preferred(
        addrs: &[&'static str],
        limit: usize,
        preference: Preference,
    ) -> Vec<&'static str> {
        let mut addrs = addrs.to_vec();
        choose(&mut addrs, limit, preference, |addr| addr.contains(':'));
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

    #[test]
    fn the_preferred_family_begins() {
        let addrs = ["a", "b", "::1", "::2"];
        assert_eq!(preferred(&addrs, 16, Preference::Ipv6), ["::1", "a", "::2", "b"]);
        assert_eq!(preferred(&addrs, 1, Preference::Ipv6), ["::1"]);
        assert_eq!(preferred(&addrs, 16, Preference::Ipv4), ["a", "::1", "b", "::2"]);

        let addrs = ["::1", "::2", "a"];
        assert_eq!(preferred(&addrs, 16, Preference::Ipv4), ["a", "::1", "::2"]);
        assert_eq!(preferred(&["::1"], 16, Preference::Ipv4), ["::1"]);
    }

    #[test]
    fn only_one_family_is_left() {
        let addrs = ["a", "::1", "b", "::2", "a"];
        assert_eq!(preferred(&addrs, 16, Preference::Ipv6Only), ["::1", "::2"]);
        assert_eq!(preferred(&addrs, 16, Preference::Ipv4Only), ["a", "b"]);
        assert_eq!(preferred(&["a"], 16, Preference::Ipv6Only), [""; 0]);
    }

    #[test]
    fn preferences_have_names() {
        for name in ["off", "ipv6", "ipv4", "ipv6_only", "ipv4_only"] {
            let preference = Preference::named(name.as_bytes());
            assert_eq!(preference.map(Preference::name), Some(name));
        }

        assert_eq!(Preference::named(b"IPv6"), None);
        assert_eq!(Preference::named(b""), None);
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
            choose(&mut chosen, limit, Preference::None, |addr| addr.0);

            prop_assert_eq!(chosen, chosen_plainly(&addrs, limit));
        }

        #[test]
        fn a_preference_begins_and_loses_nothing(
            addrs in prop::collection::vec(any::<(bool, u8)>(), 0..30),
            is_ipv6: bool,
        ) {
            let (some, only) = match is_ipv6 {
                true => (Preference::Ipv6, Preference::Ipv6Only),
                false => (Preference::Ipv4, Preference::Ipv4Only),
            };
            let all = |preference| {
                let mut chosen = addrs.clone();
                choose(&mut chosen, 100, preference, |addr| addr.0);
                chosen
            };
            let (plain, chosen, alone) = (all(Preference::None), all(some), all(only));

            let begins = chosen.first().is_none_or(|addr| addr.0 == is_ipv6);
            prop_assert!(begins || chosen.iter().all(|addr| addr.0 != is_ipv6));

            for family in [false, true] {
                let of = |list: &[(bool, u8)]| -> Vec<(bool, u8)> {
                    list.iter().copied().filter(|addr| addr.0 == family).collect()
                };
                prop_assert_eq!(of(&chosen), of(&plain));
                prop_assert_eq!(of(&alone), if family == is_ipv6 { of(&plain) } else { vec![] });
            }
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
