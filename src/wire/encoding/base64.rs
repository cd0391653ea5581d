//! Base64 of RFC 4648: the standard alphabet, padded, nothing else in between.
//!
//! [`decode_base64`] takes most of a text where the processor has AVX2 (see there for what
//! it gains); the rest is decoded four characters at a time, by a table of their values.

use crate::sys::mem::vector::{decode_base64, SLACK_BYTES};

/// The characters, by value.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of a byte that is not in the alphabet: no bit of the others.
const NOTHING: u8 = 1 << 7;

/// The bits of a group that has such a byte have this one, too.
const WRONG: u32 = 1 << 31;

/// The inverse of the alphabet.
static VALUES: [u8; 256] = {
    let mut values = [NOTHING; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Appends `bytes` as base64.
pub fn push_encoded(out: &mut Vec<u8>, bytes: &[u8]) {
    let begin = out.len();
    out.resize(begin + bytes.len().div_ceil(3) * 4, b'=');
    let letters = |[a, b, c]: [u8; 3]| {
        let bits = u32::from_be_bytes([0, a, b, c]);
        let letter = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
        [letter(18), letter(12), letter(6), letter(0)]
    };
    let (groups, mut places) = (bytes.chunks_exact(3), out[begin..].chunks_exact_mut(4));
    let last = groups.remainder();
    for (group, place) in groups.zip(&mut places) {
        place.copy_from_slice(&letters([group[0], group[1], group[2]]));
    }
    if let Some(place) = places.next() {
        let mut group = [0; 3];
        group[..last.len()].copy_from_slice(last);
        let count = last.len() + 1;
        place[..count].copy_from_slice(&letters(group)[..count]);
    }
}

/// Decodes into the front of `out` and returns how many bytes; what is behind them is
/// unspecified. `None` when `text` is not base64 or decodes to more
/// than fits. Fast if [`SLACK_BYTES`] are left behind it.
pub(crate) fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    if text.len() % 4 != 0 {
        return None;
    }
    let padding = match text {
        [.., b'=', b'='] => 2,
        [.., b'='] => 1,
        _ => 0,
    };
    let length = text.len() / 4 * 3 - padding;
    if length > out.len() {
        return None;
    }
    let whole = length / 3 * 3;
    let (text, last) = text.split_at(length / 3 * 4);
    let done = match out.len() >= whole + SLACK_BYTES {
        true => decode_base64(text, out)?,
        false => 0,
    };
    if done == text.len() && last.is_empty() {
        return Some(length);
    }
    let (text, done_bytes) = (&text[done..], done / 4 * 3);
    let mut wrong = 0;
    for (group, bytes) in text
        .chunks_exact(4)
        .zip(out[done_bytes..whole].chunks_exact_mut(3))
    {
        let bits = group_bits(group);
        wrong |= bits;
        bytes.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    if !last.is_empty() {
        let third = if padding == 1 { last[2] } else { b'A' };
        let bits = group_bits(&[last[0], last[1], third, b'A']);
        wrong |= bits;
        let [_, first, second, none] = bits.to_be_bytes();
        // The bits that belong to no byte must be zero.
        if none != 0 || padding == 2 && second != 0 {
            return None;
        }
        out[whole] = first;
        if padding == 1 {
            out[whole + 1] = second;
        }
    }
    (wrong & WRONG == 0).then_some(length)
}

/// The 24 bits of four characters, [`WRONG`] set if one is none of the alphabet.
#[inline(always)]
fn group_bits(group: &[u8]) -> u32 {
    let value = |place: usize| u32::from(VALUES[usize::from(group[place])]);
    let [a, b, c, d] = [0, 1, 2, 3].map(value);
    let wrong = (a | b | c | d) & u32::from(NOTHING);
    wrong << 24 | a << 18 | b << 12 | c << 6 | d
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = [0; 64];
        let length = decode(text.as_bytes(), &mut out)?;
        Some(out[..length].to_vec())
    }

    #[test]
    fn the_vectors_of_rfc_4648_are_encoded_and_decoded() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(plain.as_bytes()), "{text}");
            let mut encoded = Vec::new();
            push_encoded(&mut encoded, plain.as_bytes());
            assert_eq!(encoded, text.as_bytes());
        }
        assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    }

    fn decoded_by_definition(text: &[u8]) -> Option<Vec<u8>> {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bits = Vec::new();
        for &character in text {
            let value = alphabet.iter().position(|&letter| letter == character)?;
            bits.extend((0..6).rev().map(|bit| value >> bit & 1));
        }
        let bytes = bits.chunks_exact(8);
        Some(
            bytes
                .map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | bit as u8))
                .collect(),
        )
    }

    #[test]
    fn every_byte_at_every_place_is_decoded_by_the_alphabet() {
        let sound: Vec<u8> = (0..104).map(|at| b"Zm9v+/Az"[at % 8]).collect();
        let mut out = [0; 128];
        for place in 0..sound.len() {
            for byte in 0..=255 {
                let mut text = sound.clone();
                text[place] = byte;
                let decoded = decode(&text, &mut out).map(|length| out[..length].to_vec());
                if place < text.len() - 2 || byte != b'=' {
                    assert_eq!(decoded, decoded_by_definition(&text), "{byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "Z",
            "Zg",
            "Zg=",
            "=",
            "==",
            "===",
            "====",
            "Zg==Zg==",
            "Z===",
            "Zh==",
            "Zm9=",
            "Zm 9v",
            "Zm9v\n",
            "Zm-v",
            "Zm_v",
            "Zm9v\0\0\0\0",
            "Zg=v",
            "\u{e9}abc",
        ] {
            assert_eq!(decoded(text), None, "{text:?}");
        }
        let mut out = [0; 5];
        assert!(decode(b"Zm9vYmE=", &mut out).is_some());
        assert_eq!(decode(b"Zm9vYmFy", &mut out), None, "one byte too many");
    }
}
