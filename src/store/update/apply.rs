//! Records applied: what each of the five changes, counted upwards.
//!
//! A record is applied as a whole. What could refuse it is checked before anything
//! changes; after that only memory can run out, and then the record still counts at every
//! level that has an entry for it, global always. Only a total that the session has no room
//! for as its new base is not counted until a later one finds room.
//!
//! A CONNECT or the first record of a command that repeats exactly what is known is no
//! mistake: a writer that finds another reader at its FIFO repeats everything, and a
//! restored store knows it. One that differs is refused.
//!
//! Must not: know where entries lie, or which of them are deferred: [`lifecycle`] and
//! [`deferral`] do.
//!
//! [`lifecycle`]: crate::store::entries::lifecycle
//! [`deferral`]: crate::store::update::deferral

use crate::stats::{place, Report, Stats};
use crate::store::counters::packed;
use crate::store::counters::{Counters, Difference, Event};
use crate::store::entries::entry::{
    each_parent, Command, Entry, Flag, Parent, Parents, Session, PARENT_LEVELS,
};
use crate::store::entries::lifecycle::{Lifecycle, Octets};
use crate::store::entries::table::{key, rest};
use crate::store::kinds::ServiceId;
use crate::store::mem::arena::Link;
use crate::store::mem::Hashed;
use crate::store::time::{Now, WallTime};
use crate::store::{CommandUpdate, Hint, Note, Record, Store, MAX_TEXT_BYTES};

/// A session without records for so long has lost its process. Dovecot's
/// writers refresh at least every five minutes.
pub const SILENCE_SECS: u32 = 15 * 60;

/// The hashes of the keys that a record contains, each computed once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashes {
    /// Of [`Record::subject`].
    pub(crate) subject: u32,
    /// Of the user of a CONNECT.
    pub(crate) user: u32,
    /// Of the address of a CONNECT or ADD-USER.
    pub(crate) ip: u32,
}

struct Connect<'a> {
    id: Hashed<'a>,
    user: Hashed<'a>,
    service: &'a [u8],
    pid: u32,
    ip: Option<Hashed<'a>>,
}

impl Store {
    /// Applies a record that was not prefetched.
    #[cfg(any(test, feature = "internals"))]
    pub fn apply(&mut self, record: &Record, now: Now) -> Option<Note> {
        self.apply_hinted(record, self.hint(record), now)
    }

    /// Applies a record, with the hint that [`Store::prefetch_records`] made for it. Returns
    /// what was remarkable about it, if anything.
    pub fn apply_hinted(&mut self, record: &Record, hint: Hint, now: Now) -> Option<Note> {
        if record.text_bytes() > MAX_TEXT_BYTES {
            return Some(Note::TooLong);
        }
        let hint = self.completed(record, hint);
        self.make_room_for(record, hint, now);
        let session = self.session_again(record, hint);
        let note = self.apply_to(record, session, hint.hashes, now);
        if !self.has_lost {
            return note;
        }
        match note {
            // Less than that, and no refusal.
            None | Some(Note::Placeholder | Note::Shrank | Note::UnknownCommand) => {
                self.has_lost = false;
                Some(Note::NoRoom)
            }
            note => note,
        }
    }

