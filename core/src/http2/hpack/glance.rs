//! Owns what is found out of a field block without decoding it: how far one is whole, and whether the core may have it
//! as it is, being no CONNECT, without credentials, and within the bounds. The core's table has the client's entries but for
//! those of other blocks that it was not shown, so an index may have to be another one, of as many bytes.

use super::table::{fixed, FIXED};
use super::{huffman, number, Decoder, HpackError, Strings, Text, BYTES_MAX, FIELDS_MAX};

/// The name of the field that says of a request that it is a CONNECT, its indices in the static table, and its value.
const METHOD: &[u8] = b":method";
const METHODS: [usize; 2] = [2, 3];
const CONNECT: &[u8] = b"CONNECT";

/// The field whose value the core is not shown, and its index in the static table.
pub(in crate::http2) const HIDDEN: &[u8] = b"proxy-authorization";
const HIDDEN_INDEX: usize = 49;

/// More than what any entry of the static table has bytes.
const FIXED_BYTES: usize = 64;

/// What of an entry of the table has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    Plain,
    /// It is a method other than CONNECT.
    Method,
    /// No block that refers to it can be passed as it is.
    Kept,
}

impl Mark {
    pub fn of(name: &[u8], value: &[u8]) -> Self {
        match name {
            METHOD if value == CONNECT => Self::Kept,
            METHOD => Self::Method,
            HIDDEN => Self::Kept,
            _ => Self::Plain,
        }
    }
}

/// A piece of a block.
enum Piece<'a> {
    /// A field that is an entry of a table.
    Indexed(usize),
    /// A field with a value of its own, and whether it becomes an entry. Where the index is 0, the name is its own, too.
    Literal { becomes_entry: bool, index: usize, name: Option<Text<'a>>, value: Text<'a> },
    /// The size of the table.
    Size,
}

impl<'a> Piece<'a> {
    #[inline(always)]
    fn read(rest: &mut &'a [u8]) -> Result<Self, HpackError> {
        let (becomes_entry, prefix) = match rest.first().copied().unwrap_or_default() {
            0x80.. => return Ok(Self::Indexed(number(rest, 7)?)),
            0x40.. => (true, 6),
            0x20.. => return number(rest, 5).map(|_| Self::Size),
            _ => (false, 4),
        };

        let index = number(rest, prefix)?;
        let name = if index == 0 { Some(Text::read(rest)?) } else { None };
        Ok(Self::Literal { becomes_entry, index, name, value: Text::read(rest)? })
    }
}

/// How many bytes of a block, which may not be whole, are whole fields.
///
/// # Errors
///
/// [`HpackError`]: it will never be a block.
pub fn skim(block: &[u8]) -> Result<usize, HpackError> {
    let mut rest = block;
    let mut whole = 0;

    while !rest.is_empty() {
        match Piece::read(&mut rest) {
            Ok(_) => whole = block.len() - rest.len(),
            Err(HpackError::Truncated) => break,
            Err(error) => return Err(error),
        }
    }

    Ok(whole)
}

/// What was seen of a block.
#[derive(Default)]
struct Seen {
    fields: usize,
    /// How many bytes the names and values have at most.
    bytes: usize,
    /// How many of the fields become entries, and how many bytes one of them has at most.
    entries: usize,
    largest: usize,
    /// An index is another one for the core.
    has_shifted: bool,
}

