//! Walking a level for a reply, in slices, while the store goes on changing.
//!
//! A cursor stands at the node it will look at next. Whoever frees a node first
//! moves the cursors that stand there on, so a cursor neither keeps an entry
//! alive nor is left behind by one. An entry has a flag that a cursor may stand
//! there, or has picked it; only then are the cursors looked through, and there are at
//! most as many as clients. The same holds when an entry moves to another slot.
//!
//! A walk lists what existed when it began. New sessions, users, domains and
//! ips come before all others of their lists, where a walk that began does not
//! look; for commands, which come last, the cursor also keeps the last one of
//! the beginning, and whoever frees that one moves this end back.
//!
//! Which entries fit: terms about an entry or what it belongs to are looked at
//! in the entry; a term about what belongs to it holds if *one* of its sessions
//! (for user= at the domain level, of its users) fits the whole filter, so the
//! walk goes down into the entry until it has found such a witness.
//!
//! Work is counted in steps: one for each node looked at, and more where a long
//! pattern is compared with a long name.

use crate::store::entries::entry::{
    Command, Domain, Flag, Ip, Node, Session, Stamp, User, WallTime,
};
use crate::store::entries::level::{key, rest};
use crate::store::filter::Filter;
use crate::store::mem::arena::{Id, Link};
use crate::store::query::rank::Ranking;
use crate::store::update::prefetch::PREFETCH_ROWS;
use crate::store::{Row, Store, Zoom};

/// A cursor of a store, to be given back by [`Store::close`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct CursorId(pub(crate) usize);

/// Where a walk goes from one row's entry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Along the whole level.
    Level,
    /// Along the list of its parent: a session's commands, a user's sessions, a
    /// domain's users.
    Parent,
    /// Along the sessions of an ip.
    Ip,
    /// Along the sessions of one id, from the newest on, or along the commands of these
    /// sessions, from those of the oldest on: one session of an id begins when the one
    /// before has ended.
    Id,
    /// Nowhere: there is only one, or the others are picked.
    One,
}

/// An entry picked for a walk, which may be gone when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// A command.
    Command(Id<Command>),
    /// A session.
    Session(Id<Session>),
    /// A user.
    User(Id<User>),
    /// A domain.
    Domain(Id<Domain>),
    /// An ip.
    Ip(Id<Ip>),
}

/// A walk. See the module.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The level of the rows.
    pub zoom: Zoom,
    /// What fits.
    pub filter: Filter,
    /// Where rows come from.
    pub scope: Scope,
    /// The node to look at next: an entry of the level, or one below it while
    /// a witness is sought. `None` at the end.
    pub at: Option<Node>,
    /// The last command to look at.
    pub end: Option<Link<Command>>,
    /// Entries to look at when there is no such node. Those that are gone by then
    /// are passed over.
    pub picks: Vec<Pick>,
    /// Which of them comes next.
    pub next_pick: usize,
    /// While the biggest entries are sought: they become the picks.
    pub ranking: Option<Ranking>,
    /// Whether the global row is still to come.
    pub global: bool,
}

/// How far a slice came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more.
    More,
    /// That was all.
    Done,
}

impl Pick {
    /// Whether it is this entry.
    fn is(self, node: Node) -> bool {
        match (self, node) {
            (Pick::Command(id), Node::Command(link)) => id.link() == link,
            (Pick::Session(id), Node::Session(link)) => id.link() == link,
            (Pick::User(id), Node::User(link)) => id.link() == link,
            (Pick::Domain(id), Node::Domain(link)) => id.link() == link,
            (Pick::Ip(id), Node::Ip(link)) => id.link() == link,
            _ => false,
        }
    }

    /// Follows an entry that moved. True if it was this one.
    pub(crate) fn follow(&mut self, old: Node, new: Node) -> bool {
        if !self.is(old) {
            return false;
        }
        match (self, new) {
            (Pick::Command(id), Node::Command(link)) => id.follow(link),
            (Pick::Session(id), Node::Session(link)) => id.follow(link),
            (Pick::User(id), Node::User(link)) => id.follow(link),
            (Pick::Domain(id), Node::Domain(link)) => id.follow(link),
            (Pick::Ip(id), Node::Ip(link)) => id.follow(link),
            _ => unreachable!("an entry stays in its level"),
        }
        true
    }
}

