//! Walking a level for a reply, in slices, while the store goes on changing.
//!
//! A cursor stands at the node it will look at next. A node that is freed first moves
//! the cursors that stand there on, so a cursor neither keeps an entry alive nor is left
//! behind by one. An entry has a flag that a cursor may stand there or has picked it;
//! only then are the cursors looked through, of which there are at most as many as
//! clients. The same holds when an entry moves to another slot.
//!
//! A walk lists what existed when it began. New sessions, users, domains and
//! ips come before all others of their lists, where a walk that began does not
//! look; for commands, which come last, the cursor also keeps the last one of
//! the beginning, and freeing that one moves this end back.
//!
//! Where an entry needs a witness ([`filter_eval`](super::filter_eval)), the walk goes down
//! into it until one is found.
//!
//! Work is counted in steps: one for each node looked at, and more where a long
//! pattern is compared with a long name.

use crate::store::entries::entry::{
    at_parent, with_link, Command, Entry, Flag, Node, Parent, Session, Stamp,
};
use crate::store::filter::Filter;
use crate::store::mem::arena::Link;
use crate::store::mem::list::Hook;
use crate::store::query::pick::Pick;
use crate::store::query::rank::Ranking;
use crate::store::update::prefetch::RowsAhead;
use crate::store::{Level, Row, Store};
use std::ops::Range;

/// A cursor of a store, to be given back by [`Store::close`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct CursorId(pub(crate) usize);

/// Where a walk goes from one row's entry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Along the whole level.
    Table,
    /// Along the list of an entry of this level, its commands, sessions or users.
    Below(Level),
    /// Along the sessions of one id, from the newest on, or along the commands of these
    /// sessions, from those of the oldest on: one session of an id begins when the one
    /// before has ended.
    Id,
    /// Nowhere: there is only one, or the others are picked.
    One,
}

/// One of the neighbours in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    Behind,
}

impl Side {
    /// The neighbour in the list of a hook.
    fn of<T: Entry>(self, hook: Hook<T>) -> Option<Node> {
        match self {
            Side::Before => hook.prev.map(T::node),
            Side::Behind => hook.next.map(T::node),
        }
    }
}

/// A walk. See the module.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The level of the rows.
    pub(crate) level: Level,
    pub(crate) filter: Filter,
    pub(crate) scope: Scope,
    /// The node to look at next: an entry of the level, or one below it while
    /// a witness is sought. `None` at the end.
    pub(crate) at: Option<Node>,
    /// The last command to look at.
    pub(crate) end: Option<Link<Command>>,
    /// Entries to look at when there is no such node. Those that are gone by then
    /// are passed over.
    pub(crate) picks: Vec<Pick>,
    /// Index of the next of them.
    pub(crate) next_pick: usize,
    /// While the biggest entries are sought: they become the picks.
    pub(crate) ranking: Option<Ranking>,
    /// The rows that are still to come of a level whose rows are not entries.
    pub(crate) kinds: Range<usize>,
}

/// How far a slice came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more rows.
    More,
    /// All rows were handed out.
    Done,
}

impl Cursor {
    /// Follows an entry that moved, and adds what is looked at for that to `steps`. True
    /// if it stands there or has picked it.
    pub(crate) fn follow(&mut self, old: Node, new: Node, steps: &mut usize) -> bool {
        let mut is_here = self.at == Some(old);
        if is_here {
            self.at = Some(new);
        }
        if let (true, Node::Command(link)) = (self.is_end(old), new) {
            self.end = Some(link);
            is_here = true;
        }
        *steps += 1 + self.picks.len();
        for pick in &mut self.picks {
            is_here |= pick.follow(old, new);
        }
        if let Some(ranking) = &mut self.ranking {
            is_here |= ranking.follow(old, new, steps);
        }
        is_here
    }

    /// The nodes that it would stand at when they are freed.
    pub(crate) fn stands_at(&self) -> impl Iterator<Item = Node> {
        self.at.into_iter().chain(self.end.map(Node::Command))
    }

    /// Whether a node is the last command to look at.
    fn is_end(&self, node: Node) -> bool {
        self.end.map(Node::Command) == Some(node)
    }
}

/// The level of a node.
pub(crate) fn level_of(node: Node) -> Level {
    fn of<T: Entry>(_: Link<T>) -> Level {
        T::LEVEL
    }
    with_link!(node, link => of(link))
}

/// The level in whose lists the sessions below entries of a level are.
fn list_level(level: Level) -> Level {
    match level {
        Level::Domain => Level::User,
        level => level,
    }
}

impl Store {
    /// The bytes of the entries that are picked for a walk.
    pub fn walk_bytes(&self, cursor: &CursorId) -> usize {
        let walk = self.cursors[cursor.0].as_ref();
        walk.map_or(0, |walk| walk.picks.capacity() * size_of::<Pick>())
    }

    pub fn close(&mut self, cursor: CursorId) {
        self.cursors[cursor.0] = None;
    }

