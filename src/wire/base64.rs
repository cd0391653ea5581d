//! Base64 of RFC 4648: the standard alphabet, padded, nothing else in between.
//!
//! To decode, a group of four characters is looked up in four tables, one for each place,
//! whose entries only have to be joined: with one table and shifts it takes
//! twice as long. Before that goes whatever the processor is faster at.

use crate::sys::vector::{decode_base64, SLACK_BYTES};

/// The characters, by value.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Marks an entry of a table for a byte that is not in the alphabet.
const NOTHING: u32 = 1 << 31;

/// For each place in a group, what a byte there adds to its 24 bits.
static TABLES: [[u32; 256]; 4] = tables();

/// The inverse of the alphabet, shifted for each place.
const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[NOTHING; 256]; 4];
    let mut place = 0;
    while place < 4 {
        let mut value = 0;
        while value < ALPHABET.len() {
            tables[place][ALPHABET[value] as usize] = (value as u32) << (18 - 6 * place);
            value += 1;
        }
        place += 1;
    }
    tables
}

/// Appends `bytes` as base64.
pub fn push_encoded(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for place in 0..4 {
            out.push(match place <= chunk.len() {
                true => ALPHABET[(bits >> (18 - 6 * place) & 63) as usize],
                false => b'=',
            });
        }
    }
}

/// Decodes into the front of `out` and returns how many bytes that were; what is
/// behind them is unspecified. `None` when `text` is not base64 or decodes to more
/// than fits. Fast if [`SLACK_BYTES`] are left behind it.
pub fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
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
        let kept = 3 - padding;
        let mut group = *b"AAAA";
        group[..=kept].copy_from_slice(&last[..=kept]);
        let bits = group_bits(&group);
        wrong |= bits;
        let bytes = bits.to_be_bytes();
        // The bits that belong to no byte must be zero.
        if bytes[1 + kept] != 0 {
            return None;
        }
        out[whole..length].copy_from_slice(&bytes[1..=kept]);
    }
    (wrong & NOTHING == 0).then_some(length)
}

/// The 24 bits of four characters, [`NOTHING`] set if one is none of the
/// alphabet.
fn group_bits(group: &[u8]) -> u32 {
    TABLES[0][usize::from(group[0])]
        | TABLES[1][usize::from(group[1])]
        | TABLES[2][usize::from(group[2])]
        | TABLES[3][usize::from(group[3])]
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
    fn knows_the_vectors_of_rfc_4648() {
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

    /// The slow and plain way.
    fn plainly(text: &[u8]) -> Option<Vec<u8>> {
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
    fn every_byte_at_every_place_is_as_the_alphabet_says() {
        let sound: Vec<u8> = (0..104).map(|at| b"Zm9v+/Az"[at % 8]).collect();
        let mut out = [0; 128];
        for place in 0..sound.len() {
            for byte in 0..=255 {
                let mut text = sound.clone();
                text[place] = byte;
                let decoded = decode(&text, &mut out).map(|length| out[..length].to_vec());
                if place < text.len() - 2 || byte != b'=' {
                    assert_eq!(decoded, plainly(&text), "{byte} at {place}");
                }
            }
        }
    }

    #[test]
    fn refuses_everything_else() {
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
