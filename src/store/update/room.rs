//! Room for what a record may need, made before it is applied.
//!
//! Links are kept while a record is applied; so entries move only here, before that. For a
//! record that may create entries, the most bytes that their slots and blobs can take from
//! the budget are computed; until these fit, sparse pages are emptied
//! ([`compact`](crate::store::update::compact)) or entries freed
//! ([`evict`](crate::store::update::evict)). Both are bounded for each record, by
//! [`MAX_COMPACTION`] and [`MAX_EVICTIONS`].
//!
//! For what is not computed, above all counters that outgrow their blobs, entries are freed
//! in the middle of a record ([`Store::with_room`]); a part of the
//! reserve of the budget is kept vacant so that this is rare.
//!
//! Compaction begins where some pages ([`DUE_PAGES`]) can be emptied and memory is short,
//! or pages worth [`SHATTERED_SHARE`] of the limit at any time, and works the harder the
//! more they are. So holes take at most a sixteenth of the limit, and what one page of
//! each kind of slot makes unavoidable.

use crate::store::counters::packed::Widths;
use crate::store::counters::Counters;
use crate::store::entries::entry::{Entry, Flag, Now};
use crate::store::entries::lifecycle::{domain_of, Octets};
use crate::store::entries::table::Table;
use crate::store::mem::budget::{Budget, Full, Purpose, SHATTERED_SHARE};
use crate::store::{page_bytes, Hint, Record, Store};
use std::net::IpAddr;

/// The most entries that are freed for one record beforehand. Enough to empty several of
/// the largest pages, few enough for one turn of the loop.
const MAX_EVICTIONS: usize = 8000;

/// The most that are freed for one record to have the reserve for growth again.
const MAX_GIVING_BACK: usize = 8;

/// The most that are freed for something of it that has no room all the same.
const MAX_MORE_EVICTIONS: usize = 1000;

/// The most steps of compaction for one record: some with each eviction, two or three
/// milliseconds in all.
const MAX_COMPACTION: usize = 65_536;

/// Effort of compaction where there is nothing to free.
const MAX_EFFORT: usize = 64;

/// The share of the limit that pages to be emptied have at most when a record is applied,
/// as far as [`MAX_COMPACTION`] allows.
const MOST_SHARE: usize = 16;

/// So many pages to be emptied are worth compaction while memory is short.
const DUE_PAGES: usize = 4;

/// The share of the limit that is kept vacant for counters that grow.
const GROWTH_SHARE: usize = 64;

/// Which entries above a record's session exist.
#[derive(Clone, Copy, Default)]
struct Known {
    user: bool,
    domain: bool,
    ip: bool,
}

impl Budget {
    /// Whether there is room for new entries of so many bytes, and for growth.
    fn has_room(&self, wanted_bytes: usize) -> bool {
        wanted_bytes <= self.room_bytes(Purpose::Create)
            && self.limit_bytes() / GROWTH_SHARE <= self.room_bytes(Purpose::Grow)
    }
}

impl Store {
    /// Tries, freeing one entry after the other, until it succeeds, or nothing is
    /// left to free, or [`MAX_MORE_EVICTIONS`] have been freed for it.
    pub(crate) fn with_room<T>(
        &mut self,
        now: Now,
        mut attempt: impl FnMut(&mut Store) -> Result<T, Full>,
    ) -> Option<T> {
        for _ in 0..MAX_MORE_EVICTIONS {
            match attempt(self) {
                Ok(made) => return Some(made),
                Err(Full) if self.evict(now) => {}
                Err(Full) => return None,
            }
        }
        None
    }

    /// Makes room for what a record may need. No link found before is of use afterwards.
    #[inline(always)]
    pub(crate) fn make_room_for(&mut self, record: &Record, hint: Hint, now: Now) {
        if !self.memory.budget.is_ample() {
            self.make_room(record, hint, now);
        }
    }