impl Cursor {
    /// Follows an entry that moved, and adds what is looked at for that to `steps`. True
    /// if it stands there or has picked it.
    pub(crate) fn follow(&mut self, old: Node, new: Node, steps: &mut usize) -> bool {
        let mut is_here = self.at == Some(old);
        if is_here {
            self.at = Some(new);
        }
        if let (Some(end), Node::Command(link)) = (self.end.map(Node::Command), new) {
            if end == old {
                self.end = Some(link);
                is_here = true;
            }
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
}

impl Store {
    /// The bytes of the entries that are picked for a walk.
    pub fn walk_bytes(&self, cursor: &CursorId) -> usize {
        let walk = self.cursors[cursor.0].as_ref();
        walk.map_or(0, |walk| walk.picks.capacity() * size_of::<Pick>())
    }

    /// Ends a walk.
    pub fn close(&mut self, cursor: CursorId) {
        self.cursors[cursor.0] = None;
    }

    /// Goes on with a walk until `steps` are used up, which are taken off, handing
    /// out rows until `sink` answers that it wants no more for now.
    pub fn read(
        &mut self,
        cursor: &CursorId,
        steps: &mut usize,
        mut sink: impl FnMut(&Row) -> bool,
    ) -> Progress {
        let mut walk = self.cursors[cursor.0]
            .take()
            .expect("an id is of an open cursor");
        if std::mem::take(&mut walk.global) {
            sink(&Row::Global(&self.totals_of_everything()));
        }
        let fits_all = walk.filter.is_empty();
        let mut looked_at = 0;
        while *steps > 0 {
            let Some(node) = walk.at.or_else(|| self.next_pick(&mut walk)) else {
                let Some(ranking) = walk.ranking.take() else {
                    break;
                };
                (walk.scope, walk.picks) = (Scope::One, ranking.picks());
                continue;
            };
            if let (Node::Command(link), 0, Scope::Level) =
                (node, looked_at % PREFETCH_ROWS, walk.scope)
            {
                self.prefetch_rows(link);
            }
            looked_at += 1;
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
                    self.stamp(found).set(Flag::Watched, true);
                }
                (Some(found), None) if !self.show(found, &mut sink) => break,
                _ => {}
            }
        }
        self.watch(&walk);
        let is_left =
            walk.at.is_some() || walk.ranking.is_some() || walk.next_pick < walk.picks.len();
        let progress = match is_left {
            true => Progress::More,
            false => Progress::Done,
        };
        self.cursors[cursor.0] = Some(walk);
        progress
    }

