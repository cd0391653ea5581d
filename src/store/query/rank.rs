//! The biggest entries of a level, for formats that can take only so many.
//!
//! A walk that ranks goes along its whole level first and keeps the entries of the
//! largest load ([`load_usecs`](crate::stats::Stats::load_usecs)), at most as many as were
//! asked for; then it hands those out. A ranking holds picks, a few dozen bytes each,
//! nothing of the entries themselves: one that is freed meanwhile is passed over, and a
//! row shows what its entry counted by then. Picks are in order of creation, newest first,
//! so a report does not change its order with every load.

use crate::store::entries::entry::Node;
use crate::store::query::pick::Pick;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The biggest entries seen so far.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// How many are wanted.
    limit: usize,
    /// How many were seen.
    seen: u64,
    /// At most `limit` entries, the smallest on top.
    biggest: BinaryHeap<Ranked>,
}

/// An entry of a ranking. The larger load is the less, so that the heap has the smallest
/// on top; of equal loads the one seen first.
#[derive(Debug)]
struct Ranked {
    load_usecs: u64,
    /// How many were seen before; unique.
    seen: u64,
    pick: Pick,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let loads = other.load_usecs.cmp(&self.load_usecs);
        loads.then(self.seen.cmp(&other.seen))
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
    /// A ranking of the `limit` biggest.
    pub(crate) fn new(limit: usize) -> Ranking {
        Ranking {
            limit,
            seen: 0,
            biggest: BinaryHeap::new(),
        }
    }

    /// Takes an entry into account.
    pub(crate) fn add(&mut self, load_usecs: u64, pick: Pick) {
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
    pub(crate) fn follow(&mut self, old: Node, new: Node, steps: &mut usize) -> bool {
        let mut ranked = std::mem::take(&mut self.biggest).into_vec();
        *steps += ranked.len();
        let mut is_here = false;
        for one in &mut ranked {
            is_here |= one.pick.follow(old, new);
        }
        self.biggest = ranked.into();
        is_here
    }

    /// The biggest entries, last seen first; levels are walked newest first.
    pub(crate) fn picks(self) -> Vec<Pick> {
        let mut ranked = self.biggest.into_vec();
        // Of equal loads, only the order in which they were seen counts.
        ranked.iter_mut().for_each(|one| one.load_usecs = 0);
        let by_seen = BinaryHeap::from(ranked).into_sorted_vec();
        by_seen.into_iter().rev().map(|one| one.pick).collect()
    }
}

/// The most bytes that a walk of at most `limit` entries holds: its ranking, whose
/// room doubles as it grows.
pub(crate) fn biggest_bytes(limit: usize) -> usize {
    (limit + 1).next_power_of_two() * size_of::<Ranked>()
}
