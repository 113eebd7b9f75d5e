//! Owns the tests of the decoder.

use proptest::prelude::*;

use super::super::huffman::tests as huffman;
use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut fields = Vec::new();

    decoder.decode(block, |field| {
        fields.push((field.name.to_vec(), field.value.to_vec()));
        Ok(())
    })?;

    Ok(fields)
}

fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| (byte as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// RFC 7541, appendices C.3 and C.4: the same requests without and with Huffman code.
#[test]
fn the_requests_of_rfc_7541() {
    for blocks in [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();

        assert_eq!(
            decode(&mut decoder, &hex(blocks[0])),
            Ok(fields(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ]))
        );
        assert_eq!(
            decode(&mut decoder, &hex(blocks[1])).map(|fields| fields[3..].to_vec()),
            Ok(fields(&[(":authority", "www.example.com"), ("cache-control", "no-cache")]))
        );
        assert_eq!(
            decode(&mut decoder, &hex(blocks[2])),
            Ok(fields(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ]))
        );
        assert_eq!(decoder.table.held().0, 3);
        assert_eq!(decoder.table.held().1, 164);
    }
}

#[test]
fn what_is_wrong_has_a_name() {
    for (block, error) in [
        ("80", HpackError::InvalidIndex),
        ("be", HpackError::InvalidIndex),
        ("7f00", HpackError::InvalidIndex),
        ("ffffffff7f", HpackError::LargeNumber),
        ("ff", HpackError::Truncated),
        ("41", HpackError::Truncated),
        ("4105", HpackError::Truncated),
        ("41058080", HpackError::Truncated),
        ("4182ffff", HpackError::InvalidHuffman),
        ("3fe21f", HpackError::LargeTable),
        ("8220", HpackError::LateTableSize),
    ] {
        assert_eq!(decode(&mut Decoder::default(), &hex(block)), Err(error), "{block}");
    }
}

#[test]
fn the_table_has_the_size_that_was_asked_for() {
    let mut decoder = Decoder::default();

    // 4096, then 0, then 4096, in one block.
    assert_eq!(decode(&mut decoder, &hex("4001610162")), Ok(fields(&[("a", "b")])));
    assert_eq!(decode(&mut decoder, &hex("be")), Ok(fields(&[("a", "b")])));
    assert_eq!(decode(&mut decoder, &hex("203fe11f")), Ok(vec![]));
    assert_eq!(decode(&mut decoder, &hex("be")), Err(HpackError::InvalidIndex));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    assert_eq!(decode(&mut decoder, &hex("4001610162")).map(|fields| fields.len()), Ok(1));

    let mut block = vec![0x40];
    write_string(&mut block, &[b'n'; 2000]).unwrap();
    write_string(&mut block, &[b'v'; 2065]).unwrap();
    assert_eq!(decode(&mut decoder, &block).map(|fields| fields.len()), Ok(1));
    assert_eq!(decoder.table.held().0, 0);
}

#[test]
fn an_entry_named_by_one_that_it_drives_out() {
    let mut decoder = Decoder::default();
    let mut block = vec![0x40];
    write_string(&mut block, &[b'n'; 2000]).unwrap();
    write_string(&mut block, &[b'v'; 2000]).unwrap();
    // The name of the only entry, with another value.
    block.push(0x7e);
    write_string(&mut block, &[b'w'; 2000]).unwrap();

    let fields = decode(&mut decoder, &block).unwrap();
    assert_eq!(fields[1], (vec![b'n'; 2000], vec![b'w'; 2000]));
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap()[0], fields[1]);
    assert_eq!(decoder.table.held().0, 1);
}

/// A block of one byte a field, each of 4 KB.
#[test]
fn a_bomb_is_bounded() {
    let mut decoder = Decoder::default();
    let mut block = vec![0x40, 0x01, b'a'];
    write_string(&mut block, &[b'v'; 4000]).unwrap();
    block.resize(block.len() + 60_000, 0xbe);

    let (mut count, mut bytes) = (0, 0);
    let told = decoder.decode(&block, |field| {
        count += 1;
        bytes += field.name.len() + field.value.len();
        Ok(())
    });

    assert_eq!(told, Ok(Told::Some));
    assert_eq!(count, BYTES_MAX / 4001);
    assert!(bytes <= BYTES_MAX);
    // The table is as it would be.
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap()[0].1.len(), 4000);
}

#[test]
fn fields_are_counted() {
    let (exact, more) = (vec![0x82; FIELDS_MAX], vec![0x82; FIELDS_MAX + 1]);
    assert_eq!(Decoder::default().decode(&exact, |_| Ok(())), Ok(Told::All));
    assert_eq!(Decoder::default().decode(&more, |_| Ok(())), Ok(Told::Some));
}

