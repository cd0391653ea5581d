//! Compaction: entries and their blobs move out of sparse pages, which become empty and
//! serve slabs of any kind.
//!
//! Pages are never given back while a slot is used. After a peak, a few connected sessions
//! can lie in nearly all of them. So a sweep goes over the slots of all levels, round and
//! round, a few entries at a time, as active defragmentation does in Redis: an entry whose
//! slot lies in a sparse page (see [`vacancies`](crate::store::mem::vacancies)) moves to the
//! fullest page with room, and so does a blob. It frees nothing and asks the budget for
//! nothing.
//!
//! Entry and blob are created and freed together, so blobs in sparse pages most often belong
//! to entries in sparse pages. One sweep looks at those alone, and passes over all other
//! pages. Where that moves nothing, another one looks at all entries, for the blobs of the
//! others.
//!
//! What links to a slot follows: lists, indexes, parents and children, chains of
//! deferred sessions, cursors and what they have picked. A blob is known to its entry
//! alone. An entry whose children would be more than [`MAX_CHILDREN`] to follow stays
//! where it is; its children take many times the page that it keeps.
//!
//! Must not: run while a link is anywhere but in the store's own structures.

use crate::store::entries::entry::{
    at_parent, each_parent, with_link, Command, Entry, Flag, Node, Parent, Session,
};
use crate::store::mem::arena::Link;
use crate::store::mem::index::Chain;
use crate::store::query::cursor::Side;
use crate::store::{Level, Store, LEVELS};

/// The most children that follow an entry.
const MAX_CHILDREN: usize = 16_384;

/// Steps of a sweep at a time when pages to be emptied are worth up to a thirty-second, an
/// eighth and more of the limit.
const STEPS: [usize; 3] = [8, 64, 512];

/// Pages that are looked through in a step.
const PAGES_PER_STEP: usize = 8;

/// Where the sweeps are, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    /// The one over entries in sparse pages.
    sparse: Sweep,
    /// The one over all entries.
    whole: Sweep,
    /// Pages that the last round could not empty, in bytes.
    futile_bytes: usize,
}

/// Where a sweep is.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    /// Which level it goes over.
    table: usize,
    /// The slot it looks at next.
    slot: u32,
    /// Whether anything moved in this round.
    has_moved: bool,
    /// Whether nothing moved in the round before, nor in this one.
    is_vain: bool,
}

/// Entries that can move.
trait Movable: Entry {
    /// Whether the entry has few enough children; they are added to `steps`.
    fn has_few_children(store: &Store, link: Link<Self>, steps: &mut usize) -> bool;
    /// Moves the entry to a fuller page.
    fn relocate(store: &mut Store, old: Link<Self>) -> Option<Link<Self>>;
}

/// Whether children are few enough; they are added to `steps`.
fn are_few(children: impl Iterator, steps: &mut usize) -> bool {
    let count = children.take(MAX_CHILDREN + 1).count();
    *steps += count;
    count <= MAX_CHILDREN
}

impl Movable for Command {
    fn has_few_children(_: &Store, _: Link<Command>, _: &mut usize) -> bool {
        true
    }

    fn relocate(store: &mut Store, old: Link<Command>) -> Option<Link<Command>> {
        let budget = &mut store.memory.budget;
        let new = store.commands.relocate(budget, old, false)?;
        store.commands.follow_idle(new);
        let arena = &mut store.commands.arena;
        let commands = &mut store.sessions.arena[arena[new].session].commands;
        commands.follow(arena, new, |command| &mut command.in_session);
        Some(new)
    }
}

impl Movable for Session {
    fn has_few_children(store: &Store, link: Link<Session>, steps: &mut usize) -> bool {
        let count = store.sessions.arena[link].command_count as usize;
        *steps += count.min(MAX_CHILDREN);
        count <= MAX_CHILDREN
    }

    fn relocate(store: &mut Store, old: Link<Session>) -> Option<Link<Session>> {
        let is_indexed = store.sessions.arena[old].has(Flag::Indexed);
        let budget = &mut store.memory.budget;
        let new = store.sessions.relocate(budget, old, is_indexed)?;
        let session = store.sessions.arena[new];
        let arena = &mut store.sessions.arena;
        match session.has(Flag::Connected) {
            true => store
                .connected
                .follow(arena, new, |session| &mut session.common.in_age),
            false => store.sessions.follow_idle(new),
        }
        each_parent!(P => {
            let (table, sessions, _) = P::tables_mut(store);
            if let Some((list, hook)) = P::sessions_mut(table, &session.above) {
                list.follow(&mut sessions.arena, new, hook);
            }
        });
        let arena = &mut store.sessions.arena;
        if let Some(newer) = session.newer() {
            arena[newer].older = Some(new);
        }
        if let Some(older) = session.older {
            arena[older].common.chain = Chain::to(new);
        }
        let mut at = session.commands.head;
        while let Some(link) = at {
            let command = &mut store.commands.arena[link];
            command.session = new;
            at = command.in_session.next;
        }
        store.follow_deferred(old, new);
        Some(new)
    }
}

impl<P: Parent> Movable for P {
    fn has_few_children(store: &Store, link: Link<P>, steps: &mut usize) -> bool {
        let node = P::node(link);
        let below = |node| store.children(node);
        are_few(below(node), steps)
            && (P::LEVEL != Level::Domain || are_few(below(node).flat_map(below), steps))
    }

