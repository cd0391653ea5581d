//! Typed entries in a slab.
//!
//! A [`Link`] is the number of an entry's slot, four bytes, and four also as an
//! `Option`: entries refer to each other by links, and an entry is unlinked before it is
//! freed. A link and the version of its entry may be kept for any time: once the entry is
//! gone they find nothing, whatever took its slot.
//!
//! Invariants: a link is to a used slot of its own arena. A version is taken
//! from a counter of 32 bits when an entry is made, and stays when the entry moves to
//! another slot; link and version would find a foreign entry only if kept over exactly
//! 2^32 creations and the same slot.
//!
//! Must not: follow links; that is for lists, indexes and levels.

use crate::store::mem::budget::{Budget, Full, Purpose};
use crate::store::mem::slab::{Search, Slab, SlabBytes};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// A reference from one entry to another: the slot's number plus one.
pub(crate) struct Link<T>(NonZeroU32, PhantomData<fn() -> T>);

impl<T> Clone for Link<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Link<T> {}

impl<T> PartialEq for Link<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Link<T> {}

impl<T> std::fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl<T> Link<T> {
    /// The link to a slot.
    fn to(slot: u32) -> Link<T> {
        Link(
            NonZeroU32::new(slot + 1).expect("slot numbers stay below u32::MAX"),
            PhantomData,
        )
    }

    fn slot(self) -> u32 {
        self.0.get() - 1
    }

    /// The link as a number, for hashing and tables of links.
    pub(crate) fn number(self) -> NonZeroU32 {
        self.0
    }

    /// The link that [`Link::number`] gave.
    pub(crate) const fn from_number(number: NonZeroU32) -> Link<T> {
        Link(number, PhantomData)
    }
}

/// A slot: the entry and its version.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Slot<T> {
    /// Unique to the entry.
    version: u32,
    entry: T,
}

/// The entries of one level.
#[derive(Debug)]
pub(crate) struct Arena<T: Copy> {
    /// Where they lie, one element to a slot.
    slab: Slab<Slot<T>>,
    /// The version of the next entry.
    next_version: u32,
}

impl<T: Copy> Arena<T> {
    /// An arena without entries; `blank` is what new ones are.
    pub(crate) fn new(blank: T, page_bytes: usize) -> Arena<T> {
        let blank = Slot {
            version: 0,
            entry: blank,
        };
        Arena {
            slab: Slab::new(blank, 1, page_bytes),
            next_version: 0,
        }
    }

    /// What the slot of an entry costs in bytes.
    #[cfg(test)]
    pub(crate) const fn slot_bytes() -> usize {
        size_of::<Slot<T>>()
    }

    pub(crate) fn slab_bytes(&self) -> SlabBytes {
        self.slab.bytes()
    }

    /// The pages that compaction can empty, in bytes.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn reclaimable_bytes(&self) -> usize {
        self.slab.reclaimable_bytes()
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Makes a blank entry.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for it.
    #[inline(always)]
    pub(crate) fn insert(&mut self, budget: &mut Budget) -> Result<(Link<T>, &mut T), Full> {
        let slot = self.slab.take(budget, Purpose::Create)?;
        let version = self.next_version;
        self.next_version = version.wrapping_add(1);
        let made = self.slab.blank_element(slot);
        made.version = version;
        Ok((Link::to(slot), &mut made.entry))
    }

    /// Removes an entry. Nothing may link to it any more.
    pub(crate) fn remove(&mut self, link: Link<T>, budget: &mut Budget) -> T {
        let entry = self[link];
        self.slab.free(link.slot(), budget);
        entry
    }

    /// Moves an entry that lies in a sparse page to a fuller one; whatever links to it has
    /// to follow.
    pub(crate) fn relocate(&mut self, link: Link<T>, budget: &mut Budget) -> Option<Link<T>> {
        let slot = self.slab.relocate(link.slot(), budget)?;
        Some(Link::to(slot))
    }

    /// Whether an entry lies in a sparse page.
    pub(crate) fn is_sparse(&self, link: Link<T>) -> bool {
        self.slab.is_sparse(link.slot())
    }

    /// Searches `pages` pages for the first entry at or behind a slot, if wanted in sparse
    /// pages only. Returns it and the slot to go on from, `None` at the end.
    pub(crate) fn search(
        &self,
        slot: u32,
        only_sparse: bool,
        pages: usize,
    ) -> (Option<Link<T>>, Option<u32>) {
        match self.slab.search(slot, only_sparse, pages) {
            Search::Found(slot) => (Some(Link::to(slot)), Some(slot + 1)),
            Search::Later(slot) => (None, Some(slot)),
            Search::End => (None, None),
        }
    }

    /// What creating an entry now may take from the budget for its slot, in bytes.
    pub(crate) fn wanted_bytes(&self) -> usize {
        self.slab.wanted_bytes(1)
    }

    /// The version of an entry: unique to it, and the same wherever it lies.
    #[inline(always)]
    pub(crate) fn version(&self, link: Link<T>) -> u32 {
        self.slab.element(link.slot()).version
    }

    /// Makes an entry the newest of all, with a new version.
    pub(crate) fn renew(&mut self, link: Link<T>) {
        self.slab.element_mut(link.slot()).version = self.next_version;
        self.next_version = self.next_version.wrapping_add(1);
    }

    /// Whether a link is still to an entry.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn is_used(&self, link: Link<T>) -> bool {
        self.slab.is_used(link.slot())
    }

    /// Whether the entry of a version still is where its link says.
    #[inline(never)]
    pub(crate) fn has(&self, link: Link<T>, version: u32) -> bool {
        self.slab.is_used(link.slot()) && self.version(link) == version
    }

    /// How many entries were made since this one: larger is older.
    pub(crate) fn age(&self, link: Link<T>) -> u32 {
        self.next_version.wrapping_sub(self.version(link))
    }
}

impl<T: Copy> Index<Link<T>> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, link: Link<T>) -> &T {
        &self.slab.element(link.slot()).entry
    }
}

impl<T: Copy> IndexMut<Link<T>> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, link: Link<T>) -> &mut T {
        &mut self.slab.element_mut(link.slot()).entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_outlives_its_entry_and_finds_no_other() {
        let mut budget = Budget::new(1 << 20);
        let mut arena = Arena::new(0u64, 4096);
        let (a, made) = arena.insert(&mut budget).unwrap();
        assert_eq!(std::mem::replace(made, 1), 0);
        let version = arena.version(a);
        assert!(arena.has(a, version));
        arena.remove(a, &mut budget);
        assert!(!arena.has(a, version), "the page itself is gone");
        let (b, made) = arena.insert(&mut budget).unwrap();
        assert_eq!(std::mem::replace(made, 2), 0);
        assert_eq!(a, b, "the slot is used again");
        assert!(!arena.has(a, version));
        assert!(arena.has(b, arena.version(b)) && arena[b] == 2);
    }

    #[test]
    fn links_cost_four_bytes_with_or_without_one() {
        assert_eq!(size_of::<Link<u64>>(), 4);
        assert_eq!(size_of::<Option<Link<u64>>>(), 4);
    }
}
