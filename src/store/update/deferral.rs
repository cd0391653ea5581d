//! What connected sessions counted and their users, domains and ips have not added
//! yet.
//!
//! A record of a session changes its user, domain and ip as well, three entries that
//! most often nothing else has touched lately, to be fetched from memory and summed
//! in. So a session is *deferred* by its user, domain and ip: they add what it
//! counted once, when it ends, and until then whoever asks for their totals adds it
//! for himself. Only entries of at most [`MOST`] connected sessions do that, so asking
//! stays cheap; one that has more, a large domain or the address of a webmail server,
//! is in the processor's cache anyhow, and adds with every record.
//!
//! Invariants: a session is in the chain of its user exactly when it has
//! [`Flag::DeferredByUser`], the same for domain and ip; then nothing it counted is in the
//! counters of that entry, but for the login. A session whose totals cannot be
//! added so, because they shrank or are partly another user's, is settled and
//! stays so. One that could not be settled when it ended, for want of memory,
//! stays deferred until it is freed; if there is no room even then, the note of the
//! record that room was made for tells of it ([`Note::NoRoom`](crate::store::Note::NoRoom)).

use crate::store::counters::{Difference, Lanes};
use crate::store::entries::entry::{Domain, Flag, Ip, Now, Parent, Session, User, WallTime};
use crate::store::entries::level::Level;
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::shared::Memory;
use crate::store::{Full, Store};

/// The most connected sessions of an entry that defers them.
pub(crate) const MOST: u32 = 12;

/// An entry that defers sessions.
pub(crate) trait Defers: Parent {
    /// What a session has while this kind of entry defers it.
    const FLAG: Flag;
    /// The first deferred session.
    fn first(&self) -> Option<Link<Session>>;
    /// The same, to be changed.
    fn first_mut(&mut self) -> &mut Option<Link<Session>>;
    /// The next one behind a session.
    fn next(session: &Session) -> Option<Link<Session>>;
    /// The same, to be changed.
    fn next_mut(session: &mut Session) -> &mut Option<Link<Session>>;
}

macro_rules! defers {
    ($entry:ident, $flag:ident, $next:ident) => {
        impl Defers for $entry {
            const FLAG: Flag = Flag::$flag;

            fn first(&self) -> Option<Link<Session>> {
                self.deferred
            }

            fn first_mut(&mut self) -> &mut Option<Link<Session>> {
                &mut self.deferred
            }

            fn next(session: &Session) -> Option<Link<Session>> {
                session.$next
            }

            fn next_mut(session: &mut Session) -> &mut Option<Link<Session>> {
                &mut session.$next
            }
        }
    };
}

defers!(User, DeferredByUser, deferred_by_user);
defers!(Domain, DeferredByDomain, deferred_by_domain);
defers!(Ip, DeferredByIp, deferred_by_ip);

/// What a session counted, and who has not added it.
pub(crate) struct Owed {
    /// Its user.
    user: Option<Link<User>>,
    /// Its domain.
    domain: Option<Link<Domain>>,
    /// Its ip.
    ip: Option<Link<Ip>>,
    /// What it counted.
    counted: Lanes,
}

/// The sessions that an entry defers.
pub(crate) fn chain<'a, P: Defers>(
    sessions: &'a Arena<Session>,
    parent: &P,
) -> impl Iterator<Item = Link<Session>> + 'a {
    std::iter::successors(parent.first(), |&link| P::next(&sessions[link]))
}

/// Lets an entry defer a session that has counted nothing yet, or, once there are more
/// than it defers, has it add what it deferred.
///
/// # Errors
/// [`Full`] when that has no room; what is not added then stays deferred.
fn defer<P: Defers>(
    level: &mut Level<P>,
    memory: &mut Memory,
    sessions: &mut Level<Session>,
    link: Link<P>,
    session: Link<Session>,
) -> Result<(), Full> {
    let parent = &mut level.arena[link];
    // Some may be there still that ended when there was no room to add them.
    let deferred = chain(&sessions.arena, parent).count();
    if *parent.connected_mut() <= MOST && deferred < MOST as usize {
        enchain(parent, &mut sessions.arena, session);
        return Ok(());
    }
    // It adds with every record from now on, to counters as they are if that has no room.
    let _ = level.lay_plainly(memory, link);
    while let Some(deferred) = level.arena[link].first() {
        let counted = sessions.lanes(memory, deferred);
        flush(level, memory, sessions, link, (deferred, &counted))?;
    }
    Ok(())
}

