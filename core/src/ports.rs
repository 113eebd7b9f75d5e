//! Owns the ports that `proxy_connect_allow` permits.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::target::parse_port;

/// The ports that `proxy_connect_allow` permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `all`
    All,
    /// Ports and ranges, as listed.
    Listed(Vec<RangeInclusive<u16>>),
}

/// Why an argument of `proxy_connect_allow` is refused. Each sentence follows the value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PortsError {
    /// Neither a port, nor a range, nor `all`.
    #[error("is not a port from 1 to 65535, a range \"first-last\" of them, or \"all\"")]
    Invalid,
    /// The first port of a range is above its last.
    #[error("is a range whose first port is above its last")]
    Reversed,
}

impl Ports {
    /// No port yet.
    pub fn none() -> Self {
        Self::Listed(Vec::new())
    }

    /// Reads one argument of `proxy_connect_allow` into the list. `all` may stand beside others,
    /// before or behind them: it allows all.
    ///
    /// # Errors
    ///
    /// [`PortsError`] when the argument is neither `all`, a port, nor a range.
    pub fn add(&mut self, argument: &[u8]) -> Result<(), PortsError> {
        if argument == b"all" {
            *self = Self::All;
            return Ok(());
        }

        let range = parse_range(argument)?;

        if let Self::Listed(ranges) = self {
            ranges.push(range);
        }

        Ok(())
    }

    /// Whether a CONNECT to `port` is permitted.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Listed(ranges) => ranges.iter().any(|range| range.contains(&port)),
        }
    }
}

impl Default for Ports {
    /// https (443) and snews (563).
    fn default() -> Self {
        Self::Listed(vec![443..=443, 563..=563])
    }
}

fn parse_range(argument: &[u8]) -> Result<RangeInclusive<u16>, PortsError> {
    let mut ends = argument.splitn(2, |&byte| byte == b'-');

    let first = ends.next().and_then(parse_port).ok_or(PortsError::Invalid)?;
    let last = ends.next().map_or(Some(first), parse_port).ok_or(PortsError::Invalid)?;

    if first > last {
        return Err(PortsError::Reversed);
    }

    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(arguments: &[&[u8]]) -> Result<Ports, PortsError> {
        let mut ports = Ports::none();

        for argument in arguments {
            ports.add(argument)?;
        }

        Ok(ports)
    }

    #[test]
    fn allows_what_is_listed() {
        let ports = listed(&[b"443", b"1000-2000", b"65535"]);
        let ports = ports.as_ref();

        for (port, allowed) in [
            (443, true),
            (444, false),
            (999, false),
            (1000, true),
            (2000, true),
            (2001, false),
            (65535, true),
        ] {
            assert_eq!(ports.map(|p| p.contains(port)), Ok(allowed), "{port}");
        }
    }

    #[test]
    fn allows_by_default_https_and_snews() {
        let ports = Ports::default();
        let allowed: Vec<u16> = (1..=u16::MAX).filter(|&port| ports.contains(port)).collect();
        assert_eq!(allowed, [443, 563]);
    }

    #[test]
    fn all_is_all_beside_others_too() {
        for arguments in [
            &[&b"all"[..]][..],
            &[b"all", b"443"],
            &[b"443", b"all"],
            &[b"1-2", b"all", b"443"],
            &[b"all", b"all"],
        ] {
            assert_eq!(listed(arguments), Ok(Ports::All));
        }
    }

    #[test]
    fn refuses_bad_lists() {
        assert_eq!(listed(&[b"2000-1000"]), Err(PortsError::Reversed));
        assert_eq!(listed(&[b"all", b"2000-1000"]), Err(PortsError::Reversed));
        assert_eq!(listed(&[b"all", b"0"]), Err(PortsError::Invalid));
        assert_eq!(listed(&[b"0", b"all"]), Err(PortsError::Invalid));

        for argument in [
            &b""[..],
            b"0",
            b"65536",
            b"https",
            b"1-",
            b"-1",
            b"1-2-3",
            b"0-10",
            b"1-65536",
            b"ALL",
        ] {
            assert_eq!(listed(&[argument]), Err(PortsError::Invalid));
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_what_lies_within(a in 1u16.., b in 1u16.., port in 1u16..) {
            let (first, last) = (a.min(b), a.max(b));
            let ports = listed(&[format!("{first}-{last}").as_bytes()]);
            prop_assert_eq!(ports.map(|p| p.contains(port)), Ok(first <= port && port <= last));
        }
    }
}
