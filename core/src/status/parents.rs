//! Owns how parents are counted: the servers of each group by their states, as one worker sees them, and what became of
//! the attempts to have them build a tunnel.

/// How many states a server may be in.
pub const STATES: usize = 4;

/// The words for them, in the order of their places.
pub const STATE_WORDS: [&str; STATES] = ["up", "down", "unavailable", "busy"];

/// How many servers are in each state.
pub type ServerStates = [u64; STATES];

/// How many words there are for what becomes of an attempt.
pub const ATTEMPTS: usize = 3;

/// Those words, in the order of their places.
pub const ATTEMPT_WORDS: [&str; ATTEMPTS] = ["opened", "refused", "unreachable"];

/// What became of an attempt to have a parent build a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It built one.
    Opened,
    /// It was reached, and built none.
    Refused,
    /// It was not reached.
    Unreachable,
}

/// A group of parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name in the configuration.
    pub name: String,
    /// Its servers.
    pub states: ServerStates,
}

impl Attempt {
    pub(super) fn place(self) -> usize {
        self as usize
    }
}
