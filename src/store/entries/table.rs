//! A level: all entries of one kind, in order of creation, by key and by age.
//!
//! Owns the entries' slots, texts and counters from creation to release, the index and the
//! idle list.
//!
//! Must not: know other levels. [`lifecycle`](crate::store::entries::lifecycle) takes an entry
//! out of its parents' lists and out of the index before it is released, and its children
//! are freed before.

use crate::store::counters::packed::{Values, Widths};
use crate::store::counters::{Counters, Difference};
use crate::store::entries::contents::Contents;
use crate::store::entries::entry::{Common, Entry, Parent};
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::budget::{Budget, Full};
use crate::store::mem::heap::Heap;
use crate::store::mem::index::Index;
use crate::store::mem::list::List;
use crate::store::mem::{Hashed, Memory};
use crate::store::time::Now;

impl<T> Common<T> {
    /// Notes that a record reached the entry.
    #[inline(always)]
    pub(crate) fn touch(&mut self, now: Now) {
        self.touched_secs = now.uptime_secs;
        self.stamp.set_wall(now.wall);
    }
}

/// The entries of one level.
#[derive(Debug)]
pub(crate) struct Table<T: Copy> {
    pub(crate) arena: Arena<T>,
    pub(crate) index: Index<T>,
    /// All of them in order of creation: commands oldest first, others newest
    /// first.
    pub(crate) all: List<T>,
    /// Those not pinned, longest untouched first.
    pub(crate) idle: List<T>,
    /// Seconds that an entry is kept untouched if memory allows.
    pub(crate) min_time_secs: u32,
    /// The number of entries freed to make room.
    pub(crate) evictions: u64,
}

impl<T: Entry> Table<T> {
    /// A level without entries.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for the index.
    pub(crate) fn new(
        min_time_secs: u32,
        page_bytes: usize,
        budget: &mut Budget,
    ) -> Result<Table<T>, Full> {
        Ok(Table {
            arena: Arena::new(T::BLANK, page_bytes),
            index: Index::new(budget)?,
            all: List::EMPTY,
            idle: List::EMPTY,
            min_time_secs,
            evictions: 0,
        })
    }

    /// Creates an entry with these texts and counters, all zero without, and has `set` set
    /// what else is not blank, where it lies: a copy of what was just written, in one piece,
    /// would wait for all of it, 3% of the time of a short session. It is in none of the
    /// lists and not in the index.
    ///
    /// # Errors
    /// [`Full`] when something of it has no room; then nothing has changed.
    #[inline(always)]
    pub(crate) fn create(
        &mut self,
        memory: &mut Memory,
        texts: (&[u8], &[u8]),
        counters: Option<&impl Values>,
        now: Now,
        set: &dyn Fn(&mut T),
    ) -> Result<Link<T>, Full> {
        let widths = match counters {
            Some(counters) => T::WIDTHS.or(Widths::narrowest(counters)),
            None => T::WIDTHS,
        };
        let contents = Contents::new(memory, texts, (counters, widths))?;
        match self.arena.insert(&mut memory.budget) {
            Ok((link, entry)) => {
                set(entry);
                let common = entry.common_mut();
                common.contents = contents;
                common.touch(now);
                Ok(link)
            }
            Err(full) => {
                contents.free(memory);
                Err(full)
            }
        }
    }

    /// Gives an entry's slot, texts and counters back.
    pub(crate) fn release(&mut self, memory: &mut Memory, link: Link<T>) -> T {
        let entry = self.arena.remove(link, &mut memory.budget);
        entry.common().contents.free(memory);
        entry
    }

    /// Notes that a record reached an entry.
    #[inline]
    pub(crate) fn touch(&mut self, link: Link<T>, now: Now) {
        self.arena[link].common_mut().touch(now);
    }

    #[inline(always)]
    fn contents_mut(&mut self, link: Link<T>) -> &mut Contents {
        &mut self.arena[link].common_mut().contents
    }

    /// Notes that a record reached an entry, and adds to its counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then nothing has changed.
    #[inline]
    pub(crate) fn reach(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        difference: Difference,
        now: Now,
    ) -> Result<(), Full> {
        let common = self.arena[link].common_mut();
        common.touch(now);
        common.contents.count(memory, difference)
    }

    /// The entry with that key, whose hash is given.
    pub(crate) fn find(&self, memory: &Memory, (wanted, hash): Hashed) -> Option<Link<T>> {
        self.index.find(&self.arena, hash, |entry| {
            key(&memory.heap, entry) == wanted
        })
    }

    /// Puts an entry into the index by the hash of its key.
    pub(crate) fn add_to_index(&mut self, budget: &mut Budget, link: Link<T>, hash: u32) {
        self.index.insert(&mut self.arena, budget, link, hash);
    }

