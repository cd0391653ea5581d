//! Room for what a record may need, made before it is applied.
//!
//! While a record is applied, it holds links; so entries move only here, before it
//! does. A record that may make entries is measured by what its slots and blobs can
//! take from the budget at most; until that fits, sparse pages are emptied
//! ([`compact`](super::compact)) or entries freed ([`evict`](super::evict)). Both are
//! bounded for each record, by [`MAX_COMPACTION`] and [`MAX_EVICTIONS`].
//!
//! What was not foreseen, above all counters that outgrow their blobs, still makes room
//! by freeing entries in the middle of a record ([`Store::with_room`]); a part of the
//! reserve of the budget is kept vacant so that this is rare.
//!
//! Compaction begins where some pages ([`DUE_PAGES`]) can be emptied and memory is short,
//! or pages worth [`SHATTERED_SHARE`] of the limit at any time, and works the harder the
//! more they are. So holes take at most about an eighth of the limit, and what one page of
//! each kind of slot makes unavoidable.

use super::budget::{Budget, Full, Purpose, SHATTERED_SHARE};
use super::entry::{Entry, Flag, Now};
use super::lanes::Lanes;
use super::level::Level;
use super::making::{domain_of, Octets};
use super::packed::Codes;
use super::{page_bytes, Hint, Record, Store};

/// The most entries that are freed for one record beforehand. Enough to empty several of
/// the largest pages, few enough for one turn of the loop.
const MAX_EVICTIONS: usize = 4000;

/// The most that are freed for something of it that has no room all the same.
const MAX_MORE_EVICTIONS: usize = 1000;

/// The most steps of compaction for one record: some milliseconds.
const MAX_COMPACTION: usize = 32_768;

/// After so many evictions that made no room, compaction is made more of by as much as it
/// began with.
const EVICTIONS_PER_EFFORT: usize = 64;

/// As much as there is ever made of compaction.
const MAX_EFFORT: usize = 64;

/// So many pages to be emptied are worth compaction while memory is short.
const DUE_PAGES: usize = 4;

/// The share of the limit that is kept vacant for counters that grow.
const GROWTH_SHARE: usize = 64;

impl Budget {
    /// Whether there is room for new entries of so many bytes, and for growth.
    fn has_room(&self, wanted_bytes: usize) -> bool {
        wanted_bytes <= self.room_bytes(Purpose::Create)
            && self.limit_bytes() / GROWTH_SHARE <= self.room_bytes(Purpose::Grow)
    }
}

impl Store {
    /// Tries, freeing one entry after the other, until it succeeds, or nothing is
    /// left to free, or [`MAX_MORE_EVICTIONS`] have been freed for it: then the next
    /// record goes on.
    pub(super) fn with_room<T>(
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
    pub(super) fn make_room_for(&mut self, record: &Record, hint: Hint, now: Now) {
        if !self.memory.budget.is_ample() {
            self.make_room(record, hint, now);
        }
    }

    /// The same, when memory is short or full of holes.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, record: &Record, hint: Hint, now: Now) {
        let (mut evictions, mut steps) = (0, 0);
        let limit_bytes = self.memory.budget.limit_bytes();
        let codes = match record {
            Record::UpdateCommand { update, .. } => {
                Codes::narrowest(&Lanes::of_stats(&update.report.stats))
            }
            _ => Codes::NONE,
        };
        loop {
            let wanted_bytes = self.wanted_bytes(record, hint, codes);
            let has_room = self.memory.budget.has_room(wanted_bytes);
            let due_bytes = match has_room {
                true => limit_bytes / SHATTERED_SHARE,
                false => DUE_PAGES * page_bytes(limit_bytes),
            };
            if steps < MAX_COMPACTION && self.is_compaction_due(due_bytes) {
                steps += self.compact(1 + evictions / EVICTIONS_PER_EFFORT);
            }
            if has_room || self.memory.budget.has_room(wanted_bytes) {
                return;
            }
            if evictions < MAX_EVICTIONS && self.evict_for(record, hint, now) {
                evictions += 1;
                continue;
            }
            if steps >= MAX_COMPACTION || !self.is_compaction_due(0) {
                return;
            }
            steps += self.compact(MAX_EFFORT);
        }
    }

    /// What the entries that a record may make can take from the budget, in bytes.
    fn wanted_bytes(&self, record: &Record, hint: Hint, codes: Codes) -> usize {
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
                let ip = ip.map(Octets::of);
                self.wanted_by(&self.sessions, (session, service))
                    + self.wanted_by_user(user)
                    + ip.map_or(0, |ip| self.wanted_by(&self.ips, (ip.as_slice(), b"")))
            }
            Record::AddUser { user, ip, .. } => {
                let ip = ip.map(Octets::of);
                self.wanted_by_user(user)
                    + ip.map_or(0, |ip| self.wanted_by(&self.ips, (ip.as_slice(), b"")))
            }
            Record::UpdateSession { session, .. } | Record::UpdateCommand { session, .. }
                if self.find_hinted(session, hint).is_none() =>
            {
                self.wanted_by(&self.sessions, (session, b"")) + self.wanted_by_user(b"")
            }
            Record::UpdateCommand { update, .. } => match update.begins {
                Some(texts) if !self.is_refused(record, hint) => {
                    self.commands.wanted_bytes(&self.memory, texts, codes)
                }
                _ => 0,
            },
            Record::UpdateSession { .. } | Record::Disconnect { .. } => 0,
        }
    }

    /// Whether a record will be refused for the session that it is about.
    fn is_refused(&self, record: &Record, hint: Hint) -> bool {
        let known = self.find_hinted(record.subject(), hint);
        known.is_some_and(|link| {
            let session = &self.sessions.arena[link];
            let is_connected = session.has(Flag::Connected);
            match record {
                Record::Connect { .. } => is_connected && !session.has(Flag::Placeholder),
                _ => !is_connected,
            }
        })
    }

    /// The same of an entry that has counted nothing.
    fn wanted_by<T: Entry>(&self, level: &Level<T>, texts: (&[u8], &[u8])) -> usize {
        level.wanted_bytes(&self.memory, texts, Codes::NONE)
    }

    /// The same of a user and its domain.
    fn wanted_by_user(&self, name: &[u8]) -> usize {
        self.wanted_by(&self.users, (name, b""))
            + self.wanted_by(&self.domains, (domain_of(name), b""))
    }

    /// Frees one entry for a record.
    fn evict_for(&mut self, record: &Record, hint: Hint, now: Now) -> bool {
        if let Record::UpdateCommand { session, .. } = *record {
            if let Some(link) = self.find_hinted(session, hint) {
                return self.evict_for_command(link, now);
            }
        }
        self.evict(now)
    }
}