    /// Applies a record to the session that it is about, as far as that is known. Returns
    /// a note about this record alone.
    #[inline(always)]
    fn apply_to(
        &mut self,
        record: &Record,
        known: Option<Link<Session>>,
        hashes: Hashes,
        now: Now,
    ) -> Option<Note> {
        match *record {
            Record::Connect {
                session,
                user,
                service,
                pid,
                ip,
            } => {
                let octets = ip.map(Octets::of);
                let connect = Connect {
                    id: (session, hashes.subject),
                    user: (user, hashes.user),
                    service,
                    pid,
                    ip: octets.as_ref().map(|octets| (octets.as_slice(), hashes.ip)),
                };
                self.connect(&connect, known, now)
            }
            Record::UpdateSession { session, report } => {
                match self.session_for_update((session, hashes.subject), known, now) {
                    Ok((link, note)) => self.update_session(link, report, now).or(note),
                    Err(note) => Some(note),
                }
            }
            Record::UpdateCommand {
                session,
                ref update,
            } => match self.session_for_update((session, hashes.subject), known, now) {
                Ok((link, note)) => self.update_command(link, update, now).or(note),
                Err(note) => {
                    if let (Note::Untracked, Some(_)) = (note, update.begins) {
                        self.count_untracked_command(hashes.subject, update, now);
                    }
                    Some(note)
                }
            },
            Record::AddUser {
                user,
                service,
                ip,
                report,
            } => {
                let octets = ip.map(Octets::of);
                let ip = octets.as_ref().map(|octets| (octets.as_slice(), hashes.ip));
                self.add_user((user, hashes.subject), ip, service, &report.stats, now)
            }
            Record::Disconnect { .. } => match known {
                None => {
                    self.untracked.remove(hashes.subject);
                    Some(Note::UnknownSession)
                }
                Some(link) if !self.sessions.arena[link].has(Flag::Connected) => {
                    Some(Note::Disconnected)
                }
                Some(link) => {
                    self.disconnect(link, now);
                    None
                }
            },
        }
    }

    /// When the longest silent session will have been silent for
    /// [`SILENCE_SECS`], by the clock of [`Now::uptime_secs`].
    pub fn next_silence_secs(&self) -> Option<u32> {
        let longest = self.connected.head?;
        Some(self.sessions.arena[longest].common.touched_secs + SILENCE_SECS)
    }

    /// Disconnects one session that has been silent too long, if there is one,
    /// and passes its id and user to `report`.
    pub fn disconnect_silent(&mut self, now: Now, report: impl FnOnce(&[u8], &[u8])) -> bool {
        match (self.next_silence_secs(), self.connected.head) {
            (Some(due_secs), Some(link)) if due_secs <= now.uptime_secs => {
                let session = &self.sessions.arena[link];
                report(
                    key(&self.memory.heap, session),
                    key(&self.memory.heap, &self.users.arena[session.user()]),
                );
                self.disconnect(link, now);
                true
            }
            _ => false,
        }
    }

    /// Clears the totals. Sessions connected now stay counted.
    pub fn reset(&mut self, now: Now) {
        self.global.counters = Counters::default();
        self.kinds.reset(now);
        self.global.reset_secs = now.wall.secs;
        self.global.last_update = WallTime::default();
    }

    fn connect(
        &mut self,
        connect: &Connect,
        known: Option<Link<Session>>,
        now: Now,
    ) -> Option<Note> {
        let live = known.filter(|&link| self.sessions.arena[link].has(Flag::Connected));
        if let Some(link) = live.filter(|&link| !self.sessions.arena[link].has(Flag::Placeholder)) {
            // A writer repeats what it reported before the daemon restarted.
            return (!self.is_repeated(link, connect)).then_some(Note::DuplicateSession);
        }
        let mut parents = self.find_or_create_user(connect.user, now);
        parents.ip = connect.ip.and_then(|ip| self.find_or_create(ip, now));
        // What a placeholder counted stays where it was counted.
        let flushed = live.is_none_or(|placeholder| self.flush_now(placeholder, now));
        let session = match live {
            _ if parents.ip.is_none() && connect.ip.is_some() => None,
            Some(placeholder) => self.adopt(placeholder, connect, parents, now),
            None => {
                let set = |session: &mut Session| session.pid = connect.pid;
                let (id, was_known) = (connect.id, known.is_some());
                self.create_session(id, was_known, connect.service, parents, &set, now)
            }
        };
        // That of a collector, who reports the times of logins as its commands.
        let is_login = connect.service != b"auth";
        let login = Difference::One(Event::Login);
        let service = match session {
            Some(link) => self.sessions.arena[link].service,
            None => self
                .kinds
                .service(&mut self.memory.budget, connect.service, now),
        };
        let counted = !is_login || self.count_upwards(parents, service, login, now);
        if session.is_none() {
            if let Some(user) = parents.user {
                let (users, ips) = ((&self.users, user), (&self.ips, parents.ip));
                let budget = &mut self.memory.budget;
                self.untracked.insert(budget, connect.id.1, users, ips);
            }
            self.unpin(parents, now);
        }
        (session.is_none() || !counted || !flushed).then_some(Note::NoRoom)
    }

