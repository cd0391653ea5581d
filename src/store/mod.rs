//! The statistics of everything that happened, in a bounded memory.
//!
//! The way of the data: a [`Record`] is applied ([`Store::apply_hinted`]) at one instant
//! [`Now`]: it finds or creates the entries that it is about and counts upwards from them. A
//! cursor ([`Store::open`], [`Store::read`]) walks a level in slices and returns [`Row`]s.
//!
//! The rooms, from the bottom up; each imports only what stands above it here:
//!
//! | module | what it owns |
//! |---|---|
//! | `mem` | memory within the byte budget: slabs, arenas, heap, lists, indexes |
//! | `counters` | what an entry counts; packed counters |
//! | `time` | instants |
//! | `record` | the input, and what is remarkable about it |
//! | `kinds` | services and command names, how long commands took |
//! | `entries` | commands, sessions, users, domains, ips: created, linked, freed |
//! | `update` | records applied, room made for them, prefetch, deferral |
//! | `filter`, `row` | what a request selects, and the output |
//! | `query` | a level walked in slices while the store changes |
//! | `snapshot` | everything as plain values, and back |
//! | `check` | all invariants recounted, for tests and fuzzing |
//!
//! Methods of [`Store`] call each other across the rooms in two places: before an entry is
//! freed, cursors move on; and creating an entry evicts others, or has a session deferred.
//!
//! Invariants, beside those of the modules:
//! - Totals of a parent (a user, domain or ip) = its own counters + those of its sessions that
//!   it defers. Freeing a child changes no total.
//! - `connected` of a parent is the number of its connected sessions; an
//!   entry is in the idle list of its level exactly when it is not pinned.
//! - Entries move to other slots only before a record is applied; all links follow then.
//!
//! Must not: read a clock, a file or a socket. Ages are in seconds of the caller's monotonic
//! clock, shown times are of the caller's wall clock.

#![forbid(unsafe_code)]

#[cfg(any(test, feature = "internals"))]
mod check;
mod counters;
mod entries;
mod filter;
mod kinds;
mod mem;
mod query;
mod record;
mod row;
mod snapshot;
mod time;
mod update;
pub(crate) mod wildcard;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use entries::contents::MAX_TEXT_BYTES;
pub use filter::{Filter, Network, Pattern};
pub use kinds::latency::{Latency, BOUNDS_USECS, QUANTILES};
pub use kinds::slow::{SlowCommand, SlowLimit};
pub use mem::budget::Full;
pub use query::cursor::{CursorId, Progress};
pub use query::plan::Opening;
pub(crate) use query::rank::biggest_bytes;
pub use record::{CommandUpdate, Note, Record};
pub use row::{Key, Row, Totals};
pub use snapshot::restore::Restoring;
pub(crate) use snapshot::values::{Basis, Kept, Listing, Origin, Saved};
pub use time::{Now, WallTime};
#[cfg(feature = "internals")]
pub use update::apply::SILENCE_SECS;
pub use update::prefetch::{Hint, PREFETCH_BATCH};

use entries::entry::{each_parent, Command, Domain, Entry, Ip, Session, User};
use entries::table::Table;
use entries::untracked::Untracked;
use kinds::slow::SlowLog;
use kinds::Kinds;
use mem::list::List;
use mem::Memory;
use query::cursor::Cursor;
use update::compact::Sweeps;

/// A level of detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One row a command.
    Command,
    /// One row a session.
    Session,
    /// One row a user.
    User,
    /// One row a domain.
    Domain,
    /// One row a remote address.
    Ip,
    /// One row in all.
    Global,
    /// One row a service: `imap`, `pop3`...
    Service,
    /// One row a command name of a service.
    Cmd,
}

impl Level {
    /// From the most detailed on, then the kinds of work.
    pub const ALL: [Level; 8] = [
        Level::Command,
        Level::Session,
        Level::User,
        Level::Domain,
        Level::Ip,
        Level::Global,
        Level::Service,
        Level::Cmd,
    ];

    /// Those whose entries have totals, which carbon and Prometheus can get.
    pub const WITH_TOTALS: [Level; 6] = [
        Level::Global,
        Level::Domain,
        Level::User,
        Level::Ip,
        Level::Service,
        Level::Cmd,
    ];

    /// The name in requests, replies, metrics, carbon paths and settings.
    pub fn name(self) -> &'static str {
        match self {
            Level::Command => "command",
            Level::Session => "session",
            Level::User => "user",
            Level::Domain => "domain",
            Level::Ip => "ip",
            Level::Global => "global",
            Level::Service => "service",
            Level::Cmd => "cmd",
        }
    }

    /// The level of that name.
    pub fn named(name: &[u8]) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|table| table.name().as_bytes() == name)
    }
}

/// How many levels have entries that are freed: the first ones.
pub const LEVELS: usize = Level::Global as usize;

/// What the administrator decides about the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All memory for statistics, in bytes.
    pub memory_bytes: usize,
    /// Seconds that an entry of each level is kept untouched and unpinned if memory allows,
    /// in the order of [`Level::ALL`].
    pub min_time_secs: [u32; LEVELS],
}

