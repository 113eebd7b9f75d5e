//! Owns the choice between copying bytes and moving them through a pipe, from what the last
//! bytes of a direction looked like.

use super::Splice;

/// After so many full buffers, with no smaller burst between, a direction goes over to a pipe: small
/// messages do not pay for it.
const FULL_READS: u8 = 2;

/// A burst that moved less, in bytes, was not worth a pipe.
const WORTH_A_PIPE: usize = 32 * 1024;

/// A pipe that got less, in bytes, has probably emptied its source.
const SHORT_FILL: usize = 64 * 1024;

/// How a direction moves its bytes.
#[derive(Debug)]
pub(super) struct Pace {
    splice: Splice,
    full_reads: u8,
    /// Whether the direction uses pipes.
    piping: bool,
    /// Bytes since the source was last found empty.
    burst: usize,
    /// The last fill was short: a look at the source costs less than a pipe that gets nothing.
    doubtful: bool,
}

impl Pace {
    pub fn new(splice: Splice) -> Self {
        Self { splice, full_reads: 0, piping: splice == Splice::On, burst: 0, doubtful: false }
    }

    /// Whether the next bytes should go through a pipe.
    pub fn wants_pipe(&self) -> bool {
        self.piping
    }

    /// Whether the source has probably no more.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// A pipe got `n` bytes of the source; `full` says that it was not to get more.
    pub fn spliced(&mut self, n: usize, full: bool) {
        self.burst = self.burst.saturating_add(n);
        self.doubtful = n < SHORT_FILL && !full;
    }

    /// The buffer got `n` bytes of the source, and the sink took them `all`; `full` says that there
    /// was no room for more.
    pub fn copied(&mut self, n: usize, full: bool, all: bool) {
        self.burst = self.burst.saturating_add(n);
        self.doubtful = false;

        if full && all {
            self.full_reads = self.full_reads.saturating_add(1);
        } else if !all {
            self.full_reads = 0;
        }

        if self.full_reads >= FULL_READS && self.splice == Splice::Auto {
            self.piping = true;
        }
    }

    /// The source has no more, or still has none.
    pub fn drained(&mut self) {
        if self.burst == 0 {
            return;
        }

        if self.burst < WORTH_A_PIPE {
            self.full_reads = 0;

            if self.splice == Splice::Auto {
                self.piping = false;
            }
        }

        self.burst = 0;
        self.doubtful = false;
    }
}
