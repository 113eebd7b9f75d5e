//! Owns what the workers count of their tunnels in memory that all of them share, and the list of the tunnels
//! that stand.
//!
//! | module | owns |
//! |---|---|
//! | `label` | the words that things are counted by |
//! | [`histogram`] | how long things take |
//! | [`worker`] | what one worker counts |
//! | [`entry`] | one tunnel that stands |
//! | [`parents`] | how parents are counted |
//! | [`zone`] | the memory: whose each part is, and what becomes of it when a worker dies |
//! | [`report`] | the sum of it, at one moment |
//! | [`prometheus`], [`json`] | the same as text |
//!
//! Each worker writes its own part and nobody else's, so nothing here is locked, and a worker that is killed
//! holds nothing. All bytes 0 are a zone in which nothing was counted.

pub mod entry;
pub mod histogram;
pub mod json;
mod label;
pub mod parents;
pub mod prometheus;
pub mod report;
pub mod worker;
pub mod zone;

pub use label::{Outcome, Version, CLOSE_REASONS};
pub use zone::Zone;
