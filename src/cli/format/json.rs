//! Objects of JSON: the way doveadm writes them, every value a string, or with
//! numbers where the column has them.

use crate::cli::column::{self, ValueKind};
use std::io::{self, Write};

/// Writes one object. With `strict` all control characters are escaped, not
/// only those that JSON does not allow.
pub(super) fn write_object(
    out: &mut impl Write,
    names: &[String],
    fields: &[&[u8]],
    (numbers, strict): (bool, bool),
) -> io::Result<()> {
    let mut text = String::from("{");
    for (n, (name, field)) in names.iter().zip(fields).enumerate() {
        if n > 0 {
            text.push(',');
        }
        push_string(&mut text, name.as_bytes(), strict);
        text.push(':');
        match number(name, field).filter(|_| numbers) {
            Some(number) => text.push_str(&number),
            None => push_string(&mut text, field, strict),
        }
    }
    text.push('}');
    out.write_all(text.as_bytes())
}

/// A field of a column that has numbers as a number of JSON, or an array of them; `null`
/// where there is none. A time of Dovecot 2.3, `0.7442` for 7442 us, becomes 0.007442.
fn number(name: &str, field: &[u8]) -> Option<String> {
    if name == column::HISTOGRAM {
        let numbers = String::from_utf8_lossy(field);
        let is_number = |part: &str| column::number(part.as_bytes()).is_some();
        let are_numbers = field.is_empty() || numbers.split(',').all(is_number);
        return are_numbers.then(|| format!("[{numbers}]"));
    }
    let kind = ValueKind::of(name);
    if kind == ValueKind::Text {
        return None;
    }
    if field.is_empty() {
        return Some("null".to_owned());
    }
    let text = std::str::from_utf8(field).ok()?;
    let millionths = column::number(field)?;
    match text.split_once('.') {
        None => Some((millionths / 1_000_000).to_string()),
        Some(_) if kind == ValueKind::Time || name == "last_update" => {
            Some(column::written(ValueKind::Time, millionths))
        }
        Some((whole, part)) => Some(format!("{}.{part}", whole.parse::<u64>().ok()?)),
    }
}

/// Appends a string. Each byte that is no UTF-8 becomes a U+FFFD of its own.
fn push_string(text: &mut String, bytes: &[u8], strict: bool) {
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\x08' => text.push_str("\\b"),
                '\x0c' => text.push_str("\\f"),
                // Not allowed in JavaScript, which doveadm minds.
                '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => push_escape(text, c),
                '\x7f'..='\u{9f}' | '\u{200e}' | '\u{200f}' if strict => push_escape(text, c),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' if strict => push_escape(text, c),
                _ => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.push('"');
}

/// Appends `\u` and four hexadecimal digits.
fn push_escape(text: &mut String, c: char) {
    text.push_str(&format!("\\u{:04x}", u32::from(c)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8], strict: bool) -> String {
        let mut text = String::new();
        push_string(&mut text, bytes, strict);
        text
    }

    #[test]
    fn strings_are_as_doveadm_writes_them() {
        for (bytes, expected) in [
            (&b"/<>&'"[..], "\"/<>&'\""),
            (
                b"\x08\x0c\n\r\t\x0b\x1f\x7f",
                "\"\\b\\f\\n\\r\\t\\u000b\\u001f\x7f\"",
            ),
            (
                "\u{2028}\u{2029}\u{85}é😀".as_bytes(),
                "\"\\u2028\\u2029\u{85}é😀\"",
            ),
            (
                b"\xff\xe2\x80(\xed\xa0\x80",
                "\"\u{fffd}\u{fffd}\u{fffd}(\u{fffd}\u{fffd}\u{fffd}\"",
            ),
            (b"\xf4\x90\x80\x80", "\"\u{fffd}\u{fffd}\u{fffd}\u{fffd}\""),
        ] {
            assert_eq!(string(bytes, false), expected);
        }
    }

    #[test]
    fn numbers_are_numbers_of_json() {
        for (name, field, expected) in [
            ("num_cmds", "7", Some("7")),
            ("num_cmds", "007", Some("7")),
            (
                "num_cmds",
                "18446744073709551615",
                Some("18446744073709551615"),
            ),
            ("num_cmds", "", Some("null")),
            ("num_cmds", "-1", None),
            ("num_cmds", "1e3", None),
            ("disk_input", "2.500", Some("2.500")),
            ("user_cpu", "0.7442", Some("0.007442")),
            ("user_cpu", "1.000001", Some("1.000001")),
            ("last_update", "1795781530.5", Some("1795781530.000005")),
            ("user", "7", None),
            ("session", "12345678901234567890123456789012", None),
            ("later", "12", Some("12")),
            ("later", "twelve", None),
            ("time_p99", "0.012500", Some("0.012500")),
            ("time_histogram", "0,7,12", Some("[0,7,12]")),
            ("time_histogram", "", Some("[]")),
            ("time_histogram", "1,,2", None),
            ("time_histogram", "1,x", None),
        ] {
            assert_eq!(
                number(name, field.as_bytes()).as_deref(),
                expected,
                "{name} {field}"
            );
        }
    }

    #[test]
    fn strict_strings_have_no_control_character() {
        let text: String = (0..=0x9f).filter_map(char::from_u32).collect();
        assert!(!string(text.as_bytes(), true).chars().any(char::is_control));
        assert_eq!(
            string("\u{202e}\u{9b}".as_bytes(), true),
            "\"\\u202e\\u009b\""
        );
    }
}
