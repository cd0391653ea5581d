//! A store as a row of plain values.
//!
//! [`Store::export`] hands out everything that another process needs to go on as
//! if there had been no end: entries, what they counted, the bases of what comes
//! next, ages, order. [`Restoring`](crate::store::Restoring) makes a store of it again.
//!
//! The order is that of importance, so that who has less room can stop anywhere:
//! the totals; connected sessions, the one of the latest record first; then idle
//! entries of all levels, the one first that [`evict`](crate::store::update::evict) would free
//! last. Ahead of each entry come those above it that did not come yet. An entry is
//! known by how many of its level came before it. Each entry carries its place in
//! the lists whose order is another.
//!
//! Must not: change anything, or know what becomes of the values.

use crate::store::entries::entry::{
    with_link, Command, Domain, Entry, Flag, Ip, Node, Session, User,
};
use crate::store::entries::level::{key, rest, Level};
use crate::store::mem::arena::Link;
use crate::store::row::address;
use crate::store::update::deferral::Defers;
use crate::store::{Counters, Now, Store, WallTime};
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
    /// How many entries of its level are older; 0 in version 1.
    pub place: u32,
}

/// What users, domains and addresses have.
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

/// How much a store kept when its values were handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Connected sessions.
    pub connected: u64,
    /// Entries of the levels command, session, user, domain and ip.
    pub entries: [u64; 5],
    /// The memory they used.
    pub used_bytes: u64,
}

/// A list whose order version 1 has behind all entries.
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
        /// What there is beside them. `None` in version 1, whose entries come level
        /// by level, oldest first.
        kept: Option<Kept>,
    },
    /// A domain.
    Domain {
        /// Its name.
        name: &'a [u8],
        origin: Origin,
    },
    /// A remote address.
    Ip {
        /// The address.
        address: IpAddr,
        origin: Origin,
    },
    /// A user.
    User {
        /// Its name.
        name: &'a [u8],
        /// The number of its domain.
        domain: u32,
        origin: Origin,
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
        basis: Basis,
        /// How many sessions its user has longer; 0 in version 1.
        user_place: u32,
        /// How many sessions its address has longer; 0 in version 1.
        ip_place: u32,
        /// Whether its user, domain and address have not added what it counted.
        pending: [bool; 3],
    },
    /// A command.
    Command {
        /// The number of its session.
        session: u32,
        /// Its name.
        name: &'a [u8],
        /// Its arguments.
        args: &'a [u8],
        /// Its number within the session; in version 1 only while it is not done.
        command_number: Option<NonZeroU32>,
        /// Whether its writer reported that it is done.
        is_done: bool,
        basis: Basis,
    },
}

/// The entries of a level, oldest first.
pub(crate) fn by_creation<T: Entry>(level: &Level<T>) -> impl Iterator<Item = Link<T>> + '_ {
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

/// Numbers of entries by their links.
#[derive(Default)]
struct Numbers(Vec<Option<NonZeroU32>>);

impl Numbers {
    /// Numbers entries in this order.
    fn of<T>(links: impl Iterator<Item = Link<T>>) -> Numbers {
        let mut numbers = Numbers::default();
        for (number, link) in (0u32..).zip(links) {
            numbers.set(link, number);
        }
        numbers
    }

    /// Gives an entry its number.
    #[inline(never)]
    fn set<T>(&mut self, link: Link<T>, number: u32) {
        let at = link.number().get() as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        self.0[at] = NonZeroU32::new(number + 1);
    }

    /// The number of an entry, if it has one.
    fn get<T>(&self, link: Link<T>) -> Option<u32> {
        let number = self.0.get(link.number().get() as usize)?;
        number.map(|number| number.get() - 1)
    }
}

/// The entries of a level on their way out.
struct Outgoing {
    /// Their places.
    places: Numbers,
    /// The numbers of those that were handed out.
    numbers: Numbers,
    /// How many those are.
    count: u32,
}

impl Outgoing {
    /// Those of a level.
    fn of<T: Entry>(store: &Store) -> Outgoing {
        Outgoing {
            places: Numbers::of(by_creation(T::level(store))),
            numbers: Numbers::default(),
            count: 0,
        }
    }

    /// Numbers the entry that was handed out.
    fn push<T>(&mut self, link: Link<T>) -> u32 {
        let number = self.count;
        self.numbers.set(link, number);
        self.count += 1;
        number
    }
}

/// An idle entry, by what says how important it is.
#[derive(Clone, Copy)]
struct Idle {
    /// The entry.
    node: Node,
    /// Seconds since it was touched.
    age_secs: u64,
    /// The level's min_time in seconds, at least one.
    min_time_secs: u64,
    /// The next of its level.
    next: Option<Node>,
}

