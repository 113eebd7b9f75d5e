//! Owns the lines of a file that a directive names as `file:PATH`.

/// What a value begins with that names a file.
pub const PREFIX: &[u8] = b"file:";

/// The values in `text`, one a line, each with the number of its line, from 1. What follows a `#` at the
/// beginning of a line, or behind a space, is a comment. A byte order mark is none of the first value.
pub fn values(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|&byte| byte == b'\n').map(value);

    (1..).zip(lines).filter(|(_, value)| !value.is_empty())
}

fn value(line: &[u8]) -> &[u8] {
    let is_comment = |at: usize| at == 0 || line[at - 1].is_ascii_whitespace();
    let hashes = line.iter().enumerate().filter(|(_, &byte)| byte == b'#').map(|(at, _)| at);
    let end = hashes.into_iter().find(|&at| is_comment(at)).unwrap_or(line.len());

    line[..end].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(usize, String)> {
        values(text.as_bytes())
            .map(|(line, value)| (line, String::from_utf8_lossy(value).into_owned()))
            .collect()
    }

    #[test]
    fn reads_one_value_a_line() {
        let text =
            "\u{feff}a.example\r\n\n  b.example \t# why\n#c.example\n # d\n~x#y\nz#\n~a #\ne";
        let values =
            [(1, "a.example"), (3, "b.example"), (6, "~x#y"), (7, "z#"), (8, "~a"), (9, "e")];

        assert_eq!(read(text), values.map(|(line, value)| (line, value.to_owned())));
        assert_eq!(read(""), []);
        assert_eq!(read("#"), []);
        assert_eq!(read("\n\n\r\n \n"), []);
    }

    proptest! {
        #[test]
        fn every_line_has_its_number(lines in prop::collection::vec("[a-z.]{0,3}", 0..20)) {
            let expected: Vec<_> = (1..)
                .zip(lines.clone())
                .filter(|(_, line)| !line.is_empty())
                .collect();

            prop_assert_eq!(read(&lines.join("\n")), expected.clone());
            prop_assert_eq!(read(&lines.join(" # c\r\n")), expected);
        }

        #[test]
        fn takes_any_bytes(text in prop::collection::vec(any::<u8>(), 0..200)) {
            for (line, value) in values(&text) {
                prop_assert!(line >= 1);
                prop_assert!(!value.is_empty() && !value.contains(&b'\n'));
            }
        }
    }
}
