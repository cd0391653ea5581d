//! The statistics of everything that happened, in a bounded memory.
//!
//! The way of the data: a [`Record`] is applied ([`Store::apply`]) at one
//! instant [`Now`], which finds or makes the entries it is about and counts
//! upwards from them; a cursor ([`Store::open`], [`Store::read`]) walks a level
//! in slices and hands out [`Row`]s. Between the two lie, from the bottom up:
//!
//! | module | what it is |
//! |---|---|
//! | `budget` | the byte budget everything is charged to |
//! | `slab`, `vacancies` | slots of one size in pages; which of them are vacant |
//! | `arena`, `list`, `index`, `hash` | typed entries, lists through them, hashes to them |
//! | `heap`, `lanes`, `packed` | bytes of any length, counters as words and in few bytes |
//! | `memory`, `contents` | what levels share; texts and counters of an entry in it |
//! | `entry`, `level` | the five kinds of entries; one level of them |
//! | `making`, `apply` | entries made and freed, records applied |
//! | `room`, `evict`, `compact` | room made for a record: entries freed, or moved together |
//! | `again` | records that say again what is known |
//! | `untracked` | whose the sessions are that had no room |
//! | `ahead` | memory that records are about to need |
//! | `deferred` | what users, domains and ips have not added yet |
//! | `filter`, `opening`, `cursor`, `row` | what is listed, from where, in which slices, as what |
//! | `state`, `restore` | everything as plain values, and back |
//! | `biggest` | the few entries of a level that matter most |
//! | `check` | all invariants recounted, for tests |
//!
//! Invariants, beside those of the modules:
//! - Totals of a user, domain or ip are its own counters and those of its sessions that
//!   it defers; freeing a child changes no sum.
//! - `connected` of a user, domain or ip is the number of its connected
//!   sessions; an entry is in the idle list of its level exactly when nothing
//!   pins it.
//! - Entries move to other slots only between records; links are followed then.
//! - Nothing here reads a clock, a file or a socket; ages are in seconds of the
//!   caller's monotonic clock, shown times are the caller's wall clock.

mod check;
mod counters;
mod entries;
mod filter;
mod mem;
mod query;
mod record;
mod row;
mod snapshot;
mod update;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use entries::contents::MAX_TEXT_BYTES;
pub use entries::entry::{Now, WallTime};
pub use filter::{wildcard_match, Filter, Network, Pattern};
pub use mem::budget::Full;
pub use query::cursor::{CursorId, Progress};
pub use query::plan::Opening;
pub use query::rank::biggest_bytes;
pub use record::{CommandUpdate, Note, Record};
pub use row::{Row, Totals};
pub use snapshot::restore::{Restoring, Unsound, MAX_AWAY_SECS};
pub use snapshot::save::{Basis, Kept, Listing, Origin, Saved};
pub use update::apply::SILENCE_SECS;
pub use update::prefetch::{Hint, PREFETCH_BATCH};

use entries::entry::{Command, Domain, Ip, Session, User};
use entries::level::Level;
use entries::untracked::Untracked;
use mem::list::List;
use mem::Memory;
use query::cursor::Cursor;
use update::compact::Sweeps;

/// A zoom level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zoom {
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
}

impl Zoom {
    /// All levels, as far in as possible first.
    pub const ALL: [Zoom; 6] = [
        Zoom::Command,
        Zoom::Session,
        Zoom::User,
        Zoom::Domain,
        Zoom::Ip,
        Zoom::Global,
    ];

    /// What requests call the level.
    pub fn name(self) -> &'static str {
        match self {
            Zoom::Command => "command",
            Zoom::Session => "session",
            Zoom::User => "user",
            Zoom::Domain => "domain",
            Zoom::Ip => "ip",
            Zoom::Global => "global",
        }
    }

    /// The level of that name.
    pub fn named(name: &[u8]) -> Option<Zoom> {
        Zoom::ALL
            .into_iter()
            .find(|level| level.name().as_bytes() == name)
    }
}

