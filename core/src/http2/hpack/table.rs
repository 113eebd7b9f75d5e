//! Owns the tables of HPACK (RFC 7541, section 2.3): the static one, and the dynamic one of a connection.

use std::collections::{TryReserveError, VecDeque};
use std::ops::Range;

use super::glance::Mark;

/// What an entry of the dynamic table counts beside its bytes (RFC 7541, section 4.1).
const OVERHEAD: usize = 32;

/// The static table (RFC 7541, appendix A).
const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// How many entries the static table has.
pub(super) const FIXED: usize = STATIC.len();

/// `index`, if it is one of the static table.
pub(super) fn fixed(index: usize) -> Option<u8> {
    u8::try_from(index).ok().filter(|&index| (1..=STATIC.len()).contains(&usize::from(index)))
}

/// Both tables, with the indices of RFC 7541, section 2.3.3.
#[derive(Debug)]
pub(super) struct Table {
    /// The entries of the dynamic table, the newest first.
    entries: VecDeque<Entry>,
    /// Their bytes, the oldest first, behind those of entries that are gone already.
    bytes: Vec<u8>,
    /// Where the bytes of the oldest entry begin.
    start: usize,
    /// What the entries count.
    size: usize,
    /// What they may count.
    max: usize,
    /// How many entries the core was not shown that there ever were.
    hidden: u32,
}

/// What is known of an entry of the dynamic table without looking at its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub mark: Mark,
    /// How many bytes it has.
    pub len: usize,
    /// How much less its index is for the core. `None` where the core has not got it.
    pub shift: Option<usize>,
}

/// The lengths of an entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it begins, in all bytes that there ever were since the table was last empty of gone ones.
    start: usize,
    name: usize,
    value: usize,
    mark: Mark,
    /// Whether the core has it, too.
    is_shown: bool,
    /// How many entries the core was not shown, up to this one.
    hidden: u32,
}

impl Entry {
    fn size(self) -> usize {
        self.name + self.value + OVERHEAD
    }

    fn bytes(self) -> Range<usize> {
        self.start..self.start + self.name + self.value
    }
}

impl Table {
    /// An empty table, which may have the size `max`. It takes no memory yet.
    pub fn new(max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: Vec::new(), start: 0, size: 0, max, hidden: 0 }
    }

    /// Name and value of an entry.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;

        if let Some(&entry) = STATIC.get(index) {
            return Some(entry);
        }

        let entry = self.entries.get(index - STATIC.len())?;
        self.bytes.get(entry.bytes())?.split_at_checked(entry.name)
    }

    /// What is known of the entry of the dynamic table that came so many before the newest.
    pub fn known(&self, place: usize) -> Option<Known> {
        let entry = self.entries.get(place)?;
        let shift = self.hidden.wrapping_sub(entry.hidden) as usize;

        Some(Known {
            mark: entry.mark,
            len: entry.name + entry.value,
            shift: entry.is_shown.then_some(shift),
        })
    }

    /// The index that an entry has for the core, of the index that it has for the client. `None` where the core has
    /// not got it.
    pub fn shown(&self, index: usize) -> Option<usize> {
        match index.checked_sub(FIXED + 1) {
            None => Some(index),
            Some(place) => Some(index - self.known(place)?.shift?),
        }
    }

    /// Makes `max` the size that the table may have.
    pub fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(0);
    }

    /// Adds an entry. One that is larger than the table only empties it.
    pub fn insert(
        &mut self,
        name: &[u8],
        value: &[u8],
        mark: Mark,
        is_shown: bool,
    ) -> Result<(), TryReserveError> {
        let size = name.len().saturating_add(value.len()).saturating_add(OVERHEAD);
        self.evict(size);

        if size > self.max {
            return Ok(());
        }

        self.compact();
        self.entries.try_reserve(1)?;
        self.bytes.try_reserve(name.len() + value.len())?;

        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.hidden = self.hidden.wrapping_add(u32::from(!is_shown));
        let hidden = self.hidden;
        let (name, value) = (name.len(), value.len());
        self.entries.push_front(Entry { start, name, value, mark, is_shown, hidden });
        self.size += size;

        Ok(())
    }

    /// Makes room for `more`, as far as there is any.
    fn evict(&mut self, more: usize) {
        while self.size > 0 && self.size.saturating_add(more) > self.max {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };

            self.start = entry.bytes().end;
            self.size -= entry.size();
        }
    }

    /// Drops the bytes of entries that are gone, once they are as many as there may be of others.
    fn compact(&mut self) {
        if self.start < self.max.min(self.bytes.len()) && self.size > 0 {
            return;
        }

        let gone = self.start;
        self.bytes.drain(..gone.min(self.bytes.len()));
        self.start = 0;

        for entry in &mut self.entries {
            entry.start -= gone;
        }
    }

    #[cfg(test)]
    pub fn held(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.size, self.bytes.len())
    }
}
