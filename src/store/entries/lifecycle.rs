//! Entries found, created, pinned, unpinned and freed.
//!
//! Each operation that puts an entry into a list or an index has one counterpart that takes
//! it out. While a record creates entries, those it has found or created so far are pinned,
//! as those of a connected session are, so that making room for the next never frees them.
//! Links stay valid while a record is applied: entries move only before that
//! ([`room`](crate::store::update::room)).
//!
//! Must not: count anything; that is for [`apply`](crate::store::update::apply).

use crate::stats::Stats;
use crate::store::counters::Counters;
use crate::store::entries::entry::{
    each_parent, Command, Entry, Flag, Node, Parent, Parents, Session, User,
};
use crate::store::entries::table::Table;
use crate::store::kinds::CmdId;
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::index::Chain;
use crate::store::mem::list::{HookOf, List};
use crate::store::mem::Hashed;
use crate::store::time::Now;
use crate::store::{Note, Store};
use crate::sys::mem::bytes::find;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// The most commands of a session that may have begun since one that goes on. It most often
/// is the last; some more where a client sends commands without waiting.
const MAX_LATER: usize = 1024;

/// The most entries of a list that are passed over to put a session where it belongs by
/// creation: it was made for a record that came before its CONNECT.
const MAX_NEWER: usize = 1024;

/// The 4 or 16 bytes of an address. One mapped into IPv6 is that IPv4 address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Octets {
    bytes: [u8; 16],
    len: usize,
}

