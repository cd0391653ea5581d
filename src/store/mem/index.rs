//! Hash indexes: from a key to an entry in constant time.
//!
//! An index is one table of buckets whose size follows from the memory limit
//! ([`INDEX_SHARE`]). Only a front part of it is in use, as many buckets as there are
//! entries or a few more: new entries split one bucket after the other, the next in
//! line, into itself and one behind the part in use (linear hashing; Litwin, 1980). So
//! no record ever waits for a table to be copied, and the kernel, which provides pages
//! when they are first written to, provides no more than the entries need: these are
//! charged as they come into use. Without room for another, buckets have more entries.
//! Buckets are split eight at a time, so that their cache misses overlap.
//!
//! Entries of a bucket are chained through the entries themselves. Hashes have a secret
//! ([`Memory`](crate::store::mem::Memory)): a client that chooses ids cannot aim at a bucket.
//!
//! Invariants: an entry is in its index at most once, in the bucket of its key;
//! no two entries of an index have equal keys.
//!
//! Must not: know what a key is; the caller hashes and compares.

use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::budget::{Budget, Charge, Full, Purpose};
use crate::sys::mem::bytes::prefetch;
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// Bytes of the limit to one bucket of an index. An entry costs about 150 bytes, so even a
/// limit filled by one level alone has few entries to a bucket, and the four indexes take
/// less than a thirtieth of the limit; buckets that no entry needs take address space alone.
/// With 512, records of webmail under 16 M take 10 to 17% more processor time.
pub(crate) const INDEX_SHARE: usize = 256;

/// The most buckets of an index, for limits past 64 G: no machine has more
/// sessions than that, and a mistyped setting is no reason to fail.
const MAX_BUCKETS: usize = 1 << 28;

/// Buckets that are split together.
const SPLIT_TOGETHER: usize = 8;

/// Buckets that are charged together: the kernel's smallest page.
const CHARGE_TOGETHER: usize = 4096 / size_of::<u32>();

/// An entry's place in an index.
#[derive(Debug)]
pub(crate) struct Chain<T> {
    /// The next entry of the bucket.
    pub(crate) next: Option<Link<T>>,
    /// The hash of the entry's key. It distinguishes the entry from most others and moves
    /// it to another bucket without the key, which often is in no cache.
    hash: u32,
}

impl<T> Clone for Chain<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Chain<T> {}

impl<T> Chain<T> {
    /// Of an entry in no index.
    pub(crate) const NONE: Chain<T> = Chain {
        next: None,
        hash: 0,
    };

    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    /// Of an entry in no index, with a number in place of the hash that the owner of the
    /// entry needs.
    pub(crate) fn numbered(number: u32) -> Chain<T> {
        Chain {
            next: None,
            hash: number,
        }
    }

    /// Of an entry in no index, with a link that the owner of the entry needs.
    pub(crate) fn to(link: Link<T>) -> Chain<T> {
        Chain {
            next: Some(link),
            hash: 0,
        }
    }
}

/// Entries that an index can chain.
pub(crate) trait Indexed: Copy {
    /// Whether entries of the type are found by a key; else an index has no buckets.
    const IS_INDEXED: bool;
    fn chain(&self) -> &Chain<Self>;
    fn chain_mut(&mut self) -> &mut Chain<Self>;
}

/// An index of the entries of one arena.
#[derive(Debug)]
pub(crate) struct Index<T> {
    /// The first entry of each bucket, as a link's number, zero for none: the
    /// allocator hands out zeroed pages untouched. A power of two of them.
    buckets: Vec<u32>,
    /// The number of buckets in use, at least one.
    used: usize,
    /// The bits that number them, rounded up.
    mask: usize,
    /// The number of entries.
    len: usize,
    /// The number of entries removed or moved so far, modulo 2^32.
    removals: u32,
    /// Of the buckets that are in use or next in line.
    charge: Charge,
    /// The number of buckets charged.
    charged: usize,
    /// The kind of entry.
    kind: PhantomData<fn() -> T>,
}

impl<T: Indexed> Index<T> {
    /// An empty index for a store with this budget.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for it.
    pub(crate) fn new(budget: &mut Budget) -> Result<Index<T>, Full> {
        let wanted = budget.limit_bytes() / INDEX_SHARE;
        let count = match T::IS_INDEXED {
            true => 1 << wanted.clamp(1, MAX_BUCKETS).ilog2(),
            false => 0,
        };
        let charged = count.min(CHARGE_TOGETHER);
        let charge = budget.charge_blocks(charged * size_of::<u32>(), 1, Purpose::Create)?;
        Ok(Index {
            buckets: vec![0; count],
            used: 1,
            mask: 0,
            len: 0,
            removals: 0,
            charge,
            charged,
            kind: PhantomData,
        })
    }

