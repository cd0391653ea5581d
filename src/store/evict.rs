//! What is freed when memory runs out.
//!
//! The rule: freed first is the entry that has outlived the largest share of
//! its level's min_time. Each level's idle list has its longest untouched entry
//! at the head, so only five heads are compared. As long as one of them is past
//! its min_time its share is above one and beats every head that is not; within
//! min_time the same comparison goes on. On equal shares the smaller kind of
//! entry goes first.
//!
//! Entries that are held (see [`entry`](super::entry)) are in no idle list: they
//! are never freed and stand in nobody's way. An idle entry whose children are
//! still there is freed from its leaves, one at a time, oldest child first; as a
//! record that reaches a child also reaches its parents, those children are at
//! least as long untouched.
//!
//! One call frees one entry, in constant time.

use super::entry::{Entry, Node, Now};
use super::level::Level;
use super::Store;
use std::cmp::Ordering;

/// An idle entry, and how much of its level's min_time it has outlived.
#[derive(Clone, Copy)]
struct Candidate {
    /// The entry.
    node: Node,
    /// Seconds since it was touched.
    age_secs: u64,
    /// The level's min_time in seconds, at least one.
    min_time_secs: u64,
}

impl Candidate {
    /// The head of a level's idle list.
    fn of<T: Entry>(level: &Level<T>, now: Now) -> Option<Candidate> {
        let link = level.idle.head?;
        let touched_secs = level.arena[link].common().touched_secs;
        Some(Candidate {
            node: T::node(link),
            age_secs: now.uptime_secs.saturating_sub(touched_secs).into(),
            min_time_secs: level.min_time_secs.max(1).into(),
        })
    }

    /// The one with the larger share; on equal shares this one.
    fn or_older(self, other: Candidate) -> Candidate {
        let (mine, its) = (
            self.age_secs * other.min_time_secs,
            other.age_secs * self.min_time_secs,
        );
        match mine.cmp(&its) {
            Ordering::Less => other,
            Ordering::Equal | Ordering::Greater => self,
        }
    }
}

impl Store {
    /// Frees one entry. False when all that is left is held.
    pub(super) fn evict(&mut self, now: Now) -> bool {
        let oldest = [
            Candidate::of(&self.commands, now),
            Candidate::of(&self.sessions, now),
            Candidate::of(&self.ips, now),
            Candidate::of(&self.users, now),
            Candidate::of(&self.domains, now),
        ]
        .into_iter()
        .flatten()
        .reduce(Candidate::or_older);
        let Some(oldest) = oldest else {
            return false;
        };
        match self.leaf(oldest.node) {
            Node::Command(link) => {
                self.commands.evictions += 1;
                self.free_command(link);
            }
            Node::Session(link) => {
                self.sessions.evictions += 1;
                self.free_session(link);
            }
            Node::User(link) => {
                self.users.evictions += 1;
                self.free_user(link);
            }
            Node::Domain(link) => {
                self.domains.evictions += 1;
                self.free_domain(link);
            }
            Node::Ip(link) => {
                self.ips.evictions += 1;
                self.free_ip(link);
            }
        }
        true
    }

    /// The entry itself, or the oldest of the entries without children below it.
    fn leaf(&self, node: Node) -> Node {
        let child = match node {
            Node::Command(_) => None,
            Node::Session(link) => self.sessions.arena[link].commands.head.map(Node::Command),
            Node::User(link) => self.users.arena[link].sessions.tail.map(Node::Session),
            Node::Domain(link) => self.domains.arena[link].users.tail.map(Node::User),
            Node::Ip(link) => self.ips.arena[link].sessions.tail.map(Node::Session),
        };
        child.map_or(node, |child| self.leaf(child))
    }
}
