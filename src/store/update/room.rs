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
//! Compaction begins where pages worth [`SHATTERED_SHARE`] of the limit can be emptied, and
//! works the harder the more they are. So holes take at most a sixteenth of the limit, and
//! what one page of each kind of slot makes unavoidable.

use crate::store::counters::packed::Widths;
use crate::store::entries::contents::Contents;
use crate::store::entries::entry::{Command, Domain, Entry, Flag, Ip, Session, User};
use crate::store::entries::lifecycle::{domain_of, Octets};
use crate::store::mem::arena::Link;
use crate::store::mem::budget::{Full, Purpose, SHATTERED_SHARE};
use crate::store::mem::Hashed;
use crate::store::time::Now;
use crate::store::{Hint, Record, Store};
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

/// The share of the limit that is kept vacant for counters that grow.
const GROWTH_SHARE: usize = 64;

/// What a record may create: the bytes of the new entries' blobs, zero where it creates
/// none.
#[derive(Clone, Copy, Default)]
struct Wanted {
    command: usize,
    session: usize,
    user: usize,
    domain: usize,
    ip: usize,
}

/// What the blob of an entry that has counted nothing takes, in bytes.
fn blob_bytes<T: Entry>(texts: (&[u8], &[u8])) -> usize {
    Contents::blob_bytes(texts, T::WIDTHS)
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

    /// Makes room for what a record may need. No link found before is of use afterwards but
    /// that of the hint, by [`Store::session_again`].
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
        let wanted = self.wanted(record, hint, now);
        loop {
            let mut has_room = self.has_room(&wanted);
            // Evictions for one record can leave many holes.
            let share = match has_room && steps > 0 {
                true => MOST_SHARE,
                false => SHATTERED_SHARE,
            };
            if steps < MAX_COMPACTION && self.is_compaction_due(limit_bytes / share) {
                steps += self.compact(1);
                // It takes vacant slots, too.
                has_room = self.has_room(&wanted);
            }
            if has_room {
                // What growth has used of the reserve is given back bit by bit; not for a
                // command that goes on, which could be what is freed.
                let gives_back = evictions < MAX_GIVING_BACK
                    && self.memory.budget.room_bytes(Purpose::Create) == 0
                    && !matches!(record, Record::UpdateCommand { .. });
                if gives_back && self.evict_for(record, hint, now) {
                    evictions += 1;
                } else if steps >= MAX_COMPACTION
                    || !self.is_compaction_due(limit_bytes / MOST_SHARE)
                {
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

    /// What a record may create. Its user, domain and ip become the youngest of all, so
    /// that they are not freed for its sake.
    fn wanted(&mut self, record: &Record, hint: Hint, now: Now) -> Wanted {
        let mut wanted = Wanted::default();
        let is_refused = hint.link.is_some_and(|link| self.is_refused(record, link));
        match *record {
            _ if is_refused => {}
            Record::Connect {
                session,
                user,
                service,
                ip,
                ..
            } => {
                wanted.session = blob_bytes::<Session>((session, service));
                self.want_user(&mut wanted, (user, hint.hashes.user), now);
                self.want_ip(&mut wanted, ip, hint, now);
            }
            Record::AddUser { user, ip, .. } => {
                self.want_user(&mut wanted, (user, hint.hashes.subject), now);
                self.want_ip(&mut wanted, ip, hint, now);
            }
            Record::UpdateSession { session, .. } | Record::UpdateCommand { session, .. }
                if hint.link.is_none() =>
            {
                wanted.session = blob_bytes::<Session>((session, b""));
                wanted.user = blob_bytes::<User>((b"", b""));
                wanted.domain = blob_bytes::<Domain>((b"", b""));
            }
            Record::UpdateCommand { update, .. } => {
                if let Some(texts) = update.begins {
                    let widths = Command::WIDTHS.or(Widths::narrowest(&update.report.stats));
                    wanted.command = Contents::blob_bytes(texts, widths);
                }
            }
            Record::UpdateSession { .. } | Record::Disconnect { .. } => {}
        }
        wanted
    }

    /// Adds a user and its domain, those that are not known.
    fn want_user(&mut self, wanted: &mut Wanted, user: Hashed, now: Now) {
        let domain = match self.users.find(&self.memory, user) {
            Some(link) => {
                self.users.refresh(link, now);
                Some(self.users.arena[link].domain)
            }
            None => {
                wanted.user = blob_bytes::<User>((user.0, b""));
                let domain = self.memory.hashed(domain_of(user.0));
                self.domains.find(&self.memory, domain)
            }
        };
        match domain {
            Some(link) => self.domains.refresh(link, now),
            None => wanted.domain = blob_bytes::<Domain>((domain_of(user.0), b"")),
        }
    }

    /// Adds an ip that is not known.
    fn want_ip(&mut self, wanted: &mut Wanted, ip: Option<IpAddr>, hint: Hint, now: Now) {
        let Some(octets) = ip.map(Octets::of) else {
            return;
        };
        let octets = octets.as_slice();
        match self.ips.find(&self.memory, (octets, hint.hashes.ip)) {
            Some(link) => self.ips.refresh(link, now),
            None => wanted.ip = blob_bytes::<Ip>((octets, b"")),
        }
    }

    /// Whether there is room for what is wanted, and for growth.
    fn has_room(&self, wanted: &Wanted) -> bool {
        let heap = &self.memory.heap;
        let mut bytes = 0;
        if wanted.command > 0 {
            bytes += self.commands.wanted_bytes(heap, wanted.command);
        }
        if wanted.session > 0 {
            bytes += self.sessions.wanted_bytes(heap, wanted.session);
        }
        if wanted.user > 0 {
            bytes += self.users.wanted_bytes(heap, wanted.user);
        }
        if wanted.domain > 0 {
            bytes += self.domains.wanted_bytes(heap, wanted.domain);
        }
        if wanted.ip > 0 {
            bytes += self.ips.wanted_bytes(heap, wanted.ip);
        }
        let budget = &self.memory.budget;
        bytes <= budget.room_bytes(Purpose::Create)
            && budget.limit_bytes() / GROWTH_SHARE <= budget.room_bytes(Purpose::Grow)
    }

    /// Whether a record will be refused for the session that it is about.
    fn is_refused(&self, record: &Record, link: Link<Session>) -> bool {
        let session = &self.sessions.arena[link];
        let is_connected = session.has(Flag::Connected);
        match record {
            Record::Connect { .. } => is_connected && !session.has(Flag::Placeholder),
            _ => !is_connected,
        }
    }

    /// Frees one entry for a record.
    fn evict_for(&mut self, record: &Record, hint: Hint, now: Now) -> bool {
        if let Record::UpdateCommand { .. } = record {
            if let Some(link) = self.session_again(record, hint) {
                return self.evict_for_command(link, now);
            }
        }
        self.evict(now)
    }
}
