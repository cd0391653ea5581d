//! A store made of the values that another one handed out.
//!
//! [`Restoring`] takes what [`Store::export`] wrote, in that order, under the limits of
//! now. Where there is less room than there was, what comes
//! first is restored: the totals, then as many connected sessions as there is room
//! for, then idle entries. What has no room is left out, with all that is below it;
//! nothing is freed or moved for it. Sums above are values of their own and stay right.
//!
//! The values of version 1 come level by level, oldest first. They become a store of
//! their own, with room for what most daemons had, and the values of that one another.
//!
//! Ages go on across the time between: what the wall clock says of it is added,
//! at least nothing and at most [`MAX_AWAY_SECS`], so that a clock that was set
//! meanwhile does no harm. What was pinned, connected sessions above all, does not age in
//! that time: no daemon read what they sent.
//!
//! Must not: trust a value. One that no export could have written ends the restoring;
//! nothing of it is used then.

use crate::store::entries::contents::MAX_TEXT_BYTES;
use crate::store::entries::entry::{
    at_parent, each_parent, Command, Domain, Entry, Flag, Ip, Parent, Parents, Session, User,
    PARENT_LEVELS,
};
use crate::store::entries::lifecycle::{domain_of, Octets};
use crate::store::entries::table::key;
use crate::store::kinds::{CmdId, Count};
use crate::store::mem::arena::Link;
use crate::store::mem::index::Chain;
use crate::store::snapshot::order::{place, place_last, Restored};
use crate::store::snapshot::pending::Pending;
use crate::store::snapshot::save::by_creation;
use crate::store::snapshot::values::{Basis, Kept, Listing, Saved, Unsound};
use crate::store::{Full, Key, Level, Limits, Now, Store, WallTime, LEVELS};
use std::collections::BTreeMap;

/// The longest time between two processes that counts: what is idle that long
/// is old by any setting worth the name.
pub(crate) const MAX_AWAY_SECS: u32 = 7 * 86_400;

/// The least memory that the values of version 1 may take while they are put in order,
/// four times the default limit of that version; and how many times the limit.
const VERSION_1_BYTES: usize = 64 << 20;
const VERSION_1_SHARE: usize = 16;

/// Entries left out before it is in vain to look for smaller ones.
const MAX_LEFT_OUT: usize = 10_000;

/// Links the sessions of each id, by creation, to the newest, which is found by it.
fn link_ids(store: &mut Store) {
    let sessions: Vec<Link<Session>> = by_creation(&store.sessions).collect();
    let mut oldest = BTreeMap::new();
    for link in sessions.into_iter().rev() {
        let session = &store.sessions.arena[link];
        if session.has(Flag::Indexed) {
            continue;
        }
        let id = store.memory.hashed(key(&store.memory.heap, session));
        match store.sessions.find(&store.memory, id) {
            Some(newest) => {
                let newer = oldest.insert(newest.number(), link).unwrap_or(newest);
                let arena = &mut store.sessions.arena;
                arena[newer].older = Some(link);
                arena[link].common.chain = Chain::to(newer);
            }
            // The newest one was left out.
            None => {
                let hash = id.1;
                store.sessions.arena[link].set(Flag::Indexed, true);
                store
                    .sessions
                    .add_to_index(&mut store.memory.budget, link, hash);
            }
        }
    }
}

/// A store that is being restored.
#[derive(Debug)]
pub struct Restoring {
    limits: Limits,
    /// The store so far.
    store: Store,
    now: Now,
    /// The time between the two processes; `None` before the first value.
    away_secs: Option<u32>,
    /// What the file contains; `None` in version 1.
    kept: Option<Kept>,
    /// Connected sessions so far, those left out included.
    connected: u64,
    /// How many entries had no room.
    left_out: usize,
    /// The next place of version 1.
    next_place: u32,
    // Each level with the places in its list; of sessions, also in those of their users and
    // addresses.
    parents: [Restored<1>; PARENT_LEVELS],
    sessions: Restored<3>,
    commands: Restored<1>,
    /// The places of command names, by their numbers.
    cmds: Vec<Option<CmdId>>,
    /// What parents have not added.
    pending: [Pending; PARENT_LEVELS],
}

/// Whether a moment can be kept.
fn is_sound(wall: WallTime) -> bool {
    wall.usecs < 1_000_000
}

