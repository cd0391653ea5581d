//! A store as a row of plain values.
//!
//! [`Store::export`] hands out everything that another process needs to go on as
//! if there had been no end: entries, what they counted, the bases of what comes
//! next, ages, order. [`Restoring`](super::Restoring) makes a store of it again.
//!
//! The order is that of age within a level: what is idle longest comes first,
//! what is held last. So a store that has less room than the old one frees, by
//! the usual rule, what the old one would have freed first. An entry is known by
//! how many of its level came before it. The order of lists, which is not that of
//! age, follows behind all entries ([`Saved::Place`]).
//!
//! Must not: change anything, or know what becomes of the values.

use super::arena::{Arena, Link};
use super::deferred::Defers;
use super::entry::{Command, Domain, Entry, Flag, Ip, Session, User};
use super::level::{key, rest, Level};
use super::list::List;
use super::memory::Memory;
use super::row::address;
use super::{Counters, Now, Store, WallTime};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// What entries of all levels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Seconds since a record reached the entry or it ceased to be held.
    pub age_secs: u32,
    /// When a record last reached it, as shown.
    pub last_update: WallTime,
    /// What it counted.
    pub counters: Counters,
}

/// What users, domains and addresses have beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// When the entry was made, in seconds since 1970.
    pub created_secs: u32,
    /// Whether sessions that are connected hold it.
    pub is_held: bool,
}

/// A list whose order is not that of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All domains, oldest first, as in all of these.
    Domains,
    /// All addresses.
    Ips,
    /// All users, and those of each domain.
    Users,
    /// All sessions.
    Sessions,
    /// All commands, and those of each session.
    Commands,
    /// The sessions of a user.
    UserSessions,
    /// The sessions of an address.
    IpSessions,
}

impl Listing {
    /// All of them.
    pub const ALL: [Listing; 7] = [
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved<'a> {
    /// The totals; the first of all values.
    Global {
        /// When this is written.
        now: WallTime,
        /// When counting began, in seconds since 1970.
        reset_secs: u32,
        /// When a record last added to the totals.
        last_update: WallTime,
        /// The totals.
        counters: Counters,
    },
    /// A domain.
    Domain {
        /// Its name.
        name: &'a [u8],
        /// See there.
        origin: Origin,
        /// See there.
        basis: Basis,
    },
    /// A remote address.
    Ip {
        /// The address.
        address: IpAddr,
        /// See there.
        origin: Origin,
        /// See there.
        basis: Basis,
    },
    /// A user.
    User {
        /// Its name.
        name: &'a [u8],
        /// The number of its domain.
        domain: u32,
        /// See there.
        origin: Origin,
        /// See there.
        basis: Basis,
    },
    /// A session.
    Session {
        /// Its id.
        id: &'a [u8],
        /// The kind of server.
        service: &'a [u8],
        /// The number of its user.
        user: u32,
        /// The number of its address.
        ip: Option<u32>,
        /// The process, 0 when unknown.
        pid: u32,
        /// Whether it is connected.
        connected: bool,
        /// Whether nobody announced it.
        placeholder: bool,
        /// Whether it is the newest of its id.
        indexed: bool,
        /// Whether an older one of its id existed.
        reuses_id: bool,
        /// See there.
        basis: Basis,
    },
    /// A command.
    Command {
        /// The number of its session.
        session: u32,
        /// Its name.
        name: &'a [u8],
        /// Its arguments.
        args: &'a [u8],
        /// Its number within the session while it runs.
        running: Option<NonZeroU32>,
        /// See there.
        basis: Basis,
    },
    /// The next entry of a list.
    Place {
        /// The list.
        listing: Listing,
        /// The entry's number.
        number: u32,
    },
}

/// A kind of entries, as it is written and read.
pub(super) trait Kind: Entry {
    /// The list of all of them.
    const LISTING: Listing;
    /// Whether that list has the newest first.
    const NEWEST_FIRST: bool;
    /// Their level.
    fn level(store: &Store) -> &Level<Self>;
    /// The same, to be changed, and what levels share.
    fn level_mut(store: &mut Store) -> (&mut Level<Self>, &mut Memory);
    /// Whether something forbids freeing one.
    fn is_held(&self) -> bool;
}

macro_rules! kinds {
    ($($name:ident $level:ident $listing:ident $newest_first:literal $is_held:expr;)*) => {$(
        impl Kind for $name {
            const LISTING: Listing = Listing::$listing;
            const NEWEST_FIRST: bool = $newest_first;
            fn level(store: &Store) -> &Level<Self> {
                &store.$level
            }
            fn level_mut(store: &mut Store) -> (&mut Level<Self>, &mut Memory) {
                (&mut store.$level, &mut store.memory)
            }
            fn is_held(&self) -> bool {
                let is_held: fn(&$name) -> bool = $is_held;
                is_held(self)
            }
        }
    )*};
}

kinds! {
    Domain domains Domains true |domain| domain.connected > 0;
    Ip ips Ips true |ip| ip.connected > 0;
    User users Users true |user| user.connected > 0;
    Session sessions Sessions true |session| session.has(Flag::Connected);
    Command commands Commands false |command| command.running.is_some();
}

/// The entries of a level, oldest first.
pub(super) fn by_creation<T: Kind>(level: &Level<T>) -> impl Iterator<Item = Link<T>> + '_ {
    let first = match T::NEWEST_FIRST {
        true => level.all.tail,
        false => level.all.head,
    };
    std::iter::successors(first, |&link| {
        let hook = level.arena[link].common().in_level;
        match T::NEWEST_FIRST {
            true => hook.prev,
            false => hook.next,
        }
    })
}

