//! The entries of a level that is restored, and the order of its lists.
//!
//! Values come by importance, in version 1 level by level; lists are put in order when all
//! values have been taken.

use crate::store::entries::entry::{Entry, Parent};
use crate::store::entries::table::{key, Table};
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::list::{HookOf, List};
use crate::store::snapshot::values::Unsound;
use crate::store::{Now, Store};
use std::num::NonZeroU32;

/// The numbers of the links of a level's entries in the order in which they came, each with
/// its places in as many lists; `None` for those that were left out.
#[derive(Debug)]
pub(super) struct Restored<const LISTS: usize>(Vec<(Option<NonZeroU32>, [u32; LISTS])>);

/// Entries of the smallest key first, given with their keys and what decides between equals.
/// Numbers are sorted, not links, so that the code for it is there once.
fn sorted<T>(mut keyed: Vec<(u32, u32, NonZeroU32)>) -> impl Iterator<Item = Link<T>> {
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., link)| Link::from_number(link))
}

impl<const LISTS: usize> Restored<LISTS> {
    pub(super) const NONE: Restored<LISTS> = Restored(Vec::new());

    /// Adds the next entry.
    pub(super) fn push<T>(&mut self, link: Option<Link<T>>, places: [u32; LISTS]) {
        self.0.push((link.map(Link::number), places));
    }

    /// How many there are, with those that were left out.
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The entry of a number, if it was not left out.
    pub(super) fn find<T>(&self, number: u32) -> Result<Option<Link<T>>, Unsound> {
        let (link, _) = self.0.get(number as usize).ok_or(Unsound)?;
        Ok(link.map(Link::from_number))
    }

    /// Sets the place of an entry in a list.
    pub(super) fn set_place(
        &mut self,
        number: u32,
        list: usize,
        place: u32,
    ) -> Result<(), Unsound> {
        let (_, places) = self.0.get_mut(number as usize).ok_or(Unsound)?;
        places[list] = place;
        Ok(())
    }

    /// The entries with the order in which they came.
    fn numbered(&self) -> impl Iterator<Item = (u32, NonZeroU32, &[u32; LISTS])> {
        let numbered = self.0.iter().zip(0u32..);
        numbered.filter_map(|((link, places), number)| Some((number, (*link)?, places)))
    }

    /// The entries by their places in a list.
    pub(super) fn by_place<T>(&self, list: usize) -> impl Iterator<Item = Link<T>> {
        let placed = self.numbered();
        sorted(
            placed
                .map(|(number, link, places)| (places[list], number, link))
                .collect(),
        )
    }

    /// The entries by age, longest untouched first; those of one age as they came, or
    /// the other way round.
    pub(super) fn by_age<T: Entry>(
        &self,
        arena: &Arena<T>,
        newest_first: bool,
    ) -> impl Iterator<Item = Link<T>> {
        let aged = self.numbered().map(|(number, link, _)| {
            let touched_secs = arena[Link::from_number(link)].common().touched_secs;
            (
                touched_secs,
                if newest_first { !number } else { number },
                link,
            )
        });
        sorted(aged.collect())
    }

    /// Puts the entries into the order of their places, and the idle ones into that
    /// of their ages. Versions are renewed in that order. Returns them in the first.
    pub(super) fn arrange<T: Entry>(
        &self,
        table: &mut Table<T>,
        newest_first: bool,
    ) -> Vec<Link<T>> {
        let Table {
            all, idle, arena, ..
        } = table;
        let by_place: Vec<Link<T>> = self.by_place(0).collect();
        for &link in &by_place {
            place(all, arena, link, |entry| &mut entry.common_mut().in_level);
            arena.renew(link);
        }
        for link in self.by_age(arena, newest_first) {
            if !arena[link].is_pinned() {
                place_last(idle, arena, link, |entry| &mut entry.common_mut().in_age);
            }
        }
        by_place
    }
    /// Links a new entry into its level and adds it.
    pub(super) fn link<T: Parent>(
        &mut self,
        store: &mut Store,
        made: Option<Link<T>>,
        touched: Now,
        places: [u32; LISTS],
    ) {
        let (table, memory) = T::table_mut(store);
        if let Some(link) = made {
            let hash = memory.hash(key(&memory.heap, &table.arena[link]));
            table.link(&mut memory.budget, link, hash);
            table.make_idle(link, touched);
        }
        self.push(made, places);
    }
}

/// Puts an entry behind all others of a list.
// Not inlined: once for each list and level, it would take kilobytes.
#[inline(never)]
pub(super) fn place_last<T: Entry>(
    list: &mut List<T>,
    arena: &mut Arena<T>,
    link: Link<T>,
    hook: HookOf<T>,
) {
    list.remove(arena, link, hook);
    list.push_back(arena, link, hook);
}

/// Makes an entry the newest of a list: to be called for all of them, oldest first.
#[inline(never)]
pub(super) fn place<T: Entry>(
    list: &mut List<T>,
    arena: &mut Arena<T>,
    link: Link<T>,
    hook: HookOf<T>,
) {
    match T::NEWEST_FIRST {
        true => {
            list.remove(arena, link, hook);
            list.push_front(arena, link, hook);
        }
        false => place_last(list, arena, link, hook),
    }
}
