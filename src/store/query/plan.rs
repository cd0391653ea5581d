//! Where walks begin.
//!
//! A filter that names one entry exactly starts there, or at its list of
//! children, instead of at the whole level, wherever the order of rows is the
//! same. Where it is not (a user's commands belong to several sessions), the
//! entries are picked and sorted by age, as long as they are few; else the walk
//! is along the level.

use crate::store::entries::entry::{Command, Domain, Ip, Node, Session, User};
use crate::store::filter::Filter;
use crate::store::mem::arena::{Id, Link};
use crate::store::query::cursor::{Cursor, CursorId, Pick, Scope};
use crate::store::{Store, Zoom};

/// The most entries that are picked, and looked at for that, when a walk begins.
const MAX_PICKS: usize = 1024;

/// A filter names somebody who is not known.
struct Nobody;

/// How a walk begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// There is nothing to list, not even a header: the level is empty, or the
    /// entry that was named is not known.
    Nothing,
    /// There may be rows.
    Rows(CursorId),
}

impl Store {
    /// Begins a walk of the entries of a level that fit the filter.
    pub fn open(&mut self, zoom: Zoom, filter: Filter) -> Opening {
        let mut cursor = Cursor {
            zoom,
            filter,
            scope: Scope::Level,
            at: None,
            end: None,
            picks: Vec::new(),
            next_pick: 0,
            ranking: None,
            global: zoom == Zoom::Global,
        };
        let somewhere = match zoom {
            Zoom::Command => self.open_commands(&mut cursor),
            Zoom::Session => self.open_sessions(&mut cursor),
            Zoom::User => self.open_users(&mut cursor),
            Zoom::Domain => self.open_domains(&mut cursor),
            Zoom::Ip => self.open_ips(&mut cursor),
            Zoom::Global => true,
        };
        if !somewhere {
            return Opening::Nothing;
        }
        self.watch(&cursor);
        self.watch_picks(&cursor.picks);
        let free = self.cursors.iter().position(Option::is_none);
        let index = free.unwrap_or(self.cursors.len());
        if free.is_none() {
            self.cursors.push(None);
        }
        self.cursors[index] = Some(cursor);
        Opening::Rows(CursorId(index))
    }

    /// Where a walk of commands begins. False when there is nothing to list.
    fn open_commands(&mut self, walk: &mut Cursor) -> bool {
        (walk.at, walk.end) = (
            self.commands.all.head.map(Node::Command),
            self.commands.all.tail,
        );
        if walk.at.is_none() {
            return false;
        }
        match self.named_session(&walk.filter) {
            Named::Not => {}
            Named::Unknown => (walk.at, walk.end) = (None, None),
            Named::Known(newest) => {
                let oldest = self.sessions_of_id(newest).last();
                walk.at = self.first_command(oldest).map(Node::Command);
                walk.end = self.last_command(Some(newest));
                walk.scope = Scope::Id;
                return true;
            }
        }
        let holder = match self.named_holder(&walk.filter) {
            Ok(Some(holder)) => holder,
            Ok(None) => return true,
            Err(Nobody) => {
                (walk.at, walk.end) = (None, None);
                return true;
            }
        };
        if let Some(commands) = self.commands_below(holder) {
            let mut picks: Vec<_> = commands.into_iter().map(Pick::Command).collect();
            self.newest_first(&mut picks);
            picks.reverse();
            (walk.at, walk.end) = (None, None);
            (walk.scope, walk.picks) = (Scope::One, picks);
        }
        true
    }

    /// The same for sessions.
    fn open_sessions(&mut self, walk: &mut Cursor) -> bool {
        let user = self.named_user(&walk.filter);
        let ip = self.named_ip(&walk.filter);
        let head = self.sessions.all.head;
        if head.is_none() || user.is_unknown() || ip.is_unknown() {
            return false;
        }
        let holder = match self.named_session(&walk.filter) {
            Named::Known(session) => {
                (walk.scope, walk.at) = (Scope::Id, Some(Node::Session(session)));
                return true;
            }
            Named::Unknown => Err(Nobody),
            Named::Not => self.named_holder(&walk.filter),
        };
        let first;
        (walk.scope, first) = match holder {
            Err(Nobody) => (Scope::One, None),
            Ok(None) => (Scope::Level, head),
            Ok(Some(Node::User(user))) => (Scope::Parent, self.users.arena[user].sessions.head),
            Ok(Some(Node::Ip(ip))) => (Scope::Ip, self.ips.arena[ip].sessions.head),
            // Those of a domain are in the lists of several users.
            Ok(Some(holder)) => match self.sessions_below(holder) {
                Some(sessions) => {
                    let arena = &self.sessions.arena;
                    let ids = sessions.into_iter().map(|link| arena.id(link));
                    walk.picks = ids.map(Pick::Session).collect();
                    self.newest_first(&mut walk.picks);
                    (Scope::One, None)
                }
                None => (Scope::Level, head),
            },
        };
        walk.at = first.map(Node::Session);
        true
    }