/// The entries of a level in the order in which they are written: the idle ones
/// by age, then those that are held.
fn by_age<T: Kind>(level: &Level<T>) -> impl Iterator<Item = Link<T>> + '_ {
    let arena = &level.arena;
    let idle = forward(arena, level.idle, |entry| entry.common().in_age.next);
    idle.chain(by_creation(level).filter(|&link| arena[link].is_held()))
}

/// The numbers of entries by their links.
struct Numbers(Vec<u32>);

impl Numbers {
    /// Numbers entries in this order.
    fn of<T>(links: impl Iterator<Item = Link<T>>) -> Numbers {
        let mut numbers = Vec::new();
        for (number, link) in (0u32..).zip(links) {
            let at = link.number().get() as usize;
            if at >= numbers.len() {
                numbers.resize(at + 1, 0);
            }
            numbers[at] = number;
        }
        Numbers(numbers)
    }

    /// The number of an entry.
    fn get<T>(&self, link: Link<T>) -> u32 {
        self.0[link.number().get() as usize]
    }
}

/// A list from its head on.
fn forward<'a, T: Copy>(
    arena: &'a Arena<T>,
    list: List<T>,
    next: impl Fn(&T) -> Option<Link<T>> + 'a,
) -> impl Iterator<Item = Link<T>> + 'a {
    std::iter::successors(list.head, move |&link| next(&arena[link]))
}

/// A list from its tail on.
fn backward<'a, T: Copy>(
    arena: &'a Arena<T>,
    list: List<T>,
    prev: impl Fn(&T) -> Option<Link<T>> + 'a,
) -> impl Iterator<Item = Link<T>> + 'a {
    std::iter::successors(list.tail, move |&link| prev(&arena[link]))
}

/// Hands out the order of a list.
fn export_places<T, E>(
    listing: Listing,
    links: impl Iterator<Item = Link<T>>,
    numbers: &Numbers,
    take: &mut impl FnMut(&Saved) -> Result<(), E>,
) -> Result<(), E> {
    for link in links {
        let number = numbers.get(link);
        take(&Saved::Place { listing, number })?;
    }
    Ok(())
}

/// Hands out the order in which the entries of a level were made.
fn export_order<T: Kind, E>(
    store: &Store,
    numbers: &Numbers,
    take: &mut impl FnMut(&Saved) -> Result<(), E>,
) -> Result<(), E> {
    export_places(T::LISTING, by_creation(T::level(store)), numbers, take)
}

