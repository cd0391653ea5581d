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
//! [`packed`](crate::store::counters::packed)), together in a multiple of eight. The counters
//! of a typical entry take as many bytes as listed here, of a new user or ip fewer; at most
//! 234. In addition there are four bytes of an index, but for commands, and two bits of
//! tables.
//!
//! | level | slot | texts | counters |
//! |---|---|---|---|
//! | command | 64 | name and arguments | 26 |
//! | session | 116 | id and service | 46 |
//! | user | 80 | name | 16 to 46 |
//! | domain | 68 | name | 46 |
//! | ip | 68 | 4 or 16 | 16 to 46 |

use crate::store::counters::packed::Widths;
use crate::store::entries::contents::Contents;
use crate::store::entries::table::Table;
use crate::store::kinds::ServiceId;
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::index::{Chain, Indexed};
use crate::store::mem::list::{Hook, HookOf, List};
use crate::store::mem::Memory;
use crate::store::time::WallTime;
use crate::store::{Level, Store, LEVELS};
use std::num::NonZeroU32;

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
    /// Of a command: it is over, and its time is counted
    /// ([`over`](crate::store::update::over)).
    Over = 1 << 29,
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
    /// newer one of its id; of a command the hash is the place of its kind.
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

/// Calls another macro of this file with the kinds of parents, in the order in which equals
/// are freed.
macro_rules! parent_levels {
    ($macro:ident, $($args:tt)*) => {
        $crate::store::entries::entry::$macro!(@ [Ip User Domain] $($args)*)
    };
}
pub(crate) use parent_levels;

/// The expression, with the link of a [`Node`] bound to a name: compiled once for each kind
/// of entries. It reaches the entry by what is generic over [`Entry`]; with `else`, by what
/// is generic over [`Parent`], and for others there is another expression.
macro_rules! with_link {
    (@ [$($level:ident)*] $node:expr, $link:ident => $body:expr, $other:ident => $else:expr) => {
        match $node {
            $($crate::store::entries::entry::Node::$level($link) => $body,)*
            $other => $else,
        }
    };
    (@ [$($level:ident)*] $node:expr, $link:ident => $body:expr) => {
        match $node {
            $($crate::store::entries::entry::Node::$level($link) => $body,)*
            $crate::store::entries::entry::Node::Command($link) => $body,
            $crate::store::entries::entry::Node::Session($link) => $body,
        }
    };
    ($node:expr, $link:ident => $body:expr) => {
        $crate::store::entries::entry::parent_levels!(with_link, $node, $link => $body)
    };
    ($node:expr, $link:ident => $body:expr, else $other:ident => $else:expr) => {
        $crate::store::entries::entry::parent_levels!(
            with_link, $node, $link => $body, $other => $else
        )
    };
}
pub(crate) use with_link;

/// The expression for each kind of parents.
macro_rules! each_parent {
    (@ [$($level:ident)*] $parent:ident => $body:expr) => {
        [$({
            type $parent = $crate::store::entries::entry::$level;
            $body
        }),*]
    };
    ($parent:ident => $body:expr) => {
        $crate::store::entries::entry::parent_levels!(each_parent, $parent => $body)
    };
}
pub(crate) use each_parent;

/// The expression for the parents of a [`Level`], and one for the other levels.
macro_rules! at_parent {
    (@ [$($level:ident)*] $at:expr, $parent:ident => $body:expr, $else:expr) => {
        match $at {
            $($crate::store::Level::$level => {
                type $parent = $crate::store::entries::entry::$level;
                $body
            })*
            _ => $else,
        }
    };
    ($at:expr, $parent:ident => $body:expr, else $else:expr) => {
        $crate::store::entries::entry::parent_levels!(at_parent, $at, $parent => $body, $else)
    };
}
pub(crate) use at_parent;

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
    const LEVEL: Level;
    /// The value of vacant slots in fresh pages.
    const BLANK: Self;
    /// The widths of counters that a new entry has from the beginning: what most
    /// entries that live on come to need. So a limit that is full of entries which
    /// may not be freed does not keep them from counting.
    const WIDTHS: Widths;
    /// Whether the list of the level has the newest entry first.
    const NEWEST_FIRST: bool;
    /// Of a command itself: it has none.
    type Child: Entry;
    fn node(link: Link<Self>) -> Node;
    fn table(store: &Store) -> &Table<Self>;
    fn table_mut(store: &mut Store) -> (&mut Table<Self>, &mut Memory);
    fn common(&self) -> &Common<Self>;
    fn common_mut(&mut self) -> &mut Common<Self>;
    /// Whether the entry must not be freed; then it is not in the idle list.
    fn is_pinned(&self) -> bool;
    /// In the order of their level.
    fn children(&self) -> List<Self::Child>;

    /// The child that is freed first.
    fn oldest_child(&self) -> Option<Node> {
        let children = self.children();
        let oldest = match Self::Child::NEWEST_FIRST {
            true => children.tail,
            false => children.head,
        };
        oldest.map(Self::Child::node)
    }
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
    /// The user's domain is here without a look at the user.
    pub(crate) above: Parents,
    /// Where it counts; `other` of a placeholder.
    pub(crate) service: ServiceId,
    /// Place in the user's list, newest first.
    pub(crate) in_user: Hook<Session>,
    /// Place in the ip's list, newest first.
    pub(crate) in_ip: Hook<Session>,
    /// The process, 0 when unknown.
    pub(crate) pid: u32,
    /// When its first record came, in seconds since 1970; 0 in an older state.
    pub(crate) created_secs: u32,
    /// The next session that the same parent defers, for each [`Parent::INDEX`].
    pub(crate) next_deferred: [Option<Link<Session>>; PARENT_LEVELS],
}