impl Decoder {
    /// Whether the core may have `block` as it is, but for indices, which are changed; if so the table gets its entries.
    /// Of what is no block the core may find out by itself.
    ///
    /// # Errors
    ///
    /// [`HpackError`]. The decoder is of no use any more.
    pub fn pass(&mut self, block: &mut [u8]) -> Result<bool, HpackError> {
        if self.is_apart {
            return Ok(false);
        }

        match self.glance(block) {
            Some(seen) if seen.entries > 0 || seen.has_shifted => self.learn(block).map(|()| true),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// What is in a block that may be passed. `None` for another, and for one that had better be decoded.
    fn glance(&self, block: &[u8]) -> Option<Seen> {
        let mut rest = block;
        let mut seen = Seen::default();

        while !rest.is_empty() {
            let begin = rest;

            let len = match Piece::read(&mut rest).ok()? {
                Piece::Indexed(index) => self.glance_at_entry(begin, index, &mut seen)?,
                Piece::Literal { becomes_entry, index, name, value } => {
                    let len = self.glance_at_name(begin, index, name, value, &mut seen)?
                        + value.longest();

                    if becomes_entry {
                        seen.entries += 1;
                        seen.largest = seen.largest.max(len);
                    }

                    len
                }
                Piece::Size => return None,
            };

            seen.bytes += len;
            seen.fields += 1;
        }

        (seen.fields <= FIELDS_MAX && seen.bytes <= BYTES_MAX).then_some(seen)
    }

    /// How many bytes the entry has at most, if a block that refers to it may be passed.
    fn glance_at_entry(&self, piece: &[u8], index: usize, seen: &mut Seen) -> Option<usize> {
        let place = match index {
            0 => return None,
            1..=FIXED => return Some(FIXED_BYTES),
            _ => index - FIXED - 1,
        };

        match place.checked_sub(seen.entries) {
            // What would not be passed is no entry of this block.
            None => Some(seen.largest),
            Some(place) => {
                let known = self.table.known(place).filter(|known| known.mark != Mark::Kept)?;
                seen.note_shift(piece, index, known.shift?)?;
                Some(known.len)
            }
        }
    }

    /// How many bytes the name of a field has at most, if a block may be passed that has one of this name and value.
    fn glance_at_name(
        &self,
        piece: &[u8],
        index: usize,
        name: Option<Text<'_>>,
        value: Text<'_>,
        seen: &mut Seen,
    ) -> Option<usize> {
        if let Some(name) = name {
            return (!name.is(METHOD) && !name.is(HIDDEN)).then(|| name.longest());
        }

        if let Some(index) = fixed(index) {
            let index = usize::from(index);
            let is_kept = index == HIDDEN_INDEX || METHODS.contains(&index) && value.is(CONNECT);
            return (!is_kept).then_some(FIXED_BYTES);
        }

        // That of an entry of this block is not known yet.
        let place = (index - FIXED - 1).checked_sub(seen.entries)?;

        let known = self.table.known(place).filter(|known| known.mark == Mark::Plain)?;
        seen.note_shift(piece, index, known.shift?)?;
        Some(known.len)
    }

    /// Adds the entries of a block that may be passed, and changes its indices to those that they are for the core.
    fn learn(&mut self, block: &mut [u8]) -> Result<(), HpackError> {
        let mut at = 0;
        let mut strings = Strings::default();

        while at < block.len() {
            let mut rest = &block[at..];
            let piece = Piece::read(&mut rest)?;
            let next = block.len() - rest.len();

            let index = match piece {
                Piece::Indexed(index) | Piece::Literal { index, .. } => index,
                Piece::Size => 0,
            };
            let shown = self.table.shown(index).ok_or(HpackError::InvalidIndex)?;

            if let Piece::Literal { becomes_entry: true, index, name, value } = piece {
                self.name(index, name, &mut strings.name)?;
                value.decode(&mut strings.value)?;

                let (name, value) = (&strings.name, &strings.value);
                self.table.insert(name, value, Mark::of(name, value), true)?;
            }

            change(&mut block[at..], shown);
            at = next;
        }

        Ok(())
    }
}

impl Seen {
    /// Notes that an index is to be less. `None` where it then has another number of bytes.
    fn note_shift(&mut self, piece: &[u8], index: usize, shift: usize) -> Option<()> {
        if shift == 0 {
            return Some(());
        }

        let mask = mask_of(piece);
        let is_same = match index.checked_sub(mask) {
            None => true,
            // Two bytes, and none for the sake of length.
            Some(_) => piece.get(1)? & 0x80 == 0 && index - shift >= mask,
        };

        self.has_shifted = true;
        is_same.then_some(())
    }
}

/// The bits that an index has of the first byte of a piece.
fn mask_of(piece: &[u8]) -> usize {
    match piece.first().copied().unwrap_or_default() {
        0x80.. => 0x7f,
        0x40.. => 0x3f,
        _ => 0x0f,
    }
}

/// Makes the index of a piece another one of as many bytes.
fn change(piece: &mut [u8], index: usize) {
    let mask = mask_of(piece);

    match (index.checked_sub(mask), piece) {
        (None, [first, ..]) => *first = *first & !(mask as u8) | index as u8,
        (Some(more), [_, second, ..]) if *second & 0x80 == 0 => *second = more as u8,
        // A longer one is not changed, see note_shift().
        _ => (),
    }
}

impl Text<'_> {
    /// Whether it is `what`, of whose bytes none has a code of more than 8 bits.
    fn is(&self, what: &[u8]) -> bool {
        if !self.is_huffman {
            return self.bytes == what;
        }

        // A byte more may be padding.
        let may_be = self.bytes.len() <= what.len() + 1 && self.longest() >= what.len();
        let mut rest = Some(what);

        may_be
            && huffman::decode(self.bytes, |byte| {
                rest = rest.and_then(|rest| rest.strip_prefix(&[byte]));
            })
            && rest == Some(&[])
    }
}