impl Store {
    /// The sessions in the order in which they are written.
    fn sessions_by_age(&self) -> impl Iterator<Item = Link<Session>> + '_ {
        let arena = &self.sessions.arena;
        let next = |session: &Session| session.common.in_age.next;
        forward(arena, self.sessions.idle, next).chain(forward(arena, self.connected, next))
    }

    /// What an entry has in common with all others.
    fn basis<T: Entry>(&self, entry: &T, now: Now) -> Basis {
        let common = entry.common();
        Basis {
            age_secs: now.uptime_secs.saturating_sub(common.touched_secs),
            last_update: common.stamp.wall(),
            counters: common.contents.lanes(&self.memory.heap).counters(),
        }
    }

    /// The same of a user, domain or ip, with what it has not added yet: a restored
    /// session owes nothing. While it is held it has no age.
    fn gathered_basis<P: Defers + Kind>(&self, entry: &P, now: Now) -> Basis {
        let basis = self.basis(entry, now);
        Basis {
            age_secs: if entry.is_held() { 0 } else { basis.age_secs },
            last_update: self.last_update(entry),
            counters: self.gathered(entry).counters(),
        }
    }

    /// Hands out everything, value by value, until `take` fails.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn export<E>(
        &self,
        now: Now,
        mut take: impl FnMut(&Saved) -> Result<(), E>,
    ) -> Result<(), E> {
        take(&Saved::Global {
            now: now.wall,
            reset_secs: self.global.reset_secs,
            last_update: self.global.last_update,
            counters: self.global.counters.counters(),
        })?;
        self.export_above(now, &mut take)?;
        self.export_below(now, &mut take)
    }

    /// Domains, addresses and users.
    fn export_above<E>(
        &self,
        now: Now,
        take: &mut impl FnMut(&Saved) -> Result<(), E>,
    ) -> Result<(), E> {
        let heap = &self.memory.heap;
        for link in by_age(&self.domains) {
            let domain = &self.domains.arena[link];
            take(&Saved::Domain {
                name: key(heap, domain),
                origin: Origin {
                    created_secs: domain.created_secs,
                    is_held: domain.is_held(),
                },
                basis: self.gathered_basis(domain, now),
            })?;
        }
        for link in by_age(&self.ips) {
            let ip = &self.ips.arena[link];
            take(&Saved::Ip {
                address: address(key(heap, ip)),
                origin: Origin {
                    created_secs: ip.created_secs,
                    is_held: ip.is_held(),
                },
                basis: self.gathered_basis(ip, now),
            })?;
        }
        let domains = Numbers::of(by_age(&self.domains));
        for link in by_age(&self.users) {
            let user = &self.users.arena[link];
            take(&Saved::User {
                name: key(heap, user),
                domain: domains.get(user.domain),
                origin: Origin {
                    created_secs: user.created_secs,
                    is_held: user.is_held(),
                },
                basis: self.gathered_basis(user, now),
            })?;
        }
        export_order::<Domain, E>(self, &domains, take)
    }

    /// Sessions and commands, and the order of what is not in order yet.
    fn export_below<E>(
        &self,
        now: Now,
        take: &mut impl FnMut(&Saved) -> Result<(), E>,
    ) -> Result<(), E> {
        let heap = &self.memory.heap;
        let ips = Numbers::of(by_age(&self.ips));
        let users = Numbers::of(by_age(&self.users));
        for link in self.sessions_by_age() {
            let session = &self.sessions.arena[link];
            take(&Saved::Session {
                id: key(heap, session),
                service: rest(heap, session),
                user: users.get(session.user),
                ip: session.ip.map(|ip| ips.get(ip)),
                pid: session.pid,
                connected: session.has(Flag::Connected),
                placeholder: session.has(Flag::Placeholder),
                indexed: session.has(Flag::Indexed),
                reuses_id: session.has(Flag::ReusesId),
                basis: self.basis(session, now),
            })?;
        }
        let sessions = Numbers::of(self.sessions_by_age());
        for link in by_age(&self.commands) {
            let command = &self.commands.arena[link];
            take(&Saved::Command {
                session: sessions.get(command.session),
                name: key(heap, command),
                args: rest(heap, command),
                running: command.running,
                basis: self.basis(command, now),
            })?;
        }
        export_order::<Ip, E>(self, &ips, take)?;
        export_order::<User, E>(self, &users, take)?;
        export_order::<Session, E>(self, &sessions, take)?;
        let arena = &self.sessions.arena;
        for user in by_creation(&self.users) {
            let list = self.users.arena[user].sessions;
            let links = backward(arena, list, |session| session.in_user.prev);
            export_places(Listing::UserSessions, links, &sessions, take)?;
        }
        for ip in by_creation(&self.ips) {
            let list = self.ips.arena[ip].sessions;
            let links = backward(arena, list, |session| session.in_ip.prev);
            export_places(Listing::IpSessions, links, &sessions, take)?;
        }
        let commands = Numbers::of(by_age(&self.commands));
        export_order::<Command, E>(self, &commands, take)
    }
}
