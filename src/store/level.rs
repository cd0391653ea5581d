//! A level: all entries of one kind, in order of creation, by key and by age.
//!
//! Owns the entries' slots, texts and counters from creation to release. It
//! knows nothing of other levels: who frees an entry has taken it out of its
//! parents' lists and out of the index, and has freed its children.

use super::arena::{Arena, Link};
use super::budget::{Budget, Full, Purpose};
use super::entry::{Common, Entry, Now, Parent};
use super::hash;
use super::heap::{Blob, Heap, MAX_BLOB_BYTES};
use super::index::Index;
use super::lanes::{Counters, Difference, Lanes};
use super::list::List;
use super::packed::{self, Codes};
use crate::sys::bytes::prefetch;

/// A key and its hash.
pub type Hashed<'a> = (&'a [u8], u32);

/// What levels share: the budget, all bytes that are not an entry's slot, and
/// the keys of the hashes of keys.
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

    /// Puts counters with these widths, which are wide enough, where `blob` is, or
    /// somewhere else if that is too short.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then the old counters stand.
    fn store(
        &mut self,
        blob: &mut Blob,
        counters: &Lanes,
        codes: Codes,
        purpose: Purpose,
    ) -> Result<(), Full> {
        let length = codes.packed_bytes();
        if length > self.heap.bytes(*blob).len() {
            let new = self.heap.take(length, &mut self.budget, purpose)?;
            let old = std::mem::replace(blob, new);
            self.heap.free(old, &mut self.budget);
        }
        packed::pack(counters, codes, self.heap.bytes_mut(*blob));
        Ok(())
    }

    /// Puts counters that have outgrown the widths they had where `blob` is, as narrow
    /// as can be, or somewhere else.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then the old counters stand.
    #[inline(never)]
    fn widen(&mut self, blob: &mut Blob, counters: &Lanes) -> Result<(), Full> {
        self.store(blob, counters, Codes::narrowest(counters), Purpose::Grow)
    }

    /// Lets the counters at `blob` lie plainly.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then they stay packed.
    fn lay_plainly(&mut self, blob: &mut Blob) -> Result<(), Full> {
        if packed::is_plain(self.heap.bytes(*blob)) {
            return Ok(());
        }
        let counters = self.lanes(*blob);
        self.store(blob, &counters, Codes::PLAIN, Purpose::Create)
    }

    /// The counters at `blob`.
    #[inline(never)]
    pub fn lanes(&self, blob: Blob) -> Lanes {
        packed::unpack(self.heap.bytes(blob))
    }

    /// The counters at `blob`, to be shown.
    pub fn counters(&self, blob: Blob) -> Counters {
        self.lanes(blob).counters()
    }
}

impl<T> Common<T> {
    /// Notes that a record reached the entry.
    #[inline(always)]
    pub fn touch(&mut self, now: Now) {
        self.touched_secs = now.uptime_secs;
        self.stamp.set_wall(now.wall);
    }

    /// Adds to its counters.
    #[inline]
    fn count(&mut self, memory: &mut Memory, difference: Difference) -> Result<(), Full> {
        match packed::count(memory.heap.bytes_mut(self.counters), difference) {
            None => Ok(()),
            Some(sums) => memory.widen(&mut self.counters, &sums),
        }
    }

    /// Puts texts into the heap and refers to them; what was there before stays
    /// and is for the caller to free.
    fn set_texts(&mut self, memory: &mut Memory, (key, rest): (&[u8], &[u8])) -> Result<(), Full> {
        let length = key.len() + rest.len();
        if length > MAX_BLOB_BYTES {
            return Err(Full);
        }
        self.text = memory
            .heap
            .take(length, &mut memory.budget, Purpose::Create)?;
        (self.key_len, self.rest_len) = (key.len() as u16, rest.len() as u16);
        let text = memory.heap.bytes_mut(self.text);
        text[..key.len()].copy_from_slice(key);
        text[key.len()..length].copy_from_slice(rest);
        Ok(())
    }
}

