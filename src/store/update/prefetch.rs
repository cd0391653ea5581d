//! Prefetch: what records and rows are about to need, brought into the processor's cache.
//!
//! A record of a session that had none for a while waits for main memory several times,
//! one after the other: for the index's bucket, the entry, its id, its counters, its
//! neighbours in the list by age, its last command, its domain and that one's counters; a
//! CONNECT or ADD-USER for its user and address. Requested step by step for a batch of
//! records, all of it arrives at the same time. The row of a command, which shows its
//! session and user, would wait likewise: while rows are written, each step is requested
//! for a row that comes some rows later.
//!
//! Without prefetch the CPU time of the workload "mixture" is 1.22 times as much with 10,000
//! sessions and 1.92 times with 100,000; of updates of 300,000 sessions 2.34 times; of rows
//! of commands 2.65 times.
//!
//! Nothing is changed or decided here. A [`Hint`] contains where a session was;
//! [`Store::session_of`] checks that this is still true. [`RowsAhead`] lives while a walk
//! writes one slice, in which nothing changes.

use crate::store::entries::contents::Contents;
use crate::store::entries::entry::{Command, Entry, Flag, Session, User};
use crate::store::entries::lifecycle::Octets;
use crate::store::entries::table::{key, Table};
use crate::store::mem::arena::Link;
use crate::store::mem::heap::Heap;
use crate::store::mem::index::Index;
use crate::store::mem::list::Hook;
use crate::store::mem::Memory;
use crate::store::time::Now;
use crate::store::update::apply::Hashes;
use crate::store::{Record, Store};
use crate::sys::mem::bytes::prefetch;

/// Prefetch batch: more cache misses than a core keeps outstanding. With 8 or with 24, a
/// record of 100,000 sessions takes 1 to 3% more time, a total of 300,000 2 to 5%.
pub const PREFETCH_BATCH: usize = 16;

/// Rows between two steps of the prefetch of a row: as long as main memory takes. With one
/// or three a row takes 2% more processor time.
const ROWS_A_STEP: usize = 2;

/// Rows between the first step of the prefetch of a row and the row itself.
const ROWS_AHEAD: usize = 3 * ROWS_A_STEP;

/// The rows of commands that a walk comes to next, as far as they are prefetched.
#[derive(Default)]
pub(crate) struct RowsAhead {
    /// Steps so far.
    rows: usize,
    /// The command whose row is prefetched next.
    command: Option<Link<Command>>,
    /// Sessions and users of the last commands, to be looked at when they have come.
    sessions: [Option<Link<Session>>; ROWS_A_STEP],
    users: [Option<Link<User>>; ROWS_A_STEP],
}

/// How much of an entry's contents is fetched: a short key and the widest counters.
const CONTENTS_BYTES: usize = 256;

/// The bytes in which a text most often lies.
const TEXT_BYTES: usize = 64;

/// What is known of a record before it is applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    pub(crate) hashes: Hashes,
    /// Where the session was.
    pub(crate) link: Option<Link<Session>>,
    /// [`Index::removals`] at that time.
    removals: u32,
}

/// Prefetches the front of some bytes.
#[inline(always)]
fn prefetch_front(bytes: &[u8], most: usize) {
    prefetch(&bytes[..bytes.len().min(most)]);
}

impl Contents {
    /// Prefetches texts and counters, as much as most entries have.
    #[inline]
    fn prefetch(self, heap: &Heap) {
        prefetch_front(self.bytes(heap), CONTENTS_BYTES);
    }

    /// Prefetches the texts, if they are as short as most.
    #[inline]
    fn prefetch_texts(self, heap: &Heap) {
        prefetch_front(self.bytes(heap), TEXT_BYTES);
    }

    #[inline]
    fn prefetch_counters(self, heap: &Heap) {
        prefetch_front(self.packed(heap), CONTENTS_BYTES);
    }
}

impl<T: Entry> Table<T> {
    /// Prefetches the first entry of a hash's bucket.
    #[inline(never)]
    fn prefetch_first(&self, hash: u32) {
        if let Some(link) = self.index.first(hash) {
            prefetch(&self.arena[link].common().chain);
        }
    }

    /// Prefetches texts and counters of the entry of a hash, if there is one.
    #[inline(never)]
    fn prefetch_contents(&self, memory: &Memory, hash: u32) {
        let first = self.index.first(hash);
        if let Some((_, entry)) = Index::like(&self.arena, first, hash) {
            entry.common().contents.prefetch(&memory.heap);
        }
    }
}

impl Store {
    /// The hint of a record that was not prefetched.
    #[inline(always)]
    pub(crate) fn hint(&self, record: &Record) -> Hint {
        let mut hashes = Hashes {
            subject: self.memory.hash(record.subject()),
            ..Hashes::default()
        };
        if let Record::Connect { user, .. } = record {
            hashes.user = self.memory.hash(user);
        }
        if let Some(ip) = record.ip() {
            hashes.ip = self.memory.hash(Octets::of(ip).as_slice());
        }
        Hint {
            hashes,
            ..Hint::default()
        }
    }

