//! What sessions counted and their users, domains and ips have not added yet.
//!
//! A record of a session changes its user, domain and ip as well: three entries that
//! are often in no cache, to be fetched from memory and summed up. So a session is
//! *deferred* by its user, domain and ip: they add what it counted once, when it ends, and
//! until then a query that asks for their totals adds it ([`Store::gathered`]). Only entries
//! of at most [`MOST`] connected sessions defer, so queries stay cheap; one that has more, a
//! large domain or the address of a webmail server, is in the cache anyway, and adds with
//! every record.
//!
//! Without deferral the CPU time of the workload "mixture" is 1.70 times as much with
//! 10,000 sessions and 1.45 times with 100,000; of updates of 300,000 sessions 1.51 times.
//!
//! The rest of the store uses [`Store::defer`] for a new session, [`Store::flush`] when it
//! ends, [`Store::flush_now`] when its totals are replaced, and [`Store::detach`] with
//! [`Store::add_pending`] when it is freed. A record of a session counts at the entries above
//! it for which it has no such flag.
//!
//! Invariants: a session is in the chain of its user, domain or ip exactly when it has the
//! flag for that ([`Parent::DEFERRED`]); then nothing it counted is in the counters of that
//! entry, but for the login. A session whose totals cannot be
//! added so, because they shrank or are partly another user's, is flushed and not deferred
//! again. One that could not be flushed when it ended, for want of memory,
//! stays deferred until it is freed; if there is no room even then, the record that room was
//! made for gets the note [`Note::NoRoom`](crate::store::Note::NoRoom).

use crate::store::counters::{Counters, Difference};
use crate::store::entries::entry::{each_parent, Entry, Parent, Parents, Session};
use crate::store::entries::table::Table;
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::Memory;
use crate::store::time::{Now, WallTime};
use crate::store::{Full, Store};

/// The most connected sessions of an entry that defers them.
pub(crate) const MOST: u32 = 12;

/// What a freed session counted and some of its parents have not added.
pub(crate) struct Pending {
    parents: Parents,
    counted: Counters,
}

/// The sessions that an entry defers.
pub(crate) fn chain<'a, P: Parent>(
    sessions: &'a Arena<Session>,
    parent: &P,
) -> impl Iterator<Item = Link<Session>> + 'a {
    let next = |&link: &Link<Session>| sessions[link].next_deferred[P::INDEX];
    std::iter::successors(parent.tally().deferred, next)
}

/// Lets an entry defer a session that has counted nothing yet, or, once there are more
/// than it defers, has it add what it deferred.
///
/// # Errors
/// [`Full`] when that has no room; what is not added then stays deferred.
fn defer<P: Parent>(
    table: &mut Table<P>,
    memory: &mut Memory,
    sessions: &mut Table<Session>,
    link: Link<P>,
    session: Link<Session>,
) -> Result<(), Full> {
    let parent = &mut table.arena[link];
    // Some may be there still that ended when there was no room to add them.
    let deferred = chain(&sessions.arena, parent).count();
    if parent.tally().connected <= MOST && deferred < MOST as usize {
        enchain(parent, &mut sessions.arena, session);
        return Ok(());
    }
    // It adds with every record from now on.
    while let Some(deferred) = table.arena[link].tally().deferred {
        let counted = sessions.counters(memory, deferred);
        flush(table, memory, sessions, link, (deferred, &counted))?;
    }
    Ok(())
}

/// Puts a session into an entry's chain.
#[inline(always)]
pub(crate) fn enchain<P: Parent>(
    parent: &mut P,
    sessions: &mut Arena<Session>,
    session: Link<Session>,
) {
    let next = parent.tally_mut().deferred.replace(session);
    let entry = &mut sessions[session];
    entry.next_deferred[P::INDEX] = next;
    entry.set(P::DEFERRED, true);
}

