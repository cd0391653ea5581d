//! Where walks begin and where they go on.
//!
//! A filter that names one entry exactly starts there, or at its list of
//! children, instead of at the whole level, wherever the order of rows is the
//! same. Where it is not (a user's commands belong to several sessions), the
//! entries are picked and sorted by age, as long as they are few; else the walk
//! is along the level.

use crate::store::entries::entry::{at_parent, each_parent, Command, Entry, Node};
use crate::store::filter::Filter;
use crate::store::mem::arena::Link;
use crate::store::query::cursor::{level_of, Cursor, CursorId, Scope, Side};
use crate::store::query::rank::Ranking;
use crate::store::{Level, Store, LEVELS};

/// The most entries that are picked, and looked at for that, when a walk begins.
const MAX_PICKS: usize = 1024;

/// How a walk begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// There is nothing to list, not even a header: the level is empty, or the
    /// entry that was named is not known.
    Nothing,
    /// There may be rows.
    Rows(CursorId),
}

/// The way of a walk.
struct Plan {
    scope: Scope,
    first: Option<Node>,
    /// The last command, if it is one of commands.
    last: Option<Link<Command>>,
    /// Entries to be picked.
    picks: Vec<Node>,
}

impl Plan {
    /// A walk along a list.
    fn list((scope, first): (Scope, Option<Node>)) -> Plan {
        Plan {
            scope,
            first,
            last: None,
            picks: Vec::new(),
        }
    }

    /// A walk of one entry at most.
    fn one(node: Option<Node>) -> Plan {
        Plan::list((Scope::One, node))
    }
}

/// The entry that a filter names exactly, if it names one: `Some(None)` is one that is
/// not known.
type Named = Option<Option<Node>>;

/// The entries that a filter names.
struct Names {
    /// The newest of the id.
    session: Named,
    /// Those of each level.
    parents: [Named; LEVELS],
}

impl Names {
    /// The one of a level, if it exists.
    fn known(&self, level: Level) -> Option<Node> {
        self.parents[level as usize].flatten()
    }

    fn is_unknown(&self, level: Level) -> bool {
        self.parents[level as usize] == Some(None)
    }
}

/// What an iterator has, unless it is more than `most`.
fn few(nodes: impl Iterator<Item = Node>, most: usize) -> Option<Vec<Node>> {
    let found: Vec<Node> = nodes.take(most + 1).collect();
    (found.len() <= most).then_some(found)
}

impl Store {
    /// Begins a walk of the entries of a level that fit the filter.
    pub fn open(&mut self, level: Level, filter: Filter) -> Opening {
        self.begin(level, filter, None)
    }

    /// Begins a walk of at most `limit` entries of a level above session, the
    /// biggest by processor time and disk input and output; of all kinds of work.
    pub fn open_biggest(&mut self, level: Level, limit: usize) -> Opening {
        let ranking = ((level as usize) < LEVELS).then(|| Ranking::new(limit));
        self.begin(level, Filter::default(), ranking)
    }

    /// Begins a walk, maybe one that ranks first.
    fn begin(&mut self, level: Level, filter: Filter, ranking: Option<Ranking>) -> Opening {
        let Some(plan) = self.plan(level, &filter) else {
            return Opening::Nothing;
        };
        let picks: Vec<_> = plan.picks.iter().map(|&node| self.pick(node)).collect();
        let cursor = Cursor {
            level,
            filter,
            scope: plan.scope,
            at: plan.first,
            end: plan.last,
            picks,
            next_pick: 0,
            ranking,
            kinds: 0..self.kind_rows(level),
        };
        self.watch(cursor.stands_at().chain(plan.picks));
        let free = self.cursors.iter().position(Option::is_none);
        let index = free.unwrap_or(self.cursors.len());
        if free.is_none() {
            self.cursors.push(None);
        }
        self.cursors[index] = Some(cursor);
        Opening::Rows(CursorId(index))
    }