    /// Prefetches what these records are about and what they change, and returns a hint for
    /// each; at most [`PREFETCH_BATCH`] records.
    pub fn prefetch_records(&self, records: &[Record], now: Now) -> [Hint; PREFETCH_BATCH] {
        let (users, ips, sessions) = (&self.users, &self.ips, &self.sessions);
        let mut hints = [Hint::default(); PREFETCH_BATCH];
        for (hint, record) in hints.iter_mut().zip(records) {
            *hint = self.hint(record);
            match record {
                Record::AddUser { .. } => users.index.prefetch(hint.hashes.subject),
                Record::Connect { .. } => {
                    sessions.index.prefetch(hint.hashes.subject);
                    users.index.prefetch(hint.hashes.user);
                    ips.index.prefetch(hint.hashes.ip);
                }
                _ => sessions.index.prefetch(hint.hashes.subject),
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            if let Record::AddUser { .. } = record {
                users.prefetch_first(hint.hashes.subject);
                continue;
            }
            hint.removals = sessions.index.removals();
            hint.link = sessions.index.first(hint.hashes.subject);
            if let Some(link) = hint.link {
                prefetch(&sessions.arena[link].common);
            }
            if let Record::Connect { .. } = record {
                users.prefetch_first(hint.hashes.user);
                ips.prefetch_first(hint.hashes.ip);
            }
        }
        for (hint, record) in hints.iter_mut().zip(records) {
            let found = Index::like(&sessions.arena, hint.link, hint.hashes.subject);
            hint.link = found.map(|(link, _)| link);
            if let Some((_, session)) = found {
                self.prefetch_session(session, record, now);
            }
            match record {
                Record::AddUser { .. } => {
                    users.prefetch_contents(&self.memory, hint.hashes.subject)
                }
                Record::Connect { .. } => {
                    users.prefetch_contents(&self.memory, hint.hashes.user);
                    ips.prefetch_contents(&self.memory, hint.hashes.ip);
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
                let domain = &self.domains.arena[session.domain()];
                domain.common.contents.prefetch_counters(&self.memory.heap);
            }
        }
        hints
    }

    /// Prefetches what a record of this session changes.
    #[inline(always)]
    fn prefetch_session(&self, session: &Session, record: &Record, now: Now) {
        session.common.contents.prefetch(&self.memory.heap);
        if !session.has(Flag::DeferredByDomain) {
            prefetch(&self.domains.arena[session.domain()].common);
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

    /// Prefetches what rows of commands show. To be called before the row of each `command`
    /// of a walk along the level.
    #[inline(always)]
    pub(crate) fn prefetch_row(&self, ahead: &mut RowsAhead, command: Link<Command>) {
        if ahead.rows == 0 {
            ahead.command = Some(command);
            for _ in 0..ROWS_AHEAD {
                self.go_ahead(ahead);
            }
        }
        self.go_ahead(ahead);
    }

    /// One step for each of some rows: what the command of the last one leads to, what the
    /// session of an earlier one does, which has come by now, and the user of a still earlier
    /// one.
    fn go_ahead(&self, ahead: &mut RowsAhead) {
        let heap = &self.memory.heap;
        let place = ahead.rows % ROWS_A_STEP;
        ahead.rows += 1;
        if let Some(user) = ahead.users[place] {
            self.users.arena[user].common.contents.prefetch_texts(heap);
        }
        ahead.users[place] = ahead.sessions[place].map(|session| {
            let session = &self.sessions.arena[session];
            session.common.contents.prefetch_texts(heap);
            prefetch(&self.users.arena[session.user()].common);
            session.user()
        });
        ahead.sessions[place] = ahead.command.map(|command| {
            let command = &self.commands.arena[command];
            command.common.contents.prefetch(heap);
            // Of these two no more than is shown: there are only so many lines of cache
            // that a processor can wait for at once.
            let session = &self.sessions.arena[command.session];
            prefetch(&session.common);
            prefetch(&session.above);
            ahead.command = command.common.in_level.next;
            if let Some(next) = ahead.command {
                prefetch(&self.commands.arena[next].common);
            }
            command.session
        });
    }

    /// The hint with the session that a record is about, as far as it is known.
    #[inline(always)]
    pub(crate) fn completed(&self, record: &Record, hint: Hint) -> Hint {
        Hint {
            link: self.session_of(record, hint),
            removals: self.sessions.index.removals(),
            ..hint
        }
    }

    /// The session of a hint that was completed before entries were moved or freed.
    #[inline(always)]
    pub(crate) fn session_again(&self, record: &Record, hint: Hint) -> Option<Link<Session>> {
        hint.link?;
        self.session_of(record, hint)
    }

    /// The session that a record is about.
    #[inline(always)]
    fn session_of(&self, record: &Record, hint: Hint) -> Option<Link<Session>> {
        let id = record.subject();
        match (record, hint.link) {
            (Record::AddUser { .. }, _) => None,
            (_, Some(link)) if hint.removals == self.sessions.index.removals() => {
                debug_assert!(key(&self.memory.heap, &self.sessions.arena[link]) == id);
                Some(link)
            }
            _ => self.sessions.find(&self.memory, (id, hint.hashes.subject)),
        }
    }
}
