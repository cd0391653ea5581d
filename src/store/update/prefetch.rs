//! Looking ahead: the entries that records and rows are about to need.
//!
//! A record that comes to a session which no record came to for a while waits for
//! main memory, several times one after the other: for the index's bucket, the
//! entry, its id, its counters, its neighbours in the list by age, its last command, its
//! domain and that one's counters; one that says a user or an address, for those.
//! Asked for step by step for some records together, all of it comes at the same time,
//! and the records then find it in the processor's cache. It is the same with a
//! command's row, which shows its session and user.
//!
//! Nothing is changed here, and nothing decided: a [`Hint`] says where a session
//! was, and whoever uses it looks whether that still holds.

use crate::store::entries::entry::{Command, Flag, Now, Session};
use crate::store::entries::level::key;
use crate::store::entries::lifecycle::Octets;
use crate::store::mem::arena::Link;
use crate::store::mem::index::Index;
use crate::store::mem::list::Hook;
use crate::store::{Record, Store};
use crate::sys::mem::bytes::prefetch;

/// The most records that are looked ahead for together: more than a processor can
/// wait for at once.
pub const PREFETCH_BATCH: usize = 32;

/// Rows of commands that are looked ahead for together.
pub(crate) const PREFETCH_ROWS: usize = 16;

/// What was found out about what a record is about.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// The hash of the session's id, or of the user's name where that comes first.
    pub(crate) subject: u32,
    /// The hash of the name that a CONNECT says.
    pub(crate) user: u32,
    /// The hash of the address that a CONNECT or ADD-USER contains.
    pub(crate) ip: u32,
    /// Where the session was.
    link: Option<Link<Session>>,
    /// [`Index::removals`](crate::store::mem::index::Index::removals) at that time.
    removals: u32,
}

impl Hint {
    /// About nothing.
    const NONE: Hint = Hint {
        subject: 0,
        user: 0,
        ip: 0,
        link: None,
        removals: 0,
    };
}

impl Store {
    /// What can be told of a record without looking anything up.
    #[inline(always)]
    pub(crate) fn hint(&self, record: &Record) -> Hint {
        let mut hint = Hint {
            subject: self.memory.hash(record.subject()),
            ..Hint::NONE
        };
        if let Record::Connect { user, .. } = record {
            hint.user = self.memory.hash(user);
        }
        if let Some(ip) = record.ip() {
            hint.ip = self.memory.hash(Octets::of(ip).as_slice());
        }
        hint
    }

    /// Brings what these records are about, and what they change, into the processor's
    /// cache, at most [`PREFETCH_BATCH`] of them, and tells where their sessions are.
    pub fn prefetch_records(&self, records: &[Record], now: Now) -> [Hint; PREFETCH_BATCH] {
        let (users, ips, sessions) = (&self.users, &self.ips, &self.sessions);
        let mut hints = [Hint::NONE; PREFETCH_BATCH];
        for (hint, record) in hints.iter_mut().zip(records) {
            *hint = self.hint(record);
            match record {
                Record::AddUser { .. } => users.index.prefetch(hint.subject),
                Record::Connect { .. } => {
                    sessions.index.prefetch(hint.subject);
                    users.index.prefetch(hint.user);
                    ips.index.prefetch(hint.ip);
                }
                _ => sessions.index.prefetch(hint.subject),
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            if let Record::AddUser { .. } = record {
                users.prefetch_first(hint.subject);
                continue;
            }
            hint.removals = sessions.index.removals();
            hint.link = sessions.index.first(hint.subject);
            if let Some(link) = hint.link {
                prefetch(&sessions.arena[link].common);
            }
            if let Record::Connect { .. } = record {
                users.prefetch_first(hint.user);
                ips.prefetch_first(hint.ip);
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            hint.link = Index::like(&sessions.arena, hint.link, hint.subject);
            if let Some(link) = hint.link {
                self.prefetch_session(link, record, now);
            }
            match record {
                Record::AddUser { .. } => users.prefetch_contents(&self.memory, hint.subject),
                Record::Connect { .. } => {
                    users.prefetch_contents(&self.memory, hint.user);
                    ips.prefetch_contents(&self.memory, hint.ip);
                }
                _ => {}
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            let Some(link) = hint.link else { continue };
            let session = &sessions.arena[link];
            if key(&self.memory.heap, session) != record.subject() {
                // Another id of that hash, as rare as one in 2^32.
                hint.link = None;
            } else if !session.has(Flag::DeferredByDomain) {
                let domain = &self.domains.arena[session.domain];
                domain.common.contents.prefetch_counters(&self.memory.heap);
            }
        }
        hints
    }

    /// Brings what a record of this session changes into the processor's cache.
    #[inline(always)]
    fn prefetch_session(&self, link: Link<Session>, record: &Record, now: Now) {
        let session = &self.sessions.arena[link];
        session.common.contents.prefetch(&self.memory.heap);
        if !session.has(Flag::DeferredByDomain) {
            prefetch(&self.domains.arena[session.domain].common);
        }
        let is_command = matches!(record, Record::UpdateCommand { .. });
        if let (true, Some(last)) = (is_command, session.commands.tail) {
            prefetch(&self.commands.arena[last]);
        }
        if session.common.touched_secs != now.uptime_secs {
            let Hook { prev, next } = session.common.in_age;
            for neighbour in [prev, next].into_iter().flatten() {
                prefetch(&self.sessions.arena[neighbour].common);
            }
        }
    }

    /// Brings what the rows of a command and of those behind it in their level show
    /// into the processor's cache, [`PREFETCH_ROWS`] in all.
    pub(crate) fn prefetch_rows(&self, first: Link<Command>) {
        let heap = &self.memory.heap;
        let commands = std::iter::successors(Some(first), |&link| {
            self.commands.arena[link].common.in_level.next
        });
        let mut sessions = [None; PREFETCH_ROWS];
        for (session, command) in sessions.iter_mut().zip(commands) {
            let command = &self.commands.arena[command];
            command.common.contents.prefetch(heap);
            // Of these two no more than is shown: there are only so many lines of cache
            // that a processor can wait for at once.
            let found = session.insert(&self.sessions.arena[command.session]);
            prefetch(&found.common);
            prefetch(&found.user);
        }
        let mut users = [None; PREFETCH_ROWS];
        for (user, session) in users.iter_mut().zip(sessions.into_iter().flatten()) {
            session.common.contents.prefetch_texts(heap);
            prefetch(&user.insert(&self.users.arena[session.user]).common);
        }
        for user in users.into_iter().flatten() {
            user.common.contents.prefetch_texts(heap);
        }
    }

    /// The session of that id, whose record this hint was made for.
    #[inline(always)]
    pub(crate) fn find_hinted(&self, id: &[u8], hint: Hint) -> Option<Link<Session>> {
        match hint.link {
            Some(link) if hint.removals == self.sessions.index.removals() => {
                debug_assert!(key(&self.memory.heap, &self.sessions.arena[link]) == id);
                Some(link)
            }
            _ => self.sessions.find(&self.memory, (id, hint.subject)),
        }
    }
}