/// Puts a session into an entry's chain.
pub(crate) fn enchain<P: Defers>(
    parent: &mut P,
    sessions: &mut Arena<Session>,
    session: Link<Session>,
) {
    let next = parent.first_mut().replace(session);
    *P::next_mut(&mut sessions[session]) = next;
    sessions[session].set(P::FLAG, true);
}

/// Takes a session out of an entry's chain.
fn unchain<P: Defers>(
    level: &mut Level<P>,
    sessions: &mut Arena<Session>,
    parent: Link<P>,
    session: Link<Session>,
) {
    let next = P::next_mut(&mut sessions[session]).take();
    sessions[session].set(P::FLAG, false);
    let before = chain(sessions, &level.arena[parent])
        .find(|&link| P::next(&sessions[link]) == Some(session));
    match before {
        Some(before) => *P::next_mut(&mut sessions[before]) = next,
        None => *level.arena[parent].first_mut() = next,
    }
}

/// Lets an entry's chain follow a session that moved.
fn follow<P: Defers>(
    level: &mut Level<P>,
    sessions: &mut Arena<Session>,
    parent: Link<P>,
    (old, new): (Link<Session>, Link<Session>),
) {
    if !sessions[new].has(P::FLAG) {
        return;
    }
    let first = level.arena[parent].first_mut();
    if *first == Some(old) {
        *first = Some(new);
        return;
    }
    let before = chain(sessions, &level.arena[parent])
        .find(|&link| P::next(&sessions[link]) == Some(old))
        .expect("a deferred session is in its chain");
    *P::next_mut(&mut sessions[before]) = Some(new);
}

/// Adds what a session counted to the entry that defers it, if it does.
///
/// # Errors
/// [`Full`] when that has no room; then the session stays deferred.
fn flush<P: Defers>(
    level: &mut Level<P>,
    memory: &mut Memory,
    sessions: &mut Level<Session>,
    parent: Link<P>,
    (session, counted): (Link<Session>, &Lanes),
) -> Result<(), Full> {
    if !sessions.arena[session].has(P::FLAG) {
        return Ok(());
    }
    level.count(memory, parent, Difference::Of(counted))?;
    let common = level.arena[parent].common_mut();
    let wall = common
        .stamp
        .wall()
        .max(sessions.arena[session].common.stamp.wall());
    common.stamp.set_wall(wall);
    unchain(level, &mut sessions.arena, parent, session);
    Ok(())
}

impl Store {
    /// Lets user, domain and ip of a session that has counted nothing yet defer it.
    pub(crate) fn defer(&mut self, link: Link<Session>) {
        let Session {
            user, domain, ip, ..
        } = self.sessions.arena[link];
        let (memory, sessions) = (&mut self.memory, &mut self.sessions);
        // Without room now, they add what they deferred when those sessions end.
        let _ = defer(&mut self.users, memory, sessions, user, link);
        let _ = defer(&mut self.domains, memory, sessions, domain, link);
        if let Some(ip) = ip {
            let _ = defer(&mut self.ips, memory, sessions, ip, link);
        }
    }

    /// Lets the entries that defer a session follow it where it moved.
    pub(crate) fn follow_deferred(&mut self, old: Link<Session>, new: Link<Session>) {
        let sessions = &mut self.sessions.arena;
        let Session {
            user, domain, ip, ..
        } = sessions[new];
        follow(&mut self.users, sessions, user, (old, new));
        follow(&mut self.domains, sessions, domain, (old, new));
        if let Some(ip) = ip {
            follow(&mut self.ips, sessions, ip, (old, new));
        }
    }

    /// Ends the deferring of a session.
    ///
    /// # Errors
    /// [`Full`] when one of the entries has no room; it defers the session still.
    pub(crate) fn flush(&mut self, link: Link<Session>) -> Result<(), Full> {
        let Session {
            user, domain, ip, ..
        } = self.sessions.arena[link];
        let (memory, sessions) = (&mut self.memory, &mut self.sessions);
        let counted = sessions.lanes(memory, link);
        let session = (link, &counted);
        let by_user = flush(&mut self.users, memory, sessions, user, session);
        let by_domain = flush(&mut self.domains, memory, sessions, domain, session);
        let by_ip = ip.map_or(Ok(()), |ip| {
            flush(&mut self.ips, memory, sessions, ip, session)
        });
        by_user.and(by_domain).and(by_ip)
    }

