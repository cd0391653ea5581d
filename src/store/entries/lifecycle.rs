//! Entries found, made, held and taken out again.
//!
//! Whatever puts an entry into a list or an index is here, and so is what takes
//! it out: each has one counterpart. While a record makes entries, those it has
//! already are held like those of a connected session, so that making room for
//! the next never frees them. Links stay what they are while a record is applied:
//! entries move only before ([`room`](crate::store::update::room)).
//!
//! Must not: count anything; that is for [`apply`](crate::store::update::apply).

use crate::store::counters::Lanes;
use crate::store::entries::entry::{Command, Domain, Entry, Flag, Ip, Node, Now, Session, User};
use crate::store::mem::arena::{Arena, Link};
use crate::store::mem::index::Chain;
use crate::store::mem::list::{HookOf, List};
use crate::store::mem::shared::Hashed;
use crate::store::{Hint, Note, Store};
use crate::sys::mem::bytes::find;
use std::net::IpAddr;
use std::num::NonZeroU32;

/// How many commands of a session may have begun since one that goes on. It most often
/// is the last; some more where a client sends commands without waiting.
const MAX_LATER: usize = 1024;

/// The most entries of a list that are passed over to put a session where it belongs by
/// creation: it was made for a record that came before its CONNECT.
const MAX_NEWER: usize = 1024;

/// The entries above a command or session, as far as there is room for them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parents {
    /// The user.
    pub(crate) user: Option<Link<User>>,
    /// The user's domain.
    pub(crate) domain: Option<Link<Domain>>,
    /// The session's address.
    pub(crate) ip: Option<Link<Ip>>,
}

impl Parents {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.user.is_none() && self.domain.is_none() && self.ip.is_none()
    }

    /// The entries above a session that add what a record of it says at once.
    #[inline(always)]
    pub(crate) fn not_deferring(session: &Session) -> Parents {
        Parents {
            user: (!session.has(Flag::DeferredByUser)).then_some(session.user),
            domain: (!session.has(Flag::DeferredByDomain)).then_some(session.domain),
            ip: session.ip.filter(|_| !session.has(Flag::DeferredByIp)),
        }
    }
}

/// The 4 or 16 bytes of an address. One mapped into IPv6 is that IPv4 address.
#[derive(Clone, Copy, Debug)]
pub struct Octets {
    /// The bytes, at the front.
    bytes: [u8; 16],
    /// How many.
    len: usize,
}

