//! Which entries fit a filter.
//!
//! Terms about an entry or what it belongs to are decided at the entry. A term about
//! what belongs to it holds if *one* of its sessions (for user= at the domain level, of
//! its users) fits the whole filter: a witness, which the walk seeks below the entry.

use crate::store::entries::entry::{each_parent, with_link, Entry, Flag, Node, Parent};
use crate::store::entries::table::{key, rest};
use crate::store::filter::Filter;
use crate::store::mem::arena::Link;
use crate::store::query::cursor::level_of;
use crate::store::time::WallTime;
use crate::store::{Level, Store};

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
        fn is_beside<P: Parent>(_: Link<P>, filter: &Filter) -> bool {
            let is_above = |level| P::LEVEL == Level::User && level == Level::Domain;
            let terms = Level::WITH_TOTALS.into_iter();
            let mut others = terms.filter(|&level| level != P::LEVEL && !is_above(level));
            others.any(|level| filter.term(level).is_some())
        }
        with_link!(node, link => {
            filter.session.is_some() || filter.service.is_some() || is_beside(link, filter)
        }, else _other => false)
    }

    /// When a record last reached an entry, as its row shows.
    fn last_update_of(&self, node: Node) -> WallTime {
        with_link!(node, link => self.last_update(self.entry(link)), else node => {
            with_link!(node, link => self.entry(link).common().stamp.wall())
        })
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
        let fits = |level, name, work: &mut usize| {
            let term = filter.term(level);
            term.is_none_or(|term| term.fits(name, work))
        };
        let above = match node {
            Node::Command(link) => {
                let command = self.entry(link);
                let cmd = filter.cmd.as_ref();
                let upper = |name: &[u8]| name.to_ascii_uppercase();
                if !cmd.is_none_or(|cmd| cmd.matches(&upper(key(heap, command)), work)) {
                    return false;
                }
                Node::Session(command.session)
            }
            Node::Session(link) => {
                let session = self.entry(link);
                let id = filter.session.as_ref();
                let is_below = |work: &mut usize| {
                    each_parent!(P => match P::LEVEL {
                        Level::User | Level::Domain => true,
                        level => P::of(&session.above).map_or(filter.term(level).is_none(), |link| {
                            fits(level, key(heap, self.entry(link)), work)
                        }),
                    })
                };
                let service = filter.service.as_ref();
                let fits = id.is_none_or(|id| id == key(heap, session))
                    && !is_below(work).contains(&false)
                    && service.is_none_or(|service| service.matches(rest(heap, session), work));
                if !fits {
                    return false;
                }
                Node::User(session.user())
            }
            Node::User(link) => {
                let user = self.entry(link);
                if !fits(Level::User, key(heap, user), work) {
                    return false;
                }
                Node::Domain(user.domain)
            }
            parent => {
                return with_link!(parent, link => {
                    fits(level_of(parent), key(heap, self.entry(link)), work)
                });
            }
        };
        self.is_named(filter, above, work)
    }
}