impl Octets {
    pub(crate) fn of(ip: IpAddr) -> Octets {
        let mut bytes = [0; 16];
        let len = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes = ip.octets();
                16
            }
        };
        Octets { bytes, len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The domain of a user: what follows the first `@`, nothing without one.
pub(crate) fn domain_of(user: &[u8]) -> &[u8] {
    match find(b'@', user) {
        Some(at) => &user[at + 1..],
        None => &[],
    }
}

impl Store {
    /// The newest session of an id.
    pub(crate) fn find_session(&self, id: &[u8]) -> Option<Link<Session>> {
        self.sessions.find(&self.memory, self.memory.hashed(id))
    }

    /// The newest command of a session with a number, if fewer than [`MAX_LATER`] began
    /// after it.
    pub(crate) fn find_command(
        &self,
        session: Link<Session>,
        number: NonZeroU32,
    ) -> Option<Link<Command>> {
        let arena = &self.commands.arena;
        let last = self.sessions.arena[session].commands.tail;
        std::iter::successors(last, |&link| arena[link].in_session.prev)
            .take(MAX_LATER)
            .find(|&link| arena[link].number == Some(number))
    }

    /// Finds or creates a user and its domain, and pins both.
    pub(crate) fn find_or_create_user(&mut self, user: Hashed, now: Now) -> Parents {
        let (user, domain) = match self.users.find(&self.memory, user) {
            Some(link) => {
                let domain = self.users.arena[link].domain;
                self.users.pin(link);
                self.domains.pin(domain);
                (Some(link), Some(domain))
            }
            None => {
                let domain = self.memory.hashed(domain_of(user.0));
                let domain = self.find_or_create(domain, now);
                let create =
                    |domain| self.create_parent(user, now, &|user: &mut User| user.domain = domain);
                (domain.and_then(create), domain)
            }
        };
        Parents {
            user,
            domain,
            ..Parents::NONE
        }
    }

    /// Finds the entry of a key, or creates one that has no parent itself, and pins it.
    pub(crate) fn find_or_create<P: Parent>(&mut self, key: Hashed, now: Now) -> Option<Link<P>> {
        let (table, memory) = P::table_mut(self);
        let Some(link) = table.find(memory, key) else {
            return self.create_parent(key, now, &|_| {});
        };
        table.pin(link);
        Some(link)
    }

    /// Creates an entry, blank but for what `set` sets, and pins it.
    fn create_parent<T: Parent>(
        &mut self,
        (key, hash): Hashed,
        now: Now,
        set: &dyn Fn(&mut T),
    ) -> Option<Link<T>> {
        let link = self.with_room(now, |store| {
            let (table, memory) = T::table_mut(store);
            table.create(memory, (key, b""), None::<&Counters>, now, &|entry| {
                set(entry);
                let tally = entry.tally_mut();
                (tally.created_secs, tally.connected) = (now.wall.secs, 1);
            })
        })?;
        let (table, memory) = T::table_mut(self);
        table.link(&mut memory.budget, link, hash);
        self.join_siblings(link);
        Some(link)
    }

    /// Puts a session into the lists of its parents, by creation.
    pub(crate) fn join_parents(&mut self, link: Link<Session>) {
        let above = self.sessions.arena[link].above;
        each_parent!(P => {
            let (table, sessions, _) = P::tables_mut(self);
            if let Some((list, hook)) = P::sessions_mut(table, &above) {
                insert_by_creation(list, &mut sessions.arena, link, hook);
            }
        });
    }

    /// Puts a new parent into the list of its own parent, if it has one.
    pub(crate) fn join_siblings<P: Parent>(&mut self, link: Link<P>) {
        if let Some((list, arena, hook)) = P::siblings_mut(self, link) {
            list.push_front(arena, link, hook);
        }
    }

    pub(crate) fn unpin(&mut self, parents: Parents, now: Now) {
        each_parent!(P => if let Some(link) = P::of(&parents) {
            P::table_mut(self).0.unpin(link, now);
        });
    }

    /// Creates a connected session, blank but for what `set` sets, below parents that are
    /// pinned for it; `was_known` is whether there may be an older one of the same id.
    pub(crate) fn create_session(
        &mut self,
        (id, hash): Hashed,
        was_known: bool,
        service: &[u8],
        parents: Parents,
        set: &dyn Fn(&mut Session),
        now: Now,
    ) -> Option<Link<Session>> {
        parents.user?;
        let budget = &mut self.memory.budget;
        let kind = self.kinds.service(budget, service, now);
        let link = self.with_room(now, |store| {
            let (memory, texts) = (&mut store.memory, (id, service));
            let zero = None::<&Counters>;
            store.sessions.create(memory, texts, zero, now, &|session| {
                session.above = parents;
                session.created_secs = now.wall.secs;
                session.service = kind;
                session.set(Flag::Connected, true);
                session.set(Flag::Indexed, true);
                set(session);
            })
        })?;
        // Room was made meanwhile, perhaps by freeing that one.
        let find = || self.sessions.find(&self.memory, (id, hash));
        if let Some(older) = was_known.then(find).flatten() {
            self.sessions.remove_from_index(older);
            let arena = &mut self.sessions.arena;
            arena[older].set(Flag::Indexed, false);
            arena[older].common.chain = Chain::to(link);
            arena[link].older = Some(older);
        }
        self.sessions
            .add_to_index(&mut self.memory.budget, link, hash);
        let arena = &mut self.sessions.arena;
        self.sessions
            .all
            .push_front(arena, link, |session| &mut session.common.in_level);
        self.connected
            .push_back(arena, link, |session| &mut session.common.in_age);
        self.join_parents(link);
        self.defer(link);
        self.global.connected += 1;
        self.kinds.connected(kind, 1);
        Some(link)
    }

    /// The session that an update is about: `known`, or a placeholder created for it.
    #[inline(always)]
    pub(crate) fn session_for_update(
        &mut self,
        id: Hashed,
        known: Option<Link<Session>>,
        now: Now,
    ) -> Result<(Link<Session>, Option<Note>), Note> {
        if let Some(link) = known {
            return match self.sessions.arena[link].has(Flag::Connected) {
                true => Ok((link, None)),
                false => Err(Note::Disconnected),
            };
        }
        let placeholder = self.create_placeholder(id, now).ok_or(Note::Untracked)?;
        Ok((placeholder, Some(Note::Placeholder)))
    }

    /// Creates a session for records that come before its CONNECT.
    #[cold]
    #[inline(never)]
    fn create_placeholder(&mut self, id: Hashed, now: Now) -> Option<Link<Session>> {
        let parents = self.find_or_create_user(self.memory.hashed(b""), now);
        let set = |session: &mut Session| session.set(Flag::Placeholder, true);
        let created = self.create_session(id, false, b"", parents, &set, now);
        if created.is_none() {
            self.unpin(parents, now);
        }
        created
    }

    /// Takes a session out from among those of its id. If it was the newest, the next
    /// older one is found by the id from now on.
    fn unlink_id(&mut self, link: Link<Session>) {
        let session = self.sessions.arena[link];
        let (newer, older) = (session.newer(), session.older);
        if session.has(Flag::Indexed) {
            let hash = self.sessions.remove_from_index(link);
            if let Some(older) = older {
                self.sessions.arena[older].set(Flag::Indexed, true);
                self.sessions
                    .add_to_index(&mut self.memory.budget, older, hash);
            }
            return;
        }
        let arena = &mut self.sessions.arena;
        if let Some(newer) = newer {
            arena[newer].older = older;
        }
        if let Some(older) = older {
            arena[older].common.chain = newer.map_or(Chain::NONE, Chain::to);
        }
    }

    /// Creates a command of a connected session.
    #[inline(always)]
    pub(crate) fn create_command(
        &mut self,
        session: Link<Session>,
        texts: (&[u8], &[u8]),
        (number, is_done): (NonZeroU32, bool),
        kind: Option<CmdId>,
        stats: &Stats,
        now: Now,
    ) -> Option<Link<Command>> {
        let set = |command: &mut Command| {
            command.session = session;
            command.number = Some(number);
            command.common.stamp.set(Flag::Done, is_done);
            command.common.stamp.set(Flag::Over, is_done);
            command.common.chain = CmdId::chain(kind);
        };
        let link = self.with_room(now, |store| {
            let memory = &mut store.memory;
            store.commands.create(memory, texts, Some(stats), now, &set)
        })?;
        self.insert_command(link, now);
        Some(link)
    }

    /// Puts a new command behind all others: of its level, of its session, and of those idle.
    #[inline(always)]
    pub(crate) fn insert_command(&mut self, link: Link<Command>, now: Now) {
        let Table {
            arena, all, idle, ..
        } = &mut self.commands;
        let command = &mut arena[link];
        let session = &mut self.sessions.arena[command.session];
        session.command_count += 1;
        self.sessions_with_commands += usize::from(session.command_count == 1);
        let (in_level, in_age) = (all.last_place(link), idle.last_place(link));
        let in_session = session.commands.last_place(link);
        command.common.touched_secs = now.uptime_secs;
        (command.common.in_level, command.common.in_age) = (in_level, in_age);
        command.in_session = in_session;
        all.tie_last(arena, link, in_level, |it| &mut it.common.in_level);
        idle.tie_last(arena, link, in_age, |it| &mut it.common.in_age);
        let of_session = &mut session.commands;
        of_session.tie_last(arena, link, in_session, |it| &mut it.in_session);
    }

    /// Ends a session, and so its last command.
    pub(crate) fn disconnect(&mut self, link: Link<Session>, now: Now) {
        self.end_last_command(self.sessions.arena[link].commands.tail);
        // Without room for that now, what it counted is added when it is freed.
        let _ = self.flush(link);
        let parents = self.sessions.arena[link].above;
        let arena = &mut self.sessions.arena;
        arena[link].set(Flag::Connected, false);
        self.connected
            .remove(arena, link, |session| &mut session.common.in_age);
        self.sessions.make_idle(link, now);
        self.unpin(parents, now);
        self.global.connected -= 1;
        self.kinds.connected(self.sessions.arena[link].service, -1);
    }
}

/// How entries of a kind leave their parents and are freed.
pub(crate) trait Lifecycle: Entry {
    /// Takes an entry that is to be freed out of the lists of its parents.
    fn leave(store: &mut Store, link: Link<Self>);

    /// Frees an entry that is not pinned and has no children.
    fn free(store: &mut Store, link: Link<Self>) {
        store.move_cursors_on(Self::node(link));
        Self::leave(store, link);
        let (table, memory) = Self::table_mut(store);
        if Self::IS_INDEXED {
            table.remove_from_index(link);
        }
        table.unlink(memory, link);
    }
}

impl Lifecycle for Command {
    /// Frees a command. One that is not over yet took as long as is known.
    fn free(store: &mut Store, link: Link<Command>) {
        store.end_command(link);
        store.move_cursors_on(Node::Command(link));
        Command::leave(store, link);
        store.commands.unlink(&mut store.memory, link);
    }

    fn leave(store: &mut Store, link: Link<Command>) {
        let arena = &mut store.commands.arena;
        let session = &mut store.sessions.arena[arena[link].session];
        let commands = &mut session.commands;
        commands.remove(arena, link, |command| &mut command.in_session);
        session.command_count -= 1;
        store.sessions_with_commands -= usize::from(session.command_count == 0);
    }
}

impl Lifecycle for Session {
    /// Takes a session out of the lists of its parents. Cursors there move on.
    fn leave(store: &mut Store, link: Link<Session>) {
        store.move_cursors_below_parents_on(link);
        let above = store.sessions.arena[link].above;
        each_parent!(P => {
            let (table, sessions, _) = P::tables_mut(store);
            if let Some((list, hook)) = P::sessions_mut(table, &above) {
                list.remove(&mut sessions.arena, link, hook);
            }
        });
    }

    /// Frees a session, then adds what its parents have not added yet: now there is more room.
    fn free(store: &mut Store, link: Link<Session>) {
        let pending = store.detach(link);
        store.move_cursors_on(Node::Session(link));
        Session::leave(store, link);
        store.unlink_id(link);
        store.sessions.unlink(&mut store.memory, link);
        if let Some(pending) = pending {
            store.has_lost |= !store.add_pending(&pending);
        }
    }
}

impl<P: Parent> Lifecycle for P {
    fn leave(store: &mut Store, link: Link<P>) {
        if let Some((list, arena, hook)) = P::siblings_mut(store, link) {
            list.remove(arena, link, hook);
        }
    }
}

/// Puts a session into a list that has the newest first. All but one whose CONNECT came
/// late are the newest themselves.
#[inline(always)]
fn insert_by_creation(
    list: &mut List<Session>,
    arena: &mut Arena<Session>,
    link: Link<Session>,
    hook: HookOf<Session>,
) {
    let mine = arena.age(link);
    let (mut newer, mut next) = (None, list.head);
    for _ in 0..MAX_NEWER {
        match next {
            Some(link) if arena.age(link) < mine => {
                (newer, next) = (next, hook(&mut arena[link]).next);
            }
            _ => break,
        }
    }
    match newer {
        None => list.push_front(arena, link, hook),
        Some(newer) => list.insert_behind(arena, newer, link, hook),
    }
}