/// The entries of one level.
#[derive(Debug)]
pub struct Level<T: Copy> {
    /// Where they lie.
    pub arena: Arena<T>,
    /// From key to entry.
    pub index: Index<T>,
    /// All of them in order of creation: commands oldest first, others newest
    /// first.
    pub all: List<T>,
    /// Those not held, longest untouched first.
    pub idle: List<T>,
    /// How long an entry is kept untouched if memory allows, in seconds.
    pub min_time_secs: u32,
    /// How many were freed to make room.
    pub evictions: u64,
}

impl<T: Entry> Level<T> {
    /// A level without entries.
    ///
    /// # Errors
    /// [`Full`] when the budget has no room for the index.
    pub fn new(
        min_time_secs: u32,
        page_bytes: usize,
        budget: &mut Budget,
    ) -> Result<Level<T>, Full> {
        Ok(Level {
            arena: Arena::new(T::BLANK, page_bytes),
            index: Index::new(budget)?,
            all: List::EMPTY,
            idle: List::EMPTY,
            min_time_secs,
            evictions: 0,
        })
    }

    /// Makes an entry with these texts and counters. It is in none of the lists
    /// and not in the index.
    ///
    /// # Errors
    /// [`Full`] when something of it has no room; then nothing has changed.
    pub fn create(
        &mut self,
        memory: &mut Memory,
        texts: (&[u8], &[u8]),
        counters: &Lanes,
        now: Now,
        make: impl FnOnce(Common<T>) -> T,
    ) -> Result<Link<T>, Full> {
        let mut common = Common {
            touched_secs: now.uptime_secs,
            ..Common::BLANK
        };
        common.stamp.set_wall(now.wall);
        common.set_texts(memory, texts)?;
        let codes = T::CODES.or(Codes::narrowest(counters));
        let made = memory
            .store(&mut common.counters, counters, codes, Purpose::Create)
            .and_then(|()| self.arena.insert(make(common), &mut memory.budget));
        if made.is_err() {
            memory.heap.free(common.text, &mut memory.budget);
            memory.heap.free(common.counters, &mut memory.budget);
        }
        made
    }

    /// Gives an entry's slot, texts and counters back.
    pub fn release(&mut self, memory: &mut Memory, link: Link<T>) -> T {
        let entry = self.arena.remove(link, &mut memory.budget);
        memory.heap.free(entry.common().text, &mut memory.budget);
        memory
            .heap
            .free(entry.common().counters, &mut memory.budget);
        entry
    }

    /// Notes that a record reached an entry.
    #[inline]
    pub fn touch(&mut self, link: Link<T>, now: Now) {
        self.arena[link].common_mut().touch(now);
    }

    /// Lets an entry's counters lie plainly, as is worthwhile where something is added
    /// to them with nearly every record.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then they stay packed.
    pub fn lay_plainly(&mut self, memory: &mut Memory, link: Link<T>) -> Result<(), Full> {
        memory.lay_plainly(&mut self.arena[link].common_mut().counters)
    }

    /// Notes that a record reached an entry, and adds to its counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then the old stand.
    #[inline]
    pub fn reach(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        difference: Difference,
        now: Now,
    ) -> Result<(), Full> {
        let common = self.arena[link].common_mut();
        common.touch(now);
        common.count(memory, difference)
    }

    /// The entry with that key, whose hash is given.
    pub fn find(&self, memory: &Memory, (wanted, hash): Hashed) -> Option<Link<T>> {
        self.index.find(&self.arena, hash, |entry| {
            key(&memory.heap, entry) == wanted
        })
    }

    /// Lets the processor fetch the entry that is looked at first for a hash.
    #[inline(never)]
    pub fn prefetch_first(&self, hash: u32) {
        if let Some(link) = self.index.first(hash) {
            prefetch(&self.arena[link].common().chain);
        }
    }

