//! Owns what a tunnel that stands does: bytes without end, or messages there and back.

use std::io;
use std::time::Instant;

use super::{failed, now, Load, Side, State};
use crate::wire::{Wire, CHUNK};

/// How many bytes one event may read. A receiver that lags fills its window, and what the proxy
/// could not send then goes out when the receiver reads, on the driver's account.
pub(super) const READ_BUDGET: usize = 4 * CHUNK;

/// How many bytes one event may send, so that receivers need not wait.
const SEND_BUDGET: usize = CHUNK / 4;

/// What a tunnel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The origin server sends without end.
    Down,
    /// The client sends without end.
    Up,
    /// Both.
    Both,
    /// A message of the client, one of the same size back, and again.
    Ping,
}

impl Job {
    pub(super) fn byte(self) -> u8 {
        match self {
            Job::Down => b'd',
            Job::Up => b'u',
            Job::Both => b'b',
            Job::Ping => b'p',
        }
    }

    /// The job that begins so. A ClientHello is a record that begins with 22.
    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        if byte == 22 {
            return Some(Job::Ping);
        }

        [Job::Down, Job::Up, Job::Both, Job::Ping].into_iter().find(|job| job.byte() == byte)
    }

    pub(super) fn sends(self, client: bool) -> bool {
        match self {
            Job::Both => true,
            Job::Down => !client,
            Job::Up => client,
            Job::Ping => false,
        }
    }
}

impl Load<'_> {
    pub(super) fn each_ping_client(
        &mut self,
        mut act: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        for index in 0..self.slots.len() {
            let is_one =
                self.slots[index].as_ref().is_some_and(|side| side.client && side.job == Job::Ping);

            if is_one {
                act(self, index)?;
            }
        }

        Ok(())
    }

    pub(super) fn next_in_queue(&mut self) -> io::Result<()> {
        match self.queue.pop_front() {
            Some(index) => self.ping(index),
            None => Ok(()),
        }
    }

    pub(super) fn ping(&mut self, index: usize) -> io::Result<()> {
        if let Some(side) = &mut self.slots[index] {
            side.out = self.size;
            side.need = self.size;
            side.since = Instant::now();
        }

        self.send(index)?;
        self.watch(index)
    }

    pub(super) fn begin(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        side.state = State::Open;

        if self.pace.is_none() && side.job.sends(side.client) {
            side.out = u64::MAX;
            self.send(index)?;
        }

        // TLS may have more than it was asked for; what lies in the socket comes as an event.
        if matches!(self.slots[index], Some(Side { wire: Wire::Tls(_) | Wire::Stream(_), .. })) {
            self.receive(index)?;
        }

        Ok(())
    }

    pub(super) fn receive(&mut self, index: usize) -> io::Result<()> {
        let mut left = READ_BUDGET;

        while left > 0 {
            let Some(side) = &mut self.slots[index] else {
                return Ok(());
            };

            let length = match now(side.wire.discard(&mut self.scratch))? {
                None => return Ok(()),
                Some(0) if side.client => return Err(failed("a tunnel was closed")),
                Some(0) => {
                    self.drop_side(index);
                    return Ok(());
                }
                Some(length) => length,
            };

            side.received += length as u64;

            if side.client {
                self.moved.down += length as u64;
                self.came = Instant::now();
            } else {
                self.moved.up += length as u64;
            }

            left = left.saturating_sub(length);

            if side.job == Job::Ping {
                side.need = side.need.saturating_sub(length as u64);

                if side.need == 0 {
                    return self.message_came(index);
                }
            }
        }

        Ok(())
    }

    fn message_came(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        if !side.client {
            side.need = self.size;
            side.out = self.size;
            return self.send(index);
        }

        self.moved.pings += 1;
        self.latency.add(side.since.elapsed());

        if self.repeat {
            self.ping(index)
        } else {
            self.next_in_queue()
        }
    }

    pub(super) fn send(&mut self, index: usize) -> io::Result<()> {
        let Some(side) = &mut self.slots[index] else {
            return Ok(());
        };

        let mut left = SEND_BUDGET;

        while side.out > 0 && left > 0 {
            let length = side.out.min(left as u64) as usize;

            let Some(sent) = now(side.wire.send(&self.chunk[..length]))? else {
                break;
            };

            left -= sent;

            if side.out != u64::MAX {
                side.out -= sent as u64;
            }
        }

        side.wire.flush()?;
        Ok(())
    }
}
