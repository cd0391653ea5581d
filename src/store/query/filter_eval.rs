//! Which entries fit a filter.
//!
//! Terms about an entry or what it belongs to are decided at the entry. A term about
//! what belongs to it holds if *one* of its sessions (for user= at the domain level, of
//! its users) fits the whole filter: a witness, which the walk seeks below the entry.

use crate::store::entries::entry::{with_link, Entry, Flag, Node, WallTime};
use crate::store::entries::table::{key, rest};
use crate::store::filter::{Filter, Pattern};
use crate::store::Store;

impl Store {
    /// Whether an entry fits all terms about itself and what it belongs to; that of time
    /// is about `is_row`, an entry of the level that is listed. Adds to `work` what
    /// comparing names costs beside the look at the entry.
    pub(crate) fn fits(&self, filter: &Filter, node: Node, is_row: bool, work: &mut usize) -> bool {
        let is_since = |last_update: WallTime| u64::from(last_update.secs) >= filter.since_secs;
        (!is_row || filter.since_secs == 0 || is_since(self.last_update_of(node)))
            && (!filter.connected || self.is_connected(node))
            && self.is_named(filter, node, work)
    }

    /// Whether one of the children of an entry has to fit as well.
    pub(crate) fn needs_witness(&self, filter: &Filter, node: Node) -> bool {
        match node {
            Node::Command(_) | Node::Session(_) => false,
            Node::User(_) => filter.is_of_sessions(),
            Node::Domain(_) => filter.is_of_sessions() || filter.user.is_some(),
            Node::Ip(_) => {
                filter.session.is_some()
                    || filter.service.is_some()
                    || filter.user.is_some()
                    || filter.domain.is_some()
            }
        }
    }

    /// When a record last reached an entry, as its row shows.
    fn last_update_of(&self, node: Node) -> WallTime {
        match node {
            Node::User(link) => self.last_update(self.entry(link)),
            Node::Domain(link) => self.last_update(self.entry(link)),
            Node::Ip(link) => self.last_update(self.entry(link)),
            node => with_link!(node, link => self.entry(link).common().stamp.wall()),
        }
    }

    /// Whether a session is connected, that of a command, or one below an entry.
    fn is_connected(&self, node: Node) -> bool {
        match node {
            Node::Command(link) => self.entry(self.entry(link).session).has(Flag::Connected),
            node => with_link!(node, link => self.entry(link).is_pinned()),
        }
    }

    /// Whether the names of an entry and of what it belongs to fit.
    fn is_named(&self, filter: &Filter, node: Node, work: &mut usize) -> bool {
        let heap = &self.memory.heap;
        let mut is_like = |pattern: &Option<Pattern>, name| {
            let pattern = pattern.as_ref();
            pattern.is_none_or(|pattern| pattern.matches(name, work))
        };
        let above = match node {
            Node::Command(link) => Node::Session(self.entry(link).session),
            Node::Session(link) => {
                let session = self.entry(link);
                let id = filter.session.as_ref();
                let is_from = |ip| self.is_named(filter, Node::Ip(ip), &mut 0);
                let fits = id.is_none_or(|id| id == key(heap, session))
                    && (filter.ip.is_none() || session.ip.is_some_and(is_from))
                    && is_like(&filter.service, rest(heap, session));
                if !fits {
                    return false;
                }
                Node::User(session.user)
            }
            Node::User(link) => {
                let user = self.entry(link);
                if !is_like(&filter.user, key(heap, user)) {
                    return false;
                }
                Node::Domain(user.domain)
            }
            Node::Domain(link) => return is_like(&filter.domain, key(heap, self.entry(link))),
            Node::Ip(link) => {
                let octets = key(heap, self.entry(link));
                return filter.ip.is_none_or(|network| network.contains(octets));
            }
        };
        self.is_named(filter, above, work)
    }
}
