//! Looking ahead: the entries that records and rows are about to need.
//!
//! A record that comes to a session which no record came to for a while waits for
//! main memory, several times one after the other: for the index's bucket, the
//! entry, its id, its counters, its neighbours in the list by age, its last command, its
//! domain and that one's counters. Asked for step by step for some records together,
//! all of it comes at the same time, and the records then find it in the processor's
//! cache. It is the same with a command's row, which shows its session and user.
//!
//! Nothing is changed here, and nothing decided: a [`Hint`] says where a session
//! was, and whoever uses it looks whether that still holds.

use super::arena::Link;
use super::entry::{Command, Flag, Now, Session};
use super::index::Index;
use super::level::{key, Hashed};
use super::list::Hook;
use super::Store;
use crate::sys::bytes::prefetch;

/// The most records that are looked ahead for together: more than a processor can
/// wait for at once.
pub const LOOK_AHEAD: usize = 32;

/// Rows of commands that are looked ahead for together.
pub(super) const ROWS_AHEAD: usize = 16;

/// The session that a record is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The session's id, as it is escaped; empty of a record that is about none.
    pub id: &'a [u8],
    /// Whether it may add to the session's commands.
    pub is_command: bool,
}

/// What was found out about an id.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// Its bytes as it is escaped: an id of as many is the very same.
    id_bytes: usize,
    /// Its hash.
    hash: u32,
    /// Where its session was.
    link: Option<Link<Session>>,
    /// [`Index::removals`](super::index::Index::removals) at that time.
    removals: u32,
}

impl Hint {
    /// About no id.
    pub const NONE: Hint = Hint {
        id_bytes: usize::MAX,
        hash: 0,
        link: None,
        removals: 0,
    };
}

impl Store {
    /// Brings the sessions of these records, and what they change, into the
    /// processor's cache, at most [`LOOK_AHEAD`] of them, and tells where they are.
    pub fn look_ahead(&self, records: &[Subject], now: Now) -> [Hint; LOOK_AHEAD] {
        let sessions = &self.sessions.arena;
        let index = &self.sessions.index;
        let heap = &self.memory.heap;
        let mut hints = [Hint::NONE; LOOK_AHEAD];
        let about = |record: &Subject| !record.id.is_empty();
        for (hint, record) in hints.iter_mut().zip(records) {
            if about(record) {
                hint.id_bytes = record.id.len();
                hint.hash = self.memory.hash(record.id);
                index.prefetch(hint.hash);
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            if about(record) {
                hint.link = index.first(hint.hash);
                hint.removals = index.removals();
                if let Some(link) = hint.link {
                    prefetch(&sessions[link].common);
                }
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            hint.link = Index::like(sessions, hint.link, hint.hash);
            let Some(session) = hint.link.map(|link| &sessions[link]) else {
                continue;
            };
            heap.prefetch(session.common.text);
            heap.prefetch(session.common.counters);
            if !session.has(Flag::DeferredByDomain) {
                prefetch(&self.domains.arena[session.domain].common);
            }
            if let (true, Some(last)) = (record.is_command, session.commands.tail) {
                prefetch(&self.commands.arena[last]);
            }
            if session.common.touched_secs != now.uptime_secs {
                let Hook { prev, next } = session.common.in_age;
                for neighbour in [prev, next].into_iter().flatten() {
                    prefetch(&sessions[neighbour].common);
                }
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            let Some(session) = hint.link.map(|link| &sessions[link]) else {
                continue;
            };
            if key(heap, session) != record.id {
                // Another id of that hash, as rare as one in 2^32.
                *hint = Hint::NONE;
            } else if !session.has(Flag::DeferredByDomain) {
                heap.prefetch(self.domains.arena[session.domain].common.counters);
            }
        }
        hints
    }

    /// Brings what is looked at first for a user and an ip into the processor's cache.
    pub(super) fn look_ahead_of_parents(&self, (_, user): Hashed, ip: Option<Hashed>) {
        let ip = ip.map(|(_, hash)| hash);
        self.users.index.prefetch(user);
        if let Some(ip) = ip {
            self.ips.index.prefetch(ip);
            self.ips.index.prefetch_first(&self.ips.arena, ip);
        }
        self.users.index.prefetch_first(&self.users.arena, user);
    }

    /// Brings what the rows of a command and of those behind it in their level show
    /// into the processor's cache, [`ROWS_AHEAD`] in all.
    pub(super) fn look_ahead_of_rows(&self, first: Link<Command>) {
        let heap = &self.memory.heap;
        let commands = std::iter::successors(Some(first), |&link| {
            self.commands.arena[link].common.in_level.next
        });
        let mut sessions = [None; ROWS_AHEAD];
        for (session, command) in sessions.iter_mut().zip(commands) {
            let command = &self.commands.arena[command];
            heap.prefetch(command.common.text);
            heap.prefetch(command.common.counters);
            // Of these two no more than is shown: there are only so many lines of cache
            // that a processor can wait for at once.
            let found = session.insert(&self.sessions.arena[command.session]);
            prefetch(&found.common);
            prefetch(&found.user);
        }
        let mut users = [None; ROWS_AHEAD];
        for (user, session) in users.iter_mut().zip(sessions.into_iter().flatten()) {
            heap.prefetch(session.common.text);
            prefetch(&user.insert(&self.users.arena[session.user]).common);
        }
        for user in users.into_iter().flatten() {
            heap.prefetch(user.common.text);
        }
    }

    /// The session of that id, if a hint that was made for it still holds.
    #[inline(always)]
    pub(super) fn hinted(&self, hint: Hint, id: &[u8]) -> Option<Link<Session>> {
        let link = hint.link?;
        let holds = hint.id_bytes == id.len() && hint.removals == self.sessions.index.removals();
        debug_assert!(!holds || key(&self.memory.heap, &self.sessions.arena[link]) == id);
        holds.then_some(link)
    }

    /// The hash of a session's id, which a hint that was made for it knows.
    pub(super) fn hash_of_session(&self, id: &[u8], hint: Hint) -> u32 {
        match hint.id_bytes == id.len() {
            true => hint.hash,
            false => self.memory.hash(id),
        }
    }
}