    /// Whether a CONNECT describes a connected session as it is.
    fn is_repeated(&self, link: Link<Session>, connect: &Connect) -> bool {
        let session = &self.sessions.arena[link];
        let heap = &self.memory.heap;
        let ip = session.above.ip.map(|ip| key(heap, &self.ips.arena[ip]));
        key(heap, &self.users.arena[session.user()]) == connect.user.0
            && (rest(heap, session), session.pid) == (connect.service, connect.pid)
            && ip == connect.ip.map(|(octets, _)| octets)
    }

    /// Makes a placeholder the session that it stands for, below parents that
    /// are pinned for it. Its totals so far stay where they were counted.
    fn adopt(
        &mut self,
        link: Link<Session>,
        connect: &Connect,
        parents: Parents,
        now: Now,
    ) -> Option<Link<Session>> {
        parents.user?;
        self.with_room(now, |store| {
            let texts = (connect.id.0, connect.service);
            store.sessions.rename(&mut store.memory, link, texts)
        })?;
        let before = self.sessions.arena[link].above;
        Session::leave(self, link);
        let budget = &mut self.memory.budget;
        let service = self.kinds.service(budget, connect.service, now);
        let session = &mut self.sessions.arena[link];
        self.kinds.connected(session.service, -1);
        self.kinds.connected(service, 1);
        session.service = service;
        session.set(Flag::Placeholder, false);
        session.pid = connect.pid;
        session.above = parents;
        self.join_parents(link);
        self.unpin(before, now);
        self.touch_session(link, now);
        Some(link)
    }

    #[inline(always)]
    fn update_session(&mut self, link: Link<Session>, report: &Report, now: Now) -> Option<Note> {
        let session = &mut self.sessions.arena[link];
        let packed = session.common.contents.packed_mut(&mut self.memory.heap);
        let mut difference = Counters::default();
        if !packed::step(packed, report, &mut difference) {
            return self.advance_session(link, report, now);
        }
        let (was_now, parents, service) = touch(session, now);
        self.make_youngest(link, was_now);
        let counted = self.count_upwards(parents, service, Difference::Of(&difference), now);
        (!counted).then_some(Note::NoRoom)
    }

    /// UPDATE-SESSION with totals that shrank or wrapped, or need more room.
    #[inline(never)]
    fn advance_session(&mut self, link: Link<Session>, report: &Report, now: Now) -> Option<Note> {
        let (mut total, mut difference) = (Counters::default(), Counters::default());
        let contents = self.sessions.arena[link].common.contents;
        contents.unpack_to(&self.memory.heap, &mut total);
        let shrank = report.advance(&mut total.stats, &mut difference.stats);
        // Its totals no longer contain what it counted before.
        let flushed = !shrank || self.flush_now(link, now);
        // The base first: what it has no room for is not counted now but with a
        // later total, so nothing is counted twice.
        let stored = self.with_room(now, |store| {
            store.sessions.set(&mut store.memory, link, &total)
        });
        if stored.is_none() {
            difference = Counters::default();
        }
        let counted = self.reach_session(link, Difference::Of(&difference), now);
        match flushed && counted && stored.is_some() {
            false => Some(Note::NoRoom),
            true => shrank.then_some(Note::Shrank),
        }
    }

