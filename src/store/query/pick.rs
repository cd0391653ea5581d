//! Entries noted for later, which may be gone by then.

use crate::store::entries::entry::{with_link, Node};
use crate::store::Store;

/// An entry picked for a walk. It finds the entry while that exists, and no other that
/// takes its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Where the entry is, while it exists.
    pub(crate) node: Node,
    /// The version of its slot.
    version: u32,
}

impl Pick {
    /// Follows an entry that moved. True if it was this one.
    pub(crate) fn follow(&mut self, old: Node, new: Node) -> bool {
        let is_here = self.node == old;
        if is_here {
            self.node = new;
        }
        is_here
    }
}

impl Store {
    pub(crate) fn pick(&self, node: Node) -> Pick {
        let version = with_link!(node, link => self.table(link).arena.version(link));
        Pick { node, version }
    }

    /// The entry of a pick, while it exists.
    pub(crate) fn find_pick(&self, pick: Pick) -> Option<Node> {
        let Pick { node, version } = pick;
        let is_here = with_link!(node, link => self.table(link).arena.has(link, version));
        is_here.then_some(node)
    }

    /// Sorts existing entries of one level, the one made last first, each once. Numbers are
    /// sorted, as in [`snapshot`](crate::store::snapshot), so that the code for it is there
    /// once.
    pub(crate) fn newest_first(&self, nodes: &mut Vec<Node>) {
        let key = |(&node, place): (&Node, u32)| with_link!(node, link => (self.table(link).arena.age(link), place, link.number()));
        let mut keys: Vec<_> = nodes.iter().zip(0..).map(key).collect();
        keys.sort_unstable();
        keys.dedup_by_key(|&mut (.., number)| number);
        let at = |(_, place, _): (u32, u32, _)| nodes[place as usize];
        *nodes = keys.into_iter().map(at).collect();
    }
}
