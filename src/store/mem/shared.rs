//! What all levels share: the byte budget, the heap, and the key of the hashes.
//!
//! Must not: know what the bytes in the heap mean; that is for
//! [`contents`](crate::store::entries::contents).

use crate::store::mem::budget::Budget;
use crate::store::mem::hash;
use crate::store::mem::heap::Heap;

/// A key and its hash.
pub type Hashed<'a> = (&'a [u8], u32);

/// What levels share. See the module.
#[derive(Debug)]
pub struct Memory {
    /// The byte budget of all.
    pub budget: Budget,
    /// Texts and counters.
    pub heap: Heap,
    /// Makes hashes that nobody outside can foresee.
    pub hash_key: hash::Key,
}

impl Memory {
    /// A key and its hash.
    pub fn hashed<'a>(&self, key: &'a [u8]) -> Hashed<'a> {
        (key, self.hash(key))
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> u32 {
        self.hash_key.hash(key)
    }
}