    #[inline(never)]
    fn update_command(
        &mut self,
        session: Link<Session>,
        update: &CommandUpdate,
        now: Now,
    ) -> Option<Note> {
        let Session {
            service, commands, ..
        } = self.sessions.arena[session];
        let last = commands.tail;
        let last_number = last.and_then(|last| self.commands.arena[last].number);
        // Writers count up, so a new number most often is the largest.
        let known = match update.begins.is_some() && Some(update.number) > last_number {
            true => None,
            false => self.find_command(session, update.number),
        };
        if let Some(texts) = update.begins {
            let (arena, heap) = (&self.commands.arena, &self.memory.heap);
            let going_on = known.filter(|&link| !arena[link].common.stamp.has(Flag::Done));
            match going_on.map(|link| &arena[link]) {
                // A writer repeats what it reported before the daemon restarted.
                Some(command) if (key(heap, command), rest(heap, command)) == texts => {}
                Some(command) if command.in_session.next.is_none() => {
                    return Some(Note::DuplicateCommand);
                }
                _ => return self.begin_command((session, service, last), texts, update, now),
            }
        }
        self.reach_session(session, Difference::Nothing, now);
        let Some(link) = known else {
            return Some(Note::UnknownCommand);
        };
        self.touch_command(link, now);
        let contents = self.commands.arena[link].common.contents;
        let packed = contents.packed_mut(&mut self.memory.heap);
        let (mut stored, mut shrank) = (Some(()), false);
        let mut difference = Counters::default();
        if !packed::step(packed, update.report, &mut difference) {
            let mut total = self.commands.counters(&self.memory, link);
            difference = Counters::default();
            let report = update.report;
            shrank = report.advance(&mut total.stats, &mut difference.stats);
            stored = self.set_command(link, &total, now);
        }
        if let (Some(kind), Some(())) = (self.kind_of(link), stored) {
            self.kinds.count_cmd(kind, &difference.stats, false, now);
        }
        if update.done {
            self.commands.arena[link].common.stamp.set(Flag::Done, true);
            self.end_command(link);
        }
        match stored {
            None => Some(Note::NoRoom),
            Some(()) => shrank.then_some(Note::Shrank),
        }
    }

    /// The first record of a command, by which the session's last one is over. Without
    /// room for the command it is still counted.
    fn begin_command(
        &mut self,
        (session, service, last): (Link<Session>, ServiceId, Option<Link<Command>>),
        texts: (&[u8], &[u8]),
        update: &CommandUpdate,
        now: Now,
    ) -> Option<Note> {
        let stats = &update.report.stats;
        self.end_last_command(last);
        let kind = self.count_kind(service, texts.0, stats, now);
        let number = (update.number, update.done);
        let created = self.create_command(session, texts, number, kind, stats, now);
        if update.done {
            self.count_over(created, kind, stats.values[place::clock_time]);
        }
        let difference = Difference::One(Event::Command);
        let stored = self.with_room(now, |store| {
            store.sessions.count(&mut store.memory, session, difference)
        });
        let counted = match stored {
            Some(()) => self.reach_session(session, difference, now),
            // The session's own counters lack it.
            None => {
                self.touch_session(session, now);
                let Session { above, service, .. } = self.sessions.arena[session];
                self.count_upwards(above, service, difference, now)
            }
        };
        (created.is_none() || !counted || stored.is_none()).then_some(Note::NoRoom)
    }

    /// The first record of a command whose session, by the hash of its id, has no room. It
    /// counts above where its user is remembered, else as that of a placeholder would.
    #[cold]
    fn count_untracked_command(&mut self, id: u32, update: &CommandUpdate, now: Now) {
        let (name, _) = update.begins.unwrap_or_default();
        let stats = &update.report.stats;
        let kind = self.count_kind(ServiceId::OTHER, name, stats, now);
        if update.done {
            self.count_over(None, kind, stats.values[place::clock_time]);
        }
        let parents = match self.untracked.find(id, &self.users, &self.ips) {
            Some((user, ip)) => {
                let parents = Parents {
                    user: Some(user),
                    domain: Some(self.users.arena[user].domain),
                    ip,
                };
                each_parent!(P => if let Some(link) = P::of(&parents) {
                    P::table_mut(self).0.pin(link);
                });
                parents
            }
            None => self.find_or_create_user(self.memory.hashed(b""), now),
        };
        let difference = Difference::One(Event::Command);
        self.count_upwards(parents, ServiceId::OTHER, difference, now);
        self.unpin(parents, now);
    }

    fn add_user(
        &mut self,
        user: Hashed,
        ip: Option<Hashed>,
        service: &[u8],
        stats: &Stats,
        now: Now,
    ) -> Option<Note> {
        let mut parents = self.find_or_create_user(user, now);
        parents.ip = ip.and_then(|ip| self.find_or_create(ip, now));
        let service = self.kinds.service(&mut self.memory.budget, service, now);
        let difference = Counters::of_stats(stats);
        let counted = self.count_upwards(parents, service, Difference::Of(&difference), now);
        self.unpin(parents, now);
        let has_all = parents.user.is_some() && parents.ip.is_some() == ip.is_some();
        (!has_all || !counted).then_some(Note::NoRoom)
    }