impl Idle {
    /// The entry of a level.
    fn of<T: Entry>(store: &Store, link: Link<T>, now: Now) -> Idle {
        let level = T::level(store);
        let entry = &level.arena[link];
        Idle {
            node: T::node(link),
            age_secs: age_secs(entry, now).into(),
            min_time_secs: level.min_time_secs.max(1).into(),
            next: entry.common().in_age.prev.map(T::node),
        }
    }

    /// The entry of any level.
    fn at(store: &Store, node: Node, now: Now) -> Idle {
        with_link!(node, link => Idle::of(store, link, now))
    }

    /// Whether it has outlived less of its level's min_time than another.
    fn is_before(&self, other: &Idle) -> bool {
        self.age_secs * other.min_time_secs < other.age_secs * self.min_time_secs
    }
}

/// Seconds since an entry was touched.
fn age_secs<T: Entry>(entry: &T, now: Now) -> u32 {
    now.uptime_secs.saturating_sub(entry.common().touched_secs)
}

/// Hands out the values of a store.
struct Export<'a, F> {
    /// The store.
    store: &'a Store,
    /// The instant of it.
    now: Now,
    /// Takes the values.
    take: F,
    /// The entries of each level.
    domains: Outgoing,
    ips: Outgoing,
    users: Outgoing,
    sessions: Outgoing,
    commands: Outgoing,
    /// The places of sessions among those of their users.
    user_places: Numbers,
    /// The places of sessions among those of their addresses.
    ip_places: Numbers,
}

impl<'a, E, F: FnMut(&Saved) -> Result<(), E>> Export<'a, F> {
    /// All entries.
    fn entries(&mut self) -> Result<(), E> {
        let store = self.store;
        let sessions = &store.sessions.arena;
        let prev = |&link: &Link<Session>| sessions[link].common.in_age.prev;
        for link in std::iter::successors(store.connected.tail, prev) {
            self.session(link)?;
        }
        self.idle_entries()
    }

    /// Those that nothing pins.
    fn idle_entries(&mut self) -> Result<(), E> {
        let (store, now) = (self.store, self.now);
        // Of equals the larger kind comes first, as the smaller one is freed first.
        let tails = [
            store.domains.idle.tail.map(Node::Domain),
            store.users.idle.tail.map(Node::User),
            store.ips.idle.tail.map(Node::Ip),
            store.sessions.idle.tail.map(Node::Session),
            store.commands.idle.tail.map(Node::Command),
        ];
        let idle_at = |node| Idle::at(store, node, now);
        let mut nexts: Vec<Idle> = tails.into_iter().flatten().map(idle_at).collect();
        let earlier = |nexts: &[Idle], a: usize, b: usize| match nexts[b].is_before(&nexts[a]) {
            true => b,
            false => a,
        };
        while let Some(at) = (0..nexts.len()).reduce(|a, b| earlier(&nexts, a, b)) {
            let idle = nexts[at];
            match idle.next {
                Some(node) => nexts[at] = idle_at(node),
                None => drop(nexts.remove(at)),
            }
            match idle.node {
                Node::Command(link) => self.command(link)?,
                Node::Session(link) => self.session(link)?,
                Node::User(link) => self.user(link)?,
                Node::Domain(link) => self.domain(link)?,
                Node::Ip(link) => self.ip(link)?,
            };
        }
        Ok(())
    }

    /// What an entry has in common with all others.
    fn basis<T: Entry>(&self, outgoing: &Outgoing, link: Link<T>, entry: &T) -> Basis {
        let common = entry.common();
        Basis {
            age_secs: age_secs(entry, self.now),
            last_update: common.stamp.wall(),
            counters: common.contents.counters(&self.store.memory.heap),
            place: outgoing.places.get(link).unwrap_or_default(),
        }
    }

    /// What a user, domain or ip has. While it is pinned it has no age.
    fn origin<P: Defers>(
        &self,
        outgoing: &Outgoing,
        link: Link<P>,
        entry: &P,
        created_secs: u32,
    ) -> Origin {
        let is_pinned = entry.is_pinned();
        let basis = self.basis(outgoing, link, entry);
        Origin {
            created_secs,
            is_pinned,
            basis: Basis {
                age_secs: if is_pinned { 0 } else { basis.age_secs },
                last_update: self.store.last_update(entry),
                ..basis
            },
            pending: self.store.pending(entry),
        }
    }