impl Session {
    #[inline(always)]
    pub(crate) fn user(&self) -> Link<User> {
        self.above.user.expect("a session has a user")
    }

    #[inline(always)]
    pub(crate) fn domain(&self) -> Link<Domain> {
        self.above.domain.expect("a session has a domain")
    }

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

/// How many levels of parents there are.
pub(crate) const PARENT_LEVELS: usize = LEVELS - Level::User as usize;

/// What parents of all levels have.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Tally {
    /// The first session that is deferred, see [`deferral`](crate::store::update::deferral).
    pub(crate) deferred: Option<Link<Session>>,
    /// The number of pins: connected sessions, and more while a record is applied.
    pub(crate) connected: u32,
    /// When the entry was created, in seconds since 1970.
    pub(crate) created_secs: u32,
}

impl Tally {
    const BLANK: Tally = Tally {
        deferred: None,
        connected: 0,
        created_secs: 0,
    };
}

/// An entry that counts what its sessions do, and that connected sessions pin.
pub(crate) trait Parent: Entry {
    /// The place of the level among those of parents.
    const INDEX: usize = Self::LEVEL as usize - Level::User as usize;
    /// Set in a session while a parent of this level defers it.
    const DEFERRED: Flag;
    fn tally(&self) -> &Tally;
    fn tally_mut(&mut self) -> &mut Tally;
    fn tables_mut(store: &mut Store) -> (&mut Table<Self>, &mut Table<Session>, &mut Memory);
    /// The one of this level.
    fn of(parents: &Parents) -> Option<Link<Self>>;
    fn of_mut(parents: &mut Parents) -> &mut Option<Link<Self>>;
    /// The list of sessions of the one of this level, and its hook; `None` where sessions are
    /// in the lists of its children.
    fn sessions_mut<'a>(
        table: &'a mut Table<Self>,
        parents: &Parents,
    ) -> Option<(&'a mut List<Session>, HookOf<Session>)>;
    /// The place of a session in such a list.
    fn hook(session: &Session) -> Hook<Session>;
    /// The domain of a user.
    fn domain_mut(&mut self) -> Option<&mut Link<Domain>>;
    /// The list of the parent's own parent, and its hook.
    fn siblings_mut(
        store: &mut Store,
        link: Link<Self>,
    ) -> Option<(&mut List<Self>, &mut Arena<Self>, HookOf<Self>)>;
}

/// Placeholder for a link in a blank entry; it is never followed.
const fn nowhere<T>() -> Link<T> {
    Link::from_number(NonZeroU32::MIN)
}

