//! Owns the Huffman code of HPACK (RFC 7541, appendix B). It is canonical: codes of a length follow each
//! other in the order of their symbols, so the lengths say all.

/// The length of each symbol's code, in bits; the last is the end of string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

const END: u16 = 256;

/// How much padding there may be, in bits: one more than by the rules (RFC 7541, section 5.2), as nginx takes it.
const PADDING_MAX: usize = 8;

/// The longest code, in bits.
const LONGEST: usize = 30;

/// Codes of so many bits, and shorter ones, are looked up at once.
const QUICK: usize = 9;

/// Where the codes of a length begin.
#[derive(Clone, Copy)]
struct Row {
    /// The first code.
    code: u32,
    /// The place of its symbol in [`SYMBOLS`].
    place: u16,
    /// How many there are.
    count: u16,
}

/// A row for each length.
const ROWS: [Row; LONGEST + 1] = rows();

/// All symbols, in the order of their codes.
const SYMBOLS: [u16; 257] = symbols();

/// For each [`QUICK`] bits the symbol whose code they begin with, and its length; the length is 0 for those
/// of a longer code.
static BEGINNINGS: [(u8, u8); 1 << QUICK] = beginnings();

const fn rows() -> [Row; LONGEST + 1] {
    let mut rows = [Row { code: 0, place: 0, count: 0 }; LONGEST + 1];
    let mut symbol = 0;

    while symbol < LENGTHS.len() {
        rows[LENGTHS[symbol] as usize].count += 1;
        symbol += 1;
    }

    let mut bits = 1;

    while bits <= LONGEST {
        let shorter = rows[bits - 1];
        rows[bits].code = (shorter.code + shorter.count as u32) << 1;
        rows[bits].place = shorter.place + shorter.count;
        bits += 1;
    }

    rows
}

const fn symbols() -> [u16; 257] {
    let mut symbols = [0; 257];
    let (mut bits, mut place) = (1, 0);

    while bits <= LONGEST {
        let mut symbol = 0;

        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                symbols[place] = symbol as u16;
                place += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }

    symbols
}

const fn beginnings() -> [(u8, u8); 1 << QUICK] {
    let mut beginnings = [(0, 0); 1 << QUICK];
    let mut bits = 1;

    while bits <= QUICK {
        let row = ROWS[bits];
        let mut nth = 0;

        while nth < row.count {
            let symbol = SYMBOLS[(row.place + nth) as usize] as u8;
            let first = ((row.code + nth as u32) << (QUICK - bits)) as usize;
            let mut more = 0;

            while more < 1 << (QUICK - bits) {
                beginnings[first + more] = (symbol, bits as u8);
                more += 1;
            }
            nth += 1;
        }
        bits += 1;
    }

    beginnings
}

/// How many bytes `len` bytes of code can come to at most: the shortest code has 5 bits.
pub fn longest(len: usize) -> usize {
    len.saturating_mul(8) / 5
}

/// Decodes `code` and hands each byte to `each`. False for what is no such code, its padding included: that
/// is shorter than 8 bits and all ones (RFC 7541, section 5.2).
pub fn decode(code: &[u8], mut each: impl FnMut(u8)) -> bool {
    let mut bits = 0u64;
    let mut len = 0;
    let mut rest = code.iter();

    loop {
        while len <= 56 {
            let Some(&byte) = rest.next() else {
                break;
            };
            bits |= u64::from(byte) << (56 - len);
            len += 8;
        }

        let (symbol, used) = match BEGINNINGS[(bits >> (64 - QUICK)) as usize] {
            (_, 0) => match long(bits) {
                Some(found) => found,
                None => return false,
            },
            (symbol, used) => (u16::from(symbol), usize::from(used)),
        };

        // What is left is padding, or the beginning of a code that is cut.
        if used > len {
            return len <= PADDING_MAX && bits == !(u64::MAX.checked_shr(len as u32).unwrap_or(0));
        }

        // The end of string is no symbol of one.
        if symbol == END {
            return false;
        }

        each(symbol as u8);
        bits <<= used;
        len -= used;
    }
}

/// The symbol of more than [`QUICK`] bits that `bits` begins with, and its length. Each 30 bits begin with
/// one.
fn long(bits: u64) -> Option<(u16, usize)> {
    (QUICK + 1..=LONGEST).find_map(|len| {
        let row = ROWS[len];
        let code = (bits >> (64 - len)) as u32;
        let nth = code.checked_sub(row.code).filter(|&nth| nth < u32::from(row.count))?;
        Some((SYMBOLS[usize::from(row.place) + nth as usize], len))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(code: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decode(code, |byte| bytes.push(byte)).then_some(bytes)
    }

    /// The code of `bytes`.
    pub fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();

        for &byte in bytes {
            let place = SYMBOLS.iter().position(|&symbol| symbol == u16::from(byte)).unwrap();
            let len = usize::from(LENGTHS[usize::from(byte)]);
            let code = ROWS[len].code + (place as u32 - u32::from(ROWS[len].place));
            bits.extend((0..len).rev().map(|bit| code >> bit & 1 == 1));
        }

        while bits.len() % 8 != 0 {
            bits.push(true);
        }

        bits.chunks(8)
            .map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
            .collect()
    }

    /// The code is complete: its lengths fill the tree, and no code is longer.
    #[test]
    fn the_code_is_complete() {
        let filled: u64 = LENGTHS.iter().map(|&len| 1 << (LONGEST - usize::from(len))).sum();
        assert_eq!(filled, 1 << LONGEST);
        assert_eq!(ROWS[30].code + 3, 0x3fff_ffff);
        assert_eq!(ROWS[13].code, 0x1ff8);
    }

    #[test]
    fn the_examples_of_rfc_7541() {
        for (code, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                &b"www.example.com"[..],
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], b"custom-key"),
            (&[0x64, 0x02], b"302"),
            (
                &[
                    0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae,
                    0x82, 0xae, 0x43, 0xd3,
                ],
                b"https://www.example.com",
            ),
            (&[], b""),
        ] {
            assert_eq!(decoded(code).as_deref(), Some(text));
            assert_eq!(encode(text), code);
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        // "0" is 00000.
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Some(&b"0"[..]));
        assert_eq!(decoded(&[0b0000_0110]), None);
        assert_eq!(decoded(&[0b0000_0111, 0xff]), None);
        assert_eq!(decoded(&[0xff]).as_deref(), Some(&b""[..]));
        assert_eq!(decoded(&[0xff; 2]), None);
        assert_eq!(decoded(&[0xff; 4]), None);
        assert_eq!(decoded(&[0xff; 9]), None);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes: Vec<u8>) {
            let code = encode(&bytes);
            prop_assert!(bytes.len() <= longest(code.len()));
            prop_assert_eq!(decoded(&code), Some(bytes));
        }

        #[test]
        fn anything_is_refused_or_what_it_encodes(code: Vec<u8>) {
            if let Some(bytes) = decoded(&code) {
                let encoded = encode(&bytes);
                let padded = [&encoded[..], &[0xff]].concat();
                prop_assert!(code == encoded || code == padded);
            }
        }
    }
}