impl Restoring {
    /// Into an empty store with these limits.
    ///
    /// # Errors
    /// [`Full`] when the limit is too small for the indexes alone.
    pub fn new(limits: &Limits, now: Now) -> Result<Restoring, Full> {
        let mut store = Store::new(limits, now)?;
        store.memory.budget.open_reserve(true);
        Ok(Restoring {
            limits: *limits,
            store,
            now,
            away_secs: None,
            kept: None,
            connected: 0,
            left_out: 0,
            next_place: 0,
            parents: [Restored::NONE; PARENT_LEVELS],
            sessions: Restored::NONE,
            commands: Restored::NONE,
            cmds: Vec::new(),
            pending: Default::default(),
        })
    }

    /// Whether further values would be left out and need not be taken.
    pub fn is_full(&self) -> bool {
        self.left_out >= MAX_LEFT_OUT
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
            Saved::Global { .. } => self.take_global(saved),
            Saved::Service { .. } | Saved::Cmd { .. } => self.take_kind(saved),
            Saved::Parent { level, .. } => {
                at_parent!(level, P => self.take_parent::<P>(saved), else Err(Unsound))
            }
            Saved::Session { .. } => self.take_session(saved),
            Saved::Command { .. } => self.take_command(saved),
        }
    }

    /// Takes the next entry of a list, which version 1 has behind all entries.
    ///
    /// # Errors
    /// As [`Restoring::take`].
    pub fn take_place(&mut self, listing: Listing, number: u32) -> Result<(), Unsound> {
        let place = self.next_place;
        self.next_place = place.checked_add(1).ok_or(Unsound)?;
        match listing {
            Listing::Domains => self.parents[Domain::INDEX].set_place(number, 0, place),
            Listing::Ips => self.parents[Ip::INDEX].set_place(number, 0, place),
            Listing::Users => self.parents[User::INDEX].set_place(number, 0, place),
            Listing::Sessions => self.sessions.set_place(number, 0, place),
            Listing::Commands => self.commands.set_place(number, 0, place),
            Listing::UserSessions => self.sessions.set_place(number, 1, place),
            Listing::IpSessions => self.sessions.set_place(number, 2, place),
        }
    }

    /// The store, and what there was to restore.
    ///
    /// # Errors
    /// [`Unsound`] when no value was taken.
    pub fn finish(mut self) -> Result<(Store, Kept), Unsound> {
        self.away_secs.ok_or(Unsound)?;
        self.arrange();
        link_ids(&mut self.store);
        // What has no room is reported by the note of the next record, as after evictions.
        each_parent!(P => {
            let pending = std::mem::take(&mut self.pending[P::INDEX]);
            self.store.has_lost |= !pending.flush::<P>(&mut self.store);
        });
        self.store.memory.budget.open_reserve(false);
        if let Some(kept) = self.kept {
            return Ok((self.store, kept));
        }
        let mut entries = [0; LEVELS];
        entries[Level::Command as usize] = self.commands.count();
        entries[Level::Session as usize] = self.sessions.count();
        each_parent!(P => entries[P::LEVEL as usize] = self.parents[P::INDEX].count());
        let kept = Kept {
            connected: self.connected,
            entries: Kept::entries_of(entries),
            used_bytes: self.store.usage().used_bytes as u64,
        };
        let mut again = Restoring::new(&self.limits, self.now).map_err(|Full| Unsound)?;
        self.store.export(self.now, |saved| again.take(saved))?;
        let (store, _) = again.finish()?;
        Ok((store, kept))
    }

    /// Puts all lists into order.
    fn arrange(&mut self) {
        let newest_first = self.kept.is_some();
        let store = &mut self.store;
        each_parent!(P => {
            let table = P::table_mut(store).0;
            for link in self.parents[P::INDEX].arrange(table, newest_first) {
                if let Some((list, arena, hook)) = P::siblings_mut(store, link) {
                    place(list, arena, link, hook);
                }
            }
        });
        self.sessions.arrange(&mut store.sessions, newest_first);
        let placed = self.commands.arrange(&mut store.commands, newest_first);
        for &link in &placed {
            let arena = &mut store.commands.arena;
            let commands = &mut store.sessions.arena[arena[link].session].commands;
            place(commands, arena, link, |command| &mut command.in_session);
        }
        // An older state does not say which are over.
        for link in placed {
            let command = &mut store.commands.arena[link];
            if command.in_session.next.is_some() {
                command.common.stamp.set(Flag::Over, true);
            }
        }
        let arena = &mut store.sessions.arena;
        for link in self.sessions.by_place(1) {
            let sessions = &mut store.users.arena[arena[link].user()].sessions;
            place(sessions, arena, link, |session| &mut session.in_user);
        }
        for link in self.sessions.by_place(2) {
            if let Some(ip) = arena[link].above.ip {
                let sessions = &mut store.ips.arena[ip].sessions;
                place(sessions, arena, link, |session| &mut session.in_ip);
            }
        }
        for link in self.sessions.by_age(arena, newest_first) {
            if arena[link].is_pinned() {
                let connected = &mut store.connected;
                place_last(connected, arena, link, |session| &mut session.common.in_age);
            }
        }
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

    /// Makes an entry if there is room for it.
    fn make<T: Entry>(
        &mut self,
        texts: (&[u8], &[u8]),
        (basis, touched): (&Basis, Now),
        entry: T,
    ) -> Option<Link<T>> {
        let mut counters = basis.counters;
        counters.saturate();
        let (table, memory) = T::table_mut(&mut self.store);
        let made = table
            .create(memory, texts, Some(&counters), touched, &|blank| {
                *blank = entry
            })
            .ok();
        self.left_out += usize::from(made.is_none());
        made
    }

    fn take_global(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let Saved::Global {
            now,
            reset_secs,
            last_update,
            counters,
            kept,
        } = *saved
        else {
            return Err(Unsound);
        };
        if !is_sound(last_update) {
            return Err(Unsound);
        }
        if kept.is_none() {
            let memory_bytes = self.limits.memory_bytes.saturating_mul(VERSION_1_SHARE);
            let limits = Limits {
                memory_bytes: memory_bytes.max(VERSION_1_BYTES),
                ..self.limits
            };
            self.store = Store::new(&limits, self.now).map_err(|Full| Unsound)?;
        }
        let away_secs = self.now.wall.secs.saturating_sub(now.secs);
        self.away_secs = Some(away_secs.min(MAX_AWAY_SECS));
        self.kept = kept;
        let global = &mut self.store.global;
        global.counters = counters;
        global.counters.saturate();
        global.reset_secs = reset_secs;
        global.last_update = last_update;
        Ok(())
    }

    /// Takes a kind of work. Its sums are part of the totals, which came before.
    fn take_kind(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let (name, count) = match *saved {
            Saved::Service {
                name,
                reset_secs,
                last_update,
                counters,
            }
            | Saved::Cmd {
                service: name,
                reset_secs,
                last_update,
                counters,
                ..
            } => {
                let mut count = Count {
                    counters,
                    last_update,
                    reset_secs,
                };
                count.counters.saturate();
                (name, count)
            }
            _ => return Err(Unsound),
        };
        if !is_sound(count.last_update) {
            return Err(Unsound);
        }
        let store = &mut self.store;
        let budget = &mut store.memory.budget;
        let service = store.kinds.service(budget, name, self.now);
        let Saved::Cmd { name, latency, .. } = saved else {
            let mine = &mut store.kinds.services[usize::from(service.0)].count;
            mine.restore(&count);
            store.global.counters.take_off(&count.counters);
            return Ok(());
        };
        let id = store.kinds.cmd(budget, service, name, self.now);
        self.cmds.push(id);
        if let Some(CmdId(place)) = id {
            let cmd = &mut store.kinds.cmds[usize::from(place)];
            cmd.count.restore(&count);
            cmd.latency.merge(latency);
        }
        Ok(())
    }

    fn take_parent<P: Parent>(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let Saved::Parent {
            key,
            above,
            ref origin,
            ..
        } = *saved
        else {
            return Err(Unsound);
        };
        let octets;
        let name = match key {
            Key::Name(name) => name,
            Key::Address(ip) => {
                octets = Octets::of(ip);
                octets.as_slice()
            }
        };
        let touched = self.touched(&origin.basis, origin.is_pinned, (name, b""))?;
        let store = &self.store;
        if P::table(store)
            .find(&store.memory, store.memory.hashed(name))
            .is_some()
        {
            return Err(Unsound);
        }
        let mut entry = P::BLANK;
        entry.tally_mut().created_secs = origin.created_secs;
        let places = [origin.basis.place];
        if let Some(domain) = entry.domain_mut() {
            let found = self.parents[Domain::INDEX].find(above.ok_or(Unsound)?)?;
            let Some(found) = found else {
                self.left_out += 1;
                self.parents[P::INDEX].push::<P>(None, places);
                return Ok(());
            };
            if self::key(&store.memory.heap, store.entry(found)) != domain_of(name) {
                return Err(Unsound);
            }
            *domain = found;
        }
        let made = self.make((name, b""), (&origin.basis, touched), entry);
        self.pending[P::INDEX].insert(made, &origin.pending);
        self.parents[P::INDEX].link(&mut self.store, made, touched, places);
        if let Some(link) = made {
            self.store.join_siblings(link);
        }
        Ok(())
    }

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
            ref basis,
            user_place,
            ip_place,
            pending,
            created_secs,
        } = *saved
        else {
            return Err(Unsound);
        };
        let touched = self.touched(basis, connected, (id, service))?;
        let user = self.parents[User::INDEX].find(user)?;
        let wanted_ip = ip;
        let ip = match ip {
            Some(number) => self.parents[Ip::INDEX].find(number)?,
            None => None,
        };
        let is_known = indexed && self.store.find_session(id).is_some();
        if is_known || (connected && !indexed) {
            return Err(Unsound);
        }
        self.connected += u64::from(connected);
        let places = [basis.place, user_place, ip_place];
        let Some(user) = user.filter(|_| ip.is_some() == wanted_ip.is_some()) else {
            self.left_out += 1;
            self.sessions.push::<Session>(None, places);
            return Ok(());
        };
        let domain = self.store.users.arena[user].domain;
        let above = Parents {
            user: Some(user),
            domain: Some(domain),
            ip,
        };
        let mut session = Session {
            above,
            pid,
            created_secs,
            service: {
                let (kinds, memory) = (&mut self.store.kinds, &mut self.store.memory);
                kinds.service(&mut memory.budget, service, self.now)
            },
            ..Session::BLANK
        };
        session.set(Flag::Connected, connected);
        session.set(Flag::Placeholder, placeholder);
        session.set(Flag::Indexed, indexed);
        let made = self.make((id, service), (basis, touched), session);
        if let Some(link) = made {
            self.insert_session(link, touched);
            self.defer(link, pending);
        }
        self.sessions.push(made, places);
        Ok(())
    }

    /// Links a session into the lists of its state.
    fn insert_session(&mut self, link: Link<Session>, touched: Now) {
        let store = &mut self.store;
        let arena = &mut store.sessions.arena;
        let session = arena[link];
        let all = &mut store.sessions.all;
        all.push_front(arena, link, |session| &mut session.common.in_level);
        if session.has(Flag::Indexed) {
            let hash = store.memory.hash(key(&store.memory.heap, &session));
            store
                .sessions
                .add_to_index(&mut store.memory.budget, link, hash);
        }
        store.join_parents(link);
        if !session.has(Flag::Connected) {
            store.sessions.make_idle(link, touched);
            return;
        }
        let arena = &mut store.sessions.arena;
        let connected = &mut store.connected;
        connected.push_back(arena, link, |session| &mut session.common.in_age);
        each_parent!(P => if let Some(parent) = P::of(&session.above) {
            P::table_mut(store).0.pin(parent);
        });
        store.global.connected += 1;
        store.kinds.connected(session.service, 1);
    }

    /// Lets those parents of a session defer it that had not added what it counted.
    fn defer(&mut self, link: Link<Session>, is_pending: [bool; PARENT_LEVELS]) {
        let store = &mut self.store;
        let counted = store.sessions.counters(&store.memory, link);
        let above = store.sessions.arena[link].above;
        each_parent!(P => if let (true, Some(at)) = (is_pending[P::INDEX], P::of(&above)) {
            let (table, sessions, _) = P::tables_mut(store);
            let parent = (at, &mut table.arena[at]);
            self.pending[P::INDEX].defer(parent, &mut sessions.arena, (link, &counted));
        });
    }

    fn take_command(&mut self, saved: &Saved) -> Result<(), Unsound> {
        let Saved::Command {
            session,
            name,
            args,
            command_number,
            is_done,
            ref basis,
            cmd,
            is_over,
        } = *saved
        else {
            return Err(Unsound);
        };
        let touched = self.touched(basis, false, (name, args))?;
        let session = self.sessions.find(session)?;
        let places = [basis.place];
        let Some(session) = session else {
            self.left_out += 1;
            self.commands.push::<Command>(None, places);
            return Ok(());
        };
        let mut command = Command {
            session,
            number: command_number,
            ..Command::BLANK
        };
        command.common.stamp.set(Flag::Done, is_done);
        let is_alone = !self.store.sessions.arena[session].has(Flag::Connected);
        let is_over = is_over || is_done || is_alone;
        command.common.stamp.set(Flag::Over, is_over);
        let store = &mut self.store;
        let service = store.sessions.arena[session].service;
        let kind = match cmd {
            Some(number) => *self.cmds.get(number as usize).ok_or(Unsound)?,
            // A state without kinds.
            None => (store.kinds).cmd(&mut store.memory.budget, service, name, self.now),
        };
        command.common.chain = CmdId::chain(kind);
        let made = self.make((name, args), (basis, touched), command);
        if let Some(link) = made {
            self.store.insert_command(link, touched);
        }
        self.commands.push(made, places);
        Ok(())
    }
}