/// One of RFC 7541, appendix C.3.3, behind a size of the table, cut anywhere.
#[test]
fn a_part_of_a_block_has_whole_fields() {
    let block = hex("3f09 82 87 85 bf 400a637573746f6d2d6b6579 0c637573746f6d2d76616c7565");
    let ends = [0, 2, 3, 4, 5, 6, block.len()];

    for cut in 0..=block.len() {
        let whole = ends.iter().rfind(|&&end| end <= cut).copied();
        assert_eq!(skim(&block[..cut]), Ok(whole.unwrap()), "{cut} bytes");
    }

    assert_eq!(skim(&hex("ff ff ff ff")), Err(HpackError::LargeNumber));
    assert_eq!(skim(&hex("82 3f ff ff ff")), Err(HpackError::LargeNumber));
    assert_eq!(skim(&hex("00 01 61 7f ff ff ff")), Err(HpackError::LargeNumber));
}

/// What the core gets of a block that is passed.
fn passed(decoder: &mut Decoder, block: &str) -> Option<Vec<u8>> {
    let mut block = hex(block);
    (decoder.pass(&mut block) == Ok(true)).then_some(block)
}

/// Which of a connection's blocks are passed.
fn passes(blocks: &[&str]) -> Vec<bool> {
    let mut decoder = Decoder::default();
    blocks.iter().map(|block| passed(&mut decoder, block).is_some()).collect()
}

/// The Huffman code of a text.
fn code(text: &[u8]) -> String {
    huffman::encode(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// However a CONNECT or credentials are said, their block is none that is passed; others are.
#[test]
fn a_glance_finds_what_may_not_pass() {
    // By the index of the name, its bytes, its Huffman code, with and without an entry.
    for first in ["42", "43", "02", "12", "40073a6d6574686f64", "4085b9495339e4", "1085b9495339e4"]
    {
        assert_eq!(passes(&[&format!("{first}07434f4e4e454354")]), [false], "{first}");
    }
    // The code of the method itself, and a byte of padding more.
    assert_eq!(code(b":method"), "b9495339e4");
    assert_eq!(passes(&[&format!("0287{}", code(b"CONNECT"))]), [false]);
    assert_eq!(passes(&["1086b9495339e4ff0141"]), [false]);

    for name in ["71", "0f22", "1f22", "401370726f78792d617574686f72697a6174696f6e"] {
        assert_eq!(passes(&[&format!("{name}0161")]), [false], "{name}");
    }
    assert_eq!(passes(&[&format!("008e{}0161", code(b"proxy-authorization"))]), [false]);

    // Entries that blocks before have added, and their names.
    assert_eq!(passes(&["420350555441016184", "bf", "7e0161", "c0"]), [true; 4]);
    assert_eq!(passes(&["4203505554", "be", "0f2f07434f4e4e454354"]), [true, true, false]);
    assert_eq!(
        passes(&["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be", "0203505554"]),
        [true; 3]
    );

    // What is none is found by who decodes it.
    assert_eq!(passes(&["80"]), [false]);
    assert_eq!(passes(&["be"]), [false]);
    assert_eq!(passes(&["3fe11f82"]), [false]);
}

#[test]
fn a_glance_keeps_the_bounds() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.pass(&mut [0x82; FIELDS_MAX]), Ok(true));
    assert_eq!(decoder.pass(&mut [0x82; FIELDS_MAX + 1]), Ok(false));

    let mut block = vec![0x40, 0x01, b'a'];
    write_string(&mut block, &[b'v'; 4000]).unwrap();
    assert_eq!(decoder.pass(&mut block), Ok(true));
    assert_eq!(decoder.pass(&mut [0xbe; 16]), Ok(true));
    assert_eq!(decoder.pass(&mut [0xbe; 17]), Ok(false));

    block.resize(block.len() + 60_000, 0xbe);
    assert_eq!(Decoder::default().pass(&mut block), Ok(false));
}

/// Once an entry was kept from the core, indices are other ones for it, and blocks that need what it has not got don't
/// pass.
#[test]
fn indices_are_those_of_the_core() {
    let mut decoder = Decoder::default();
    assert_eq!(passed(&mut decoder, "4001610162"), Some(hex("4001610162")));
    assert!(decode(&mut decoder, &hex("4001630164")).is_ok());

    assert_eq!(passed(&mut decoder, "be"), None);
    assert_eq!(passed(&mut decoder, "82bf"), Some(hex("82be")));
    assert_eq!(passed(&mut decoder, "0f300161"), Some(hex("0f2f0161")));
    // The name would have an index of one byte.
    assert_eq!(passed(&mut decoder, "7f000161"), None);
    assert_eq!(passed(&mut decoder, "4001650166c0bebf"), None);
    assert_eq!(passed(&mut decoder, "4001650166c0be"), Some(hex("4001650166bfbe")));
    assert_eq!(passed(&mut decoder, "7f010161"), Some(hex("7f000161")));
}

#[test]
fn who_is_apart_passes_nothing() {
    let mut decoder = Decoder::default();
    assert!(decode(&mut decoder, &hex("3fe11f82")).is_ok());
    assert_eq!(decoder.pass(&mut [0x82]), Ok(false));
}

