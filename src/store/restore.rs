//! A store made of the values that another one handed out.
//!
//! [`Restoring`] takes what [`Store::export`] wrote, in that order, under
//! whatever limits hold now. Where there is less room than there was, the usual
//! rule frees what is oldest by it; sums above are values of their own and stay
//! right.
//!
//! Ages go on across the time between: what the wall clock says of it is added,
//! at least nothing and at most [`MAX_AWAY_SECS`], so that a clock that was set
//! meanwhile does no harm. What was held, connected sessions above all, is as
//! long silent as it was: nobody listened to it.
//!
//! Must not: believe a value. Whatever is not what an export could have written
//! ends the restoring; nothing of it is used then.

use super::arena::{Arena, Id, Link};
use super::contents::MAX_TEXT_BYTES;
use super::entry::{Command, Common, Domain, Entry, Flag, Ip, Parent, Session, User};
use super::lanes::Lanes;
use super::level::{key, Level};
use super::list::{HookOf, List};
use super::making::{domain_of, Octets};
use super::state::{by_creation, Basis, Kind, Listing, Origin, Saved};
use super::{Full, Limits, Now, Store, WallTime};
use std::net::IpAddr;

/// The longest time between two processes that counts: what is idle that long
/// is old by any setting worth the name.
pub const MAX_AWAY_SECS: u32 = 7 * 86_400;

/// A value that no export wrote, or none that was to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsound;

/// The entries of a level that were restored.
#[derive(Debug)]
struct Restored<T> {
    /// By number; `None` for those that there was no room for. Those freed since
    /// are not found any more.
    ids: Vec<Option<Id<T>>>,
    /// Those held until the sessions are there that hold them.
    held: Vec<Link<T>>,
}

impl<T: Kind> Restored<T> {
    /// None yet.
    const NONE: Restored<T> = Restored {
        ids: Vec::new(),
        held: Vec::new(),
    };

    /// Notes the next entry.
    fn push(&mut self, store: &Store, link: Option<Link<T>>) {
        self.ids
            .push(link.map(|link| T::level(store).arena.id(link)));
    }

    /// The entry of a number, if it is still there.
    fn find(&self, store: &Store, number: u32) -> Result<Option<Link<T>>, Unsound> {
        let id = self.ids.get(number as usize).ok_or(Unsound)?;
        Ok(id.and_then(|id| T::level(store).arena.find(id)))
    }
}

impl<T: Kind + Parent> Restored<T> {
    /// Puts a new entry where it belongs, and notes it.
    fn enlist(&mut self, store: &mut Store, made: Option<Link<T>>, touched: Now, is_held: bool) {
        let (level, memory) = T::level_mut(store);
        if let Some(link) = made {
            let hash = memory.hash(key(&memory.heap, &level.arena[link]));
            level.enlist(link, hash, touched);
            if is_held {
                level.hold(link);
                self.held.push(link);
            }
        }
        self.push(store, made);
    }

    /// Leaves the entries to those that hold them.
    fn let_go(self, store: &mut Store, now: Now) {
        let (level, _) = T::level_mut(store);
        for link in self.held {
            level.let_go(link, now);
        }
    }
}

/// A store on its way back.
#[derive(Debug)]
pub struct Restoring {
    /// The store so far.
    store: Store,
    /// Now.
    now: Now,
    /// How long nobody kept statistics; `None` before the first value.
    away_secs: Option<u32>,
    /// The domains.
    domains: Restored<Domain>,
    /// The addresses.
    ips: Restored<Ip>,
    /// The users.
    users: Restored<User>,
    /// The sessions.
    sessions: Restored<Session>,
    /// The commands.
    commands: Restored<Command>,
}

/// Whether a moment can be kept.
fn is_sound(wall: WallTime) -> bool {
    wall.usecs < 1_000_000
}

/// Puts an entry last, by whatever order: to be called for all of a list.
fn place<T: Kind>(list: &mut List<T>, arena: &mut Arena<T>, link: Link<T>, hook: HookOf<T>) {
    list.remove(arena, link, hook);
    match T::NEWEST_FIRST {
        true => list.push_front(arena, link, hook),
        false => list.push_back(arena, link, hook),
    }
}

/// The same in the list of its level.
fn place_in_level<T: Kind>(level: &mut Level<T>, link: Link<T>) {
    let Level { all, arena, .. } = level;
    place(all, arena, link, |entry| &mut entry.common_mut().in_level);
}

