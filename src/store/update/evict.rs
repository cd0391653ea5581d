//! Eviction: which entry is freed when memory runs out.
//!
//! The rule: the entry is freed that has outlived the largest share of its level's
//! min_time. Each level's idle list has its longest untouched entry at the head, so only
//! five heads are compared. An entry past its min_time has a share above one and goes
//! before all that are not; within min_time the same comparison decides. On equal shares
//! the smaller kind of entry goes first.
//!
//! Ages are whole seconds, so a command or session of this second has no share yet, and a
//! burst of them would free every user, domain and ip that is older. So these are freed only
//! if they have outlived more than the oldest command, and the oldest session, would have
//! with a second more.
//!
//! The fair share of a session is twice the average number of commands of the sessions
//! that have any, and at most half of all commands; but [`ALWAYS_FAIR`] in any case.
//! While nothing is past its min_time, a new command of a session that has more evicts the
//! session's own oldest; so a flood of commands evicts those of its client, however young
//! they are.
//!
//! Entries that are pinned (see [`entry`](crate::store::entries::entry)) are in no idle list:
//! they are never freed and never compared. An idle entry with children is freed from its
//! leaves, one at a time, oldest child first. It becomes idle when the last of its
//! connected sessions has ended, so its children are idle at least as long.
//!
//! One call frees one entry, in constant time.

use crate::store::entries::entry::{each_parent, with_link, Command, Entry, Node, Session};
use crate::store::entries::lifecycle::Lifecycle;
use crate::store::entries::table::Table;
use crate::store::mem::arena::Link;
use crate::store::time::Now;
use crate::store::Store;

/// Commands of a session that are no flood.
const ALWAYS_FAIR: usize = 16;

/// An idle entry, and how much of its level's min_time it has outlived.
#[derive(Clone, Copy)]
struct Candidate {
    node: Node,
    /// Seconds since it was touched.
    age_secs: u64,
    /// The level's min_time in seconds, at least one.
    min_time_secs: u64,
}

impl Candidate {
    /// The head of a level's idle list, if its share is larger than that of the best so
    /// far; else that one.
    #[inline(always)]
    fn or_head<T: Entry>(best: Option<Candidate>, table: &Table<T>, now: Now) -> Option<Candidate> {
        let Some(link) = table.idle.head else {
            return best;
        };
        let touched_secs = table.arena[link].common().touched_secs;
        let age_secs = u64::from(now.uptime_secs.saturating_sub(touched_secs));
        let min_time_secs = u64::from(table.min_time_secs.max(1));
        match best {
            Some(best) if best.age_secs * min_time_secs >= age_secs * best.min_time_secs => {
                Some(best)
            }
            _ => Some(Candidate {
                node: T::node(link),
                age_secs,
                min_time_secs,
            }),
        }
    }

    /// Whether it has outlived its min_time.
    fn is_past(self) -> bool {
        self.age_secs >= self.min_time_secs
    }

    /// Whether it has outlived more than another one would have with a second more, or
    /// alone its whole min_time.
    fn is_clearly_before(self, other: Candidate) -> bool {
        self.age_secs * other.min_time_secs > (other.age_secs + 1) * self.min_time_secs
            || self.is_past() && !other.is_past()
    }
}

impl Store {
    /// Frees one entry. False when all that is left is pinned.
    pub(crate) fn evict(&mut self, now: Now) -> bool {
        let oldest = self.oldest(now);
        if let Some(oldest) = oldest {
            self.free_leaf(oldest.node);
        }
        oldest.is_some()
    }

    /// Frees one entry for a command that begins in a session.
    pub(crate) fn evict_for_command(&mut self, session: Link<Session>, now: Now) -> bool {
        let oldest = self.oldest(now);
        let surplus = self.surplus_command(session).map(Node::Command);
        let surplus = surplus.filter(|_| oldest.is_some_and(|oldest| !oldest.is_past()));
        let freed = surplus.or(oldest.map(|oldest| oldest.node));
        if let Some(node) = freed {
            self.free_leaf(node);
        }
        freed.is_some()
    }

    /// What is freed first.
    fn oldest(&self, now: Now) -> Option<Candidate> {
        let command = Candidate::or_head(None, &self.commands, now);
        let session = Candidate::or_head(None, &self.sessions, now);
        let mut parent = None;
        each_parent!(P => parent = Candidate::or_head(parent, P::table(self), now));
        let is_first = |parent: &Candidate| {
            let mut others = command.iter().chain(&session);
            others.all(|&other| parent.is_clearly_before(other))
        };
        let parent = parent.filter(is_first);
        parent.or_else(|| Candidate::or_head(command, &self.sessions, now))
    }

    /// The oldest command of a session that has more than its fair share.
    fn surplus_command(&self, session: Link<Session>) -> Option<Link<Command>> {
        let session = &self.sessions.arena[session];
        let (its, all) = (session.command_count as usize, self.commands.arena.len());
        let has_surplus =
            its > ALWAYS_FAIR && (its * 2 >= all || its * self.sessions_with_commands > 2 * all);
        session.commands.head.filter(|_| has_surplus)
    }

    /// Frees an entry, or the oldest one without children below it.
    fn free_leaf(&mut self, node: Node) {
        match with_link!(node, link => self.entry(link).oldest_child()) {
            Some(child) => self.free_leaf(child),
            None => with_link!(node, link => self.evict_entry(link)),
        }
    }

    fn evict_entry<T: Lifecycle>(&mut self, link: Link<T>) {
        T::table_mut(self).0.evictions += 1;
        T::free(self, link);
    }
}