/// A field as an encoder may say it.
#[derive(Clone, Debug)]
enum Said {
    Indexed(usize),
    Literal { first: u8, index: usize, name: Vec<u8>, value: Vec<u8>, huffman: (bool, bool) },
    Size(usize),
}

fn said() -> impl Strategy<Value = Said> {
    let text = || {
        prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => proptest::collection::vec(b'a'..=b'z', 500..3000),
        ]
    };

    prop_oneof![
        4 => (1usize..200).prop_map(Said::Indexed),
        8 => (0usize..3, 0usize..100, text(), text(), any::<(bool, bool)>()).prop_map(
            |(first, index, name, value, huffman)| Said::Literal {
                first: [0x40, 0x00, 0x10][first],
                index: index.saturating_sub(20),
                name,
                value,
                huffman,
            }
        ),
        1 => prop_oneof![Just(4096usize), 0usize..4097].prop_map(Said::Size),
    ]
}

/// A table as simple as can be.
struct Model {
    entries: Fields,
    max: usize,
}

impl Model {
    fn get(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        if index > 61 {
            return self.entries.get(index - 62).cloned();
        }

        let table = table::Table::new(0);
        table.get(index).map(|(name, value)| (name.to_vec(), value.to_vec()))
    }

    fn insert(&mut self, entry: (Vec<u8>, Vec<u8>)) {
        self.entries.insert(0, entry);
        self.shrink();
    }

    fn shrink(&mut self) {
        let size =
            |entries: &Fields| entries.iter().map(|e| e.0.len() + e.1.len() + 32).sum::<usize>();

        while size(&self.entries) > self.max {
            self.entries.pop();
        }
    }
}

fn push_string(block: &mut Vec<u8>, text: &[u8], huffman: bool) {
    if huffman {
        let code = huffman::encode(text);
        write_number(block, 0x80, 7, code.len()).unwrap();
        block.extend(code);
    } else {
        write_string(block, text).unwrap();
    }
}

proptest! {
    /// The tables do what the simple one does, over several blocks; what was said in place of strings is
    /// what a decoder of its own makes the same of.
    #[test]
    fn tables_are_those_of_the_model(blocks in proptest::collection::vec(proptest::collection::vec(said(), 0..12), 1..8)) {
        let mut decoder = Decoder::default();
        let mut model = Model { entries: vec![], max: 4096 };

        for block in blocks {
            let (mut bytes, mut expected) = (vec![], vec![]);
            let mut is_first = true;

            for said in block {
                match said {
                    Said::Size(max) if is_first => {
                        write_number(&mut bytes, 0x20, 5, max).unwrap();
                        model.max = max;
                        model.shrink();
                    }
                    Said::Size(_) => (),
                    Said::Indexed(index) => {
                        let Some(field) = model.get(index) else { continue };
                        write_number(&mut bytes, 0x80, 7, index).unwrap();
                        expected.push(field);
                        is_first = false;
                    }
                    Said::Literal { first, index, name, value, huffman } => {
                        let known = model.get(index);
                        let prefix = if first == 0x40 { 6 } else { 4 };
                        write_number(&mut bytes, first, prefix, known.as_ref().map_or(0, |_| index)).unwrap();
                        let name = match known {
                            Some((name, _)) => name,
                            None => {
                                push_string(&mut bytes, &name, huffman.0);
                                name
                            }
                        };
                        push_string(&mut bytes, &value, huffman.1);
                        expected.push((name.clone(), value.clone()));
                        if first == 0x40 {
                            model.insert((name, value));
                        }
                        is_first = false;
                    }
                }
            }

            let total: usize = expected.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assume!(total <= BYTES_MAX);
            // Whether or not it is passed, the table is the same.
            let is_passed = decoder.pass(&mut bytes);
            prop_assert!(is_passed.is_ok());

            if is_passed == Ok(false) {
                prop_assert_eq!(decode(&mut decoder, &bytes), Ok(expected));
            }
            let (count, size, held) = decoder.table.held();
            prop_assert_eq!(count, model.entries.len());
            prop_assert!(size <= 4096 && held <= 3 * 4096);
        }
    }

    /// What another encoder says is understood, in whichever of its ways: its flags are drawn.
    #[test]
    fn an_encoder_of_others_is_understood(blocks in proptest::collection::vec(
        proptest::collection::vec(("[a-c]|[a-z:-]{1,12}", "[a-c]|[ -~]{0,40}", 0u8..32), 1..12), 1..6
    )) {
        let mut encoder = httlib_hpack::Encoder::default();
        let mut decoder = Decoder::default();

        for block in blocks {
            let (mut bytes, mut expected) = (vec![], vec![]);

            for (name, value, flags) in block {
                let (name, value) = (name.into_bytes(), value.into_bytes());
                encoder.encode((name.clone(), value.clone(), flags), &mut bytes).unwrap();
                expected.push((name, value));
            }

            prop_assert_eq!(decode(&mut decoder, &bytes), Ok(expected));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_told(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::default();

        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
