//! The plain values that a store is saved as.
//!
//! A new field of a level is a line here, one in
//! [`save`](super::save) and [`restore`](super::restore), and one in the items of a state
//! file ([`wire`](crate::wire)).

use crate::store::entries::entry::PARENT_LEVELS;
use crate::store::{Counters, Key, Latency, Level, WallTime, LEVELS};
use std::num::NonZeroU32;

/// A value that no export wrote, or none that was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// The fields of entries of all levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Seconds since a record reached the entry or it was unpinned.
    pub age_secs: u32,
    /// When a record last reached it, as shown.
    pub last_update: WallTime,
    pub counters: Counters,
    /// How many entries of its level are older; 0 in version 1.
    pub place: u32,
}

/// The fields of users, domains and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// When the entry was made, in seconds since 1970.
    pub created_secs: u32,
    /// Whether connected sessions pin it.
    pub is_pinned: bool,
    pub basis: Basis,
    /// What sessions counted and it has not added yet: its counters have it in
    /// version 1.
    pub pending: Counters,
}

/// How much a store contained when its values were handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Sessions.
    pub connected: u64,
    /// Entries of the levels command, session, user, domain and ip, with the last those of
    /// all levels that came later.
    pub entries: [u64; 5],
    pub used_bytes: u64,
}

impl Kept {
    /// Its entries, of the numbers of those of each level.
    pub(super) fn entries_of(counts: [u64; LEVELS]) -> [u64; 5] {
        let mut entries = [0; 5];
        for (index, count) in counts.into_iter().enumerate() {
            entries[index.min(4)] += count;
        }
        entries
    }
}

/// A list whose order version 1 has behind all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All domains, oldest first, as in all lists.
    Domains,
    Ips,
    /// All users, and those of each domain.
    Users,
    Sessions,
    /// All commands, and those of each session.
    Commands,
    /// The sessions of a user.
    UserSessions,
    /// The sessions of an address.
    IpSessions,
}

impl Listing {
    pub(crate) const ALL: [Listing; 7] = [
        Listing::Domains,
        Listing::Ips,
        Listing::Users,
        Listing::Sessions,
        Listing::Commands,
        Listing::UserSessions,
        Listing::IpSessions,
    ];
}

/// One value of a store. Numbers of entries count those of their level.
// One at a time is made, on the stack.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved<'a> {
    /// The totals; the first of all values.
    Global {
        /// The time of the export.
        now: WallTime,
        /// When counting began, in seconds since 1970.
        reset_secs: u32,
        /// When a record last added to the totals.
        last_update: WallTime,
        counters: Counters,
        /// `None` in version 1, whose entries come level by level, oldest first.
        kept: Option<Kept>,
    },
    /// A kind of work, which comes before all entries.
    Service {
        name: &'a [u8],
        /// When counting began, in seconds since 1970.
        reset_secs: u32,
        last_update: WallTime,
        counters: Counters,
    },
    /// The commands of a name.
    Cmd {
        service: &'a [u8],
        name: &'a [u8],
        reset_secs: u32,
        last_update: WallTime,
        counters: Counters,
        latency: Latency,
    },
    Parent {
        level: Level,
        key: Key<'a>,
        /// The number of a user's domain.
        above: Option<u32>,
        origin: Origin,
    },
    Session {
        id: &'a [u8],
        /// `imap`, `pop3`, `lmtp`...
        service: &'a [u8],
        /// The number of its user.
        user: u32,
        /// The number of its address.
        ip: Option<u32>,
        /// The process, 0 when unknown.
        pid: u32,
        connected: bool,
        /// Whether it had an UPDATE and no CONNECT.
        placeholder: bool,
        /// Whether it is the newest of its id.
        indexed: bool,
        basis: Basis,
        /// How many sessions its user has longer; 0 in version 1.
        user_place: u32,
        /// How many sessions its address has longer; 0 in version 1.
        ip_place: u32,
        /// Whether its user, domain and address have not added what it counted.
        pending: [bool; PARENT_LEVELS],
        /// When its first record came, in seconds since 1970; 0 when unknown.
        created_secs: u32,
    },
    Command {
        /// The number of its session.
        session: u32,
        name: &'a [u8],
        args: &'a [u8],
        /// Its number within the session; in version 1 only while it is not done.
        command_number: Option<NonZeroU32>,
        /// Whether its writer reported that it is done.
        is_done: bool,
        basis: Basis,
        /// The number of the [`Saved::Cmd`] where it counts: that of a placeholder's service
        /// where the session was one.
        cmd: Option<u32>,
        /// Whether it is over, whatever follows it now.
        is_over: bool,
    },
}
