//! The entries of the five levels below global, and what they have in common.
//!
//! A command belongs to a session; a session to a user and, when its client has
//! an address, to an ip; a user to a domain. Parents know their children by
//! lists. All references are links of four bytes, see [`arena`](crate::store::mem::arena).
//!
//! An entry is *pinned* while something forbids freeing it: a session while connected,
//! a user, domain or ip while at least one of its sessions is connected, or while a record
//! that it belongs to is applied. A command is
//! never pinned: Dovecot seldom reports that one is done. An entry that is not
//! pinned is in its level's idle list, longest untouched first;
//! [`evict`](crate::store::update::evict) takes from there. Connected sessions are in a list of the
//! same hook, longest silent first.
//!
//! Sessions of one id are linked from the newest, which the index finds, to the oldest.
//!
//! What an entry costs, in bytes: its slot; its texts and its counters, packed (see
//! [`packed`](crate::store::counters::packed)), together in a multiple of eight. The counters of a typical
//! entry take as many bytes as listed here, of a new user or ip fewer; at most 234. In
//! addition there are four bytes of an index, but for commands, and two bits of tables.
//!
//! | level | slot | texts | counters |
//! |---|---|---|---|
//! | command | 64 | name and arguments | 26 |
//! | session | 112 | id and service | 46 |
//! | user | 80 | name | 16 to 46 |
//! | domain | 68 | name | 46 |
//! | ip | 68 | 4 or 16 | 16 to 46 |

use crate::store::counters::packed::Widths;
use crate::store::entries::contents::Contents;
use crate::store::entries::table::Table;
use crate::store::mem::arena::Link;
use crate::store::mem::index::{Chain, Indexed};
use crate::store::mem::list::{Hook, List};
use crate::store::mem::Memory;
use crate::store::Store;
use std::num::NonZeroU32;

/// A moment of the wall clock, for showing. Lasts until 2106.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// Seconds since 1970.
    pub secs: u32,
    /// Microseconds within the second.
    pub usecs: u32,
}

/// The instant at which something is applied, as the owner of the clocks read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds by a monotonic clock, from any start: what ages are made of.
    pub uptime_secs: u32,
    /// The wall clock: what is shown.
    pub wall: WallTime,
}

#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Flag {
    /// A cursor may stand here. It stays set when the cursor moves on.
    Watched = 1 << 20,
    /// Of a session: not yet disconnected.
    Connected = 1 << 21,
    /// Of a session: made for an UPDATE of a session without CONNECT.
    Placeholder = 1 << 22,
    /// Of a session: found by its id: no newer session has the same.
    Indexed = 1 << 23,
    /// Of a session: its user has not added what it counted
    /// ([`deferral`](crate::store::update::deferral)).
    DeferredByUser = 1 << 25,
    /// Of a session: its domain has not.
    DeferredByDomain = 1 << 26,
    /// Of a session: its ip has not.
    DeferredByIp = 1 << 27,
    /// Of a command: its writer reported that it is done.
    Done = 1 << 28,
}

/// When a record last reached an entry, as shown, and the entry's flags: eight
/// bytes, as microseconds need only twenty bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    secs: u32,
    /// Microseconds within the second in the lower 20 bits, flags above them.
    usecs_and_flags: u32,
}

impl Stamp {
    /// The bits of microseconds.
    const USECS: u32 = (1 << 20) - 1;

    pub(crate) fn wall(self) -> WallTime {
        WallTime {
            secs: self.secs,
            usecs: self.usecs_and_flags & Self::USECS,
        }
    }

    /// Sets the moment and keeps the flags.
    pub(crate) fn set_wall(&mut self, wall: WallTime) {
        self.secs = wall.secs;
        self.usecs_and_flags = (self.usecs_and_flags & !Self::USECS) | wall.usecs;
    }

    pub(crate) fn has(self, flag: Flag) -> bool {
        self.usecs_and_flags & flag as u32 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag, value: bool) {
        match value {
            true => self.usecs_and_flags |= flag as u32,
            false => self.usecs_and_flags &= !(flag as u32),
        }
    }
}

/// The fields that entries of all levels have, in this order: what finding an entry
/// and counting need comes first and is in one or two lines of the processor's cache.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Common<T> {
    /// Place in the level's index. Of a session that is not indexed the link is to the next
    /// newer one of its id; of a command it is unused.
    pub(crate) chain: Chain<T>,
    /// The key, what else is text, and the counters.
    pub(crate) contents: Contents,
    /// When a record last reached the entry, or it ceased to be pinned.
    pub(crate) touched_secs: u32,
    /// When a record last reached the entry, as shown, and flags.
    pub(crate) stamp: Stamp,
    /// Place in the idle list, or in that of connected sessions.
    pub(crate) in_age: Hook<T>,
    /// Place in the list of the whole level, by creation.
    pub(crate) in_level: Hook<T>,
}