    /// Sets a command's counters. It is in no idle list while room is made for them, so
    /// that it is not freed for that.
    fn set_command(&mut self, link: Link<Command>, total: &Counters, now: Now) -> Option<()> {
        if self.commands.set(&mut self.memory, link, total).is_ok() {
            return Some(());
        }
        self.commands.stop_idling(link);
        let stored = self.with_room(now, |store| {
            store.commands.set(&mut store.memory, link, total)
        });
        self.commands.make_idle(link, now);
        stored
    }

    /// Notes that a record reached a command.
    fn touch_command(&mut self, link: Link<Command>, now: Now) {
        let is_last = self.commands.arena[link].common.touched_secs == now.uptime_secs;
        self.commands.touch(link, now);
        if !is_last {
            self.commands.refresh_idle(link);
        }
    }

    /// Notes that a record reached a session, and adds what the record counts to the entries
    /// above it that do not defer it, and to the totals. False when one of them has no room
    /// for its counters.
    #[inline(always)]
    fn reach_session(&mut self, link: Link<Session>, difference: Difference, now: Now) -> bool {
        let (parents, service) = self.touch_session(link, now);
        self.count_upwards(parents, service, difference, now)
    }

    /// Notes that a record reached a session; the entries above it that do not defer it, and
    /// its service.
    #[inline(always)]
    fn touch_session(&mut self, link: Link<Session>, now: Now) -> (Parents, ServiceId) {
        let (was_now, parents, service) = touch(&mut self.sessions.arena[link], now);
        self.make_youngest(link, was_now);
        (parents, service)
    }

    /// Puts a connected session behind those that were touched before it. Among those of one
    /// second any order will do, and the list is three entries to write to.
    #[inline(always)]
    fn make_youngest(&mut self, link: Link<Session>, was_now: bool) {
        if !was_now {
            let arena = &mut self.sessions.arena;
            self.connected
                .move_to_back(arena, link, |session| &mut session.common.in_age);
        }
    }

    /// Adds to the entries above a session, which are pinned, and to the totals.
    /// False when one of them has no room for its counters.
    #[inline]
    pub(crate) fn count_upwards(
        &mut self,
        parents: Parents,
        service: ServiceId,
        difference: Difference,
        now: Now,
    ) -> bool {
        self.global.last_update = now.wall;
        self.kinds.count(service, difference, now);
        let is_full = each_parent!(P => P::of(&parents).is_some_and(|link| {
            let (table, memory) = P::table_mut(self);
            table.reach(memory, link, difference, now).is_err()
        }));
        is_full == [false; PARENT_LEVELS] || self.count_with_room(parents, is_full, difference, now)
    }

    /// Adds to those parents that have no room, if freeing others makes some.
    #[cold]
    #[inline(never)]
    fn count_with_room(
        &mut self,
        parents: Parents,
        is_full: [bool; PARENT_LEVELS],
        difference: Difference,
        now: Now,
    ) -> bool {
        let mut is_full = is_full.into_iter();
        let counted = each_parent!(P => match (is_full.next(), P::of(&parents)) {
            (Some(true), Some(link)) => {
                let count = |store: &mut Store| {
                    let (table, memory) = P::table_mut(store);
                    table.count(memory, link, difference)
                };
                self.with_room(now, count).is_some()
            }
            _ => true,
        });
        counted.into_iter().all(|counted| counted)
    }
}

/// Notes in a session that a record reached it; whether one did within this second before,
/// the entries above it that do not defer it, and its service.
#[inline(always)]
fn touch(session: &mut Session, now: Now) -> (bool, Parents, ServiceId) {
    let was_now = session.common.touched_secs == now.uptime_secs;
    session.common.touch(now);
    let parents = session.above.where_flag(|deferred| !session.has(deferred));
    (was_now, parents, session.service)
}