    /// Lets a walk that is done hand out its picks, or kinds of work, again, for formats
    /// that list one statistic of all entries after the other.
    pub fn again(&mut self, cursor: &CursorId) {
        let kinds = self.cursors[cursor.0]
            .as_ref()
            .map_or(0, |walk| self.kind_rows(walk.level));
        let walk = self.cursors[cursor.0].as_mut();
        let walk = walk.expect("an id is of an open cursor");
        walk.next_pick = 0;
        walk.kinds = 0..kinds;
    }

    /// Goes on with a walk until `steps` are used up, which are taken off, handing
    /// out rows until `sink` returns false: no more for now.
    pub fn read(
        &mut self,
        cursor: &CursorId,
        steps: &mut usize,
        mut sink: impl FnMut(&Row) -> bool,
    ) -> Progress {
        let mut walk = self.cursors[cursor.0]
            .take()
            .expect("an id is of an open cursor");
        let kind = (walk.level, &walk.filter);
        while *steps > 0 {
            let Some(place) = walk.kinds.next() else {
                break;
            };
            *steps -= 1;
            if !self.show_kind(kind, place, &mut sink) {
                break;
            }
        }
        let fits_all = walk.filter.is_empty();
        let mut ahead = RowsAhead::default();
        while *steps > 0 {
            let Some(node) = self.next_node(&mut walk) else {
                break;
            };
            if let (Node::Command(link), Scope::Table) = (node, walk.scope) {
                self.prefetch_row(&mut ahead, link);
            }
            let mut work = 1;
            let found;
            (found, walk.at) = match fits_all {
                true => (Some(node), self.behind(&walk, node)),
                false => self.step(&walk, node, &mut work),
            };
            *steps = steps.saturating_sub(work);
            match (found, &mut walk.ranking) {
                (Some(found), Some(ranking)) => {
                    ranking.add(self.load_usecs(found), self.pick(found));
                    self.watch([found]);
                }
                (Some(found), None) if !self.show(found, &mut sink) => break,
                _ => {}
            }
        }
        self.watch(walk.stands_at());
        let is_left = !walk.kinds.is_empty()
            || walk.at.is_some()
            || walk.ranking.is_some()
            || walk.next_pick < walk.picks.len();
        let progress = match is_left {
            true => Progress::More,
            false => Progress::Done,
        };
        self.cursors[cursor.0] = Some(walk);
        progress
    }

    /// The node to look at now; picks that are gone are passed over.
    fn next_node(&self, walk: &mut Cursor) -> Option<Node> {
        if walk.at.is_some() {
            return walk.at;
        }
        if let Some(ranking) = walk.ranking.take() {
            (walk.scope, walk.picks) = (Scope::One, ranking.picks());
        }
        let left = walk.picks[walk.next_pick..].iter();
        let mut left = left.inspect(|_| walk.next_pick += 1);
        left.find_map(|&pick| self.find_pick(pick))
    }

    /// Looks at a node: the entry of a row found there, and the next node.
    fn step(&self, walk: &Cursor, node: Node, work: &mut usize) -> (Option<Node>, Option<Node>) {
        let (level, filter) = (walk.level, &walk.filter);
        if !self.fits(filter, node, level_of(node) == level, work) {
            return (None, self.behind(walk, node));
        }
        if self.needs_witness(filter, node) {
            let (_, child) = self.first_child(node);
            return (None, child.or_else(|| self.behind(walk, node)));
        }
        // A row or a witness of one: on behind the row.
        let row = self.row_of(node, level);
        (row, row.and_then(|row| self.behind(walk, row)))
    }

    /// The node behind a node, not below it.
    fn behind(&self, walk: &Cursor, mut node: Node) -> Option<Node> {
        while level_of(node) != walk.level {
            let above = match node {
                Node::Session(_) => list_level(walk.level),
                _ => walk.level,
            };
            let scope = Scope::Below(above);
            let sibling = self.beside(scope, node, Side::Behind);
            if sibling.is_some() {
                return sibling;
            }
            node = self.above(node, walk.level)?;
        }
        match walk.is_end(node) {
            true => None,
            false => self.beside(walk.scope, node, Side::Behind),
        }
    }

    /// The neighbour of a node.
    pub(crate) fn beside(&self, scope: Scope, node: Node, side: Side) -> Option<Node> {
        match (scope, node) {
            (Scope::Table, node) => {
                with_link!(node, link => side.of(self.entry(link).common().in_level))
            }
            (Scope::Below(_), Node::Command(link)) => side.of(self.entry(link).in_session),
            (Scope::Below(level), Node::Session(link)) => {
                let session = self.entry(link);
                at_parent!(level, P => side.of(P::hook(session)), else None)
            }
            (Scope::Below(_), Node::User(link)) => side.of(self.entry(link).in_domain),
            (Scope::Id, Node::Session(link)) => self.session_of_id(link, side).map(Node::Session),
            (Scope::Id, Node::Command(link)) => {
                let command = self.entry(link);
                side.of(command.in_session).or_else(|| {
                    // Commands are from the oldest session on, sessions from the newest.
                    let session = match side {
                        Side::Before => self.session_of_id(command.session, Side::Behind),
                        Side::Behind => self.session_of_id(command.session, Side::Before),
                    };
                    let command = self.command_of_id(Node::Session(session?), side);
                    command.map(Node::Command)
                })
            }
            _ => None,
        }
    }