    /// The same for users.
    fn open_users(&mut self, walk: &mut Cursor) -> bool {
        let user = self.named_user(&walk.filter);
        let domain = self.named_domain(&walk.filter);
        let head = self.users.all.head;
        if head.is_none() || user.is_unknown() || domain.is_unknown() {
            return false;
        }
        let first;
        (walk.scope, first) = match (user, self.named_session(&walk.filter), domain) {
            (Named::Known(user), _, _) => (Scope::One, Some(user)),
            (_, Named::Known(session), _) => {
                let above = |session: &Session| Some(Node::User(session.user));
                self.pick_above(walk, session, above, head)
            }
            (_, Named::Unknown, _) => (Scope::One, None),
            (_, _, Named::Known(domain)) => (Scope::Parent, self.domains.arena[domain].users.head),
            _ => (Scope::Level, head),
        };
        walk.at = first.map(Node::User);
        true
    }

    /// The same for domains.
    fn open_domains(&mut self, walk: &mut Cursor) -> bool {
        let domain = self.named_domain(&walk.filter);
        let head = self.domains.all.head;
        if head.is_none() || domain.is_unknown() {
            return false;
        }
        let session = self.named_session(&walk.filter);
        let first;
        (walk.scope, first) = match (domain, session, self.named_user(&walk.filter)) {
            (Named::Known(domain), _, _) => (Scope::One, Some(domain)),
            (_, Named::Known(session), _) => {
                let above = |session: &Session| Some(Node::Domain(session.domain));
                self.pick_above(walk, session, above, head)
            }
            (_, Named::Unknown, _) | (_, _, Named::Unknown) => (Scope::One, None),
            (_, _, Named::Known(user)) => (Scope::One, Some(self.users.arena[user].domain)),
            _ => (Scope::Level, head),
        };
        walk.at = first.map(Node::Domain);
        true
    }

    /// The same for ips.
    fn open_ips(&mut self, walk: &mut Cursor) -> bool {
        let ip = self.named_ip(&walk.filter);
        let head = self.ips.all.head;
        if head.is_none() || ip.is_unknown() {
            return false;
        }
        let first;
        (walk.scope, first) = match (ip, self.named_session(&walk.filter)) {
            (Named::Known(ip), _) => (Scope::One, Some(ip)),
            (_, Named::Known(session)) => {
                let above = |session: &Session| session.ip.map(Node::Ip);
                self.pick_above(walk, session, above, head)
            }
            (_, Named::Unknown) => (Scope::One, None),
            _ => (Scope::Level, head),
        };
        walk.at = first.map(Node::Ip);
        true
    }

    /// The user, ip or domain that a filter names, the one with the fewest
    /// sessions first.
    fn named_holder(&mut self, filter: &Filter) -> Result<Option<Node>, Nobody> {
        let user = self.named_user(filter);
        let ip = self.named_ip(filter);
        let domain = self.named_domain(filter);
        if user.is_unknown() || ip.is_unknown() || domain.is_unknown() {
            return Err(Nobody);
        }
        Ok(match (user, ip, domain) {
            (Named::Known(user), _, _) => Some(Node::User(user)),
            (_, Named::Known(ip), _) => Some(Node::Ip(ip)),
            (_, _, Named::Known(domain)) => Some(Node::Domain(domain)),
            _ => None,
        })
    }

