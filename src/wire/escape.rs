//! The escapes of the protocols: `\x01` and a letter stand for the bytes that
//! would end a field or a line. Any other byte behind `\x01` stands for itself,
//! and a `\x01` at the end for nothing.

use crate::sys::bytes::find;

/// The byte that begins an escape.
const ESCAPE: u8 = 1;

/// Replaces escapes by what they stand for, in place, and returns the result.
pub fn unescape(field: &mut [u8]) -> &[u8] {
    let Some(first) = find(ESCAPE, field) else {
        return field;
    };
    let (mut from, mut to) = (first, first);
    while from < field.len() {
        if field[from] == ESCAPE {
            from += 1;
            field[to] = match field.get(from) {
                None => break,
                Some(b'0') => 0,
                Some(b'1') => ESCAPE,
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(&other) => other,
            };
        } else {
            field[to] = field[from];
        }
        from += 1;
        to += 1;
    }
    &field[..to]
}

/// Appends a field with its escapes.
pub fn push_escaped(out: &mut Vec<u8>, field: &[u8]) {
    // Most fields have nothing to escape, which is seen without a branch for each.
    if field
        .iter()
        .fold(true, |plain, &byte| plain & (byte > b'\r'))
    {
        return out.extend_from_slice(field);
    }
    let mut plain = 0;
    for (at, byte) in field.iter().enumerate() {
        let letter = match byte {
            0 => b'0',
            &ESCAPE => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            _ => continue,
        };
        out.extend_from_slice(&field[plain..at]);
        out.extend_from_slice(&[ESCAPE, letter]);
        plain = at + 1;
    }
    out.extend_from_slice(&field[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(field: &[u8]) -> Vec<u8> {
        unescape(&mut field.to_vec()).to_vec()
    }

    #[test]
    fn escapes_stand_for_what_the_protocol_says() {
        assert_eq!(unescaped(b"plain"), b"plain");
        assert_eq!(
            unescaped(b"a\x01tb\x01nc\x01rd\x010e\x011f"),
            b"a\tb\nc\rd\0e\x01f"
        );
        assert_eq!(unescaped(b"\x01x\x01\x01y"), b"x\x01y");
        assert_eq!(unescaped(b"cut\x01"), b"cut");
        assert_eq!(unescaped(b"\x01"), b"");
        assert_eq!(unescaped(b""), b"");
    }

    #[test]
    fn every_byte_survives_there_and_back() {
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        let mut escaped = Vec::new();
        push_escaped(&mut escaped, &all);
        assert!(!escaped.iter().any(|byte| b"\0\t\r\n".contains(byte)));
        assert_eq!(unescaped(&escaped), all);
    }
}