    /// The session of the same id that is next newer, or next older.
    fn session_of_id(&self, link: Link<Session>, side: Side) -> Option<Link<Session>> {
        let session = self.entry(link);
        match side {
            Side::Before => session.newer(),
            Side::Behind => session.older,
        }
    }

    /// The nodes of a list, from one on.
    pub(crate) fn list(
        &self,
        scope: Scope,
        first: Option<Node>,
    ) -> impl Iterator<Item = Node> + '_ {
        std::iter::successors(first, move |&node| self.beside(scope, node, Side::Behind))
    }

    /// The first child of an entry, and the list that it is in.
    pub(crate) fn first_child(&self, node: Node) -> (Scope, Option<Node>) {
        fn first<T: Entry>(entry: &T) -> (Scope, Option<Node>) {
            let first = entry.children().head;
            (Scope::Below(T::LEVEL), first.map(T::Child::node))
        }
        with_link!(node, link => first(self.entry(link)))
    }

    /// The children of an entry.
    pub(crate) fn children(&self, node: Node) -> impl Iterator<Item = Node> + '_ {
        let (scope, first) = self.first_child(node);
        self.list(scope, first)
    }

    /// What a session or user belongs to, on the way to a level.
    fn above(&self, node: Node, level: Level) -> Option<Node> {
        match (node, level) {
            (Node::Session(link), _) => {
                let above = &self.entry(link).above;
                at_parent!(list_level(level), P => P::of(above).map(P::node), else None)
            }
            (Node::User(link), _) => Some(Node::Domain(self.entry(link).domain)),
            _ => None,
        }
    }

    /// The entry of a level that a node is, or belongs to.
    pub(crate) fn row_of(&self, mut node: Node, level: Level) -> Option<Node> {
        while level_of(node) != level {
            node = self.above(node, level)?;
        }
        Some(node)
    }

    /// Of the sessions of an id: the first command of a session or the next newer one that
    /// has any (behind), the last command of it or the next older one that has any
    /// (before).
    pub(crate) fn command_of_id(&self, session: Node, side: Side) -> Option<Link<Command>> {
        let mut found = None;
        let mut at = match session {
            Node::Session(link) => Some(link),
            _ => None,
        };
        while let (None, Some(link)) = (found, at) {
            let session = self.entry(link);
            (found, at) = match side {
                Side::Before => (session.commands.tail, session.older),
                Side::Behind => (session.commands.head, session.newer()),
            };
        }
        found
    }

    /// How big an entry is.
    fn load_usecs(&self, node: Node) -> u64 {
        let counters = with_link!(node, link => self.gathered(self.entry(link)), else node => {
            with_link!(node, link => self.table(link).counters(&self.memory, link))
        });
        counters.stats.load_usecs()
    }

    /// Moves all cursors that stand at a node on, before it is freed.
    pub(crate) fn move_cursors_on(&mut self, node: Node) {
        self.move_on(node, |_| true);
    }

    /// Moves the cursors that stand at a session on, before it leaves the lists
    /// of its user and ip, if that is where they go; the place of a session in
    /// its level does not change.
    pub(crate) fn move_cursors_below_parents_on(&mut self, link: Link<Session>) {
        self.move_on(Node::Session(link), |walk| {
            walk.level != Level::Session || matches!(walk.scope, Scope::Below(_))
        });
    }

    /// Moves those cursors on that stand at a node and are `meant`.
    fn move_on(&mut self, node: Node, meant: impl Fn(&Cursor) -> bool) {
        if !self.stamp(node).has(Flag::Watched) {
            return;
        }
        for index in 0..self.cursors.len() {
            let Some(mut walk) = self.cursors[index].take() else {
                continue;
            };
            if walk.at == Some(node) && meant(&walk) {
                walk.at = self.behind(&walk, node);
            }
            if walk.is_end(node) {
                walk.end = match self.beside(walk.scope, node, Side::Before) {
                    Some(Node::Command(link)) => Some(link),
                    _ => None,
                };
            }
            self.watch(walk.stands_at());
            self.cursors[index] = Some(walk);
        }
    }

    /// Notes in entries that cursors stand there or have picked them.
    pub(crate) fn watch(&mut self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            self.stamp(node).set(Flag::Watched, true);
        }
    }

    /// The flags of an entry.
    #[inline(never)]
    fn stamp(&mut self, node: Node) -> &mut Stamp {
        with_link!(node, link => &mut self.entry_mut(link).common_mut().stamp)
    }
}