impl<T> Clone for Common<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Common<T> {}

impl<T> Common<T> {
    /// Of an entry that has not been created.
    pub(crate) const BLANK: Common<T> = Common {
        chain: Chain::NONE,
        contents: Contents::NONE,
        touched_secs: 0,
        stamp: Stamp {
            secs: 0,
            usecs_and_flags: 0,
        },
        in_age: Hook::NONE,
        in_level: Hook::NONE,
    };
}

/// A reference to an entry of any level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Command(Link<Command>),
    Session(Link<Session>),
    User(Link<User>),
    Domain(Link<Domain>),
    Ip(Link<Ip>),
}

/// The expression, with the link of a [`Node`] bound to a name: compiled once for each kind
/// of entries. It reaches the entry by what is generic over [`Entry`].
macro_rules! with_link {
    ($node:expr, $link:ident => $body:expr) => {
        match $node {
            Node::Command($link) => $body,
            Node::Session($link) => $body,
            Node::User($link) => $body,
            Node::Domain($link) => $body,
            Node::Ip($link) => $body,
        }
    };
}
pub(crate) use with_link;

impl Store {
    /// The level of a link.
    pub(crate) fn table<T: Entry>(&self, _: Link<T>) -> &Table<T> {
        T::table(self)
    }

    #[inline(always)]
    pub(crate) fn entry<T: Entry>(&self, link: Link<T>) -> &T {
        &T::table(self).arena[link]
    }

    #[inline(always)]
    pub(crate) fn entry_mut<T: Entry>(&mut self, link: Link<T>) -> &mut T {
        &mut T::table_mut(self).0.arena[link]
    }
}

