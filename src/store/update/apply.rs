//! Records applied: what each of the five changes, counted upwards.
//!
//! A record is applied as a whole. What could refuse it is looked at before
//! anything changes; after that only memory can run out, and then the record
//! still counts at every level that has an entry for it, global always. Only a
//! total that the session has no room for as its new base is not counted until
//! a later one finds room.

use crate::stats::{Report, Stats};
use crate::store::counters::packed::{self, Step};
use crate::store::counters::{Difference, Event, Lanes};
use crate::store::entries::entry::{Command, Flag, Now, Session, WallTime};
use crate::store::entries::level::{key, rest};
use crate::store::entries::lifecycle::{Octets, Parents};
use crate::store::mem::arena::Link;
use crate::store::mem::shared::Hashed;
use crate::store::{CommandUpdate, Hint, Note, Record, Store, MAX_TEXT_BYTES};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// A session that sent nothing for so long has lost its process. Dovecot's
/// writers refresh at least every five minutes.
pub const SILENCE_SECS: u32 = 15 * 60;

impl Store {
    /// Applies a record. The answer is what was remarkable about it, if
    /// anything.
    pub fn apply(&mut self, record: &Record, now: Now) -> Option<Note> {
        match record.text_bytes() > MAX_TEXT_BYTES {
            true => Some(Note::TooLong),
            false => self.apply_hinted(record, self.hint(record), now),
        }
    }

