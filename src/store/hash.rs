//! SipHash-1-3 (Aumasson and Bernstein, 2012) of a text that is there as a whole,
//! under a key of the process's own: nobody who chooses names can foresee it.
//!
//! The standard library has the same function behind an interface for texts that
//! come in pieces, which costs twice the instructions for ids as short as those of
//! sessions.
//!
//! Numbers are multiplied by one half of the key instead, the halves of the product put
//! together: whoever chooses them has nothing to learn the key from.

use std::hash::{BuildHasher, RandomState};

/// A key.
#[derive(Debug)]
pub struct Key(u64, u64);

/// The state between two words of a text.
struct State([u64; 4]);

impl State {
    /// SipRound.
    #[inline(always)]
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32).wrapping_add(*d);
        *c = c.wrapping_add(*b);
        *d = d.rotate_left(21) ^ *a;
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    /// Takes a word in.
    #[inline(always)]
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }
}

impl Key {
    /// A key from the system's randomness.
    pub fn random() -> Key {
        let random = RandomState::new();
        Key(random.hash_one(0), random.hash_one(1))
    }

    /// The hash of a text.
    pub fn hash(&self, text: &[u8]) -> u64 {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let mut words = text.chunks_exact(8);
        for word in &mut words {
            state.take(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        // The last word ends with the length's lowest byte.
        let rest = words.remainder();
        let tail = match text.last_chunk::<8>() {
            // Cheaper than a copy of so many bytes.
            Some(tail) if !rest.is_empty() => u64::from_le_bytes(*tail) >> (64 - 8 * rest.len()),
            _ => {
                let mut tail = [0; 8];
                tail[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(tail)
            }
        };
        state.take(tail | (text.len() as u64) << 56);
        state.0[2] ^= 0xff;
        for _ in 0..3 {
            state.round();
        }
        state.0.into_iter().fold(0, |hash, word| hash ^ word)
    }

    /// The hash of a number.
    pub fn hash_number(&self, number: u64) -> u64 {
        let product = u128::from(number ^ self.0) * u128::from(self.1 | 1);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hasher};

    #[test]
    fn is_the_function_of_the_standard_library() {
        let text: Vec<u8> = (0..=255).cycle().take(300).collect();
        for length in 0..=text.len() {
            // SipHash-1-3 with a key of zeros.
            let mut hasher = DefaultHasher::new();
            hasher.write(&text[..length]);
            assert_eq!(Key(0, 0).hash(&text[..length]), hasher.finish(), "{length}");
        }
    }

    #[test]
    fn numbers_of_every_kind_spread_evenly() {
        // Commands one after the other of one session, the same one of many, both.
        for of in [
            |n: u64| n,
            |n: u64| n << 32,
            |n: u64| ((n % 128) << 32) | (n / 128),
        ] {
            let key = Key::random();
            let mut buckets = vec![0; 4096];
            for number in 0..16384 {
                buckets[key.hash_number(of(number)) as usize % 4096] += 1;
            }
            let most = buckets.into_iter().max();
            assert!(most < Some(24), "{most:?} where 4 are expected");
        }
    }

    #[test]
    fn every_store_has_a_key_of_its_own() {
        assert_ne!(Key::random().hash(b"id"), Key::random().hash(b"id"));
    }
}