/// Numbers about the store itself, for status lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, which the limit bounds.
    pub used_bytes: usize,
    /// Bytes in use and spare pages.
    pub resident_bytes: usize,
    /// The part of the bytes in use that is vacant between entries.
    pub lost_bytes: usize,
    /// The limit in bytes.
    pub limit_bytes: usize,
    /// Entries of each level, in the order of [`Level::ALL`].
    pub entries: [usize; LEVELS],
    /// Entries of the same levels freed to make room.
    pub evictions: [u64; LEVELS],
}

#[derive(Debug)]
struct Global {
    /// Since `reset_secs`, what no service has: that of a state without services.
    counters: Counters,
    connected: u64,
    /// When counting began, in seconds since 1970.
    reset_secs: u32,
    /// When a record last added to the totals; zero if none did.
    last_update: WallTime,
}

/// All statistics. See the module.
#[derive(Debug)]
pub struct Store {
    memory: Memory,
    commands: Table<Command>,
    sessions: Table<Session>,
    /// The connected sessions, longest silent first.
    connected: List<Session>,
    /// The number of sessions, connected or not, that have commands.
    sessions_with_commands: usize,
    users: Table<User>,
    domains: Table<Domain>,
    ips: Table<Ip>,
    untracked: Untracked,
    global: Global,
    kinds: Kinds,
    slow: SlowLog,
    /// Something could not be added when its session was freed, and no note was returned
    /// for it yet.
    has_lost: bool,
    cursors: Vec<Option<Cursor>>,
    sweeps: Sweeps,
}

/// The size of slabs' pages under a memory limit: as small as the kernel's where
/// the limit is small, because every kind of slot has a page that is not full,
/// some thirty in all; never more than 32,768 of them, because each is a mapping
/// and the kernel has some 65,000 for a process.
fn page_bytes(limit_bytes: usize) -> usize {
    let power = |bytes: usize| 1 << bytes.max(1).ilog2();
    let few_mappings: usize = power(limit_bytes / 32768);
    few_mappings.max(power(limit_bytes / 1024).clamp(4096, 65536))
}

impl Store {
    /// A store without entries.
    ///
    /// # Errors
    /// [`Full`] when the limit is too small for the indexes alone.
    pub fn new(limits: &Limits, now: Now) -> Result<Store, Full> {
        let page_bytes = page_bytes(limits.memory_bytes);
        let mut memory = Memory::new(limits.memory_bytes, page_bytes);
        let budget = &mut memory.budget;
        Ok(Store {
            commands: Table::new(
                limits.min_time_secs[Level::Command as usize],
                page_bytes,
                budget,
            )?,
            sessions: Table::new(
                limits.min_time_secs[Level::Session as usize],
                page_bytes,
                budget,
            )?,
            connected: List::EMPTY,
            sessions_with_commands: 0,
            users: Table::new(
                limits.min_time_secs[Level::User as usize],
                page_bytes,
                budget,
            )?,
            domains: Table::new(
                limits.min_time_secs[Level::Domain as usize],
                page_bytes,
                budget,
            )?,
            ips: Table::new(limits.min_time_secs[Level::Ip as usize], page_bytes, budget)?,
            kinds: Kinds::new(budget, now)?,
            slow: SlowLog::default(),
            memory,
            untracked: Untracked::default(),
            global: Global {
                counters: Counters::default(),
                connected: 0,
                reset_secs: now.wall.secs,
                last_update: WallTime::default(),
            },
            has_lost: false,
            cursors: Vec::new(),
            sweeps: Sweeps::default(),
        })
    }

    /// Sets the min_times anew; the memory limit is decided once.
    pub fn set_min_times(&mut self, limits: &Limits) {
        self.commands.min_time_secs = limits.min_time_secs[Level::Command as usize];
        self.sessions.min_time_secs = limits.min_time_secs[Level::Session as usize];
        each_parent!(P => {
            P::table_mut(self).0.min_time_secs = limits.min_time_secs[P::LEVEL as usize];
        });
    }

    /// Sets which commands are noted as slow; `None`: none.
    pub fn set_slow_limit(&mut self, limit: Option<SlowLimit>) {
        self.slow.set_limit(limit);
    }

    /// Takes the slow commands that ended since the last call, and how many more there were.
    pub fn take_slow(&mut self) -> (Vec<SlowCommand>, u64) {
        self.slow.take()
    }

    /// Numbers about the store itself.
    pub fn usage(&self) -> Usage {
        let budget = &self.memory.budget;
        let lost_bytes = self.memory.heap.slab_bytes().lost;
        fn add<T: Entry>(table: &Table<T>) -> (usize, usize, u64) {
            (
                table.arena.slab_bytes().lost,
                table.arena.len(),
                table.evictions,
            )
        }
        let mut levels = [(0, 0, 0); LEVELS];
        levels[Level::Command as usize] = add(&self.commands);
        levels[Level::Session as usize] = add(&self.sessions);
        each_parent!(P => levels[P::LEVEL as usize] = add(P::table(self)));
        Usage {
            used_bytes: budget.used_bytes(),
            resident_bytes: budget.used_bytes() + budget.spare_bytes(),
            lost_bytes: levels.iter().fold(lost_bytes, |sum, (lost, ..)| sum + lost),
            limit_bytes: budget.limit_bytes(),
            entries: levels.map(|(_, count, _)| count),
            evictions: levels.map(|(.., count)| count),
        }
    }
}