    /// Takes an entry out of the index; the hash of its key.
    pub(crate) fn remove_from_index(&mut self, link: Link<T>) -> u32 {
        self.index.remove(&mut self.arena, link)
    }

    /// Puts a new entry before all others and into the index.
    #[inline(never)]
    pub(crate) fn link(&mut self, budget: &mut Budget, link: Link<T>, hash: u32) {
        self.all.push_front(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_level
        });
        self.add_to_index(budget, link, hash);
    }

    /// Takes an idle entry that is not in the index out of the lists, and releases it.
    pub(crate) fn unlink(&mut self, memory: &mut Memory, link: Link<T>) {
        self.stop_idling(link);
        self.all.remove(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_level
        });
        self.release(memory, link);
    }

    /// Puts an entry that is not pinned behind all idle ones.
    #[inline(always)]
    pub(crate) fn make_idle(&mut self, link: Link<T>, now: Now) {
        let place = self.idle.last_place(link);
        let common = self.arena[link].common_mut();
        (common.touched_secs, common.in_age) = (now.uptime_secs, place);
        let arena = &mut self.arena;
        self.idle
            .tie_last(arena, link, place, |entry| &mut entry.common_mut().in_age);
    }

    /// Takes an entry out of the idle list.
    pub(crate) fn stop_idling(&mut self, link: Link<T>) {
        self.idle.remove(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_age
        });
    }

    /// Moves an entry that lies in a sparse page to a fuller one: the new link. The list
    /// of the level follows, and the index if the entry is in it; the list by age and
    /// whatever else links to the entry are the caller's.
    pub(crate) fn relocate(
        &mut self,
        budget: &mut Budget,
        old: Link<T>,
        is_indexed: bool,
    ) -> Option<Link<T>> {
        let new = self.arena.relocate(old, budget)?;
        self.all.follow(&mut self.arena, new, |entry| {
            &mut entry.common_mut().in_level
        });
        if is_indexed {
            self.index.follow(&mut self.arena, old, new);
        }
        Some(new)
    }

    /// Lets the idle list point to an entry that moved.
    pub(crate) fn follow_idle(&mut self, link: Link<T>) {
        self.idle.follow(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_age
        });
    }

    /// Puts an entry of the idle list behind all others there.
    pub(crate) fn refresh_idle(&mut self, link: Link<T>) {
        self.idle.move_to_back(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_age
        });
    }

    /// What creating an entry with such a blob now may take from the budget, in bytes,
    /// where at most four entries are made that may share a class of the heap.
    pub(crate) fn wanted_bytes(&self, heap: &Heap, blob_bytes: usize) -> usize {
        self.arena.wanted_bytes() + heap.wanted_bytes(blob_bytes, 4)
    }

    /// Replaces an entry's texts.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then nothing has changed.
    pub(crate) fn rename(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        texts: (&[u8], &[u8]),
    ) -> Result<(), Full> {
        self.contents_mut(link).rename(memory, texts)
    }

    #[inline(never)]
    pub(crate) fn counters(&self, memory: &Memory, link: Link<T>) -> Counters {
        self.arena[link].common().contents.counters(&memory.heap)
    }

    /// Sets an entry's counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then nothing has changed.
    pub(crate) fn set(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        counters: &Counters,
    ) -> Result<(), Full> {
        self.contents_mut(link).set(memory, counters)
    }

    /// Adds to an entry's counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then nothing has changed.
    #[inline]
    pub(crate) fn count(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        difference: Difference,
    ) -> Result<(), Full> {
        self.contents_mut(link).count(memory, difference)
    }
}

impl<T: Parent> Table<T> {
    /// Makes an entry the youngest of the idle ones, if it is one of them.
    pub(crate) fn refresh(&mut self, link: Link<T>, now: Now) {
        let entry = &mut self.arena[link];
        if entry.tally().connected == 0 {
            entry.common_mut().touched_secs = now.uptime_secs;
            self.refresh_idle(link);
        }
    }

    pub(crate) fn pin(&mut self, link: Link<T>) {
        let connected = &mut self.arena[link].tally_mut().connected;
        *connected += 1;
        if *connected == 1 {
            self.stop_idling(link);
        }
    }

    #[inline(always)]
    pub(crate) fn unpin(&mut self, link: Link<T>, now: Now) {
        let connected = &mut self.arena[link].tally_mut().connected;
        *connected -= 1;
        if *connected == 0 {
            self.make_idle(link, now);
        }
    }
}

#[inline]
pub(crate) fn key<'a, T: Entry>(heap: &'a Heap, entry: &T) -> &'a [u8] {
    entry.common().contents.key(heap)
}

pub(crate) fn rest<'a, T: Entry>(heap: &'a Heap, entry: &T) -> &'a [u8] {
    entry.common().contents.rest(heap)
}