/// An entry of any level.
pub(crate) trait Entry: Indexed {
    /// The value of vacant slots in fresh pages.
    const BLANK: Self;
    /// The widths of counters that a new entry has from the beginning: what most
    /// entries that live on come to need. So a limit that is full of entries which
    /// may not be freed does not keep them from counting.
    const WIDTHS: Widths;
    /// Whether the list of the level has the newest entry first.
    const NEWEST_FIRST: bool;
    fn node(link: Link<Self>) -> Node;
    fn table(store: &Store) -> &Table<Self>;
    fn table_mut(store: &mut Store) -> (&mut Table<Self>, &mut Memory);
    fn common(&self) -> &Common<Self>;
    fn common_mut(&mut self) -> &mut Common<Self>;
    /// Whether the entry must not be freed; then it is not in the idle list.
    fn is_pinned(&self) -> bool;
    /// The child that is freed first.
    fn oldest_child(&self) -> Option<Node>;
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Command {
    pub(crate) common: Common<Command>,
    /// The session that issued it.
    pub(crate) session: Link<Session>,
    /// Place in the session's list, by creation.
    pub(crate) in_session: Hook<Command>,
    /// Its number within the session; of a command of an older state there may be none.
    pub(crate) number: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Session {
    pub(crate) common: Common<Session>,
    /// Its commands, oldest first.
    pub(crate) commands: List<Command>,
    pub(crate) command_count: u32,
    /// The next older session of the same id.
    pub(crate) older: Option<Link<Session>>,
    /// The user's domain, without a look at the user.
    pub(crate) domain: Link<Domain>,
    pub(crate) user: Link<User>,
    pub(crate) ip: Option<Link<Ip>>,
    /// Place in the user's list, newest first.
    pub(crate) in_user: Hook<Session>,
    /// Place in the ip's list, newest first.
    pub(crate) in_ip: Hook<Session>,
    /// The process, 0 when unknown.
    pub(crate) pid: u32,
    /// When its first record came, in seconds since 1970; 0 in an older state.
    pub(crate) created_secs: u32,
    /// The next session that its user defers.
    pub(crate) deferred_by_user: Option<Link<Session>>,
    /// The next session that its domain defers.
    pub(crate) deferred_by_domain: Option<Link<Session>>,
    /// The next session that its ip defers.
    pub(crate) deferred_by_ip: Option<Link<Session>>,
}

impl Session {
    #[inline(always)]
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.common.stamp.has(flag)
    }

    pub(crate) fn set(&mut self, flag: Flag, value: bool) {
        self.common.stamp.set(flag, value);
    }

    /// The next newer session of the same id.
    pub(crate) fn newer(&self) -> Option<Link<Session>> {
        match self.has(Flag::Indexed) {
            true => None,
            false => self.common.chain.next,
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct User {
    pub(crate) common: Common<User>,
    /// The part of the name behind the first `@`.
    pub(crate) domain: Link<Domain>,
    /// Place in the domain's list, newest first.
    pub(crate) in_domain: Hook<User>,
    /// Sessions, newest first.
    pub(crate) sessions: List<Session>,
    /// The first session that is deferred, see [`deferral`](crate::store::update::deferral).
    pub(crate) deferred: Option<Link<Session>>,
    /// The number of connected sessions.
    pub(crate) connected: u32,
    /// When the entry was created, in seconds since 1970.
    pub(crate) created_secs: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Domain {
    pub(crate) common: Common<Domain>,
    /// Users, newest first.
    pub(crate) users: List<User>,
    /// The first session that is deferred, see [`deferral`](crate::store::update::deferral).
    pub(crate) deferred: Option<Link<Session>>,
    /// The number of connected sessions.
    pub(crate) connected: u32,
    /// When the entry was created, in seconds since 1970.
    pub(crate) created_secs: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Ip {
    pub(crate) common: Common<Ip>,
    /// Sessions, newest first.
    pub(crate) sessions: List<Session>,
    /// The first session that is deferred, see [`deferral`](crate::store::update::deferral).
    pub(crate) deferred: Option<Link<Session>>,
    /// The number of connected sessions.
    pub(crate) connected: u32,
    /// When the entry was created, in seconds since 1970.
    pub(crate) created_secs: u32,
}

/// A user, domain or ip, which connected sessions pin.
pub(crate) trait Parent: Entry {
    /// The number of pins: connected sessions, and more while a record is applied.
    fn connected_mut(&mut self) -> &mut u32;
}

/// Placeholder for a link in a blank entry; it is never followed.
const fn nowhere<T>() -> Link<T> {
    Link::from_number(NonZeroU32::MIN)
}

macro_rules! entries {
    ($(
        $name:ident in $table:ident { $($field:ident: $blank:expr),* }
        $widths:ident, indexed $is_indexed:literal, newest first $newest_first:literal,
        |$entry:ident| pinned $is_pinned:expr, child $child:expr;
    )*) => {$(
        impl Indexed for $name {
            const IS_INDEXED: bool = $is_indexed;
            fn chain(&self) -> &Chain<Self> {
                &self.common.chain
            }
            fn chain_mut(&mut self) -> &mut Chain<Self> {
                &mut self.common.chain
            }
        }

        impl Entry for $name {
            const WIDTHS: Widths = Widths::$widths;
            const NEWEST_FIRST: bool = $newest_first;
            const BLANK: $name = $name {
                common: Common::BLANK,
                $($field: $blank),*
            };
            fn node(link: Link<Self>) -> Node {
                Node::$name(link)
            }
            fn table(store: &Store) -> &Table<Self> {
                &store.$table
            }
            fn table_mut(store: &mut Store) -> (&mut Table<Self>, &mut Memory) {
                (&mut store.$table, &mut store.memory)
            }
            fn is_pinned(&self) -> bool {
                let $entry = self;
                $is_pinned
            }
            fn oldest_child(&self) -> Option<Node> {
                let $entry = self;
                $child
            }
            fn common(&self) -> &Common<Self> {
                &self.common
            }
            fn common_mut(&mut self) -> &mut Common<Self> {
                &mut self.common
            }
        }
    )*};
}

entries! {
    Command in commands { session: nowhere(), in_session: Hook::NONE, number: None }
        NONE, indexed false, newest first false,
        |_entry| pinned false, child None;
    Session in sessions {
        user: nowhere(), domain: nowhere(), ip: None, in_user: Hook::NONE, in_ip: Hook::NONE,
        commands: List::EMPTY, command_count: 0, older: None, pid: 0, created_secs: 0, deferred_by_user: None,
        deferred_by_domain: None, deferred_by_ip: None
    }
        SESSION, indexed true, newest first true,
        |session| pinned session.has(Flag::Connected), child session.commands.head.map(Node::Command);
    User in users {
        domain: nowhere(), in_domain: Hook::NONE, sessions: List::EMPTY, deferred: None,
        connected: 0, created_secs: 0
    }
        EVENTS, indexed true, newest first true,
        |user| pinned user.connected > 0, child user.sessions.tail.map(Node::Session);
    Domain in domains { users: List::EMPTY, deferred: None, connected: 0, created_secs: 0 }
        SESSION, indexed true, newest first true,
        |domain| pinned domain.connected > 0, child domain.users.tail.map(Node::User);
    Ip in ips { sessions: List::EMPTY, deferred: None, connected: 0, created_secs: 0 }
        EVENTS, indexed true, newest first true,
        |ip| pinned ip.connected > 0, child ip.sessions.tail.map(Node::Session);
}

macro_rules! parents {
    ($($name:ident)*) => {$(
        impl Parent for $name {
            fn connected_mut(&mut self) -> &mut u32 {
                &mut self.connected
            }
        }
    )*};
}

parents! { User Domain Ip }