macro_rules! entries {
    ($(
        $name:ident in $table:ident { $($field:ident: $blank:expr),* }
        $widths:expr, indexed $is_indexed:literal, newest first $newest_first:literal,
        children $child:ident, |$entry:ident| $children:expr, pinned $is_pinned:expr;
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
            const LEVEL: Level = Level::$name;
            const WIDTHS: Widths = $widths;
            const NEWEST_FIRST: bool = $newest_first;
            const BLANK: $name = $name {
                common: Common::BLANK,
                $($field: $blank),*
            };
            type Child = $child;
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
            fn children(&self) -> List<$child> {
                let $entry = self;
                $children
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
        Widths::NONE, indexed false, newest first false,
        children Command, |_command| List::EMPTY, pinned false;
    Session in sessions {
        commands: List::EMPTY, command_count: 0, older: None, above: Parents::NONE,
        in_user: Hook::NONE, in_ip: Hook::NONE, pid: 0, created_secs: 0,
        service: ServiceId::OTHER,
        next_deferred: [None; PARENT_LEVELS]
    }
        Widths::SESSION, indexed true, newest first true,
        children Command, |session| session.commands, pinned session.has(Flag::Connected);
}

/// Makes the levels of parents: see [`entries`](crate::store::entries).
macro_rules! parents {
    ($(
        $name:ident in $table:ident, $one:ident, widths $widths:ident, $flag:ident,
        children $children:ident: $child:ident $(by $in_it:ident)?
        $(, below $above:ident: $above_name:ident in $above_table:ident by $in_above:ident)?;
    )*) => {
        /// The entries above a command or session, as far as there is room for them.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Parents {
            $(pub(crate) $one: Option<Link<$name>>,)*
        }

        impl Parents {
            pub(crate) const NONE: Parents = Parents { $($one: None),* };

            pub(crate) fn set<P: Parent>(&mut self, link: Link<P>) {
                *P::of_mut(self) = Some(link);
            }

            /// Those of the levels whose [`Parent::DEFERRED`] is `wanted`.
            #[inline(always)]
            pub(crate) fn where_flag(&self, wanted: impl Fn(Flag) -> bool) -> Parents {
                Parents {
                    $($one: if wanted(Flag::$flag) { self.$one } else { None },)*
                }
            }

            pub(crate) fn is_empty(&self) -> bool {
                $(self.$one.is_none())&&*
            }
        }

        $(
            #[derive(Clone, Copy, Debug)]
            #[repr(C)]
            pub(crate) struct $name {
                pub(crate) common: Common<$name>,
                $(
                    pub(crate) $above: Link<$above_name>,
                    /// Place in its list, newest first.
                    pub(crate) $in_above: Hook<$name>,
                )?
                /// Newest first.
                pub(crate) $children: List<$child>,
                pub(crate) tally: Tally,
            }

            entries! {
                $name in $table {
                    $($above: nowhere(), $in_above: Hook::NONE,)?
                    $children: List::EMPTY, tally: Tally::BLANK
                }
                    Widths::$widths, indexed true, newest first true,
                    children $child, |parent| parent.$children, pinned parent.tally.connected > 0;
            }

            impl Parent for $name {
                const DEFERRED: Flag = Flag::$flag;

                fn tally(&self) -> &Tally {
                    &self.tally
                }

                fn tally_mut(&mut self) -> &mut Tally {
                    &mut self.tally
                }

                fn tables_mut(
                    store: &mut Store,
                ) -> (&mut Table<Self>, &mut Table<Session>, &mut Memory) {
                    (&mut store.$table, &mut store.sessions, &mut store.memory)
                }

                fn of(parents: &Parents) -> Option<Link<Self>> {
                    parents.$one
                }

                fn of_mut(parents: &mut Parents) -> &mut Option<Link<Self>> {
                    &mut parents.$one
                }

                fn sessions_mut<'a>(
                    _table: &'a mut Table<Self>,
                    _parents: &Parents,
                ) -> Option<(&'a mut List<Session>, HookOf<Session>)> {
                    None$(.or(_parents.$one.map(|link| {
                        let hook: HookOf<Session> = |session| &mut session.$in_it;
                        (&mut _table.arena[link].$children, hook)
                    })))?
                }

                fn hook(_session: &Session) -> Hook<Session> {
                    None$(.or(Some(_session.$in_it)))?.unwrap_or(Hook::NONE)
                }

                fn domain_mut(&mut self) -> Option<&mut Link<Domain>> {
                    None$(.or(Some(&mut self.$above)))?
                }

                fn siblings_mut(
                    _store: &mut Store,
                    _link: Link<Self>,
                ) -> Option<(&mut List<Self>, &mut Arena<Self>, HookOf<Self>)> {
                    None$(.or({
                        let arena = &mut _store.$table.arena;
                        let list = &mut _store.$above_table.arena[arena[_link].$above].$table;
                        let hook: HookOf<Self> = |entry| &mut entry.$in_above;
                        Some((list, arena, hook))
                    }))?
                }
            }
        )*
    };
}

parents! {
    User in users, user, widths EVENTS, DeferredByUser,
        children sessions: Session by in_user, below domain: Domain in domains by in_domain;
    Domain in domains, domain, widths SESSION, DeferredByDomain,
        children users: User;
    Ip in ips, ip, widths EVENTS, DeferredByIp,
        children sessions: Session by in_ip;
}