    /// The sessions below a user, ip or domain; `None` when that takes more than
    /// [`MAX_PICKS`] looks.
    fn sessions_below(&self, holder: Node) -> Option<Vec<Link<Session>>> {
        let (mut user, mut session) = match holder {
            Node::User(link) => (None, self.users.arena[link].sessions.head),
            Node::Ip(link) => (None, self.ips.arena[link].sessions.head),
            Node::Domain(link) => (self.domains.arena[link].users.head, None),
            Node::Session(_) | Node::Command(_) => (None, None),
        };
        let mut found = Vec::new();
        for _ in 0..MAX_PICKS {
            if let Some(link) = session {
                found.push(link);
                let entry = &self.sessions.arena[link];
                session = match holder {
                    Node::Ip(_) => entry.in_ip.next,
                    _ => entry.in_user.next,
                };
            } else if let Some(link) = user {
                let entry = &self.users.arena[link];
                (user, session) = (entry.in_domain.next, entry.sessions.head);
            } else {
                return Some(found);
            }
        }
        None
    }

    /// The commands below a user, ip or domain; `None` when they are more than
    /// [`MAX_PICKS`].
    fn commands_below(&self, holder: Node) -> Option<Vec<Id<Command>>> {
        let mut found = Vec::new();
        for session in self.sessions_below(holder)? {
            let mut at = self.sessions.arena[session].commands.head;
            while let Some(link) = at {
                if found.len() == MAX_PICKS {
                    return None;
                }
                found.push(self.commands.arena.id(link));
                at = self.commands.arena[link].in_session.next;
            }
        }
        Some(found)
    }

    /// The sessions of an id, given the newest, from it on.
    fn sessions_of_id(&self, newest: Link<Session>) -> impl Iterator<Item = Link<Session>> + '_ {
        let arena = &self.sessions.arena;
        std::iter::successors(Some(newest), |&link| arena[link].older)
    }

    /// Picks the entries of one level above the sessions of an id, the one made last
    /// first; the walk is along the level, from its head, if they are more than
    /// [`MAX_PICKS`].
    fn pick_above<T>(
        &self,
        walk: &mut Cursor,
        newest: Link<Session>,
        above: impl Fn(&Session) -> Option<Node>,
        head: Option<Link<T>>,
    ) -> (Scope, Option<Link<T>>) {
        let arena = &self.sessions.arena;
        if self.sessions_of_id(newest).nth(MAX_PICKS).is_some() {
            return (Scope::Level, head);
        }
        let sessions = self.sessions_of_id(newest);
        let nodes = sessions.filter_map(|link| above(&arena[link]));
        walk.picks = nodes.map(|node| self.pick(node)).collect();
        self.newest_first(&mut walk.picks);
        walk.picks.dedup();
        (Scope::One, None)
    }

    /// Sorts entries of one level, the one made last first.
    fn newest_first(&self, picks: &mut [Pick]) {
        picks.sort_unstable_by_key(|&pick| match pick {
            Pick::Command(id) => self.commands.arena.age(id),
            Pick::Session(id) => self.sessions.arena.age(id),
            Pick::User(id) => self.users.arena.age(id),
            Pick::Domain(id) => self.domains.arena.age(id),
            Pick::Ip(id) => self.ips.arena.age(id),
        });
    }

    /// The newest session of the id that a filter names.
    fn named_session(&mut self, filter: &Filter) -> Named<Session> {
        Named::of(filter.session.as_deref(), |id| self.find_session(id))
    }

    /// The user that a filter names.
    fn named_user(&mut self, filter: &Filter) -> Named<User> {
        let name = filter.user.as_ref().and_then(|pattern| pattern.exact());
        Named::of(name, |name| self.find_user(name))
    }

    /// The domain that a filter names.
    fn named_domain(&mut self, filter: &Filter) -> Named<Domain> {
        let name = filter.domain.as_ref().and_then(|pattern| pattern.exact());
        Named::of(name, |name| self.find_domain(name))
    }

    /// The ip that a filter names.
    fn named_ip(&mut self, filter: &Filter) -> Named<Ip> {
        let address = filter.ip.and_then(|network| network.exact());
        Named::of(address, |address| self.find_ip(address))
    }
}

/// What a filter says about an entry by its name.
enum Named<T> {
    /// It names none, or not exactly one.
    Not,
    /// It names one that is not known.
    Unknown,
    /// It names this one.
    Known(Link<T>),
}

impl<T> Named<T> {
    /// By the name, if there is one.
    fn of<N>(name: Option<N>, find: impl FnOnce(N) -> Option<Link<T>>) -> Named<T> {
        match name.map(find) {
            None => Named::Not,
            Some(None) => Named::Unknown,
            Some(Some(link)) => Named::Known(link),
        }
    }

    /// Whether it names an entry that does not exist.
    fn is_unknown(&self) -> bool {
        matches!(self, Named::Unknown)
    }
}
