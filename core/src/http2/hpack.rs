//! Owns the decoding of a field block (RFC 7541), within bounds.

mod table;

use std::collections::TryReserveError;

use thiserror::Error;

use super::huffman;
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
}

/// How a field was said in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// As an entry of the static table.
    Static(u8),
    /// As an entry of the dynamic table.
    Dynamic,
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
        Self { table: Table::new(TABLE_SIZE) }
    }
}

impl Decoder {
    /// Decodes a block and hands its fields to `each`, as many as there may be. The table gets all of them.
    ///
    /// # Errors
    ///
    /// [`HpackError`], and those of `each`. The decoder is of no use any more.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>) -> Result<(), HpackError>,
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
                    false => Ok(()),
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

    /// The size of the table (RFC 7541, section 6.3).
    fn resize(&mut self, size: usize) -> Result<(), HpackError> {
        if size > TABLE_SIZE {
            return Err(HpackError::LargeTable);
        }

        self.table.resize(size);
        Ok(())
    }

    fn field(
        &mut self,
        rest: &mut &[u8],
        strings: &mut Strings,
        each: impl FnOnce(Field<'_>) -> Result<(), HpackError>,
    ) -> Result<(), HpackError> {
        match rest.first().copied().unwrap_or_default() {
            0x80.. => {
                let index = number(rest, 7)?;
                let (name, value) = self.table.get(index).ok_or(HpackError::InvalidIndex)?;
                let form = table::fixed(index).map_or(Form::Dynamic, Form::Static);
                each(Field { name, value, form })
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
        is_indexed: bool,
        strings: &mut Strings,
        each: impl FnOnce(Field<'_>) -> Result<(), HpackError>,
    ) -> Result<(), HpackError> {
        let index = number(rest, prefix)?;

        let (said, name_string) = match index {
            0 => (Name::Literal, string(rest, &mut strings.name)?),
            index => {
                let (name, _) = self.table.get(index).ok_or(HpackError::InvalidIndex)?;
                replace(&mut strings.name, name)?;
                (table::fixed(index).map_or(Name::Dynamic, Name::Static), &[][..])
            }
        };

        let value_string = string(rest, &mut strings.value)?;
        let (name, value) = (&strings.name[..], &strings.value[..]);

        each(Field { name, value, form: Form::Literal(said, name_string, value_string) })?;

        if is_indexed {
            self.table.insert(name, value)?;
        }

        Ok(())
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

/// Reads a string (RFC 7541, section 5.2) into `decoded`, and returns what stands for it in the block.
fn string<'a>(rest: &mut &'a [u8], decoded: &mut Vec<u8>) -> Result<&'a [u8], HpackError> {
    let start = *rest;
    let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let len = number(rest, 7)?;
    let bytes = take(rest, len)?;

    if is_huffman {
        decoded.clear();
        decoded.try_reserve(huffman::longest(len))?;

        if !huffman::decode(bytes, |byte| decoded.push(byte)) {
            return Err(HpackError::InvalidHuffman);
        }
    } else {
        replace(decoded, bytes)?;
    }

    Ok(&start[..start.len() - rest.len()])
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