    /// A domain, if it did not come yet, and its number.
    fn domain(&mut self, link: Link<Domain>) -> Result<u32, E> {
        if let Some(number) = self.domains.numbers.get(link) {
            return Ok(number);
        }
        let domain = &self.store.domains.arena[link];
        let origin = self.origin(&self.domains, link, domain, domain.created_secs);
        (self.take)(&Saved::Domain {
            name: key(&self.store.memory.heap, domain),
            origin,
        })?;
        Ok(self.domains.push(link))
    }

    /// The same of an address.
    fn ip(&mut self, link: Link<Ip>) -> Result<u32, E> {
        if let Some(number) = self.ips.numbers.get(link) {
            return Ok(number);
        }
        let ip = &self.store.ips.arena[link];
        let origin = self.origin(&self.ips, link, ip, ip.created_secs);
        (self.take)(&Saved::Ip {
            address: address(key(&self.store.memory.heap, ip)),
            origin,
        })?;
        Ok(self.ips.push(link))
    }

    /// The same of a user.
    fn user(&mut self, link: Link<User>) -> Result<u32, E> {
        if let Some(number) = self.users.numbers.get(link) {
            return Ok(number);
        }
        let user = &self.store.users.arena[link];
        let domain = self.domain(user.domain)?;
        let origin = self.origin(&self.users, link, user, user.created_secs);
        (self.take)(&Saved::User {
            name: key(&self.store.memory.heap, user),
            domain,
            origin,
        })?;
        Ok(self.users.push(link))
    }

    /// The same of a session.
    fn session(&mut self, link: Link<Session>) -> Result<u32, E> {
        if let Some(number) = self.sessions.numbers.get(link) {
            return Ok(number);
        }
        let session = &self.store.sessions.arena[link];
        let user = self.user(session.user)?;
        let ip = session.ip.map(|ip| self.ip(ip)).transpose()?;
        let basis = self.basis(&self.sessions, link, session);
        let heap = &self.store.memory.heap;
        (self.take)(&Saved::Session {
            id: key(heap, session),
            service: rest(heap, session),
            user,
            ip,
            pid: session.pid,
            connected: session.has(Flag::Connected),
            placeholder: session.has(Flag::Placeholder),
            indexed: session.has(Flag::Indexed),
            basis,
            user_place: self.user_places.get(link).unwrap_or_default(),
            ip_place: self.ip_places.get(link).unwrap_or_default(),
            pending: [
                session.has(Flag::DeferredByUser),
                session.has(Flag::DeferredByDomain),
                session.has(Flag::DeferredByIp),
            ],
        })?;
        Ok(self.sessions.push(link))
    }

    /// The same of a command.
    fn command(&mut self, link: Link<Command>) -> Result<u32, E> {
        if let Some(number) = self.commands.numbers.get(link) {
            return Ok(number);
        }
        let command = &self.store.commands.arena[link];
        let session = self.session(command.session)?;
        let basis = self.basis(&self.commands, link, command);
        let heap = &self.store.memory.heap;
        (self.take)(&Saved::Command {
            session,
            name: key(heap, command),
            args: rest(heap, command),
            command_number: command.number,
            is_done: command.common.stamp.has(Flag::Done),
            basis,
        })?;
        Ok(self.commands.push(link))
    }
}

impl Store {
    /// The places of sessions in the lists of their users, or of their addresses.
    fn places_below<P: Entry>(
        &self,
        last: impl Fn(&P) -> Option<Link<Session>>,
        prev: impl Fn(&Session) -> Option<Link<Session>>,
    ) -> Numbers {
        let level = P::level(self);
        let mut places = Numbers::default();
        for parent in by_creation(level) {
            let prev = |&link: &Link<Session>| prev(&self.sessions.arena[link]);
            let list = std::iter::successors(last(&level.arena[parent]), prev);
            for (place, link) in (0u32..).zip(list) {
                places.set(link, place);
            }
        }
        places
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
        let usage = self.usage();
        take(&Saved::Global {
            now: now.wall,
            reset_secs: self.global.reset_secs,
            last_update: self.global.last_update,
            counters: self.global.counters,
            kept: Some(Kept {
                connected: self.global.connected,
                entries: usage.entries.map(|count| count as u64),
                used_bytes: usage.used_bytes as u64,
            }),
        })?;
        let mut export = Export {
            store: self,
            now,
            take,
            domains: Outgoing::of::<Domain>(self),
            ips: Outgoing::of::<Ip>(self),
            users: Outgoing::of::<User>(self),
            sessions: Outgoing::of::<Session>(self),
            commands: Outgoing::of::<Command>(self),
            user_places: self.places_below(
                |user: &User| user.sessions.tail,
                |session| session.in_user.prev,
            ),
            ip_places: self.places_below(|ip: &Ip| ip.sessions.tail, |session| session.in_ip.prev),
        };
        export.entries()
    }
}
