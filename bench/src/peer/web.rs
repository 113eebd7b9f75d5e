//! Owns the peers that answer requests: what those cost over HTTP/2 beside tunnels, and where there are none.

/// How an nginx answers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Web {
    /// Without this module: what the others are compared with.
    Without,
    /// With it, from a listener whose server has no tunnels, beside one whose has.
    Apart,
    /// From the very server that has tunnels.
    Beside,
}

impl Web {
    /// All, in the order of the table.
    pub const ALL: [Web; 3] = [Web::Without, Web::Apart, Web::Beside];

    /// The name on the command line and in the CSV.
    pub fn id(self) -> &'static str {
        match self {
            Web::Without => "web-without",
            Web::Apart => "web-apart",
            Web::Beside => "web-beside",
        }
    }

    /// The name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Web::Without => "nginx without this module",
            Web::Apart => "a listener without proxy_connect",
            Web::Beside => "a server with proxy_connect",
        }
    }
}
