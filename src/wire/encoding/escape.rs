//! The escapes of the protocols: `\x01` and a letter stand for the bytes that
//! would end a field or a line. Any other byte behind `\x01` stands for itself,
//! and a `\x01` at the end for nothing.

use crate::sys::mem::bytes::find;

/// The byte that begins an escape.
const ESCAPE: u8 = 1;

/// Replaces escapes by what they stand for, in place, and returns the result.
pub(crate) fn unescape(field: &mut [u8]) -> &[u8] {
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

/// The most bytes that a field of so many may take with its escapes.
pub(crate) fn max_escaped_bytes(bytes: usize) -> usize {
    2 * bytes
}

/// Appends a field with its escapes.
pub fn push_escaped(out: &mut Vec<u8>, field: &[u8]) {
    let begin = out.len();
    out.resize(begin + max_escaped_bytes(field.len()), 0);
    let length = write_escaped(&mut out[begin..], field);
    out.truncate(begin + length);
}

/// Writes a field with its escapes to the front of `room`, which is at least
/// [`max_escaped_bytes`] of it long. Returns the bytes written.
#[inline(always)]
pub(crate) fn write_escaped(room: &mut [u8], field: &[u8]) -> usize {
    // Most fields have nothing to escape. Bytes that may have to be are found eight at
    // a time while they are written.
    let (length, mut from) = (field.len(), field);
    while let Some((word, behind)) = from.split_first_chunk() {
        if has_low(*word) {
            return write_with_escapes(room, field);
        }
        room[length - from.len()..][..8].copy_from_slice(word);
        from = behind;
    }
    if let (1.., Some(last)) = (from.len(), field.last_chunk()) {
        // Some of it is written already.
        if has_low(*last) {
            return write_with_escapes(room, field);
        }
        room[length - 8..][..8].copy_from_slice(last);
        return length;
    }
    for (place, &byte) in room.iter_mut().zip(from) {
        if byte < FIRST_PLAIN {
            return write_with_escapes(room, field);
        }
        *place = byte;
    }
    length
}

/// No byte from this one on is escaped.
const FIRST_PLAIN: u8 = b'\r' + 1;

/// Whether any byte of a word is below [`FIRST_PLAIN`].
#[inline(always)]
fn has_low(word: [u8; 8]) -> bool {
    marks_below::<FIRST_PLAIN>(word) != 0
}

/// Marks the first byte of a word below `LIMIT`, at most 128, by its uppermost bit, least
/// significant byte first; bytes behind it may be marked as well. Zero if there is none.
#[inline(always)]
fn marks_below<const LIMIT: u8>(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let upper_bits = const { u64::from_le_bytes([0x80; 8]) };
    // Taking it off sets the uppermost bit of the first such byte.
    word.wrapping_sub(const { u64::from_le_bytes([LIMIT; 8]) }) & !word & upper_bits
}

/// Where the first TAB or escape may be, with any other byte below TAB: the length if there
/// is none.
#[inline(always)]
pub(crate) fn find_tab_or_escape(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let marks = marks_below::<{ b'\t' + 1 }>(*word);
        if marks != 0 {
            return bytes.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = behind;
    }
    while let [first, behind @ ..] = rest {
        if *first <= b'\t' {
            break;
        }
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// Writes a field that may have something to escape.
#[cold]
#[inline(never)]
fn write_with_escapes(room: &mut [u8], field: &[u8]) -> usize {
    let mut at = 0;
    for &byte in field {
        let letter = match byte {
            0 => b'0',
            ESCAPE => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            _ => {
                room[at] = byte;
                at += 1;
                continue;
            }
        };
        room[at..at + 2].copy_from_slice(&[ESCAPE, letter]);
        at += 2;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(field: &[u8]) -> Vec<u8> {
        unescape(&mut field.to_vec()).to_vec()
    }

    #[test]
    fn escapes_are_those_of_the_protocol() {
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
    fn the_first_tab_or_escape_is_found_wherever_it_is() {
        for length in 0..=25 {
            assert_eq!(find_tab_or_escape(&vec![0xff; length]), length);
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut bytes = vec![b'\n'; length];
                bytes[at] = byte;
                // A later one changes nothing.
                bytes[length - 1] = bytes[length - 1].min(byte);
                let first = bytes.iter().position(|byte| *byte <= b'\t');
                let found = find_tab_or_escape(&bytes);
                assert_eq!(found, first.unwrap_or(length), "{byte} at {at} of {length}");
            }
        }
    }

    #[test]
    fn every_byte_survives_escape_and_unescape() {
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        let mut escaped = Vec::new();
        push_escaped(&mut escaped, &all);
        assert!(!escaped.iter().any(|byte| b"\0\t\r\n".contains(byte)));
        assert_eq!(unescaped(&escaped), all);
    }

    #[test]
    fn every_byte_is_escaped_or_not_wherever_it_is() {
        for length in 1..=25 {
            for (at, byte) in (0..length).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut field = vec![b'x'; length];
                field[at] = byte;
                let mut expected = field.clone();
                let letter = match byte {
                    0 => b"0",
                    1 => b"1",
                    b'\t' => b"t",
                    b'\r' => b"r",
                    b'\n' => b"n",
                    _ => &b""[..],
                };
                if !letter.is_empty() {
                    expected.splice(at..=at, [ESCAPE, letter[0]]);
                }
                let mut escaped = b"before".to_vec();
                push_escaped(&mut escaped, &field);
                assert_eq!(escaped[6..], expected, "{byte} at {at} of {length}");
            }
        }
    }
}
