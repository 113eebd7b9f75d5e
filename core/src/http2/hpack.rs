//! Owns the decoding of a field block (RFC 7541), within bounds.

mod glance;
mod table;

use std::collections::TryReserveError;

use thiserror::Error;

use super::huffman;
pub use glance::skim;
use glance::Mark;
pub(super) use glance::HIDDEN;
use table::Table;

/// How many fields of a block are told at most.
pub const FIELDS_MAX: usize = 512;

/// How many bytes of names and values of a block are told at most.
pub const BYTES_MAX: usize = 64 * 1024;

/// The size of the dynamic table, as long as nobody asks for another: nginx's settings leave it so.
const TABLE_SIZE: usize = 4096;

/// How many bytes a number has behind its first one at most.
const NUMBER_BYTES: u32 = 3;

/// Why a block can't be decoded: the connection is of no use any more, for want of its table.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HpackError {
    /// The block ends within a field.
    #[error("a field block that ends within a field")]
    Truncated,
    /// A number of more bytes than nginx takes.
    #[error("a field block with a number that is too large")]
    LargeNumber,
    /// There is no such entry in the tables.
    #[error("a field block with an index that is none")]
    InvalidIndex,
    /// The dynamic table may not be that large.
    #[error("a field block with too large a size of its table")]
    LargeTable,
    /// The size of the table is told behind a field.
    #[error("a field block with a size of its table behind a field")]
    LateTableSize,
    /// A string is no Huffman code.
    #[error("a field block with a string that is no Huffman code")]
    InvalidHuffman,
    /// There is no memory for it.
    #[error("a field block, there is no memory for it")]
    OutOfMemory,
}

impl From<TryReserveError> for HpackError {
    fn from(_: TryReserveError) -> Self {
        Self::OutOfMemory
    }
}

/// What decodes the field blocks of a connection, one after the other.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The core's table is not a part of the client's any more: nothing is said by it.
    is_apart: bool,
}

/// A field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// How it was said.
    pub form: Form<'a>,
    /// Whether it becomes an entry of the dynamic table.
    pub becomes_entry: bool,
}

/// How a field was said in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// As an entry of the static table.
    Static(u8),
    /// As an entry of the dynamic table, which has this index for the core, if the core has it.
    Dynamic(Option<usize>),
    /// With a value of its own, which is this string of the block.
    Literal(Name, &'a [u8], &'a [u8]),
}

/// How the name of a literal field was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// As that of an entry of the static table.
    Static(u8),
    /// As that of an entry of the dynamic table.
    Dynamic,
    /// As a string of the block.
    Literal,
}

/// Whether all fields of a block were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Yes.
    All,
    /// There were too many, or too large ones.
    Some,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_SIZE), is_apart: false }
    }
}

impl Decoder {
    /// Decodes a block and hands its fields to `each`, as many as there may be. The table gets all of them, that of the
    /// core none.
    ///
    /// # Errors
    ///
    /// [`HpackError`], and those of `each`. The decoder is of no use any more.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>) -> Result<(), HpackError>,
    ) -> Result<Told, HpackError> {
        self.decode_for_core(block, |field| each(field).map(|()| false))
    }

    /// The same where the core gets those of the entries for which `each` says so.
    ///
    /// # Errors
    ///
    /// As those of [`Decoder::decode`].
    pub fn decode_for_core(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>) -> Result<bool, HpackError>,
    ) -> Result<Told, HpackError> {
        let mut rest = block;
        let mut strings = Strings::default();
        let mut room = Room { fields: FIELDS_MAX, bytes: BYTES_MAX };
        let mut is_first = true;

        while let Some(&byte) = rest.first() {
            let is_field = byte & 0xe0 != 0x20;

            if is_field {
                self.field(&mut rest, &mut strings, |field| match room.take(&field) {
                    true => each(field),
                    false => Ok(false),
                })?;
                is_first = false;
            } else if is_first {
                self.resize(number(&mut rest, 5)?)?;
            } else {
                return Err(HpackError::LateTableSize);
            }
        }

        Ok(if room.fields > 0 || room.bytes > 0 { Told::All } else { Told::Some })
    }

    /// Has the core told everything in full from now on: it does not get entries that it was to get.
    pub fn part(&mut self) {
        self.is_apart = true;
    }

    /// The size of the table (RFC 7541, section 6.3). Those of the core's stays what it is.
    fn resize(&mut self, size: usize) -> Result<(), HpackError> {
        if size > TABLE_SIZE {
            return Err(HpackError::LargeTable);
        }

        self.table.resize(size);
        self.part();
        Ok(())
    }

    fn field(
        &mut self,
        rest: &mut &[u8],
        strings: &mut Strings,
        each: impl FnOnce(Field<'_>) -> Result<bool, HpackError>,
    ) -> Result<(), HpackError> {
        match rest.first().copied().unwrap_or_default() {
            0x80.. => {
                let index = number(rest, 7)?;
                let (name, value) = self.table.get(index).ok_or(HpackError::InvalidIndex)?;
                let form = match table::fixed(index) {
                    Some(index) => Form::Static(index),
                    None => Form::Dynamic(self.table.shown(index).filter(|_| !self.is_apart)),
                };
                each(Field { name, value, form, becomes_entry: false })?;
                Ok(())
            }
            0x40.. => self.literal(rest, 6, true, strings, each),
            _ => self.literal(rest, 4, false, strings, each),
        }
    }

    /// A field with a value of its own (RFC 7541, section 6.2).
    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u32,
        becomes_entry: bool,
        strings: &mut Strings,
        each: impl FnOnce(Field<'_>) -> Result<bool, HpackError>,
    ) -> Result<(), HpackError> {
        let index = number(rest, prefix)?;
        let own = if index == 0 { Some(Text::read(rest)?) } else { None };
        self.name(index, own, &mut strings.name)?;

        let value_text = Text::read(rest)?;
        value_text.decode(&mut strings.value)?;
        let (name, value) = (&strings.name[..], &strings.value[..]);

        let said = match own {
            Some(_) => Name::Literal,
            None => table::fixed(index).map_or(Name::Dynamic, Name::Static),
        };
        let name_string = own.map_or(&[][..], |own| own.said);
        let form = Form::Literal(said, name_string, value_text.said);
        let is_shown = each(Field { name, value, form, becomes_entry })?;

        if becomes_entry {
            self.table.insert(name, value, Mark::of(name, value), is_shown)?;
        }

        Ok(())
    }

    /// Puts the name of a field into `place`: its own, or else that of an entry.
    fn name(
        &self,
        index: usize,
        own: Option<Text<'_>>,
        place: &mut Vec<u8>,
    ) -> Result<(), HpackError> {
        if let Some(own) = own {
            return own.decode(place);
        }

        let (name, _) = self.table.get(index).ok_or(HpackError::InvalidIndex)?;
        Ok(replace(place, name)?)
    }
}