    /// Makes room when memory is short or full of holes.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, record: &Record, hint: Hint, now: Now) {
        let (mut evictions, mut steps) = (0, 0);
        let limit_bytes = self.memory.budget.limit_bytes();
        let widths = match record {
            Record::UpdateCommand { update, .. } => {
                Widths::narrowest(&Counters::of_stats(&update.report.stats))
            }
            _ => Widths::NONE,
        };
        let known = self.refresh_parents(record, hint, now);
        let has_room = |store: &Store| {
            let wanted_bytes = store.wanted_bytes(record, hint, widths, known);
            store.memory.budget.has_room(wanted_bytes)
        };
        loop {
            // Compaction takes vacant slots, too: what there is room for is seen after it.
            let is_due = match has_room(self) {
                false => self.is_compaction_due(DUE_PAGES * page_bytes(limit_bytes)),
                true if steps == 0 => self.is_compaction_due(limit_bytes / SHATTERED_SHARE),
                // Evictions for one record can leave many holes.
                true => self.is_compaction_due(limit_bytes / MOST_SHARE),
            };
            if is_due && steps < MAX_COMPACTION {
                steps += self.compact(1);
            }
            let is_over =
                steps >= MAX_COMPACTION || !self.is_compaction_due(limit_bytes / MOST_SHARE);
            if has_room(self) {
                // What growth has used of the reserve is given back bit by bit; not for a
                // command that goes on, which could be what is freed.
                let gives_back = evictions < MAX_GIVING_BACK
                    && self.memory.budget.room_bytes(Purpose::Create) == 0
                    && !matches!(record, Record::UpdateCommand { .. });
                if gives_back && self.evict_for(record, hint, now) {
                    evictions += 1;
                } else if is_over {
                    return;
                }
            } else if evictions < MAX_EVICTIONS && self.evict_for(record, hint, now) {
                evictions += 1;
            } else if steps < MAX_COMPACTION && self.is_compaction_due(0) {
                steps += self.compact(MAX_EFFORT);
            } else {
                return;
            }
        }
    }

    /// Makes the user, domain and ip that a record is about the youngest of all, so that
    /// they are not freed for its sake; which of them are known.
    fn refresh_parents(&mut self, record: &Record, hint: Hint, now: Now) -> Known {
        let (user, hash) = match *record {
            Record::Connect { user, .. } => (user, hint.hashes.user),
            Record::AddUser { user, .. } => (user, hint.hashes.subject),
            _ => return Known::default(),
        };
        if matches!(record, Record::Connect { .. }) && self.is_refused(record, hint) {
            return Known::default();
        }
        let memory = &self.memory;
        let octets = record.ip().map(Octets::of);
        Known {
            user: self.users.refresh(memory, (user, hash), now),
            domain: self
                .domains
                .refresh(memory, memory.hashed(domain_of(user)), now),
            ip: octets.is_some_and(|ip| {
                self.ips
                    .refresh(memory, (ip.as_slice(), hint.hashes.ip), now)
            }),
        }
    }

    /// What the entries that a record may make can take from the budget, in bytes.
    fn wanted_bytes(&self, record: &Record, hint: Hint, widths: Widths, known: Known) -> usize {
        match *record {
            Record::Connect {
                session,
                user,
                service,
                ip,
                ..
            } => {
                if self.is_refused(record, hint) {
                    return 0;
                }
                self.wanted_by(&self.sessions, (session, service))
                    + self.wanted_above(user, ip, known)
            }
            Record::AddUser { user, ip, .. } => self.wanted_above(user, ip, known),
            Record::UpdateSession { session, .. } | Record::UpdateCommand { session, .. }
                if self.session_of(record, hint).is_none() =>
            {
                self.wanted_by(&self.sessions, (session, b"")) + self.wanted_above(b"", None, known)
            }
            Record::UpdateCommand { update, .. } => match update.begins {
                Some(texts) if !self.is_refused(record, hint) => {
                    self.commands.wanted_bytes(&self.memory, texts, widths)
                }
                _ => 0,
            },
            Record::UpdateSession { .. } | Record::Disconnect { .. } => 0,
        }
    }

    /// Whether a record will be refused for the session that it is about.
    fn is_refused(&self, record: &Record, hint: Hint) -> bool {
        let known = self.session_of(record, hint);
        known.is_some_and(|link| {
            let session = &self.sessions.arena[link];
            let is_connected = session.has(Flag::Connected);
            match record {
                Record::Connect { .. } => is_connected && !session.has(Flag::Placeholder),
                _ => !is_connected,
            }
        })
    }

    /// What an entry that has counted nothing can take from the budget, in bytes.
    fn wanted_by<T: Entry>(&self, table: &Table<T>, texts: (&[u8], &[u8])) -> usize {
        table.wanted_bytes(&self.memory, texts, Widths::NONE)
    }

    /// What a user, its domain and an ip can take, those that are not known.
    fn wanted_above(&self, user: &[u8], ip: Option<IpAddr>, known: Known) -> usize {
        let mut bytes = 0;
        if !known.user {
            bytes += self.wanted_by(&self.users, (user, b""));
        }
        if !known.domain {
            bytes += self.wanted_by(&self.domains, (domain_of(user), b""));
        }
        if let Some(ip) = ip.filter(|_| !known.ip) {
            bytes += self.wanted_by(&self.ips, (Octets::of(ip).as_slice(), b""));
        }
        bytes
    }

    /// Frees one entry for a record.
    fn evict_for(&mut self, record: &Record, hint: Hint, now: Now) -> bool {
        if let Record::UpdateCommand { .. } = record {
            if let Some(link) = self.session_of(record, hint) {
                return self.evict_for_command(link, now);
            }
        }
        self.evict(now)
    }
}