/// What the administrator decides about the store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All memory for statistics, in bytes.
    pub memory_bytes: usize,
    /// How long a command is kept untouched if memory allows.
    pub command_min_time_secs: u32,
    /// The same for a disconnected session.
    pub session_min_time_secs: u32,
    /// The same for a user without connected sessions.
    pub user_min_time_secs: u32,
    /// The same for a domain.
    pub domain_min_time_secs: u32,
    /// The same for an address.
    pub ip_min_time_secs: u32,
}

/// Numbers about the store itself, for status lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use: what the limit is about.
    pub used_bytes: usize,
    /// Bytes that are resident for statistics: those in use, and a few pages that wait
    /// to be used again.
    pub resident_bytes: usize,
    /// The part of the bytes in use that is vacant between entries.
    pub lost_bytes: usize,
    /// The limit in bytes.
    pub limit_bytes: usize,
    /// Entries of the levels command, session, user, domain and ip.
    pub entries: [usize; 5],
    /// Entries of the same levels freed to make room.
    pub evictions: [u64; 5],
}

/// The totals of everything.
#[derive(Debug)]
struct Global {
    /// Since `reset_secs`.
    counters: Counters,
    /// Sessions connected now.
    connected: u64,
    /// When counting began, in seconds since 1970.
    reset_secs: u32,
    /// When a record last added to the totals; zero if none did.
    last_update: WallTime,
}

/// All statistics. See the module.
#[derive(Debug)]
pub struct Store {
    /// What the levels share.
    memory: Memory,
    /// The commands, which are in no index.
    commands: Level<Command>,
    /// The sessions.
    sessions: Level<Session>,
    /// The connected ones, longest silent first.
    connected: List<Session>,
    /// How many of them, connected or not, have commands.
    sessions_with_commands: usize,
    /// The users.
    users: Level<User>,
    /// The domains.
    domains: Level<Domain>,
    /// The addresses.
    ips: Level<Ip>,
    /// Whose the sessions are that had no room.
    untracked: Untracked,
    /// The totals.
    global: Global,
    /// Something could not be added when its session was freed, and nobody was told yet.
    has_lost: bool,
    /// The cursors in use.
    cursors: Vec<Option<Cursor>>,
    /// Where compaction goes on.
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
            commands: Level::new(limits.command_min_time_secs, page_bytes, budget)?,
            sessions: Level::new(limits.session_min_time_secs, page_bytes, budget)?,
            connected: List::EMPTY,
            sessions_with_commands: 0,
            users: Level::new(limits.user_min_time_secs, page_bytes, budget)?,
            domains: Level::new(limits.domain_min_time_secs, page_bytes, budget)?,
            ips: Level::new(limits.ip_min_time_secs, page_bytes, budget)?,
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
        self.commands.min_time_secs = limits.command_min_time_secs;
        self.sessions.min_time_secs = limits.session_min_time_secs;
        self.users.min_time_secs = limits.user_min_time_secs;
        self.domains.min_time_secs = limits.domain_min_time_secs;
        self.ips.min_time_secs = limits.ip_min_time_secs;
    }

    /// Numbers about the store itself.
    pub fn usage(&self) -> Usage {
        let budget = &self.memory.budget;
        let mut pages = self.memory.heap.slab_bytes();
        pages += self.commands.arena.slab_bytes();
        pages += self.sessions.arena.slab_bytes();
        pages += self.users.arena.slab_bytes();
        pages += self.domains.arena.slab_bytes();
        pages += self.ips.arena.slab_bytes();
        Usage {
            used_bytes: budget.used_bytes(),
            resident_bytes: budget.used_bytes() + budget.spare_bytes(),
            lost_bytes: pages.lost,
            limit_bytes: budget.limit_bytes(),
            entries: [
                self.commands.arena.len(),
                self.sessions.arena.len(),
                self.users.arena.len(),
                self.domains.arena.len(),
                self.ips.arena.len(),
            ],
            evictions: [
                self.commands.evictions,
                self.sessions.evictions,
                self.users.evictions,
                self.domains.evictions,
                self.ips.evictions,
            ],
        }
    }
}
