//! Words of a command line that need not be UTF-8, as text and back.
//!
//! The parser of options takes text only, but names of mail users, paths and
//! patterns may be any bytes. A byte that is no UTF-8 becomes a character of the
//! last private plane, and so do the bytes of such a character: nothing is lost.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The character that stands for byte 0.
const BASE: u32 = 0x10_ff00;

/// Whether a character stands for a byte.
fn is_byte(c: char) -> bool {
    (BASE..BASE + 256).contains(&u32::from(c))
}

pub(super) fn text(word: &OsStr) -> String {
    let mut text = String::with_capacity(word.len());
    let push = |text: &mut String, bytes: &[u8]| {
        text.extend(
            bytes
                .iter()
                .filter_map(|&byte| char::from_u32(BASE + u32::from(byte))),
        );
    };
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_byte(c) {
                true => push(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => text.push(c),
            }
        }
        push(&mut text, chunk.invalid());
    }
    text
}

/// The bytes of a word that is text.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match is_byte(c) {
            true => bytes.push((u32::from(c) - BASE) as u8),
            false => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The word itself, as for a path.
pub(super) fn word(text: &str) -> OsString {
    OsString::from_vec(bytes(text))
}

/// A word as it is shown to a person.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", bytes(text).escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let odd = "é\u{10ff41}日".as_bytes();
        for bytes in [
            &b""[..],
            b"joe",
            b"j\xf6e@\xff",
            b"\xc3",
            odd,
            "\u{10ffff}".as_bytes(),
        ] {
            let word = OsStr::from_bytes(bytes);
            assert_eq!(super::word(&text(word)), word);
        }
        assert_eq!(text(OsStr::new("müller")), "müller");
        assert_eq!(
            shown(&text(OsStr::from_bytes(b"j\xf6\x1b"))),
            "\"j\\xf6\\x1b\""
        );
    }
}