    fn relocate(store: &mut Store, old: Link<P>) -> Option<Link<P>> {
        let (table, memory) = P::table_mut(store);
        let new = table.relocate(&mut memory.budget, old, true)?;
        if !table.arena[new].is_pinned() {
            table.follow_idle(new);
        }
        if let Some((list, arena, hook)) = P::siblings_mut(store, new) {
            list.follow(arena, new, hook);
        }
        store.follow_parent(P::node(new), P::node(new));
        Some(new)
    }
}

impl Store {
    /// Whether pages worth more than `due_bytes` can be emptied, as far as is known.
    pub(crate) fn is_compaction_due(&self, due_bytes: usize) -> bool {
        let reclaimable_bytes = self.memory.budget.reclaimable_bytes();
        reclaimable_bytes > due_bytes.max(self.sweeps.futile_bytes)
    }

    /// Goes on with the sweeps, the longer the larger `effort` is. Returns the steps taken.
    pub(crate) fn compact(&mut self, effort: usize) -> usize {
        let budget = &self.memory.budget;
        let limit_bytes = budget.limit_bytes();
        let wanted = effort
            * match budget.reclaimable_bytes() {
                bytes if bytes <= limit_bytes / 32 => STEPS[0],
                bytes if bytes <= limit_bytes / 8 => STEPS[1],
                _ => STEPS[2],
            };
        let mut sparse = self.sweeps.sparse;
        let mut steps = self.sweep(&mut sparse, true, wanted);
        self.sweeps.sparse = sparse;
        if sparse.is_vain {
            let mut whole = self.sweeps.whole;
            steps += self.sweep(&mut whole, false, wanted);
            // True only when a round has just ended without moving anything.
            let is_vain = std::mem::take(&mut whole.is_vain);
            self.sweeps.whole = whole;
            let budget = &self.memory.budget;
            self.sweeps.futile_bytes = match is_vain {
                true => budget.reclaimable_bytes() + limit_bytes / 64,
                false => 0,
            };
        }
        steps
    }

    /// Goes on with a sweep until `wanted` steps are done; how many were.
    fn sweep(&mut self, sweep: &mut Sweep, only_sparse: bool, wanted: usize) -> usize {
        let mut steps = 0;
        while steps < wanted {
            let level = Level::ALL[sweep.table];
            let is_over = at_parent!(level, P => {
                self.sweep_level::<P>(sweep, only_sparse, wanted, &mut steps)
            }, else match level {
                Level::Command => self.sweep_level::<Command>(sweep, only_sparse, wanted, &mut steps),
                _ => self.sweep_level::<Session>(sweep, only_sparse, wanted, &mut steps),
            });
            if is_over {
                sweep.table = (sweep.table + 1) % LEVELS;
                sweep.slot = 0;
            }
            if is_over && sweep.table == 0 {
                sweep.is_vain = !sweep.has_moved;
                sweep.has_moved = false;
                break;
            }
        }
        steps
    }

    /// Sweeps over entries of a level until `wanted` steps are done. True at its end.
    fn sweep_level<T: Movable>(
        &mut self,
        sweep: &mut Sweep,
        only_sparse: bool,
        wanted: usize,
        steps: &mut usize,
    ) -> bool {
        while *steps < wanted {
            *steps += 1;
            let arena = &T::table(self).arena;
            let (found, next) = arena.search(sweep.slot, only_sparse, PAGES_PER_STEP);
            let Some(next) = next else {
                return true;
            };
            sweep.slot = next;
            let Some(link) = found else {
                continue;
            };
            let (table, memory) = T::table_mut(self);
            let common = table.arena[link].common_mut();
            let mut has_moved = common.contents.relocate(memory);
            if table.arena.is_sparse(link) && T::has_few_children(self, link, steps) {
                if let Some(new) = T::relocate(self, link) {
                    self.follow_cursors(link, new, steps);
                    has_moved = true;
                }
            }
            if has_moved {
                sweep.has_moved = true;
                sweep.is_vain = false;
            }
        }
        false
    }

    /// Lets what is below `holder` know where its parent is now.
    fn follow_parent(&mut self, holder: Node, parent: Node) {
        let (scope, mut at) = self.first_child(holder);
        while let Some(child) = at {
            match (child, parent) {
                (Node::Session(link), _) => {
                    let above = &mut self.entry_mut(link).above;
                    with_link!(parent, link => above.set(link), else _other => {});
                }
                (Node::User(link), Node::Domain(domain)) => {
                    self.entry_mut(link).domain = domain;
                    self.follow_parent(child, parent);
                }
                _ => {}
            }
            at = self.beside(scope, child, Side::Behind);
        }
    }

    /// Lets cursors that stand at an entry, or have picked it, follow it; the work is added
    /// to `steps`.
    fn follow_cursors<T: Entry>(&mut self, old: Link<T>, new: Link<T>, steps: &mut usize) {
        if !self.entry(new).common().stamp.has(Flag::Watched) {
            return;
        }
        let mut is_watched = false;
        for walk in self.cursors.iter_mut().flatten() {
            is_watched |= walk.follow(T::node(old), T::node(new), steps);
        }
        let stamp = &mut self.entry_mut(new).common_mut().stamp;
        stamp.set(Flag::Watched, is_watched);
    }
}
