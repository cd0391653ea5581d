//! What users, domains and addresses have not added when they are restored: the counters
//! of sessions that they defer, and of those that had no room.

use crate::store::counters::Difference;
use crate::store::entries::entry::{Entry, Parent, Session};
use crate::store::mem::arena::{Arena, Link};
use crate::store::update::deferral::{chain, enchain, MOST};
use crate::store::{Counters, Store};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// What entries of a level have not added and no restored session counted, by the
/// number of their links; zeros are left out.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<NonZeroU32, Counters>);

impl Pending {
    /// Notes what a restored entry has not added.
    pub(super) fn insert<P: Parent>(&mut self, made: Option<Link<P>>, pending: &Counters) {
        if let Some(link) = made.filter(|_| *pending != Counters::default()) {
            let mut pending = *pending;
            pending.saturate();
            self.0.insert(link.number(), pending);
        }
    }

    /// Lets an entry defer a restored session, unless that counted more than the entry
    /// has not added.
    pub(super) fn defer<P: Parent>(
        &mut self,
        parent: (Link<P>, &mut P),
        sessions: &mut Arena<Session>,
        (session, counted): (Link<Session>, &Counters),
    ) {
        let (link, parent) = parent;
        let rest = self.0.entry(link.number()).or_default();
        let is_full = chain(sessions, parent).count() >= MOST as usize;
        if let (false, Some(less)) = (is_full, rest.checked_sub(counted)) {
            *rest = less;
            enchain(parent, sessions, session);
        }
        if *rest == Counters::default() {
            self.0.remove(&link.number());
        }
    }

    /// Lets the entries add what no restored session counted. False when there is no
    /// room for all of it.
    pub(super) fn flush<P: Entry>(self, store: &mut Store) -> bool {
        let (table, memory) = P::table_mut(store);
        let add = |(number, pending)| {
            let link = Link::from_number(number);
            table.count(memory, link, Difference::Of(&pending)).is_ok()
        };
        // Goes on when there is no room for one.
        self.0
            .into_iter()
            .map(add)
            .fold(true, |all, added| all & added)
    }
}