    /// Lets the processor fetch texts and counters of the entry of a hash, if there is
    /// one.
    #[inline(never)]
    pub fn prefetch_contents(&self, memory: &Memory, hash: u32) {
        let first = self.index.first(hash);
        if let Some(link) = Index::like(&self.arena, first, hash) {
            let common = self.arena[link].common();
            memory.heap.prefetch(common.text);
            memory.heap.prefetch(common.counters);
        }
    }

    /// Puts an entry into the index by the hash of its key.
    pub fn enter(&mut self, link: Link<T>, hash: u32) {
        self.index.insert(&mut self.arena, link, hash);
    }

    /// Takes an entry out of the index.
    pub fn strike(&mut self, link: Link<T>) {
        self.index.remove(&mut self.arena, link);
    }

    /// Puts a new entry that nothing holds yet before all others, into the index
    /// and into the idle list.
    pub fn enlist(&mut self, link: Link<T>, hash: u32, now: Now) {
        self.all.push_front(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_level
        });
        self.enter(link, hash);
        self.make_idle(link, now);
    }

    /// Undoes [`enlist`](Level::enlist) and releases the entry.
    pub fn delist(&mut self, memory: &mut Memory, link: Link<T>) {
        self.stop_idling(link);
        self.strike(link);
        self.all.remove(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_level
        });
        self.release(memory, link);
    }

    /// Puts an entry that is no longer held behind all idle ones.
    pub fn make_idle(&mut self, link: Link<T>, now: Now) {
        self.arena[link].common_mut().touched_secs = now.uptime_secs;
        self.idle.push_back(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_age
        });
    }

    /// Takes an entry out of the idle list.
    pub fn stop_idling(&mut self, link: Link<T>) {
        self.idle.remove(&mut self.arena, link, |entry| {
            &mut entry.common_mut().in_age
        });
    }

    /// Replaces an entry's texts.
    ///
    /// # Errors
    /// [`Full`] when there is no room; then the old texts stand.
    pub fn rename(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        texts: (&[u8], &[u8]),
    ) -> Result<(), Full> {
        let common = self.arena[link].common_mut();
        let old = common.text;
        common.set_texts(memory, texts)?;
        memory.heap.free(old, &mut memory.budget);
        Ok(())
    }

    /// An entry's counters.
    pub fn lanes(&self, memory: &Memory, link: Link<T>) -> Lanes {
        memory.lanes(self.arena[link].common().counters)
    }

    /// Sets an entry's counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then the old stand.
    pub fn set(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        counters: &Lanes,
    ) -> Result<(), Full> {
        let blob = &mut self.arena[link].common_mut().counters;
        match packed::replace(memory.heap.bytes_mut(*blob), counters) {
            true => Ok(()),
            false => memory.widen(blob, counters),
        }
    }

    /// Adds to an entry's counters.
    ///
    /// # Errors
    /// [`Full`] when they need more room and there is none; then the old stand.
    #[inline]
    pub fn count(
        &mut self,
        memory: &mut Memory,
        link: Link<T>,
        difference: Difference,
    ) -> Result<(), Full> {
        self.arena[link].common_mut().count(memory, difference)
    }
}

impl<T: Parent> Level<T> {
    /// Holds an entry once more.
    pub fn hold(&mut self, link: Link<T>) {
        let connected = self.arena[link].connected_mut();
        *connected += 1;
        if *connected == 1 {
            self.stop_idling(link);
        }
    }

    /// Ends one hold on an entry.
    pub fn let_go(&mut self, link: Link<T>, now: Now) {
        let connected = self.arena[link].connected_mut();
        *connected -= 1;
        if *connected == 0 {
            self.make_idle(link, now);
        }
    }
}

/// An entry's key.
#[inline]
pub fn key<'a, T: Entry>(heap: &'a Heap, entry: &T) -> &'a [u8] {
    let common = entry.common();
    &heap.bytes(common.text)[..common.key_len.into()]
}

/// An entry's other text.
pub fn rest<'a, T: Entry>(heap: &'a Heap, entry: &T) -> &'a [u8] {
    let common = entry.common();
    &heap.bytes(common.text)[common.key_len.into()..][..common.rest_len.into()]
}
