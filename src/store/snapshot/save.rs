//! A store handed out as plain values.
//!
//! [`Store::export`] hands out everything that another process needs to go on as
//! if there had been no end: entries, their counters, ages and order.
//! [`Restoring`](crate::store::Restoring) makes a store of it again.
//!
//! The order is that of importance, so that a store with less room can stop anywhere: the
//! totals, also of services and command names; connected sessions, the one of the latest
//! record first; then idle entries of all levels, the one first that
//! [`evict`](crate::store::update::evict) would free last. Before each entry come its
//! parents, if they did not come yet. The number of an entry is how many of its level came
//! before it. Each entry has its place in the lists whose order is another.
//!
//! Must not: change anything, or know what becomes of the values.

use crate::store::entries::contents::Contents;
use crate::store::entries::entry::{
    each_parent, with_link, Command, Common, Entry, Flag, Ip, Node, Parent, Session, Stamp, User,
    PARENT_LEVELS,
};
use crate::store::entries::table::{key, rest, Table};
use crate::store::kinds::CmdId;
use crate::store::mem::arena::Link;
use crate::store::{Basis, Kept, Key, Now, Origin, Saved, Store};
use std::num::NonZeroU32;

/// The entries of a level, oldest first.
pub(crate) fn by_creation<T: Entry>(table: &Table<T>) -> impl Iterator<Item = Link<T>> + '_ {
    let first = match T::NEWEST_FIRST {
        true => table.all.tail,
        false => table.all.head,
    };
    std::iter::successors(first, |&link| {
        let hook = table.arena[link].common().in_level;
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
    /// The numbers of entries in this order.
    fn of<T>(links: impl Iterator<Item = Link<T>>) -> Numbers {
        let mut numbers = Numbers::default();
        for (number, link) in (0u32..).zip(links) {
            numbers.set(link, number);
        }
        numbers
    }

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
#[derive(Default)]
struct Outgoing {
    places: Numbers,
    /// The numbers of those that were handed out.
    numbers: Numbers,
    /// How many were handed out.
    count: u32,
}

impl Outgoing {
    /// The entries of a level; none was handed out.
    fn of<T: Entry>(store: &Store) -> Outgoing {
        Outgoing {
            places: Numbers::of(by_creation(T::table(store))),
            numbers: Numbers::default(),
            count: 0,
        }
    }

    /// Numbers the entry that was handed out last.
    fn push<T>(&mut self, link: Link<T>) -> u32 {
        let number = self.count;
        self.numbers.set(link, number);
        self.count += 1;
        number
    }
}

/// An idle entry and what its importance depends on.
#[derive(Clone, Copy)]
struct Idle {
    node: Node,
    /// Seconds since it was touched.
    age_secs: u64,
    /// The level's min_time in seconds, at least one.
    min_time_secs: u64,
    /// The next idle entry of its level.
    next: Option<Node>,
}

impl Idle {
    fn of<T: Entry>(store: &Store, link: Link<T>, now: Now) -> Idle {
        let table = T::table(store);
        let entry = &table.arena[link];
        Idle {
            node: T::node(link),
            age_secs: age_secs(entry, now).into(),
            min_time_secs: table.min_time_secs.max(1).into(),
            next: entry.common().in_age.prev.map(T::node),
        }
    }

    #[inline(never)]
    fn at(store: &Store, node: Node, now: Now) -> Idle {
        with_link!(node, link => Idle::of(store, link, now))
    }

    /// Whether its age is a smaller part of its level's min_time than another's.
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
    store: &'a Store,
    now: Now,
    take: F,
    parents: [Outgoing; PARENT_LEVELS],
    sessions: Outgoing,
    commands: Outgoing,
    /// The places of sessions among those of their users.
    user_places: Numbers,
    /// The places of sessions among those of their addresses.
    ip_places: Numbers,
}

impl<'a, E, F: FnMut(&Saved) -> Result<(), E>> Export<'a, F> {
    fn entries(&mut self) -> Result<(), E> {
        let store = self.store;
        let sessions = &store.sessions.arena;
        let prev = |&link: &Link<Session>| sessions[link].common.in_age.prev;
        for link in std::iter::successors(store.connected.tail, prev) {
            self.session(link)?;
        }
        self.idle_entries()
    }

    /// Hands out the entries that nothing pins.
    fn idle_entries(&mut self) -> Result<(), E> {
        let (store, now) = (self.store, self.now);
        // Of equals the larger kind comes first, as the smaller one is freed first.
        let mut tails: Vec<_> = each_parent!(P => P::table(store).idle.tail.map(P::node)).into();
        tails.reverse();
        tails.push(store.sessions.idle.tail.map(Node::Session));
        tails.push(store.commands.idle.tail.map(Node::Command));
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
            with_link!(idle.node, link => self.parent(link)?, else node => match node {
                Node::Command(link) => self.command(link)?,
                Node::Session(link) => self.session(link)?,
                _ => continue,
            });
        }
        Ok(())
    }

    /// What an entry has in common with all others.
    fn basis<T: Entry>(&self, outgoing: &Outgoing, link: Link<T>, entry: &T) -> Basis {
        let &Common {
            stamp, contents, ..
        } = entry.common();
        let place = outgoing.places.get(link);
        self.basis_of(age_secs(entry, self.now), stamp, contents, place)
    }

    #[inline(never)]
    fn basis_of(
        &self,
        age_secs: u32,
        stamp: Stamp,
        contents: Contents,
        place: Option<u32>,
    ) -> Basis {
        Basis {
            age_secs,
            last_update: stamp.wall(),
            counters: contents.counters(&self.store.memory.heap),
            place: place.unwrap_or_default(),
        }
    }

    /// What a user, domain or ip has. While it is pinned it has no age.
    fn origin<P: Parent>(&self, link: Link<P>, entry: &P) -> Origin {
        let is_pinned = entry.is_pinned();
        let basis = self.basis(&self.parents[P::INDEX], link, entry);
        Origin {
            created_secs: entry.tally().created_secs,
            is_pinned,
            basis: Basis {
                age_secs: if is_pinned { 0 } else { basis.age_secs },
                last_update: self.store.last_update(entry),
                ..basis
            },
            pending: self.store.pending(entry),
        }
    }

    /// Hands out a parent, unless it came before; its number.
    #[inline(never)]
    fn parent<P: Parent>(&mut self, link: Link<P>) -> Result<u32, E> {
        if let Some(number) = self.parents[P::INDEX].numbers.get(link) {
            return Ok(number);
        }
        let store = self.store;
        let above = match P::node(link) {
            Node::User(user) => Some(self.parent(store.entry(user).domain)?),
            _ => None,
        };
        let entry = store.entry(link);
        let origin = self.origin(link, entry);
        (self.take)(&Saved::Parent {
            level: P::LEVEL,
            key: Key::of(P::LEVEL, key(&store.memory.heap, entry)),
            above,
            origin,
        })?;
        Ok(self.parents[P::INDEX].push(link))
    }

    /// Hands out a session, unless it came before; its number.
    fn session(&mut self, link: Link<Session>) -> Result<u32, E> {
        if let Some(number) = self.sessions.numbers.get(link) {
            return Ok(number);
        }
        let session = &self.store.sessions.arena[link];
        let user = self.parent(session.user())?;
        let mut above = [None; PARENT_LEVELS];
        each_parent!(P => if let Some(link) = P::of(&session.above) {
            above[P::INDEX] = Some(self.parent(link)?);
        });
        let basis = self.basis(&self.sessions, link, session);
        let heap = &self.store.memory.heap;
        let mut pending = [false; PARENT_LEVELS];
        each_parent!(P => pending[P::INDEX] = session.has(P::DEFERRED));
        (self.take)(&Saved::Session {
            id: key(heap, session),
            service: rest(heap, session),
            user,
            ip: above[Ip::INDEX],
            pid: session.pid,
            connected: session.has(Flag::Connected),
            placeholder: session.has(Flag::Placeholder),
            indexed: session.has(Flag::Indexed),
            basis,
            user_place: self.user_places.get(link).unwrap_or_default(),
            ip_place: self.ip_places.get(link).unwrap_or_default(),
            pending,
            created_secs: session.created_secs,
        })?;
        Ok(self.sessions.push(link))
    }

    /// Hands out a command, unless it came before; its number.
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
            cmd: self.store.kind_of(link).map(|CmdId(place)| place.into()),
            is_over: self.store.is_over(link),
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
        let table = P::table(self);
        let mut places = Numbers::default();
        for parent in by_creation(table) {
            let prev = |&link: &Link<Session>| prev(&self.sessions.arena[link]);
            let list = std::iter::successors(last(&table.arena[parent]), prev);
            for (place, link) in (0u32..).zip(list) {
                places.set(link, place);
            }
        }
        places
    }

    /// Hands out what services and commands of a name counted.
    fn export_kinds<E>(&self, take: &mut impl FnMut(&Saved) -> Result<(), E>) -> Result<(), E> {
        let services = &self.kinds.services;
        for service in services {
            take(&Saved::Service {
                name: service.name.as_slice(),
                reset_secs: service.count.reset_secs,
                last_update: service.count.last_update,
                counters: service.count.counters,
            })?;
        }
        for cmd in &self.kinds.cmds {
            take(&Saved::Cmd {
                service: services[usize::from(cmd.service.0)].name.as_slice(),
                name: cmd.name.as_slice(),
                reset_secs: cmd.count.reset_secs,
                last_update: cmd.count.last_update,
                counters: cmd.count.counters,
                latency: cmd.latency,
            })?;
        }
        Ok(())
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
            counters: self.totals_of_everything().counters,
            kept: Some(Kept {
                connected: self.global.connected,
                entries: Kept::entries_of(usage.entries.map(|count| count as u64)),
                used_bytes: usage.used_bytes as u64,
            }),
        })?;
        self.export_kinds(&mut take)?;
        let mut parents: [_; PARENT_LEVELS] = Default::default();
        each_parent!(P => parents[P::INDEX] = Outgoing::of::<P>(self));
        let mut export = Export {
            store: self,
            now,
            take,
            parents,
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