    /// The same, with what [`Store::prefetch_records`] told of it.
    ///
    /// # Panics
    /// When it has texts longer than [`MAX_TEXT_BYTES`], as none that was read from a line
    /// of at most so many bytes has.
    pub fn apply_hinted(&mut self, record: &Record, hint: Hint, now: Now) -> Option<Note> {
        self.make_room_for(record, hint, now);
        let note = self.apply_quietly(record, hint, now);
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

    /// The same, but for what could not be added to entries that are not about the
    /// record.
    #[inline(always)]
    fn apply_quietly(&mut self, record: &Record, hint: Hint, now: Now) -> Option<Note> {
        match *record {
            Record::Connect {
                session,
                user,
                service,
                pid,
                ip,
            } => self.connect((session, hint), user, (service, pid), ip, now),
            Record::UpdateSession { session, report } => {
                match self.session_for_update(session, hint, now) {
                    Ok((link, note)) => self.update_session(link, report, now).or(note),
                    Err(note) => Some(note),
                }
            }
            Record::UpdateCommand {
                session,
                ref update,
            } => match self.session_for_update(session, hint, now) {
                Ok((link, note)) => self.update_command(link, update, now).or(note),
                Err(note) => {
                    if let (Note::Untracked, Some(_)) = (note, update.begins) {
                        self.count_untracked_command(hint.subject, now);
                    }
                    Some(note)
                }
            },
            Record::AddUser { user, ip, report } => {
                self.add_user((user, hint.subject), (ip, hint.ip), &report.stats, now)
            }
            Record::Disconnect { session } => match self.find_hinted(session, hint) {
                None => {
                    self.untracked.remove(hint.subject);
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
    /// and hands its id and user to `tell`.
    pub fn disconnect_silent(&mut self, now: Now, tell: impl FnOnce(&[u8], &[u8])) -> bool {
        match (self.next_silence_secs(), self.connected.head) {
            (Some(due_secs), Some(link)) if due_secs <= now.uptime_secs => {
                let session = &self.sessions.arena[link];
                tell(
                    key(&self.memory.heap, session),
                    key(&self.memory.heap, &self.users.arena[session.user]),
                );
                self.disconnect(link, now);
                true
            }
            _ => false,
        }
    }

    /// Clears the totals. Sessions connected now stay counted.
    pub fn reset(&mut self, now: Now) {
        self.global.counters = Lanes::default();
        self.global.reset_secs = now.wall.secs;
        self.global.last_update = WallTime::default();
    }

    /// CONNECT.
    fn connect(
        &mut self,
        (id, hint): (&[u8], Hint),
        user: &[u8],
        (service, pid): (&[u8], u32),
        ip: Option<IpAddr>,
        now: Now,
    ) -> Option<Note> {
        let live = self
            .find_hinted(id, hint)
            .filter(|&link| self.sessions.arena[link].has(Flag::Connected));
        if live.is_some_and(|link| !self.sessions.arena[link].has(Flag::Placeholder)) {
            return Some(Note::DuplicateSession);
        }
        let mut parents = self.find_or_create_user((user, hint.user), now);
        let octets = ip.map(Octets::of);
        parents.ip =
            octets.and_then(|octets| self.find_or_create_ip((octets.as_slice(), hint.ip), now));
        // What a placeholder counted stays where it was counted.
        let flushed = live.is_none_or(|placeholder| self.flush_now(placeholder, now));
        let session = match live {
            _ if parents.ip.is_none() && ip.is_some() => None,
            Some(placeholder) => self.adopt(placeholder, (id, service), pid, parents, now),
            None => self.create_session((id, hint.subject, service), parents, now, |session| {
                session.pid = pid
            }),
        };
        let counted = self.count_upwards(parents, Difference::One(Event::Login), now);
        if session.is_none() {
            if let Some(user) = parents.user {
                let (users, ips) = ((&self.users, user), (&self.ips, parents.ip));
                let budget = &mut self.memory.budget;
                self.untracked.insert(budget, hint.subject, users, ips);
            }
            self.unpin(parents, now);
        }
        (session.is_none() || !counted || !flushed).then_some(Note::NoRoom)
    }

    /// Makes a placeholder the session that it stands for, below parents that
    /// are held for it. Its totals so far stay where they were counted.
    fn adopt(
        &mut self,
        link: Link<Session>,
        (id, service): (&[u8], &[u8]),
        pid: u32,
        parents: Parents,
        now: Now,
    ) -> Option<Link<Session>> {
        let (user, domain) = (parents.user?, parents.domain?);
        self.with_room(now, |store| {
            store
                .sessions
                .rename(&mut store.memory, link, (id, service))
        })?;
        let before = self.parents(link);
        self.leave_parents(link);
        let session = &mut self.sessions.arena[link];
        session.set(Flag::Placeholder, false);
        session.pid = pid;
        session.user = user;
        session.domain = domain;
        session.ip = parents.ip;
        self.join_parents(link);
        self.unpin(before, now);
        self.touch_session(link, now);
        Some(link)
    }

    /// UPDATE-SESSION.
    #[inline]
    fn update_session(&mut self, link: Link<Session>, report: &Report, now: Now) -> Option<Note> {
        let session = &self.sessions.arena[link];
        let parents = Parents::not_deferring(session);
        let packed = session.common.contents.packed_mut(&mut self.memory.heap);
        let (mut total, mut difference) = (Lanes::default(), Lanes::default());
        match packed::step(packed, report, &mut total, &mut difference) {
            Step::Taken => {
                self.touch_session(link, now);
                let counted = self.count_upwards(parents, Difference::Of(&difference), now);
                (!counted).then_some(Note::NoRoom)
            }
            Step::Wider => self.advance_session(link, &total, (difference, false), now),
            Step::Refused => {
                total = self.sessions.lanes(&self.memory, link);
                let advanced = total.advance(report);
                self.advance_session(link, &total, advanced, now)
            }
        }
    }

    /// UPDATE-SESSION with totals that shrank or wrapped, or need more room: what they
    /// are, by how much they differ and whether anything shrank.
    #[inline(never)]
    fn advance_session(
        &mut self,
        link: Link<Session>,
        total: &Lanes,
        (mut difference, shrank): (Lanes, bool),
        now: Now,
    ) -> Option<Note> {
        self.touch_session(link, now);
        // What it counted before can no longer be told from its totals.
        let flushed = !shrank || self.flush_now(link, now);
        // The base first: what it has no room for is not counted now but with a
        // later total, so nothing is counted twice.
        let stored = self.with_room(now, |store| {
            store.sessions.set(&mut store.memory, link, total)
        });
        if stored.is_none() {
            difference = Lanes::default();
        }
        let parents = Parents::not_deferring(&self.sessions.arena[link]);
        let counted = self.count_upwards(parents, Difference::Of(&difference), now);
        match flushed && counted && stored.is_some() {
            false => Some(Note::NoRoom),
            true => shrank.then_some(Note::Shrank),
        }
    }

    /// UPDATE-CMD.
    fn update_command(
        &mut self,
        session: Link<Session>,
        update: &CommandUpdate,
        now: Now,
    ) -> Option<Note> {
        if let Some(texts) = update.begins {
            return match self.has_begun(session, texts, update.number) {
                true => Some(Note::DuplicateCommand),
                false => self.begin_command(session, texts, update, now),
            };
        }
        let known = self.find_command(session, update.number);
        let parents = Parents::not_deferring(&self.sessions.arena[session]);
        self.touch_session(session, now);
        self.count_upwards(parents, Difference::Nothing, now);
        let Some(link) = known else {
            return Some(Note::UnknownCommand);
        };
        let mut total = self.commands.lanes(&self.memory, link);
        let (_, shrank) = total.advance(update.report);
        self.touch_command(link, now);
        let stored = self.set_command(link, &total, now);
        if update.done {
            self.commands.arena[link].common.stamp.set(Flag::Done, true);
        }
        match stored {
            None => Some(Note::NoRoom),
            Some(()) => shrank.then_some(Note::Shrank),
        }
    }

    /// Whether a beginning must not begin a command: that of its number is not over, or is
    /// not done and began with the same texts, as a writer repeats it after a restart.
    fn has_begun(&self, session: Link<Session>, texts: (&[u8], &[u8]), number: NonZeroU32) -> bool {
        let arena = &self.commands.arena;
        let last = self.sessions.arena[session].commands.tail;
        // Writers count up, so a new number most often is the largest.
        let is_largest = last.is_none_or(|last| Some(number) > arena[last].number);
        let known = match is_largest {
            true => None,
            false => self.find_command(session, number),
        };
        known.is_some_and(|link| {
            let command = &arena[link];
            let heap = &self.memory.heap;
            !command.common.stamp.has(Flag::Done)
                && (command.in_session.next.is_none()
                    || (key(heap, command), rest(heap, command)) == texts)
        })
    }

    /// The first record of a command, by which the session's last one is over. Without
    /// room for the command it is still counted.
    fn begin_command(
        &mut self,
        session: Link<Session>,
        texts: (&[u8], &[u8]),
        update: &CommandUpdate,
        now: Now,
    ) -> Option<Note> {
        let mut counters = Lanes::default();
        counters.set_stats(&update.report.stats);
        let number = (update.number, update.done);
        let made = self.create_command(session, texts, number, &counters, now);
        let difference = Difference::One(Event::Command);
        self.touch_session(session, now);
        let stored = self.with_room(now, |store| {
            store.sessions.count(&mut store.memory, session, difference)
        });
        // Who defers the session adds what that counted; of what it had no room for,
        // they learn only now.
        let parents = match stored {
            Some(()) => Parents::not_deferring(&self.sessions.arena[session]),
            None => self.parents(session),
        };
        let counted = self.count_upwards(parents, difference, now);
        (made.is_none() || !counted || stored.is_none()).then_some(Note::NoRoom)
    }

    /// The first record of a command whose session, by the hash of its id, has no room. It
    /// counts above where its user is remembered, else as that of a placeholder would.
    #[cold]
    fn count_untracked_command(&mut self, id: u32, now: Now) {
        let parents = match self.untracked.find(id, &self.users, &self.ips) {
            Some((user, ip)) => {
                let domain = self.users.arena[user].domain;
                self.users.pin(user);
                self.domains.pin(domain);
                if let Some(ip) = ip {
                    self.ips.pin(ip);
                }
                Parents {
                    user: Some(user),
                    domain: Some(domain),
                    ip,
                }
            }
            None => self.find_or_create_user(self.memory.hashed(b""), now),
        };
        self.count_upwards(parents, Difference::One(Event::Command), now);
        self.unpin(parents, now);
    }

    /// ADD-USER.
    fn add_user(
        &mut self,
        user: Hashed,
        (ip, ip_hash): (Option<IpAddr>, u32),
        stats: &Stats,
        now: Now,
    ) -> Option<Note> {
        let mut parents = self.find_or_create_user(user, now);
        let octets = ip.map(Octets::of);
        parents.ip =
            octets.and_then(|octets| self.find_or_create_ip((octets.as_slice(), ip_hash), now));
        let mut counted = Lanes::default();
        counted.set_stats(stats);
        let counted = self.count_upwards(parents, Difference::Of(&counted), now);
        self.unpin(parents, now);
        let has_all = parents.user.is_some() && parents.ip.is_some() == ip.is_some();
        (!has_all || !counted).then_some(Note::NoRoom)
    }

    /// Sets a command's counters. It is in no idle list while room is made for them, so
    /// that it is not freed for that.
    fn set_command(&mut self, link: Link<Command>, total: &Lanes, now: Now) -> Option<()> {
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

    /// Notes that a record reached a session.
    #[inline]
    fn touch_session(&mut self, link: Link<Session>, now: Now) {
        let arena = &mut self.sessions.arena;
        let common = &mut arena[link].common;
        let is_last = common.touched_secs == now.uptime_secs;
        common.touch(now);
        // Among those touched within a second any order will do, and the list is
        // three entries to write to.
        if !is_last {
            self.connected
                .move_to_back(arena, link, |session| &mut session.common.in_age);
        }
    }

    /// Adds to the entries above a session, which are held, and to the totals.
    /// False when one of them has no room for its counters.
    #[inline]
    fn count_upwards(&mut self, parents: Parents, difference: Difference, now: Now) -> bool {
        self.global.last_update = now.wall;
        self.global.counters.count(difference);
        let memory = &mut self.memory;
        let (users, domains, ips) = (&mut self.users, &mut self.domains, &mut self.ips);
        let full = Parents {
            user: parents
                .user
                .filter(|&user| users.reach(memory, user, difference, now).is_err()),
            domain: parents
                .domain
                .filter(|&domain| domains.reach(memory, domain, difference, now).is_err()),
            ip: parents
                .ip
                .filter(|&ip| ips.reach(memory, ip, difference, now).is_err()),
        };
        full.is_empty() || self.count_with_room(full, difference, now)
    }

    /// Adds to entries that have no room, if freeing others makes some.
    #[cold]
    #[inline(never)]
    fn count_with_room(&mut self, full: Parents, difference: Difference, now: Now) -> bool {
        let user = full.user.is_none_or(|link| {
            self.with_room(now, |store| {
                store.users.count(&mut store.memory, link, difference)
            })
            .is_some()
        });
        let domain = full.domain.is_none_or(|link| {
            self.with_room(now, |store| {
                store.domains.count(&mut store.memory, link, difference)
            })
            .is_some()
        });
        let ip = full.ip.is_none_or(|link| {
            self.with_room(now, |store| {
                store.ips.count(&mut store.memory, link, difference)
            })
            .is_some()
        });
        user && domain && ip
    }
}
