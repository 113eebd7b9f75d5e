//! Owns the network that driver and peers are in: a namespace of their own with nothing but a
//! loopback, and TCP there with a congestion control that does not pace.
//!
//! BBR spreads its segments with a timer each. Over a loopback that is a good part of what a byte costs,
//! it comes and goes from one second to the next, and it is no peer's doing.

use std::fs;
use std::io;

use crate::sys;

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Those that do not pace: Linux's own default, and what every Linux has.
const UNPACED: [&str; 2] = ["cubic", "reno"];

/// The network that the measuring happens in.
#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    /// Its TCP congestion control.
    pub congestion: String,
    /// Whether it is one of our own.
    pub own: bool,
}

impl Network {
    /// Enters a network namespace with the congestion control that is `wanted`, by default one that
    /// does not pace. Without a `wanted` the system's network does where there is no other to be had:
    /// namespaces are for root.
    ///
    /// # Errors
    ///
    /// There is no namespace, or the system does not have what is `wanted`.
    pub fn enter(wanted: Option<&str>) -> io::Result<Self> {
        let own = match sys::own_network() {
            Ok(()) => true,
            Err(_) if wanted.is_none() => false,
            Err(error) => return Err(io::Error::other(format!("no network namespace: {error}"))),
        };

        let choice = wanted.as_ref().map_or(&UNPACED[..], std::slice::from_ref);
        let chosen = own && choice.iter().any(|name| fs::write(CONGESTION, name).is_ok());

        if let (Some(wanted), false) = (wanted, chosen) {
            let message = format!("\"{wanted}\" can't be the congestion control of a namespace");
            return Err(io::Error::other(message));
        }

        let congestion = fs::read_to_string(CONGESTION)?.trim().to_owned();
        Ok(Self { congestion, own })
    }

    /// What to call it.
    pub fn about(&self) -> String {
        let place =
            if self.own { "a network namespace of their own" } else { "the system's network" };
        format!("TCP with {}, in {place}", self.congestion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_called() {
        let network = Network { congestion: "reno".into(), own: true };
        assert_eq!(network.about(), "TCP with reno, in a network namespace of their own");

        let network = Network { own: false, ..network };
        assert_eq!(network.about(), "TCP with reno, in the system's network");
    }

    #[test]
    fn an_algorithm_that_does_not_exist() {
        // A namespace is the calling thread's: other tests stay where they are.
        assert!(Network::enter(Some("no such algorithm")).is_err());
    }
}
