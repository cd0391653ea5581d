//! Base64 of RFC 4648, decoding only: the standard alphabet, padded, nothing
//! else in between.

/// What a byte stands for: six bits, or [`NOTHING`].
const VALUES: [u8; 256] = values();

/// Not a byte of the alphabet.
const NOTHING: u8 = 0xff;

/// The inverse of the alphabet.
const fn values() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NOTHING; 256];
    let mut value = 0;
    while value < alphabet.len() {
        values[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    values
}

/// Decodes into the front of `out` and returns that part. `None` when `text` is
/// not base64 or decodes to more than fits.
pub fn decode<'a>(text: &[u8], out: &'a mut [u8]) -> Option<&'a [u8]> {
    if text.len() % 4 != 0 {
        return None;
    }
    let padding = match text {
        [.., b'=', b'='] => 2,
        [.., b'='] => 1,
        _ => 0,
    };
    let length = text.len() / 4 * 3 - padding;
    let out = out.get_mut(..length)?;
    let whole = length / 3 * 3;
    let (text, last) = text.split_at(length / 3 * 4);
    for (group, bytes) in text.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        bytes.copy_from_slice(&decode_group(group)?);
    }
    if !last.is_empty() {
        let kept = 3 - padding;
        let mut group = *b"AAAA";
        group[..=kept].copy_from_slice(&last[..=kept]);
        let bytes = decode_group(&group)?;
        // The bits that belong to no byte must be zero.
        if bytes[kept] != 0 {
            return None;
        }
        out[whole..].copy_from_slice(&bytes[..kept]);
    }
    Some(out)
}

/// Three bytes of four characters.
fn decode_group(group: &[u8]) -> Option<[u8; 3]> {
    let mut values = [0; 4];
    for (value, &byte) in values.iter_mut().zip(group) {
        *value = VALUES[usize::from(byte)];
    }
    let [a, b, c, d] = values;
    if (a | b | c | d) & 0x80 != 0 {
        return None;
    }
    Some([(a << 2) | (b >> 4), (b << 4) | (c >> 2), (c << 6) | d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Option<Vec<u8>> {
        let mut out = [0; 64];
        decode(text.as_bytes(), &mut out).map(<[u8]>::to_vec)
    }

    #[test]
    fn decodes_the_vectors_of_rfc_4648() {
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
        }
        assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
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