/// Makes the ids of a level's entries follow the order of their creation.
fn renew<T: Kind>(level: &mut Level<T>) {
    let links: Vec<Link<T>> = by_creation(level).collect();
    for link in links {
        level.arena.renew(link);
    }
}

/// Whether the entries of a list of ages are in order, longest untouched first.
fn is_by_age<T: Entry>(level: &Level<T>, list: List<T>) -> bool {
    let entries = std::iter::successors(list.head, |&link| level.arena[link].common().in_age.next);
    entries.is_sorted_by_key(|link| level.arena[link].common().touched_secs)
}

impl Restoring {
    /// Into an empty store with these limits.
    ///
    /// # Errors
    /// [`Full`] when the limit is too small for the indexes alone.
    pub fn new(limits: &Limits, now: Now) -> Result<Restoring, Full> {
        Ok(Restoring {
            store: Store::new(limits, now)?,
            now,
            away_secs: None,
            domains: Restored::NONE,
            ips: Restored::NONE,
            users: Restored::NONE,
            sessions: Restored::NONE,
            commands: Restored::NONE,
        })
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// [`Unsound`] when it cannot be; then this is of no use any more.
    pub fn take(&mut self, saved: &Saved) -> Result<(), Unsound> {
        if self.away_secs.is_none() != matches!(saved, Saved::Global { .. }) {
            return Err(Unsound);
        }
        match *saved {
            Saved::Global {
                now,
                reset_secs,
                last_update,
                counters,
            } => {
                if !is_sound(last_update) {
                    return Err(Unsound);
                }
                let away_secs = self.now.wall.secs.saturating_sub(now.secs);
                self.away_secs = Some(away_secs.min(MAX_AWAY_SECS));
                let global = &mut self.store.global;
                global.counters = Lanes::of(&counters);
                global.reset_secs = reset_secs;
                global.last_update = last_update;
                Ok(())
            }
            Saved::Domain {
                name,
                origin,
                basis,
            } => self.take_domain(name, origin, &basis),
            Saved::Ip {
                address,
                origin,
                basis,
            } => self.take_ip(address, origin, &basis),
            Saved::User {
                name,
                domain,
                origin,
                basis,
            } => self.take_user(name, domain, origin, &basis),
            Saved::Session { .. } => self.take_session(saved),
            Saved::Command { .. } => self.take_command(saved),
            Saved::Place { listing, number } => self.take_place(listing, number),
        }
    }

    /// The store, once all values were taken.
    ///
    /// # Errors
    /// [`Unsound`] when there was none, or when entries came in another order than
    /// that of age.
    pub fn finish(mut self) -> Result<Store, Unsound> {
        self.away_secs.ok_or(Unsound)?;
        let store = &mut self.store;
        self.domains.let_go(store, self.now);
        self.ips.let_go(store, self.now);
        self.users.let_go(store, self.now);
        let in_order = is_by_age(&store.commands, store.commands.idle)
            && is_by_age(&store.sessions, store.sessions.idle)
            && is_by_age(&store.sessions, store.connected)
            && is_by_age(&store.users, store.users.idle)
            && is_by_age(&store.domains, store.domains.idle)
            && is_by_age(&store.ips, store.ips.idle);
        if !in_order {
            return Err(Unsound);
        }
        // Who is older than whom is asked of the arenas, too.
        renew(&mut store.domains);
        renew(&mut store.ips);
        renew(&mut store.users);
        renew(&mut store.sessions);
        renew(&mut store.commands);
        Ok(self.store)
    }

    /// When an entry was touched, as the clocks are now.
    fn touched(
        &self,
        basis: &Basis,
        goes_on: bool,
        (name, rest): (&[u8], &[u8]),
    ) -> Result<Now, Unsound> {
        if !is_sound(basis.last_update) || name.len() + rest.len() > MAX_TEXT_BYTES {
            return Err(Unsound);
        }
        let away_secs = self.away_secs.filter(|_| !goes_on).unwrap_or(0);
        let age_secs = basis.age_secs.saturating_add(away_secs);
        Ok(Now {
            uptime_secs: self.now.uptime_secs.saturating_sub(age_secs),
            wall: basis.last_update,
        })
    }

    /// Makes an entry, freeing what is older for that. `None` when what it needs
    /// is no longer there, or nothing is left to free.
    fn make<T: Kind>(
        &mut self,
        texts: (&[u8], &[u8]),
        (basis, touched): (&Basis, Now),
        is_wanted: impl Fn(&Store) -> bool,
        fill: impl Fn(Common<T>) -> T,
    ) -> Option<Link<T>> {
        let counters = Lanes::of(&basis.counters);
        while is_wanted(&self.store) {
            let (level, memory) = T::level_mut(&mut self.store);
            match level.create(memory, texts, &counters, touched, &fill) {
                Ok(made) => return Some(made),
                Err(Full) if self.store.evict(self.now) => {}
                Err(Full) => break,
            }
        }
        None
    }

    /// A domain.
    fn take_domain(&mut self, name: &[u8], origin: Origin, basis: &Basis) -> Result<(), Unsound> {
        let touched = self.touched(basis, origin.is_held, (name, b""))?;
        if self.store.find_domain(name).is_some() {
            return Err(Unsound);
        }
        let fill = |common| Domain {
            common,
            created_secs: origin.created_secs,
            ..Domain::BLANK
        };
        let made = self.make((name, b""), (basis, touched), |_| true, fill);
        self.domains
            .enlist(&mut self.store, made, touched, origin.is_held);
        Ok(())
    }

    /// A remote address.
    fn take_ip(&mut self, ip: IpAddr, origin: Origin, basis: &Basis) -> Result<(), Unsound> {
        let octets = Octets::of(ip);
        let octets = octets.as_slice();
        let touched = self.touched(basis, origin.is_held, (octets, b""))?;
        if self.store.find_ip(ip).is_some() {
            return Err(Unsound);
        }
        let fill = |common| Ip {
            common,
            created_secs: origin.created_secs,
            ..Ip::BLANK
        };
        let made = self.make((octets, b""), (basis, touched), |_| true, fill);
        self.ips
            .enlist(&mut self.store, made, touched, origin.is_held);
        Ok(())
    }

    /// A user.
    fn take_user(
        &mut self,
        name: &[u8],
        domain: u32,
        origin: Origin,
        basis: &Basis,
    ) -> Result<(), Unsound> {
        let touched = self.touched(basis, origin.is_held, (name, b""))?;
        let domain = self.domains.find(&self.store, domain)?;
        if self.store.find_user(name).is_some() {
            return Err(Unsound);
        }
        let Some(domain) = domain else {
            self.users.push(&self.store, None);
            return Ok(());
        };
        let store = &self.store;
        if key(&store.memory.heap, &store.domains.arena[domain]) != domain_of(name) {
            return Err(Unsound);
        }
        let domain_id = store.domains.arena.id(domain);
        let is_wanted = |store: &Store| store.domains.arena.find(domain_id).is_some();
        let fill = |common| User {
            common,
            domain,
            created_secs: origin.created_secs,
            ..User::BLANK
        };
        let made = self.make((name, b""), (basis, touched), is_wanted, fill);
        let store = &mut self.store;
        self.users.enlist(store, made, touched, origin.is_held);
        if let Some(link) = made {
            let users = &mut store.domains.arena[domain].users;
            users.push_front(&mut store.users.arena, link, |user| &mut user.in_domain);
        }
        Ok(())
    }

    /// A session.
    fn take_session(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let Saved::Session {
            id,
            service,
            user,
            ip,
            pid,
            connected,
            placeholder,
            indexed,
            reuses_id,
            ref basis,
        } = *saved
        else {
            return Err(Unsound);
        };
        let touched = self.touched(basis, connected, (id, service))?;
        let user = self.users.find(&self.store, user)?;
        let wanted_ip = ip;
        let ip = match ip {
            Some(number) => self.ips.find(&self.store, number)?,
            None => None,
        };
        let is_known = indexed && self.store.find_session(id).is_some();
        if is_known || (connected && !indexed) {
            return Err(Unsound);
        }
        let Some(user) = user.filter(|_| ip.is_some() == wanted_ip.is_some()) else {
            self.sessions.push(&self.store, None);
            return Ok(());
        };
        let user_id = self.store.users.arena.id(user);
        let domain = self.store.users.arena[user].domain;
        let ip_id = ip.map(|ip| self.store.ips.arena.id(ip));
        let is_wanted = |store: &Store| {
            store.users.arena.find(user_id).is_some()
                && ip_id.is_none_or(|id| store.ips.arena.find(id).is_some())
        };
        let fill = |common| {
            let mut session = Session {
                common,
                user,
                domain,
                ip,
                pid,
                ..Session::BLANK
            };
            session.set(Flag::Connected, connected);
            session.set(Flag::Placeholder, placeholder);
            session.set(Flag::Indexed, indexed);
            session.set(Flag::ReusesId, reuses_id);
            session
        };
        let made = self.make((id, service), (basis, touched), is_wanted, fill);
        if let Some(link) = made {
            self.enter_session(link, touched);
        }
        self.sessions.push(&self.store, made);
        Ok(())
    }

    /// Puts a session where its flags say.
    fn enter_session(&mut self, link: Link<Session>, touched: Now) {
        let store = &mut self.store;
        let arena = &mut store.sessions.arena;
        let session = arena[link];
        let all = &mut store.sessions.all;
        all.push_front(arena, link, |session| &mut session.common.in_level);
        if session.has(Flag::Indexed) {
            let hash = store.memory.hash(key(&store.memory.heap, &session));
            store.sessions.enter(link, hash);
        }
        store.join_parents(link);
        if !session.has(Flag::Connected) {
            store.sessions.make_idle(link, touched);
            return;
        }
        let arena = &mut store.sessions.arena;
        let connected = &mut store.connected;
        connected.push_back(arena, link, |session| &mut session.common.in_age);
        store.users.hold(session.user);
        store.domains.hold(store.users.arena[session.user].domain);
        if let Some(ip) = session.ip {
            store.ips.hold(ip);
        }
        store.global.connected += 1;
    }

    /// A command.
    fn take_command(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let Saved::Command {
            session,
            name,
            args,
            running,
            ref basis,
        } = *saved
        else {
            return Err(Unsound);
        };
        let touched = self.touched(basis, running.is_some(), (name, args))?;
        let session = self.sessions.find(&self.store, session)?;
        let Some(session) = session else {
            self.commands.push(&self.store, None);
            return Ok(());
        };
        if running.is_some_and(|number| self.store.find_running(session, number).is_some()) {
            return Err(Unsound);
        }
        let session_id = self.store.sessions.arena.id(session);
        let is_wanted = |store: &Store| store.sessions.arena.find(session_id).is_some();
        let fill = |common| Command {
            common,
            session,
            running,
            ..Command::BLANK
        };
        let made = self.make((name, args), (basis, touched), is_wanted, fill);
        if let Some(link) = made {
            self.store.enter_command(link, touched);
        }
        self.commands.push(&self.store, made);
        Ok(())
    }

    /// The next entry of a list.
    fn take_place(&mut self, listing: Listing, number: u32) -> Result<(), Unsound> {
        let store = &mut self.store;
        match listing {
            Listing::Domains => {
                if let Some(link) = self.domains.find(store, number)? {
                    place_in_level(&mut store.domains, link);
                }
            }
            Listing::Ips => {
                if let Some(link) = self.ips.find(store, number)? {
                    place_in_level(&mut store.ips, link);
                }
            }
            Listing::Users => {
                if let Some(link) = self.users.find(store, number)? {
                    place_in_level(&mut store.users, link);
                    let arena = &mut store.users.arena;
                    let users = &mut store.domains.arena[arena[link].domain].users;
                    place(users, arena, link, |user| &mut user.in_domain);
                }
            }
            Listing::Commands => {
                if let Some(link) = self.commands.find(store, number)? {
                    place_in_level(&mut store.commands, link);
                    let arena = &mut store.commands.arena;
                    let commands = &mut store.sessions.arena[arena[link].session].commands;
                    place(commands, arena, link, |entry| &mut entry.in_session);
                }
            }
            Listing::Sessions => {
                if let Some(link) = self.sessions.find(store, number)? {
                    place_in_level(&mut store.sessions, link);
                }
            }
            Listing::UserSessions => {
                if let Some(link) = self.sessions.find(store, number)? {
                    let arena = &mut store.sessions.arena;
                    let list = &mut store.users.arena[arena[link].user].sessions;
                    place(list, arena, link, |session| &mut session.in_user);
                }
            }
            Listing::IpSessions => {
                if let Some(link) = self.sessions.find(store, number)? {
                    let arena = &mut store.sessions.arena;
                    let ip = arena[link].ip.ok_or(Unsound)?;
                    let list = &mut store.ips.arena[ip].sessions;
                    place(list, arena, link, |session| &mut session.in_ip);
                }
            }
        }
        Ok(())
    }
}