impl Octets {
    /// Of an address.
    pub fn of(ip: IpAddr) -> Octets {
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

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The domain of a user: what follows the first `@`, nothing without one.
pub fn domain_of(user: &[u8]) -> &[u8] {
    match find(b'@', user) {
        Some(at) => &user[at + 1..],
        None => &[],
    }
}

impl Store {
    /// The newest session with that id.
    pub(crate) fn find_session(&self, id: &[u8]) -> Option<Link<Session>> {
        self.sessions.find(&self.memory, self.memory.hashed(id))
    }

    /// The user with that name.
    pub(crate) fn find_user(&self, name: &[u8]) -> Option<Link<User>> {
        self.users.find(&self.memory, self.memory.hashed(name))
    }

    /// The domain with that name.
    pub(crate) fn find_domain(&self, name: &[u8]) -> Option<Link<Domain>> {
        self.domains.find(&self.memory, self.memory.hashed(name))
    }

    /// The ip with that address.
    pub(crate) fn find_ip(&self, ip: IpAddr) -> Option<Link<Ip>> {
        let octets = Octets::of(ip);
        let hashed = self.memory.hashed(octets.as_slice());
        self.ips.find(&self.memory, hashed)
    }

    /// The newest command of a session that has that number, if fewer than [`MAX_LATER`]
    /// have begun since.
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

    /// Finds or makes a user and its domain, and holds both.
    pub(crate) fn find_or_create_user(&mut self, (name, hash): Hashed, now: Now) -> Parents {
        let mut parents = Parents {
            domain: self.find_or_create_domain(domain_of(name), now),
            ..Parents::default()
        };
        let Some(domain) = parents.domain else {
            return parents;
        };
        let found = self.users.find(&self.memory, (name, hash));
        parents.user = found.or_else(|| {
            let link = self.with_room(now, |store| {
                store.users.create(
                    &mut store.memory,
                    (name, b""),
                    &Lanes::default(),
                    now,
                    |common| User {
                        common,
                        domain,
                        created_secs: now.wall.secs,
                        ..User::BLANK
                    },
                )
            })?;
            self.users.link(&mut self.memory.budget, link, hash, now);
            let users = &mut self.domains.arena[domain].users;
            users.push_front(&mut self.users.arena, link, |user| &mut user.in_domain);
            Some(link)
        });
        if let Some(user) = parents.user {
            self.users.pin(user);
        }
        parents
    }

    /// Finds or makes a domain, and holds it.
    fn find_or_create_domain(&mut self, name: &[u8], now: Now) -> Option<Link<Domain>> {
        let hash = self.memory.hash(name);
        let found = self.domains.find(&self.memory, (name, hash));
        let link = found.or_else(|| {
            let link = self.with_room(now, |store| {
                store.domains.create(
                    &mut store.memory,
                    (name, b""),
                    &Lanes::default(),
                    now,
                    |common| Domain {
                        common,
                        created_secs: now.wall.secs,
                        ..Domain::BLANK
                    },
                )
            })?;
            self.domains.link(&mut self.memory.budget, link, hash, now);
            Some(link)
        })?;
        self.domains.pin(link);
        Some(link)
    }

    /// Finds or makes an ip, and holds it.
    pub(crate) fn find_or_create_ip(
        &mut self,
        (octets, hash): Hashed,
        now: Now,
    ) -> Option<Link<Ip>> {
        let found = self.ips.find(&self.memory, (octets, hash));
        let link = found.or_else(|| {
            let link = self.with_room(now, |store| {
                store.ips.create(
                    &mut store.memory,
                    (octets, b""),
                    &Lanes::default(),
                    now,
                    |common| Ip {
                        common,
                        created_secs: now.wall.secs,
                        ..Ip::BLANK
                    },
                )
            })?;
            self.ips.link(&mut self.memory.budget, link, hash, now);
            Some(link)
        })?;
        self.ips.pin(link);
        Some(link)
    }

    /// Ends one hold on each of the entries.
    pub(crate) fn unpin(&mut self, parents: Parents, now: Now) {
        if let Some(user) = parents.user {
            self.users.unpin(user, now);
        }
        if let Some(domain) = parents.domain {
            self.domains.unpin(domain, now);
        }
        if let Some(ip) = parents.ip {
            self.ips.unpin(ip, now);
        }
    }

    /// The entries above a session.
    pub(crate) fn parents(&self, link: Link<Session>) -> Parents {
        let session = &self.sessions.arena[link];
        Parents {
            user: Some(session.user),
            domain: Some(session.domain),
            ip: session.ip,
        }
    }

    /// Makes a connected session below parents that are held for it.
    pub(crate) fn create_session(
        &mut self,
        (id, hash, service): (&[u8], u32, &[u8]),
        parents: Parents,
        now: Now,
        make: impl Fn(&mut Session),
    ) -> Option<Link<Session>> {
        let (user, domain) = (parents.user?, parents.domain?);
        let link = self.with_room(now, |store| {
            store.sessions.create(
                &mut store.memory,
                (id, service),
                &Lanes::default(),
                now,
                |common| {
                    let mut session = Session {
                        common,
                        user,
                        domain,
                        ip: parents.ip,
                        ..Session::BLANK
                    };
                    session.set(Flag::Connected, true);
                    session.set(Flag::Indexed, true);
                    make(&mut session);
                    session
                },
            )
        })?;
        if let Some(older) = self.sessions.find(&self.memory, (id, hash)) {
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
        Some(link)
    }

    /// Puts a session into the lists of its user and ip, by creation.
    pub(crate) fn join_parents(&mut self, link: Link<Session>) {
        let arena = &mut self.sessions.arena;
        let Session { user, ip, .. } = arena[link];
        let sessions = &mut self.users.arena[user].sessions;
        insert_by_creation(sessions, arena, link, |session| &mut session.in_user);
        if let Some(ip) = ip {
            let sessions = &mut self.ips.arena[ip].sessions;
            insert_by_creation(sessions, arena, link, |session| &mut session.in_ip);
        }
    }

    /// The connected session of that id, or a placeholder made for it.
    pub(crate) fn session_for_update(
        &mut self,
        id: &[u8],
        hint: Hint,
        now: Now,
    ) -> Result<(Link<Session>, Option<Note>), Note> {
        if let Some(link) = self.find_hinted(id, hint) {
            return match self.sessions.arena[link].has(Flag::Connected) {
                true => Ok((link, None)),
                false => Err(Note::Disconnected),
            };
        }
        let parents = self.find_or_create_user(self.memory.hashed(b""), now);
        match self.create_session((id, hint.subject, b""), parents, now, |session| {
            session.set(Flag::Placeholder, true)
        }) {
            Some(link) => Ok((link, Some(Note::Placeholder))),
            None => {
                self.unpin(parents, now);
                Err(Note::Untracked)
            }
        }
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

    /// Takes a session out of the lists of its user and ip, and moves the
    /// cursors on that stand there.
    pub(crate) fn leave_parents(&mut self, link: Link<Session>) {
        self.move_cursors_below_parents_on(link);
        let arena = &mut self.sessions.arena;
        let Session { user, ip, .. } = arena[link];
        let sessions = &mut self.users.arena[user].sessions;
        sessions.remove(arena, link, |session| &mut session.in_user);
        if let Some(ip) = ip {
            let sessions = &mut self.ips.arena[ip].sessions;
            sessions.remove(arena, link, |session| &mut session.in_ip);
        }
    }

    /// Makes a command of a connected session.
    pub(crate) fn create_command(
        &mut self,
        session: Link<Session>,
        texts: (&[u8], &[u8]),
        (number, is_done): (NonZeroU32, bool),
        counters: &Lanes,
        now: Now,
    ) -> Option<Link<Command>> {
        let link = self.with_room(now, |store| {
            store
                .commands
                .create(&mut store.memory, texts, counters, now, |common| Command {
                    common,
                    session,
                    number: Some(number),
                    ..Command::BLANK
                })
        })?;
        self.commands.arena[link]
            .common
            .stamp
            .set(Flag::Done, is_done);
        self.insert_command(link, now);
        Some(link)
    }

    /// Puts a new command behind all others.
    pub(crate) fn insert_command(&mut self, link: Link<Command>, now: Now) {
        let arena = &mut self.commands.arena;
        let session = arena[link].session;
        self.commands
            .all
            .push_back(arena, link, |command| &mut command.common.in_level);
        let entry = &mut self.sessions.arena[session];
        let commands = &mut entry.commands;
        commands.push_back(arena, link, |command| &mut command.in_session);
        entry.command_count += 1;
        self.sessions_with_commands += usize::from(entry.command_count == 1);
        self.commands.make_idle(link, now);
    }

    /// Ends a session, and so its last command.
    pub(crate) fn disconnect(&mut self, link: Link<Session>, now: Now) {
        // Without room for that now, what it counted is added when it is freed.
        let _ = self.flush(link);
        let parents = self.parents(link);
        let arena = &mut self.sessions.arena;
        arena[link].set(Flag::Connected, false);
        self.connected
            .remove(arena, link, |session| &mut session.common.in_age);
        self.sessions.make_idle(link, now);
        self.unpin(parents, now);
        self.global.connected -= 1;
    }

    /// Frees a command.
    pub(crate) fn free_command(&mut self, link: Link<Command>) {
        self.move_cursors_on(Node::Command(link));
        self.commands.stop_idling(link);
        let arena = &mut self.commands.arena;
        self.commands
            .all
            .remove(arena, link, |command| &mut command.common.in_level);
        let session = &mut self.sessions.arena[arena[link].session];
        let commands = &mut session.commands;
        commands.remove(arena, link, |command| &mut command.in_session);
        session.command_count -= 1;
        self.sessions_with_commands -= usize::from(session.command_count == 0);
        self.commands.release(&mut self.memory, link);
    }

    /// Frees a disconnected session that has no commands.
    pub(crate) fn free_session(&mut self, link: Link<Session>) {
        let pending = self.detach(link);
        self.move_cursors_on(Node::Session(link));
        self.leave_parents(link);
        self.unlink_id(link);
        self.sessions.stop_idling(link);
        let arena = &mut self.sessions.arena;
        self.sessions
            .all
            .remove(arena, link, |session| &mut session.common.in_level);
        self.sessions.release(&mut self.memory, link);
        if let Some(pending) = pending {
            self.has_lost |= !self.add_owed(&pending);
        }
    }

    /// Frees a user that is not held and has no sessions.
    pub(crate) fn free_user(&mut self, link: Link<User>) {
        self.move_cursors_on(Node::User(link));
        let domain = self.users.arena[link].domain;
        let users = &mut self.domains.arena[domain].users;
        users.remove(&mut self.users.arena, link, |user| &mut user.in_domain);
        self.users.unlink(&mut self.memory, link);
    }

    /// Frees a domain that is not held and has no users.
    pub(crate) fn free_domain(&mut self, link: Link<Domain>) {
        self.move_cursors_on(Node::Domain(link));
        self.domains.unlink(&mut self.memory, link);
    }

    /// Frees an ip that is not held and has no sessions.
    pub(crate) fn free_ip(&mut self, link: Link<Ip>) {
        self.move_cursors_on(Node::Ip(link));
        self.ips.unlink(&mut self.memory, link);
    }
}

/// Puts a session into a list that has the newest first. All but one whose CONNECT came
/// late are the newest themselves.
fn insert_by_creation(
    list: &mut List<Session>,
    arena: &mut Arena<Session>,
    link: Link<Session>,
    hook: HookOf<Session>,
) {
    let age = |arena: &Arena<Session>, link| arena.age(arena.id(link));
    let mine = age(arena, link);
    let (mut newer, mut next) = (None, list.head);
    for _ in 0..MAX_NEWER {
        match next {
            Some(link) if age(arena, link) < mine => {
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
