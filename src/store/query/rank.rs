//! The biggest entries of a level, for those who can take only so many.
//!
//! Before it hands out rows, such a walk goes along its whole level and keeps
//! the entries of the largest weight ([`load_usecs`](crate::stats::Stats::load_usecs)), at most as many as
//! were asked for; only those are picked. It holds their ids, a few dozen bytes
//! each, nothing of the entries themselves: one that is freed meanwhile is passed
//! over, and a row shows what its entry counted by then. Picks are handed out
//! oldest entry first, so what comes first does not change with every report, and
//! can be handed out again ([`Store::again`]) by formats that list one statistic
//! of all entries after the other.

use crate::store::entries::entry::Node;
use crate::store::filter::Filter;
use crate::store::query::cursor::{CursorId, Pick};
use crate::store::query::plan::Opening;
use crate::store::{Store, Zoom};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The biggest entries seen so far.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// How many are wanted.
    limit: usize,
    /// How many were looked at.
    seen: u64,
    /// Those wanted by now, the smallest on top.
    biggest: BinaryHeap<Ranked>,
}

/// One of them. The larger weight is the less, so that the heap has the smallest on
/// top; of equal weight the one seen first.
#[derive(Debug)]
struct Ranked {
    /// Its weight in microseconds.
    load_usecs: u64,
    /// How many were seen before: no two have the same.
    seen: u64,
    /// Which it is.
    pick: Pick,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let weights = other.load_usecs.cmp(&self.load_usecs);
        weights.then(self.seen.cmp(&other.seen))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

impl Ranking {
    /// Takes an entry into account.
    pub fn add(&mut self, load_usecs: u64, pick: Pick) {
        self.biggest.push(Ranked {
            load_usecs,
            seen: self.seen,
            pick,
        });
        self.seen += 1;
        if self.biggest.len() > self.limit {
            self.biggest.pop();
        }
    }

    /// Follows an entry that moved, as [`Pick::follow`] does for each.
    pub fn follow(&mut self, old: Node, new: Node, steps: &mut usize) -> bool {
        let mut ranked = std::mem::take(&mut self.biggest).into_vec();
        *steps += ranked.len();
        let mut is_here = false;
        for one in &mut ranked {
            is_here |= one.pick.follow(old, new);
        }
        self.biggest = ranked.into();
        is_here
    }

    /// What it came to, last seen first; levels are walked newest first.
    pub fn picks(self) -> Vec<Pick> {
        let mut ranked = self.biggest.into_vec();
        ranked.sort_unstable_by_key(|ranked| Reverse(ranked.seen));
        ranked.into_iter().map(|ranked| ranked.pick).collect()
    }
}

/// The most bytes that a walk of at most `limit` entries holds: its ranking, whose
/// room doubles as it grows.
pub fn biggest_bytes(limit: usize) -> usize {
    (limit + 1).next_power_of_two() * size_of::<Ranked>()
}

impl Store {
    /// Begins a walk of at most `limit` entries of a level above session, the
    /// biggest by processor time and disk input and output.
    pub fn open_biggest(&mut self, zoom: Zoom, limit: usize) -> Opening {
        let opening = self.open(zoom, Filter::default());
        if let (Opening::Rows(cursor), false) = (&opening, zoom == Zoom::Global) {
            let walk = self.cursors[cursor.0].as_mut();
            walk.expect("it was just opened").ranking = Some(Ranking {
                limit,
                seen: 0,
                biggest: BinaryHeap::new(),
            });
        }
        opening
    }

    /// Lets a walk that is done hand out its picks, or the global row, again.
    pub fn again(&mut self, cursor: &CursorId) {
        let walk = self.cursors[cursor.0].as_mut();
        let walk = walk.expect("an id is of an open cursor");
        walk.next_pick = 0;
        walk.global = walk.zoom == Zoom::Global;
    }

    /// How big an entry is.
    pub(crate) fn load_usecs(&self, node: Node) -> u64 {
        let counters = match node {
            Node::Command(link) => self.commands.counters(&self.memory, link),
            Node::Session(link) => self.sessions.counters(&self.memory, link),
            Node::User(link) => self.gathered(&self.users.arena[link]),
            Node::Domain(link) => self.gathered(&self.domains.arena[link]),
            Node::Ip(link) => self.gathered(&self.ips.arena[link]),
        };
        counters.stats.load_usecs()
    }
}
