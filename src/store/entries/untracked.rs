//! User and address of sessions that had no room.
//!
//! When connected sessions fill the limit, no entry is created for another one. A small
//! table remembers its user and address, so that its commands count there. The table is
//! allocated from the reserve when the first session finds no room, a fixed share of the
//! limit ([`SHARE`]). A session has one place in it, by the hash of its id; a later session
//! of the same place replaces it.
//!
//! Entries are known by hash and version, which stay valid when they move; one that was
//! freed is not found.
//!
//! Must not: keep an entry from being freed.

use crate::store::entries::entry::{Entry, Ip, User};
use crate::store::entries::table::Table;
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::budget::{Budget, Charge, Purpose};
use crate::store::mem::index::Index;

/// The share of the limit that the table takes.
const SHARE: usize = 128;

/// A reference to an entry that stays valid when the entry moves.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Of its key.
    hash: u32,
    version: u32,
}

impl Known {
    /// The entry at a link.
    fn of<T: Entry>(arena: &Arena<T>, link: Link<T>) -> Known {
        Known {
            hash: arena[link].common().chain.hash(),
            version: arena.version(link),
        }
    }

    /// The entry, unless it was freed.
    fn find<T: Entry>(self, table: &Table<T>) -> Option<Link<T>> {
        let arena = &table.arena;
        let mut at = Index::like(arena, table.index.first(self.hash), self.hash);
        while let Some((link, entry)) = at {
            if arena.version(link) == self.version {
                return Some(link);
            }
            at = Index::like(arena, entry.common().chain.next, self.hash);
        }
        None
    }
}

/// A session that had no room.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The hash of its id.
    id: u32,
    user: Known,
    ip: Option<Known>,
}

/// The table. See the module.
#[derive(Debug, Default)]
pub(crate) struct Untracked {
    /// By the hash of the id; empty before the first session.
    places: Vec<Option<Place>>,
    charge: Option<Charge>,
}

impl Untracked {
    /// Allocates the table if there is none. False when there is no room even in the reserve.
    fn has_places(&mut self, budget: &mut Budget) -> bool {
        if self.charge.is_none() {
            let count = (budget.limit_bytes() / SHARE / size_of::<Option<Place>>()).max(1);
            let bytes = count * size_of::<Option<Place>>();
            self.charge = budget.charge_blocks(bytes, 1, Purpose::Grow).ok();
            if self.charge.is_some() {
                self.places = vec![None; count];
            }
        }
        self.charge.is_some()
    }

    /// The place of a session.
    fn place(&mut self, id: u32) -> Option<&mut Option<Place>> {
        let count = self.places.len();
        self.places.get_mut((id as usize).checked_rem(count)?)
    }

    /// Remembers user and address of a session, by the hash of its id.
    pub(crate) fn insert(
        &mut self,
        budget: &mut Budget,
        id: u32,
        (users, user): (&Table<User>, Link<User>),
        (ips, ip): (&Table<Ip>, Option<Link<Ip>>),
    ) {
        if !self.has_places(budget) {
            return;
        }
        if let Some(place) = self.place(id) {
            *place = Some(Place {
                id,
                user: Known::of(&users.arena, user),
                ip: ip.map(|ip| Known::of(&ips.arena, ip)),
            });
        }
    }

    /// User and address of a session, as far as they are known.
    pub(crate) fn find(
        &mut self,
        id: u32,
        users: &Table<User>,
        ips: &Table<Ip>,
    ) -> Option<(Link<User>, Option<Link<Ip>>)> {
        let place = (*self.place(id)?).filter(|place| place.id == id)?;
        let user = place.user.find(users)?;
        Some((user, place.ip.and_then(|ip| ip.find(ips))))
    }

    /// Removes a session that ended.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            place.take_if(|place| place.id == id);
        }
    }
}
