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

/// The entries of a level by their numbers, each with its places in as many lists;
/// `None` for those that were left out.
#[derive(Debug)]
pub(super) struct Restored<T, const LISTS: usize>(Vec<(Option<Link<T>>, [u32; LISTS])>);

/// Entries by their keys; those of one key stay as they came. Numbers are sorted, not
/// links, so that the code for it is there once.
fn sorted<T>(keyed: impl Iterator<Item = (u32, Link<T>)>) -> Vec<Link<T>> {
    let mut numbers = Vec::new();
    let links: Vec<Link<T>> = keyed
        .zip(0u32..)
        .map(|((key, link), number)| {
            numbers.push((key, number));
            link
        })
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|(_, number)| links[number as usize])
        .collect()
}

impl<T: Entry, const LISTS: usize> Restored<T, LISTS> {
    pub(super) const NONE: Restored<T, LISTS> = Restored(Vec::new());

    /// Adds the next entry.
    pub(super) fn push(&mut self, link: Option<Link<T>>, places: [u32; LISTS]) {
        self.0.push((link, places));
    }

    /// How many there are, with those that were left out.
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The entry of a number, if it was not left out.
    pub(super) fn find(&self, number: u32) -> Result<Option<Link<T>>, Unsound> {
        let (link, _) = self.0.get(number as usize).ok_or(Unsound)?;
        Ok(*link)
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

    /// The entries by their places in a list.
    pub(super) fn by_place(&self, list: usize) -> Vec<Link<T>> {
        let placed =
            |&(link, places): &(Option<Link<T>>, [u32; LISTS])| Some((places[list], link?));
        sorted(self.0.iter().filter_map(placed))
    }

    /// The entries by age, longest untouched first; those of one age as they came, or
    /// the other way round.
    pub(super) fn by_age(&self, arena: &Arena<T>, newest_first: bool) -> Vec<Link<T>> {
        let mut links: Vec<_> = self.0.iter().filter_map(|&(link, _)| link).collect();
        if newest_first {
            links.reverse();
        }
        sorted(
            links
                .into_iter()
                .map(|link| (arena[link].common().touched_secs, link)),
        )
    }

    /// Puts the entries into the order of their places, and the idle ones into that
    /// of their ages. Versions are renewed in that order.
    pub(super) fn arrange(&self, table: &mut Table<T>, newest_first: bool) {
        let Table {
            all, idle, arena, ..
        } = table;
        for link in self.by_place(0) {
            place(all, arena, link, |entry| &mut entry.common_mut().in_level);
            arena.renew(link);
        }
        for link in self.by_age(arena, newest_first) {
            if !arena[link].is_pinned() {
                place_last(idle, arena, link, |entry| &mut entry.common_mut().in_age);
            }
        }
    }
}

impl<T: Parent, const LISTS: usize> Restored<T, LISTS> {
    /// Links a new entry into its level and adds it.
    pub(super) fn link(
        &mut self,
        store: &mut Store,
        made: Option<Link<T>>,
        touched: Now,
        places: [u32; LISTS],
    ) {
        let (table, memory) = T::table_mut(store);
        if let Some(link) = made {
            let hash = memory.hash(key(&memory.heap, &table.arena[link]));
            table.link(&mut memory.budget, link, hash, touched);
        }
        self.push(made, places);
    }
}

/// Puts an entry behind all others of a list.
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
