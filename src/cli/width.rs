//! How text looks on a terminal: how many columns it takes, and what is shown
//! in place of what must not be sent there.
//!
//! Owns: a compact table of the wide and the zero-width ranges of Unicode. It
//! is coarse: blocks of scripts whose characters are all wide are one range,
//! unassigned ones included.
//!
//! Invariants: what [`visible`] gives has no control character, nothing that
//! turns the direction of writing, and a known width. Whatever the bytes are,
//! nothing panics.

use std::fmt::Write;

/// Characters of two columns, as first and last.
const WIDE: [(u32, u32); 32] = [
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x2329, 0x232a),
    (0x23e9, 0x23ec),
    (0x23f0, 0x23f0),
    (0x23f3, 0x23f3),
    (0x25fd, 0x25fe),
    (0x2614, 0x2615),
    (0x2648, 0x2653),
    (0x26a1, 0x26a1),
    (0x26bd, 0x26be),
    (0x26d4, 0x26d4),
    (0x2705, 0x2705),
    (0x2728, 0x2728),
    (0x274c, 0x274c),
    (0x2753, 0x2757),
    (0x2795, 0x2797),
    (0x2b1b, 0x2b1c),
    (0x2b50, 0x2b55),
    (0x2e80, 0x303e),
    (0x3041, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe30, 0xfe6f),
    (0xff01, 0xff60),
    (0xffe0, 0xffe6),
    (0x16fe0, 0x1b2ff),
    (0x1f004, 0x1f0cf),
    (0x1f18e, 0x1f64f),
    (0x1f680, 0x1faff),
    (0x20000, 0x3fffd),
];

/// Characters of no column: marks that combine with the one before.
const ZERO: [(u32, u32); 49] = [
    (0x0300, 0x036f),
    (0x0483, 0x0489),
    (0x0591, 0x05bd),
    (0x05bf, 0x05c7),
    (0x0610, 0x061a),
    (0x064b, 0x065f),
    (0x0670, 0x0670),
    (0x06d6, 0x06dc),
    (0x06df, 0x06e4),
    (0x06e7, 0x06ed),
    (0x0711, 0x0711),
    (0x0730, 0x074a),
    (0x07a6, 0x07b0),
    (0x0816, 0x082d),
    (0x08d3, 0x0902),
    (0x093a, 0x093a),
    (0x093c, 0x093c),
    (0x0941, 0x0948),
    (0x094d, 0x094d),
    (0x0951, 0x0957),
    (0x0962, 0x0963),
    (0x0981, 0x0981),
    (0x09bc, 0x09bc),
    (0x09c1, 0x09cd),
    (0x0a01, 0x0a02),
    (0x0a3c, 0x0a3c),
    (0x0a41, 0x0a51),
    (0x0abc, 0x0abc),
    (0x0ac1, 0x0ac8),
    (0x0acd, 0x0acd),
    (0x0b3c, 0x0b3c),
    (0x0bcd, 0x0bcd),
    (0x0c3e, 0x0c40),
    (0x0c46, 0x0c56),
    (0x0cbc, 0x0cbc),
    (0x0d41, 0x0d4d),
    (0x0e31, 0x0e31),
    (0x0e34, 0x0e3a),
    (0x0e47, 0x0e4e),
    (0x0eb1, 0x0eb1),
    (0x0eb4, 0x0ebc),
    (0x0ec8, 0x0ecd),
    (0x135d, 0x135f),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x20d0, 0x20f0),
    (0x3099, 0x309a),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
];

/// Whether a table has the character.
fn is_in(table: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = table.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= table[after - 1].1
}

/// The columns of a character that [`visible`] lets pass: 0, 1 or 2.
pub(super) fn char_width(c: char) -> usize {
    match c {
        ' '..='\u{2ff}' => 1,
        _ if is_in(&ZERO, c) => 0,
        _ if is_in(&WIDE, c) => 2,
        _ => 1,
    }
}

/// The columns of a text that [`visible`] gave.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Whether a character, though no control, must not be shown as it is: it has
/// no look, or changes how its neighbours are written.
fn is_hidden(c: char) -> bool {
    matches!(
        u32::from(c),
        0xad | 0x61c
            | 0x115f..=0x1160
            | 0x180e
            | 0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfeff
            | 0xffa0
            | 0xfff9..=0xfffb
            | 0xe0000..=0xe0fff
    )
}

/// The text that bytes of a peer are shown as: ESC as `^[`, a byte that is no
/// UTF-8 as `\xff`, another hidden character as `<202e>`. Without `utf8`, for a
/// terminal that is not known to show it, every other character is a `?`.
pub(super) fn visible(bytes: &[u8], utf8: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0'..='\x1f' => out.extend(['^', char::from(c as u8 + b'@')]),
                ' '..='~' => out.push(c),
                '\x7f' => out.push_str("^?"),
                '\u{80}'..='\u{9f}' => {
                    write!(out, "<{:02x}>", u32::from(c)).expect("a String takes everything");
                }
                _ if is_hidden(c) => {
                    write!(out, "<{:x}>", u32::from(c)).expect("a String takes everything");
                }
                _ if !utf8 => out.push('?'),
                _ => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a String takes everything");
        }
    }
    // A mark with nothing before it would combine with what stands left of it.
    if out.chars().next().is_some_and(|c| char_width(c) == 0) {
        out.insert(0, ' ');
    }
    out
}

/// The beginning of a text that fits into `columns`, and how many it takes;
/// that may be one less where a wide character does not fit.
pub(super) fn fit(text: &str, columns: usize) -> (&str, usize) {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        let width = char_width(c);
        if taken + width > columns {
            return (&text[..at], taken);
        }
        taken += width;
    }
    (text, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [&WIDE[..], &ZERO[..]] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn characters_have_their_width() {
        for (text, columns) in [
            ("", 0),
            ("joe", 3),
            ("ü", 1),
            ("u\u{308}", 1),
            ("日本", 4),
            ("한", 2),
            ("ｆ", 2),
            ("😀", 2),
            ("…▁█", 3),
            ("Ж", 1),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
    }

    #[test]
    fn nothing_hidden_remains() {
        for (bytes, shown) in [
            (&b"joe@example.org"[..], "joe@example.org"),
            (b"a\x1b[2Jb\x07\n\t", "a^[[2Jb^G^J^I"),
            (b"\x7f\xff\xc3", "^?\\xff\\xc3"),
            ("a\u{202e}b\u{200b}\u{9b}".as_bytes(), "a<202e>b<200b><9b>"),
            ("日\u{301}".as_bytes(), "日\u{301}"),
            ("\u{301}x".as_bytes(), " \u{301}x"),
        ] {
            assert_eq!(visible(bytes, true), shown);
        }
        assert_eq!(visible("müller日".as_bytes(), false), "m?ller?");
        let all: Vec<u8> = (0..=255).collect();
        assert!(!visible(&all, true).chars().any(char::is_control));
        assert!(visible(&all, false)
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b)));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(fit("joe", 4), ("joe", 3));
        assert_eq!(fit("joe", 3), ("joe", 3));
        assert_eq!(fit("joe", 2), ("jo", 2));
        assert_eq!(fit("日本", 3), ("日", 2));
        assert_eq!(fit("日本", 1), ("", 0));
        assert_eq!(fit("e\u{301}x", 1), ("e\u{301}", 1));
    }
}