/// The strings of a literal field, decoded.
#[derive(Default)]
struct Strings {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// What may still be told of a block. Both are 0 once something had no room.
struct Room {
    fields: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, field: &Field<'_>) -> bool {
        let len = field.name.len() + field.value.len();

        match (self.fields.checked_sub(1), self.bytes.checked_sub(len)) {
            (Some(fields), Some(bytes)) => {
                *self = Self { fields, bytes };
                true
            }
            _ => {
                *self = Self { fields: 0, bytes: 0 };
                false
            }
        }
    }
}

fn replace(place: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TryReserveError> {
    place.clear();
    place.try_reserve(bytes.len())?;
    place.extend_from_slice(bytes);
    Ok(())
}

/// Reads a number (RFC 7541, section 5.1), whose first `prefix` bits are the last of a byte.
fn number(rest: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let mask = (1 << prefix) - 1;
    let first = usize::from(take(rest, 1)?[0]) & mask;

    if first < mask {
        return Ok(first);
    }

    let mut number = first;

    // As many as nginx takes.
    for nth in 0..NUMBER_BYTES {
        let byte = take(rest, 1)?[0];
        number += usize::from(byte & 0x7f) << (7 * nth);

        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }

    Err(HpackError::LargeNumber)
}

/// A string of a block (RFC 7541, section 5.2).
#[derive(Clone, Copy)]
struct Text<'a> {
    /// What stands for it in the block.
    said: &'a [u8],
    /// The same without its length.
    bytes: &'a [u8],
    is_huffman: bool,
}

impl<'a> Text<'a> {
    fn read(rest: &mut &'a [u8]) -> Result<Self, HpackError> {
        let start = *rest;
        let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let len = number(rest, 7)?;
        let bytes = take(rest, len)?;
        Ok(Self { said: &start[..start.len() - rest.len()], bytes, is_huffman })
    }

    /// Puts it into `place` as it is without Huffman code.
    fn decode(&self, place: &mut Vec<u8>) -> Result<(), HpackError> {
        if !self.is_huffman {
            return Ok(replace(place, self.bytes)?);
        }

        place.clear();
        place.try_reserve(self.longest())?;

        match huffman::decode(self.bytes, |byte| place.push(byte)) {
            true => Ok(()),
            false => Err(HpackError::InvalidHuffman),
        }
    }

    /// How many bytes it comes to at most.
    fn longest(&self) -> usize {
        if self.is_huffman {
            huffman::longest(self.bytes.len())
        } else {
            self.bytes.len()
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], HpackError> {
    let (taken, left) = rest.split_at_checked(len).ok_or(HpackError::Truncated)?;
    *rest = left;
    Ok(taken)
}

/// Writes a number (RFC 7541, section 5.1) behind the bits of `first`, of which the last `prefix` are clear.
pub fn write_number(
    block: &mut Vec<u8>,
    first: u8,
    prefix: u32,
    number: usize,
) -> Result<(), TryReserveError> {
    let mask = (1 << prefix) - 1;
    block.try_reserve(6)?;

    if number < mask {
        block.push(first | number as u8);
        return Ok(());
    }

    block.push(first | mask as u8);
    let mut rest = number - mask;

    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }

    block.push(rest as u8);
    Ok(())
}

/// Writes a string as it is.
pub fn write_string(block: &mut Vec<u8>, string: &[u8]) -> Result<(), TryReserveError> {
    write_number(block, 0, 7, string.len())?;
    write_bytes(block, string)
}

/// Writes what stands for something in another block.
pub fn write_bytes(block: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TryReserveError> {
    block.try_reserve(bytes.len())?;
    block.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