/// Takes a session out of an entry's chain.
fn unchain<P: Parent>(parent: &mut P, sessions: &mut Arena<Session>, session: Link<Session>) {
    let entry = &mut sessions[session];
    let next = entry.next_deferred[P::INDEX].take();
    entry.set(P::DEFERRED, false);
    let first = &mut parent.tally_mut().deferred;
    if *first == Some(session) {
        *first = next;
        return;
    }
    let before = before(sessions, parent, session);
    sessions[before].next_deferred[P::INDEX] = next;
}

/// The session in front of one that is not the first of an entry's chain.
fn before<P: Parent>(
    sessions: &Arena<Session>,
    parent: &P,
    session: Link<Session>,
) -> Link<Session> {
    chain(sessions, parent)
        .find(|&link| sessions[link].next_deferred[P::INDEX] == Some(session))
        .expect("a deferred session is in its chain")
}

/// Lets an entry's chain point to a session that moved.
fn follow<P: Parent>(
    table: &mut Table<P>,
    sessions: &mut Arena<Session>,
    parent: Link<P>,
    (old, new): (Link<Session>, Link<Session>),
) {
    if !sessions[new].has(P::DEFERRED) {
        return;
    }
    let first = &mut table.arena[parent].tally_mut().deferred;
    if *first == Some(old) {
        *first = Some(new);
        return;
    }
    let before = before(sessions, &table.arena[parent], old);
    sessions[before].next_deferred[P::INDEX] = Some(new);
}

/// Adds what a session counted to the entry that defers it, if it does.
///
/// # Errors
/// [`Full`] when that has no room; then the session stays deferred.
fn flush<P: Parent>(
    table: &mut Table<P>,
    memory: &mut Memory,
    sessions: &mut Table<Session>,
    parent: Link<P>,
    (session, counted): (Link<Session>, &Counters),
) -> Result<(), Full> {
    let entry = &sessions.arena[session];
    if !entry.has(P::DEFERRED) {
        return Ok(());
    }
    let parent = &mut table.arena[parent];
    let common = parent.common_mut();
    common.contents.count(memory, Difference::Of(counted))?;
    let wall = common.stamp.wall().max(entry.common.stamp.wall());
    common.stamp.set_wall(wall);
    unchain(parent, &mut sessions.arena, session);
    Ok(())
}

impl Store {
    /// Lets the parents of a session that has counted nothing yet defer it.
    pub(crate) fn defer(&mut self, link: Link<Session>) {
        let above = self.sessions.arena[link].above;
        each_parent!(P => if let Some(parent) = P::of(&above) {
            let (table, sessions, memory) = P::tables_mut(self);
            // Without room now, it adds what it deferred when those sessions end.
            let _ = defer(table, memory, sessions, parent, link);
        });
    }

    /// Lets the entries that defer a session follow it where it moved.
    pub(crate) fn follow_deferred(&mut self, old: Link<Session>, new: Link<Session>) {
        let above = self.sessions.arena[new].above;
        each_parent!(P => if let Some(parent) = P::of(&above) {
            let (table, sessions, _) = P::tables_mut(self);
            follow(table, &mut sessions.arena, parent, (old, new));
        });
    }

    /// Ends the deferring of a session.
    ///
    /// # Errors
    /// [`Full`] when one of the entries has no room; it defers the session still.
    pub(crate) fn flush(&mut self, link: Link<Session>) -> Result<(), Full> {
        let session = &self.sessions.arena[link];
        let above = session.above;
        let mut counted = Counters::default();
        let contents = session.common.contents;
        contents.unpack_to(&self.memory.heap, &mut counted);
        let flushed = each_parent!(P => P::of(&above).map_or(Ok(()), |parent| {
            let (table, sessions, memory) = P::tables_mut(self);
            flush(table, memory, sessions, parent, (link, &counted))
        }));
        flushed.into_iter().collect()
    }