    /// Ends the deferring of a session that has to be settled now, if need be by
    /// freeing other entries. False when something of it could not be counted.
    pub(crate) fn flush_now(&mut self, link: Link<Session>, now: Now) -> bool {
        let flushed = self.with_room(now, |store| store.flush(link)).is_some();
        flushed || self.detach(link).is_none()
    }

    /// Takes a session out of the chains it is in, and tells what is still to be
    /// added to whom.
    pub(crate) fn detach(&mut self, link: Link<Session>) -> Option<Owed> {
        let session = self.sessions.arena[link];
        let pending = Owed {
            user: session.has(Flag::DeferredByUser).then_some(session.user),
            domain: session
                .has(Flag::DeferredByDomain)
                .then_some(session.domain),
            ip: session.ip.filter(|_| session.has(Flag::DeferredByIp)),
            counted: self.sessions.lanes(&self.memory, link),
        };
        let sessions = &mut self.sessions.arena;
        if let Some(user) = pending.user {
            unchain(&mut self.users, sessions, user, link);
        }
        if let Some(domain) = pending.domain {
            unchain(&mut self.domains, sessions, domain, link);
        }
        if let Some(ip) = pending.ip {
            unchain(&mut self.ips, sessions, ip, link);
        }
        let is_owed = pending.user.is_some() || pending.domain.is_some() || pending.ip.is_some();
        is_owed.then_some(pending)
    }

    /// Adds what was still to be added when its session was freed. False when there is
    /// no room for something of it even now.
    pub(crate) fn add_owed(&mut self, pending: &Owed) -> bool {
        let counted = Difference::Of(&pending.counted);
        let memory = &mut self.memory;
        let by_user = pending
            .user
            .map(|user| self.users.count(memory, user, counted));
        let by_domain = pending
            .domain
            .map(|domain| self.domains.count(memory, domain, counted));
        let by_ip = pending.ip.map(|ip| self.ips.count(memory, ip, counted));
        !matches!(
            (by_user, by_domain, by_ip),
            (Some(Err(Full)), _, _) | (_, Some(Err(Full)), _) | (_, _, Some(Err(Full)))
        )
    }

    /// What an entry and the sessions that it defers counted.
    #[inline(never)]
    pub(crate) fn gathered<P: Defers>(&self, parent: &P) -> Lanes {
        let mut sum = parent.common().contents.lanes(&self.memory.heap);
        sum.add(&self.pending(parent));
        sum
    }

    /// What the sessions that an entry defers counted.
    pub(crate) fn pending<P: Defers>(&self, parent: &P) -> Lanes {
        let mut sum = Lanes::default();
        for link in chain(&self.sessions.arena, parent) {
            sum.add(&self.sessions.lanes(&self.memory, link));
        }
        sum
    }

    /// When a record last reached an entry or a session that it defers.
    #[inline(never)]
    pub(crate) fn last_update<P: Defers>(&self, parent: &P) -> WallTime {
        let sessions = chain(&self.sessions.arena, parent);
        let updates = sessions.map(|link| self.sessions.arena[link].common.stamp.wall());
        updates.fold(parent.common().stamp.wall(), WallTime::max)
    }
}

/// Checks that sessions are in the chains that their flags say, for [`Store::check`].
#[cfg(any(test, feature = "internals"))]
pub(crate) fn check(store: &Store) {
    let in_chains = |flag: Flag| {
        let mut marked = Vec::new();
        let mut at = store.sessions.all.head;
        while let Some(link) = at {
            let session = &store.sessions.arena[link];
            assert!(session.domain == store.users.arena[session.user].domain);
            marked.extend(session.has(flag).then_some(link.number()));
            at = session.common.in_level.next;
        }
        marked.sort();
        marked
    };
    fn chained<P: Defers>(level: &Level<P>, store: &Store) -> Vec<std::num::NonZeroU32> {
        let mut found = Vec::new();
        let mut at = level.all.head;
        while let Some(link) = at {
            let sessions: Vec<_> = chain(&store.sessions.arena, &level.arena[link]).collect();
            assert!(sessions.len() <= MOST as usize);
            found.extend(sessions.into_iter().map(Link::number));
            at = level.arena[link].common().in_level.next;
        }
        found.sort();
        found
    }
    assert_eq!(
        chained(&store.users, store),
        in_chains(Flag::DeferredByUser)
    );
    assert_eq!(
        chained(&store.domains, store),
        in_chains(Flag::DeferredByDomain)
    );
    assert_eq!(chained(&store.ips, store), in_chains(Flag::DeferredByIp));
}