    /// The place of a hash's bucket: by as many bits as number the used part
    /// rounded up, by one less where that bucket is not in use yet.
    #[inline(always)]
    fn bucket(&self, hash: u32) -> usize {
        let bucket = hash as usize & self.mask;
        match bucket < self.used {
            true => bucket,
            false => bucket & (self.mask >> 1),
        }
    }

    /// The number of entries removed or moved so far, modulo 2^32: while it stays the
    /// same, links that were found are valid.
    pub(crate) fn removals(&self) -> u32 {
        self.removals
    }

    /// The entry that is looked at first for a hash.
    #[inline(always)]
    pub(crate) fn first(&self, hash: u32) -> Option<Link<T>> {
        self.head(self.bucket(hash))
    }

    /// Prefetches the bucket of a hash.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u32) {
        prefetch(&self.buckets[self.bucket(hash)]);
    }

    /// A bucket's first entry.
    #[inline(always)]
    fn head(&self, bucket: usize) -> Option<Link<T>> {
        NonZeroU32::new(self.buckets[bucket]).map(Link::from_number)
    }

    /// The first entry of a hash, from an entry of its bucket on.
    #[inline(always)]
    pub(crate) fn like(
        arena: &Arena<T>,
        mut at: Option<Link<T>>,
        hash: u32,
    ) -> Option<(Link<T>, &T)> {
        while let Some(link) = at {
            let entry = &arena[link];
            let chain = entry.chain();
            if chain.hash == hash {
                return Some((link, entry));
            }
            at = chain.next;
        }
        None
    }

    /// The entry of a hash that `matches`.
    #[inline]
    pub(crate) fn find(
        &self,
        arena: &Arena<T>,
        hash: u32,
        matches: impl Fn(&T) -> bool,
    ) -> Option<Link<T>> {
        let mut at = Index::like(arena, self.first(hash), hash);
        while let Some((link, entry)) = at {
            if matches(entry) {
                return Some(link);
            }
            at = Index::like(arena, entry.chain().next, hash);
        }
        None
    }

    /// Inserts an entry of a hash.
    pub(crate) fn insert(
        &mut self,
        arena: &mut Arena<T>,
        budget: &mut Budget,
        link: Link<T>,
        hash: u32,
    ) {
        if self.len >= self.used && (self.used < self.charged || self.charge_more(budget)) {
            self.split(arena);
        }
        self.push(&mut arena[link], hash, link);
        self.len += 1;
    }

    /// Charges more buckets, if there are more and there is room.
    #[cold]
    #[inline(never)]
    fn charge_more(&mut self, budget: &mut Budget) -> bool {
        let more = CHARGE_TOGETHER.min(self.buckets.len() - self.charged);
        let bytes = more * size_of::<u32>();
        let has_more = more > 0;
        if has_more
            && budget
                .extend(&mut self.charge, bytes, Purpose::Grow)
                .is_ok()
        {
            self.charged += more;
            return true;
        }
        false
    }

    /// The part of the table that is not charged, in bytes.
    #[cfg(test)]
    pub(crate) fn untouched_bytes(&self) -> usize {
        (self.buckets.len() - self.charged) * size_of::<u32>()
    }

    /// Lets the index find an entry where it moved; its chain moved with it.
    pub(crate) fn follow(&mut self, arena: &mut Arena<T>, old: Link<T>, new: Link<T>) {
        self.removals = self.removals.wrapping_add(1);
        let bucket = self.bucket(arena[new].chain().hash);
        let mut at = self.head(bucket);
        if at == Some(old) {
            self.buckets[bucket] = new.number().get();
            return;
        }
        while let Some(link) = at {
            let chain = arena[link].chain_mut();
            if chain.next == Some(old) {
                chain.next = Some(new);
                return;
            }
            at = chain.next;
        }
        unreachable!("an indexed entry is in its bucket");
    }

    /// Puts an entry before the others of its bucket.
    #[inline(always)]
    fn push(&mut self, entry: &mut T, hash: u32, link: Link<T>) {
        let bucket = self.bucket(hash);
        let head = &mut self.buckets[bucket];
        let next = NonZeroU32::new(*head).map(Link::from_number);
        *entry.chain_mut() = Chain { next, hash };
        *head = link.number().get();
    }

    /// Takes more buckets into use and moves there what belongs there. The entries,
    /// which most often are in no cache, are prefetched together.
    #[inline(never)]
    fn split(&mut self, arena: &mut Arena<T>) {
        let together = match self.used % SPLIT_TOGETHER {
            0 => SPLIT_TOGETHER,
            _ => 1,
        };
        let mut chains = [None; SPLIT_TOGETHER];
        for at in &mut chains[..together] {
            let bucket = self.next_to_split();
            *at = self.head(bucket);
            self.buckets[bucket] = 0;
            self.used += 1;
            if self.used - 1 > self.mask {
                self.mask = 2 * self.mask + 1;
            }
        }
        let mut has_more = true;
        while has_more {
            has_more = false;
            for at in &mut chains {
                if let Some(link) = *at {
                    let entry = &mut arena[link];
                    let Chain { next, hash } = *entry.chain();
                    self.push(entry, hash, link);
                    *at = next;
                    if let Some(next) = next {
                        prefetch(arena[next].chain());
                        has_more = true;
                    }
                }
            }
        }
        // The next time comes soon.
        let next = self.next_to_split();
        for bucket in next..next + together {
            if let Some(link) = self.head(bucket) {
                prefetch(arena[link].chain());
            }
        }
    }

    /// The bucket that is split for the next entry.
    fn next_to_split(&self) -> usize {
        self.used & (self.mask >> 1)
    }

    /// Removes an entry; returns its hash.
    pub(crate) fn remove(&mut self, arena: &mut Arena<T>, link: Link<T>) -> u32 {
        let Chain { next, hash } = std::mem::replace(arena[link].chain_mut(), Chain::NONE);
        self.len -= 1;
        self.removals = self.removals.wrapping_add(1);
        let bucket = self.bucket(hash);
        if self.head(bucket) == Some(link) {
            self.buckets[bucket] = next.map_or(0, |next| next.number().get());
            return hash;
        }
        let mut at = self.head(bucket);
        while let Some(before) = at {
            let chain = arena[before].chain_mut();
            if chain.next == Some(link) {
                chain.next = next;
                return hash;
            }
            at = chain.next;
        }
        unreachable!("an indexed entry is in its bucket");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;
    use std::collections::HashMap;

    #[derive(Clone, Copy)]
    struct Numbered {
        chain: Chain<Numbered>,
        number: u32,
    }

    impl Numbered {
        fn new(number: u32) -> Numbered {
            Numbered {
                chain: Chain::NONE,
                number,
            }
        }
    }

    impl Indexed for Numbered {
        const IS_INDEXED: bool = true;
        fn chain(&self) -> &Chain<Numbered> {
            &self.chain
        }
        fn chain_mut(&mut self) -> &mut Chain<Numbered> {
            &mut self.chain
        }
    }

    /// Spreads a number over 32 bits.
    fn hash(number: u32) -> u32 {
        number.wrapping_mul(0x9e37_79b9).rotate_left(19)
    }

    #[test]
    fn agrees_with_a_hash_map_while_it_grows() {
        let mut random = Random::seeded("index against HashMap");
        let mut budget = Budget::new(1 << 20);
        let mut index = Index::<Numbered>::new(&mut budget).unwrap();
        let mut arena = Arena::new(Numbered::new(0), 4096);
        let mut model: HashMap<u32, Link<Numbered>> = HashMap::new();
        for _ in 0..20_000 {
            let number = random.below(8000) as u32;
            let found = index.find(&arena, hash(number), |entry| entry.number == number);
            assert_eq!(found, model.get(&number).copied(), "{number}");
            match found {
                Some(link) if random.below(3) == 0 => {
                    index.remove(&mut arena, link);
                    arena.remove(link, &mut budget);
                    model.remove(&number);
                }
                Some(_) => {}
                None => {
                    let (link, made) = arena.insert(&mut budget).unwrap();
                    *made = Numbered::new(number);
                    index.insert(&mut arena, &mut budget, link, hash(number));
                    model.insert(number, link);
                }
            }
            assert_eq!(index.len, model.len());
        }
        assert_eq!(index.used, index.buckets.len(), "all buckets came into use");
    }
}
