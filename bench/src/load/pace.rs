//! Owns origin servers that keep to a rate by themselves: a few bytes each, again and again.

use std::io;
use std::time::{Duration, Instant};

use super::Load;

/// At what pace.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// What an origin server sends at once.
    bytes: u64,
    /// How long it waits then.
    period: Duration,
    /// They are so many groups, which send one after the other.
    groups: u32,
}

impl Load<'_> {
    /// Has the origin servers of tunnels that are opened from now on send `bytes` each `period`, and nothing else. They
    /// are as many groups, and each sends at its own time.
    pub fn pace(&mut self, bytes: u64, period: Duration, groups: u32) {
        self.pace = Some(Pace { bytes, period, groups });
    }

    pub(super) fn run_paced(&mut self, time: Duration) -> io::Result<()> {
        let Some(pace) = self.pace else {
            return Ok(());
        };

        let begin = Instant::now();

        for step in 0.. {
            let due = pace.period / pace.groups * step;

            if due >= time {
                break;
            }

            self.run(due.saturating_sub(begin.elapsed()), |_| false)?;
            self.send_group(pace, (step % pace.groups) as usize)?;
        }

        self.run(time.saturating_sub(begin.elapsed()), |_| false)?;
        Ok(())
    }

    fn send_group(&mut self, pace: Pace, group: usize) -> io::Result<()> {
        let is_origin =
            |index: &usize| self.slots[*index].as_ref().is_some_and(|side| !side.client);
        let origins: Vec<_> = (0..self.slots.len()).filter(is_origin).collect();

        for index in origins.into_iter().skip(group).step_by(pace.groups as usize) {
            if let Some(side) = &mut self.slots[index] {
                side.out += pace.bytes;
            }

            self.send(index)?;
            self.watch(index)?;
        }

        Ok(())
    }
}