    /// Ends the deferring of a session that has to be flushed now, if need be by
    /// freeing other entries. False when something of it could not be counted.
    pub(crate) fn flush_now(&mut self, link: Link<Session>, now: Now) -> bool {
        let flushed = self.with_room(now, |store| store.flush(link)).is_some();
        flushed || self.detach(link).is_none()
    }

    /// Takes a session out of the chains it is in. Returns what is still to be added to
    /// which of its parents.
    pub(crate) fn detach(&mut self, link: Link<Session>) -> Option<Pending> {
        let session = &self.sessions.arena[link];
        let parents = session.above.where_flag(|deferred| session.has(deferred));
        if parents.is_empty() {
            return None;
        }
        let counted = self.sessions.counters(&self.memory, link);
        each_parent!(P => if let Some(parent) = P::of(&parents) {
            let (table, sessions, _) = P::tables_mut(self);
            unchain(&mut table.arena[parent], &mut sessions.arena, link);
        });
        Some(Pending { parents, counted })
    }

    /// Adds what was still to be added when its session was freed. False when there is
    /// no room for something of it even now.
    pub(crate) fn add_pending(&mut self, pending: &Pending) -> bool {
        let Pending { parents, counted } = pending;
        let counted = Difference::Of(counted);
        let added = each_parent!(P => P::of(parents).is_none_or(|parent| {
            let (table, memory) = P::table_mut(self);
            table.count(memory, parent, counted).is_ok()
        }));
        added.into_iter().all(|added| added)
    }

    /// What an entry and the sessions that it defers counted.
    #[inline(never)]
    pub(crate) fn gathered<P: Parent>(&self, parent: &P) -> Counters {
        let mut sum = parent.common().contents.counters(&self.memory.heap);
        self.add_deferred(parent, &mut sum);
        sum
    }

    /// What the sessions that an entry defers counted.
    pub(crate) fn pending<P: Parent>(&self, parent: &P) -> Counters {
        let mut sum = Counters::default();
        self.add_deferred(parent, &mut sum);
        sum
    }

    /// Adds what the sessions that an entry defers counted.
    #[inline(always)]
    fn add_deferred<P: Parent>(&self, parent: &P, sum: &mut Counters) {
        for link in chain(&self.sessions.arena, parent) {
            let mut counted = Counters::default();
            let contents = self.sessions.arena[link].common.contents;
            contents.unpack_to(&self.memory.heap, &mut counted);
            sum.add(&counted);
        }
    }

    /// When a record last reached an entry or a session that it defers.
    #[inline(never)]
    pub(crate) fn last_update<P: Parent>(&self, parent: &P) -> WallTime {
        let sessions = chain(&self.sessions.arena, parent);
        let updates = sessions.map(|link| self.sessions.arena[link].common.stamp.wall());
        updates.fold(parent.common().stamp.wall(), WallTime::max)
    }
}

/// Checks that sessions are in the chains of their flags, for [`Store::check`].
#[cfg(any(test, feature = "internals"))]
pub(crate) fn check(store: &Store) {
    let in_chains = |flag| {
        let mut marked = Vec::new();
        let mut at = store.sessions.all.head;
        while let Some(link) = at {
            let session = &store.sessions.arena[link];
            assert!(session.domain() == store.users.arena[session.user()].domain);
            marked.extend(session.has(flag).then_some(link.number()));
            at = session.common.in_level.next;
        }
        marked.sort();
        marked
    };
    fn chained<P: Parent>(table: &Table<P>, store: &Store) -> Vec<std::num::NonZeroU32> {
        let mut found = Vec::new();
        let mut at = table.all.head;
        while let Some(link) = at {
            let sessions: Vec<_> = chain(&store.sessions.arena, &table.arena[link]).collect();
            assert!(sessions.len() <= MOST as usize);
            found.extend(sessions.into_iter().map(Link::number));
            at = table.arena[link].common().in_level.next;
        }
        found.sort();
        found
    }
    each_parent!(P => assert_eq!(chained(P::table(store), store), in_chains(P::DEFERRED)));
}
