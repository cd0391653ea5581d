//! Hashes of keys under a secret of the process's own: nobody who chooses names can
//! foresee which of them meet.
//!
//! Keys of up to [`SHORT_BYTES`], nearly all, are hashed by multiplication: the
//! function Multilinear-HM of Lemire and Kaser ("Strongly universal string hashing is
//! fast", 2014) on the halves of words of eight bytes. It is strongly universal: whatever
//! two texts somebody chooses without knowing the secret, their hashes are
//! independent of each other and equal once in 2^32. No hash leaves the process, so
//! there is nothing to learn the secret from. The id of a session takes half of the
//! instructions that it took by SipHash, which longer texts get, from the standard
//! library.
//!
//! With one secret in some hundred, keys that follow each other by a pattern, as addresses
//! of a network do, would share few buckets; so the 32 bits are stirred at the end, each
//! value into another one, which leaves all said above as it is.
//!
//! Words are read where they lie: behind the whole ones the last eight bytes of the text,
//! of a text shorter than that its two ends. With the length, that is the text and
//! no other one.

use std::hash::{BuildHasher, RandomState};

/// The most bytes that are hashed by multiplication.
pub const SHORT_BYTES: usize = 64;

/// A key.
#[derive(Debug)]
pub struct Key {
    /// What is added to all.
    offset: u64,
    /// What the length is multiplied with.
    length: u64,
    /// What is added to the halves of each word.
    pairs: [[u64; 2]; SHORT_BYTES / 8],
    /// The key for longer texts.
    long: RandomState,
}

/// The halves of a word.
type Halves = [u32; 2];

/// Both halves of a word.
#[inline(always)]
fn halves(word: u64) -> Halves {
    [word as u32, (word >> 32) as u32]
}

/// The ends of a text shorter than a word.
#[inline(always)]
fn ends(text: &[u8]) -> Halves {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(&first), Some(&last)) => [u32::from_le_bytes(first), u32::from_le_bytes(last)],
        _ => match *text {
            [a, b, c] => [u32::from_le_bytes([a, b, c, 0]), 0],
            [a, b] => [u32::from_le_bytes([a, b, 0, 0]), 0],
            [a] => [a.into(), 0],
            _ => [0, 0],
        },
    }
}

impl Key {
    /// A key from the system's randomness.
    pub fn random() -> Key {
        let random = RandomState::new();
        let mut count = 0u64;
        let mut word = || {
            count += 1;
            random.hash_one(count)
        };
        Key {
            offset: word(),
            length: word(),
            pairs: std::array::from_fn(|_| [word(), word()]),
            long: RandomState::new(),
        }
    }

    /// The hash of a text.
    #[inline]
    pub fn hash(&self, text: &[u8]) -> u32 {
        if text.len() > SHORT_BYTES {
            return self.hash_long(text);
        }
        let words = text.chunks_exact(8);
        let has_rest = !words.remainder().is_empty();
        let mut sum = self.start(text.len());
        for (word, pair) in words.zip(&self.pairs) {
            let word = word.try_into().expect("eight bytes");
            sum = sum.wrapping_add(product(pair, halves(u64::from_le_bytes(word))));
        }
        if has_rest {
            let rest = match text.last_chunk() {
                Some(&last) => halves(u64::from_le_bytes(last)),
                None => ends(text),
            };
            sum = sum.wrapping_add(product(&self.pairs[text.len() / 8], rest));
        }
        stirred(sum)
    }

    /// The hash of a longer text.
    #[cold]
    #[inline(never)]
    fn hash_long(&self, text: &[u8]) -> u32 {
        self.long.hash_one(text) as u32
    }

    /// The sum for a text of that length, before its words are added.
    #[inline(always)]
    fn start(&self, length: usize) -> u64 {
        self.offset
            .wrapping_add(self.length.wrapping_mul(length as u64))
    }
}

/// What a word adds to the sum.
#[inline(always)]
fn product([first, second]: &[u64; 2], [low, high]: Halves) -> u64 {
    first
        .wrapping_add(low.into())
        .wrapping_mul(second.wrapping_add(high.into()))
}

/// The upper half of a sum, stirred.
#[inline(always)]
fn stirred(sum: u64) -> u32 {
    // The multiplier is the odd number nearest to 2^32 parted by the golden ratio, whose
    // multiples are spread most evenly (Knuth, "Sorting and searching", 6.4).
    let half = (sum >> 32) as u32;
    let spread = (half ^ half >> 16).wrapping_mul(0x9e37_79b1);
    spread ^ spread >> 15
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Texts of every length around those where the way of reading them changes.
    fn texts() -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        for length in 0..=SHORT_BYTES + 2 {
            let plain = vec![b'a'; length];
            for place in 0..length {
                let mut text = plain.clone();
                text[place] = b'b';
                texts.push(text);
            }
            texts.push(plain);
        }
        texts
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let texts = texts();
        // Of so few, two meet once in a thousand times; that both keys do is a fault.
        let is_one_to_one = || {
            let key = Key::random();
            let hashes: HashSet<u32> = texts.iter().map(|text| key.hash(text)).collect();
            hashes.len() == texts.len()
        };
        assert!(is_one_to_one() || is_one_to_one());
    }

    #[test]
    fn two_texts_are_as_far_apart_as_chance_has_it() {
        // The pairs most alike: by one bit, at either end, and by a byte at the end.
        for (a, b) in [
            (&b"user0"[..], &b"user1"[..]),
            (b"user10@example.org", b"user11@example.org"),
            (b"\0", b"\0\0"),
            (b"", b"\0"),
            (b"12345678", b"12345678\0"),
            (b"12345678abcdefgh", b"22345678abcdefgh"),
        ] {
            let mut buckets = [0; 64];
            for _ in 0..64 * 64 {
                let key = Key::random();
                let apart = key.hash(a).wrapping_sub(key.hash(b));
                buckets[(apart >> 26) as usize] += 1;
                buckets[(apart & 63) as usize] += 1;
            }
            // 128 are expected, 11 more or less.
            let (least, most) = (buckets.iter().min(), buckets.iter().max());
            assert!(
                least > Some(&50) && most < Some(&206),
                "{least:?} to {most:?}"
            );
        }
    }

    #[test]
    fn keys_of_every_kind_spread_evenly() {
        // Numbers one after the other, in the upper half of a word, in both; names, ids
        // and addresses as they are handed out.
        type Hash = dyn Fn(&Key, u64) -> u32;
        let kinds: [&Hash; 6] = [
            &|key, n| key.hash(&n.to_le_bytes()),
            &|key, n| key.hash(&(n << 32).to_le_bytes()),
            &|key, n| key.hash(&(((n % 128) << 32) | (n / 128)).to_le_bytes()),
            &|key, n| key.hash(format!("user{n}@example.org").as_bytes()),
            &|key, n| key.hash(format!("yR+mHvJgZoB{n:011}").as_bytes()),
            &|key, n| key.hash(&(n as u32).to_be_bytes()),
        ];
        for _ in 0..10 {
            let key = Key::random();
            for (kind, hash) in kinds.iter().enumerate() {
                let mut buckets = vec![0; 4096];
                for n in 0..16384 {
                    buckets[hash(&key, n) as usize % 4096] += 1;
                }
                let most = buckets.into_iter().max();
                assert!(most < Some(24), "{kind}: {most:?} where 4 are expected");
            }
        }
    }

    #[test]
    fn every_store_has_a_key_of_its_own() {
        assert_ne!(Key::random().hash(b"id"), Key::random().hash(b"id"));
    }
}
