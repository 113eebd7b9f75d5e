//! Owns the peers whose tunnels have a rate.

/// What each tunnel of a thousand may move, as nginx reads it, and in bytes a second.
pub const EACH: (&str, u64) = ("100k", 100 * 1024);
/// What the one tunnel may.
pub const ONE: (&str, u64) = ("1m", 1 << 20);
/// What those that share a rate may together.
pub const TOGETHER: (&str, u64) = ("10m", 10 << 20);

/// Who keeps to a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limits {
    /// This module, each tunnel to a rate of its own.
    Each,
    /// nginx's stream proxy, the same.
    StreamEach,
    /// This module, one tunnel.
    One,
    /// This module, all tunnels to one rate.
    Together,
}

impl Limits {
    /// All, in the order of the table.
    pub const ALL: [Limits; 4] = [Limits::Each, Limits::StreamEach, Limits::One, Limits::Together];

    /// The name on the command line and in the CSV.
    pub fn id(self) -> &'static str {
        match self {
            Limits::Each => "limits-each",
            Limits::StreamEach => "stream-limits-each",
            Limits::One => "limits-one",
            Limits::Together => "limits-together",
        }
    }

    /// The name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Limits::Each => "this module, 100 KiB/s each",
            Limits::StreamEach => "nginx stream, 100 KiB/s each",
            Limits::One => "this module, 1 MiB/s",
            Limits::Together => "this module, 10 MiB/s together",
        }
    }

    /// Where it says so, in the block of this module's server; empty for nginx's stream proxy.
    pub fn directives(self) -> String {
        match self {
            Limits::Each => format!("proxy_connect_download_rate {};", EACH.0),
            Limits::StreamEach => String::new(),
            Limits::One => format!("proxy_connect_download_rate {};", ONE.0),
            Limits::Together => format!(
                "proxy_connect_rate_zone $server_port zone=together:1m download={};",
                TOGETHER.0
            ),
        }
    }
}