    /// The next entry that was picked and still exists.
    fn next_pick(&self, walk: &mut Cursor) -> Option<Node> {
        loop {
            let pick = *walk.picks.get(walk.next_pick)?;
            walk.next_pick += 1;
            let found = match pick {
                Pick::Command(id) => self.commands.arena.find(id).map(Node::Command),
                Pick::Session(id) => self.sessions.arena.find(id).map(Node::Session),
                Pick::User(id) => self.users.arena.find(id).map(Node::User),
                Pick::Domain(id) => self.domains.arena.find(id).map(Node::Domain),
                Pick::Ip(id) => self.ips.arena.find(id).map(Node::Ip),
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Picks an entry.
    pub(crate) fn pick(&self, node: Node) -> Pick {
        match node {
            Node::Command(link) => Pick::Command(self.commands.arena.id(link)),
            Node::Session(link) => Pick::Session(self.sessions.arena.id(link)),
            Node::User(link) => Pick::User(self.users.arena.id(link)),
            Node::Domain(link) => Pick::Domain(self.domains.arena.id(link)),
            Node::Ip(link) => Pick::Ip(self.ips.arena.id(link)),
        }
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
            walk.zoom != Zoom::Session || matches!(walk.scope, Scope::Parent | Scope::Ip)
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
            if walk.end.map(Node::Command) == Some(node) {
                walk.end = self.before_end(&walk);
            }
            self.watch(&walk);
            self.cursors[index] = Some(walk);
        }
    }

    /// Notes where a cursor stands.
    pub(crate) fn watch(&mut self, walk: &Cursor) {
        for node in [walk.at, walk.end.map(Node::Command)].into_iter().flatten() {
            self.stamp(node).set(Flag::Watched, true);
        }
    }

    /// Notes what a cursor has picked; all of it exists.
    pub(crate) fn watch_picks(&mut self, picks: &[Pick]) {
        for &pick in picks {
            let node = match pick {
                Pick::Command(id) => Node::Command(id.link()),
                Pick::Session(id) => Node::Session(id.link()),
                Pick::User(id) => Node::User(id.link()),
                Pick::Domain(id) => Node::Domain(id.link()),
                Pick::Ip(id) => Node::Ip(id.link()),
            };
            self.stamp(node).set(Flag::Watched, true);
        }
    }

    /// Where a node has the flag that a cursor may stand there.
    pub(crate) fn stamp(&mut self, node: Node) -> &mut Stamp {
        match node {
            Node::Command(link) => &mut self.commands.arena[link].common.stamp,
            Node::Session(link) => &mut self.sessions.arena[link].common.stamp,
            Node::User(link) => &mut self.users.arena[link].common.stamp,
            Node::Domain(link) => &mut self.domains.arena[link].common.stamp,
            Node::Ip(link) => &mut self.ips.arena[link].common.stamp,
        }
    }

    /// Looks at a node: the entry of a row found there, and the next node.
    fn step(&self, walk: &Cursor, node: Node, work: &mut usize) -> (Option<Node>, Option<Node>) {
        let filter = &walk.filter;
        let behind = |node| self.behind(walk, node);
        let (fits, row, child) = match (walk.zoom, node) {
            (_, Node::Command(link)) => {
                let command = &self.commands.arena[link];
                let fits = is_since(filter, command.common.stamp.wall())
                    && self.session_fits(filter, command.session, work);
                (fits, node, None)
            }
            (Zoom::Session, Node::Session(link)) => {
                let fits = is_since(filter, self.sessions.arena[link].common.stamp.wall())
                    && self.session_fits(filter, link, work);
                (fits, node, None)
            }
            (zoom, Node::Session(link)) => {
                let session = &self.sessions.arena[link];
                let row = match (zoom, session.ip) {
                    (Zoom::Ip, Some(ip)) => Node::Ip(ip),
                    (Zoom::Domain, _) => Node::Domain(self.users.arena[session.user].domain),
                    _ => Node::User(session.user),
                };
                (self.session_fits(filter, link, work), row, None)
            }
            (Zoom::User, Node::User(link)) => {
                let user = &self.users.arena[link];
                let fits = is_since(filter, self.last_update(user))
                    && (!filter.connected || user.connected > 0)
                    && self.user_fits(filter, link, work);
                let child = filter
                    .is_of_sessions()
                    .then_some(user.sessions.head.map(Node::Session));
                (fits, node, child)
            }
            (_, Node::User(link)) => {
                let user = &self.users.arena[link];
                let fits =
                    (!filter.connected || user.connected > 0) && self.user_fits(filter, link, work);
                let child = filter
                    .is_of_sessions()
                    .then_some(user.sessions.head.map(Node::Session));
                (fits, Node::Domain(user.domain), child)
            }
            (_, Node::Domain(link)) => {
                let domain = &self.domains.arena[link];
                let fits = is_since(filter, self.last_update(domain))
                    && (!filter.connected || domain.connected > 0)
                    && self.domain_fits(filter, link, work);
                let inside = filter.is_of_sessions() || filter.user.is_some();
                let child = inside.then_some(domain.users.head.map(Node::User));
                (fits, node, child)
            }
            (_, Node::Ip(link)) => {
                let ip = &self.ips.arena[link];
                let fits = is_since(filter, self.last_update(ip))
                    && (!filter.connected || ip.connected > 0)
                    && filter
                        .ip
                        .is_none_or(|network| network.contains(key(&self.memory.heap, ip)));
                let inside = filter.session.is_some()
                    || filter.service.is_some()
                    || filter.user.is_some()
                    || filter.domain.is_some();
                let child = inside.then_some(ip.sessions.head.map(Node::Session));
                (fits, node, child)
            }
        };
        match (fits, child) {
            // A row or a witness of one: on behind the row.
            (true, None) => (Some(row), behind(row)),
            // A witness has to be found below.
            (true, Some(Some(child))) => (None, Some(child)),
            (true, Some(None)) | (false, _) => (None, behind(node)),
        }
    }

    /// Whether a session fits all terms but that of time.
    fn session_fits(&self, filter: &Filter, link: Link<Session>, work: &mut usize) -> bool {
        let session = &self.sessions.arena[link];
        (!filter.connected || session.has(Flag::Connected))
            && filter
                .session
                .as_ref()
                .is_none_or(|id| id == key(&self.memory.heap, session))
            && filter.ip.is_none_or(|network| {
                session
                    .ip
                    .is_some_and(|ip| network.contains(key(&self.memory.heap, &self.ips.arena[ip])))
            })
            && filter
                .service
                .as_ref()
                .is_none_or(|pattern| pattern.matches(rest(&self.memory.heap, session), work))
            && self.user_fits(filter, session.user, work)
    }

    /// Whether a user fits the terms user= and domain=.
    fn user_fits(&self, filter: &Filter, link: Link<User>, work: &mut usize) -> bool {
        let user = &self.users.arena[link];
        filter
            .user
            .as_ref()
            .is_none_or(|pattern| pattern.matches(key(&self.memory.heap, user), work))
            && self.domain_fits(filter, user.domain, work)
    }

    /// Whether a domain fits the term domain=.
    fn domain_fits(&self, filter: &Filter, link: Link<Domain>, work: &mut usize) -> bool {
        filter.domain.as_ref().is_none_or(|pattern| {
            pattern.matches(key(&self.memory.heap, &self.domains.arena[link]), work)
        })
    }

    /// The node behind a node, not below it.
    fn behind(&self, walk: &Cursor, node: Node) -> Option<Node> {
        let next = match (node, walk.zoom, walk.scope) {
            (Node::Command(link), _, scope) => {
                let command = &self.commands.arena[link];
                let next = match scope {
                    Scope::One => None,
                    Scope::Parent => command.in_session.next,
                    Scope::Id => command.in_session.next.or_else(|| {
                        let session = &self.sessions.arena[command.session];
                        self.first_command(session.newer())
                    }),
                    _ => command.common.in_level.next,
                };
                return next.filter(|_| walk.end != Some(link)).map(Node::Command);
            }
            (_, Zoom::Session, Scope::One)
            | (Node::User(_), Zoom::User, Scope::One)
            | (Node::Domain(_) | Node::Ip(_), _, Scope::One) => return None,
            (Node::Session(link), Zoom::Session, scope) => {
                let session = &self.sessions.arena[link];
                let next = match scope {
                    Scope::Parent => session.in_user.next,
                    Scope::Ip => session.in_ip.next,
                    Scope::Id => session.older,
                    _ => session.common.in_level.next,
                };
                return next.map(Node::Session);
            }
            (Node::Session(link), Zoom::Ip, _) => {
                let session = &self.sessions.arena[link];
                (
                    session.in_ip.next.map(Node::Session),
                    session.ip.map(Node::Ip),
                )
            }
            (Node::Session(link), _, _) => {
                let session = &self.sessions.arena[link];
                (
                    session.in_user.next.map(Node::Session),
                    Some(Node::User(session.user)),
                )
            }
            (Node::User(link), Zoom::User, scope) => {
                let user = &self.users.arena[link];
                let next = match scope {
                    Scope::Parent => user.in_domain.next,
                    _ => user.common.in_level.next,
                };
                return next.map(Node::User);
            }
            (Node::User(link), _, _) => {
                let user = &self.users.arena[link];
                (
                    user.in_domain.next.map(Node::User),
                    Some(Node::Domain(user.domain)),
                )
            }
            (Node::Domain(link), _, _) => {
                return self.domains.arena[link]
                    .common
                    .in_level
                    .next
                    .map(Node::Domain);
            }
            (Node::Ip(link), _, _) => {
                return self.ips.arena[link].common.in_level.next.map(Node::Ip);
            }
        };
        // Below an entry of the level: the next there, or behind what it is below.
        match next {
            (Some(sibling), _) => Some(sibling),
            (None, above) => above.and_then(|above| self.behind(walk, above)),
        }
    }

    /// The command before the last one of a walk.
    fn before_end(&self, walk: &Cursor) -> Option<Link<Command>> {
        let command = &self.commands.arena[walk.end?];
        match walk.scope {
            Scope::Parent => command.in_session.prev,
            Scope::Id => command.in_session.prev.or_else(|| {
                let session = &self.sessions.arena[command.session];
                self.last_command(session.older)
            }),
            _ => command.common.in_level.prev,
        }
    }

    /// The first command of a session or the next newer one of its id that has any.
    pub(crate) fn first_command(&self, mut at: Option<Link<Session>>) -> Option<Link<Command>> {
        let mut first = None;
        while let (None, Some(link)) = (first, at) {
            let session = &self.sessions.arena[link];
            (first, at) = (session.commands.head, session.newer());
        }
        first
    }

    /// The last command of a session or the next older one of its id that has any.
    pub(crate) fn last_command(&self, mut at: Option<Link<Session>>) -> Option<Link<Command>> {
        let mut last = None;
        while let (None, Some(link)) = (last, at) {
            let session = &self.sessions.arena[link];
            (last, at) = (session.commands.tail, session.older);
        }
        last
    }
}

/// Whether a last update is not before the time of the filter.
fn is_since(filter: &Filter, last_update: WallTime) -> bool {
    u64::from(last_update.secs) >= filter.since_secs
}