    /// The plan of a walk; `None` when there is nothing to list, not even a header.
    fn plan(&self, level: Level, filter: &Filter) -> Option<Plan> {
        let names = self.names(filter);
        let is_refused = match level {
            Level::Command => false,
            Level::Session => names.is_unknown(Level::User) || names.is_unknown(Level::Ip),
            Level::User => names.is_unknown(Level::User) || names.is_unknown(Level::Domain),
            Level::Global | Level::Service | Level::Cmd => return Some(Plan::one(None)),
            level => names.is_unknown(level),
        };
        let first = at_parent!(level, P => P::table(self).all.head.map(P::node), else match level {
            Level::Command => self.commands.all.head.map(Node::Command),
            _ => self.sessions.all.head.map(Node::Session),
        });
        if first.is_none() || is_refused {
            return None;
        }
        if names.session == Some(None) || names.parents.contains(&Some(None)) {
            return Some(Plan::one(None));
        }
        let table = Plan {
            last: self.commands.all.tail.filter(|_| level == Level::Command),
            ..Plan::list((Scope::Table, first))
        };
        Some(self.shortcut(level, &names).unwrap_or(table))
    }

    /// A shorter way than along the level, by the names of known entries.
    fn shortcut(&self, level: Level, names: &Names) -> Option<Plan> {
        let session = names.session.flatten();
        let [user, domain, ip] = [Level::User, Level::Domain, Level::Ip].map(|it| names.known(it));
        // The one with the fewest sessions first.
        let holder = user.or(ip).or(domain);
        let mut picks = match (level, session, holder) {
            (Level::Command, Some(newest), _) => return Some(self.commands_of_id(newest)),
            (Level::Command, None, Some(holder)) => self.below(holder, level)?,
            (Level::Session, Some(_), _) => return Some(Plan::list((Scope::Id, session))),
            (Level::Session, None, Some(holder @ Node::Domain(_))) => {
                // They are in the lists of several users.
                self.below(holder, level)?
            }
            (Level::Session, None, Some(holder)) => {
                return Some(Plan::list(self.first_child(holder)));
            }
            _ if names.known(level).is_some() => {
                return Some(Plan::one(names.known(level)));
            }
            (_, Some(_), _) => {
                let sessions = few(self.list(Scope::Id, session), MAX_PICKS)?;
                let rows = sessions.into_iter();
                rows.filter_map(|node| self.row_of(node, level)).collect()
            }
            (Level::User, None, _) => return domain.map(|it| Plan::list(self.first_child(it))),
            (Level::Domain, None, _) => {
                return user.map(|user| Plan::one(self.row_of(user, level)));
            }
            _ => return None,
        };
        self.newest_first(&mut picks);
        if level == Level::Command {
            picks.reverse();
        }
        let plan = Plan::one(None);
        Some(Plan { picks, ..plan })
    }

    /// The commands of all sessions of an id, given the newest.
    fn commands_of_id(&self, newest: Node) -> Plan {
        let oldest = self.list(Scope::Id, Some(newest)).last();
        let first = oldest.and_then(|oldest| self.command_of_id(oldest, Side::Behind));
        Plan {
            last: self.command_of_id(newest, Side::Before),
            ..Plan::list((Scope::Id, first.map(Node::Command)))
        }
    }

    /// The entries of a level below a user, ip or domain; `None` when they are more than
    /// [`MAX_PICKS`], or that takes so many looks at users and sessions.
    fn below(&self, holder: Node, level: Level) -> Option<Vec<Node>> {
        let mut found = Vec::new();
        let mut looks_left = [MAX_PICKS - 1, MAX_PICKS];
        self.gather(holder, level, &mut found, &mut looks_left)?;
        Some(found)
    }

    /// Adds the entries of a level below a holder to `found`. `None` when no looks at
    /// users and sessions, or none at commands, are left.
    fn gather(
        &self,
        holder: Node,
        level: Level,
        found: &mut Vec<Node>,
        looks_left: &mut [usize; 2],
    ) -> Option<()> {
        for node in self.children(holder) {
            let left = &mut looks_left[usize::from(matches!(node, Node::Command(_)))];
            *left = left.checked_sub(1)?;
            match level_of(node) == level {
                true => found.push(node),
                false => self.gather(node, level, found, looks_left)?,
            }
        }
        Some(())
    }

    /// The entries that a filter names.
    fn names(&self, filter: &Filter) -> Names {
        let mut parents = [None; LEVELS];
        each_parent!(P => {
            let (term, mut octets) = (filter.term(P::LEVEL), None);
            if let Some(key) = term.and_then(|term| term.exact(&mut octets)) {
                let found = P::table(self).find(&self.memory, self.memory.hashed(key));
                parents[P::LEVEL as usize] = Some(found.map(P::node));
            }
        });
        let session = filter.session.as_ref();
        Names {
            session: session.map(|id| self.find_session(id).map(Node::Session)),
            parents,
        }
    }
}
