//! Owns the peers that pass their tunnels on to one parent on this machine: another server with this module, which is not
//! measured.

/// Who passes tunnels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Through {
    /// This module, with `proxy_connect_pass`.
    Module,
    /// squid, with `cache_peer`.
    Squid,
    /// haproxy as a TCP relay in front of the parent.
    Haproxy,
}

impl Through {
    /// All, in the order of the table.
    pub const ALL: [Through; 3] = [Through::Module, Through::Squid, Through::Haproxy];

    /// The name on the command line and in the CSV.
    pub fn id(self) -> &'static str {
        match self {
            Through::Module => "module-parent",
            Through::Squid => "squid-parent",
            Through::Haproxy => "haproxy-parent",
        }
    }

    /// The name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Through::Module => "this module, through a parent",
            Through::Squid => "squid, through a parent",
            Through::Haproxy => "haproxy, TCP, to a parent",
        }
    }
}
