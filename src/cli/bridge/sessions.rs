//! The sessions that are followed, from their first event to their last.
//!
//! Owns: for each session its reported totals, the process that serves it, and its ids;
//! what is to be added to users; the order in which what a full FIFO did not take is
//! delivered later.
//!
//! Invariants: a session is CONNECTed once, also when this program is restarted in
//! between: [`KnownSessions`] are those that the daemon has. Totals never shrink. At most
//! [`Sessions::max`] sessions are followed; of others only logins and failures count.
//!
//! | module | what it is |
//! |---|---|
//! | `connections` | the connections that anvil lists find their sessions |
//! | `delivery` | what is reported, and what a full FIFO did not take |
//!
//! A session is *held* until its process is known, so that CONNECT names it, but not for
//! longer than [`HOLD_MS`]. When it is over it keeps its place for [`KEEP_MS`], because
//! events of different processes overtake each other.

mod connections;
mod delivery;

use super::anvil::{guid_pid, guid_usecs, Guid};
use super::join::{Join, SessionAt, PATIENCE_MS};
use super::processes::{growth, Figures, ProcessAt, Processes};
use super::Now;
use crate::report::{FifoWriter, Login, Look, Session, SessionId};
use crate::stats::Stats;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// The longest wait for a session's process.
const HOLD_MS: u64 = 2000;

/// How long the place of a session that is over is kept.
const KEEP_MS: u64 = 3000;

/// How long a session that is over waits for a daemon that is restarted.
const ABSENCE_MS: u64 = 60_000;

/// Writers refresh their sessions at least every five minutes.
const REFRESH_MS: u64 = 240_000;

/// A session whose process or connection is gone waits so long for its final event.
const LAST_EVENT_MS: u64 = 5000;

/// How long an LMTP connection stays connected after the last event of its session.
const LINGER_MS: u64 = 5000;

/// A login without a connection in anvil and without events.
const UNSEEN_MS: u64 = 60_000;

/// Without anvil: IMAP clients say something every half an hour.
const SILENT_MS: u64 = 35 * 60_000;

/// Most commands of a session that are reported together.
const MAX_COMMANDS: usize = 32;

/// Most differences of users that wait for room in the FIFO.
const MAX_ADDS: usize = 10_000;

/// The longest id; a longer one is refused.
const MAX_ID_BYTES: usize = 255;

/// A session that the daemon has from an earlier run of this program.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) total: Stats,
    pub(super) num_cmds: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct KnownSessions {
    pub(super) by_id: HashMap<Vec<u8>, Known>,
    /// Ids by [`known_key`].
    pub(super) by_connection: HashMap<Vec<u8>, Vec<u8>>,
    /// Ids of sessions of authentications whose bridge was killed.
    pub(super) auth: Vec<Vec<u8>>,
}

/// The key of a connection and its process.
pub(super) fn known_key(key: &[u8], pid: u32) -> Vec<u8> {
    [key, b"\0", &pid.to_ne_bytes()].concat()
}

/// Who a session is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) id: &'a [u8],
    pub(super) user: &'a [u8],
    pub(super) service: &'a [u8],
    pub(super) ip: Option<IpAddr>,
    pub(super) port: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not reported yet, as its process is not known, or its user.
    Held,
    Open,
    /// It had its final event, but its process may still be found until this moment.
    Ending(u64),
    /// An LMTP session that had its final event; commands may follow.
    Lingering,
    /// Ended at this moment; DISCONNECT may not be delivered.
    Over(u64),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) report: Session,
    id: Vec<u8>,
    /// User, service and address, as in [`super::join::key`].
    pub(super) key: Vec<u8>,
    /// Address and port; empty if not used to find it.
    address: Vec<u8>,
    guid: Option<Guid>,
    pub(super) stage: Stage,
    /// Named after its connection: its id is not known.
    is_nameless: bool,
    /// The daemon has its total from an earlier run of this program.
    is_resumed: bool,
    pub(super) process: Option<ProcessAt>,
    /// The figures of its final event.
    pub(super) last: Stats,
    /// The process's figures when it began to serve this session.
    pub(super) base: Stats,
    pub(super) total: Stats,
    /// The total when the present process began: after hibernation, another one.
    pub(super) phase: Stats,
    /// The total when the last command ended.
    pub(super) mark: Stats,
    /// Final events to come from processes that gave the session to hibernation.
    pub(super) hibernations: u8,
    pub(super) is_hibernated: bool,
    /// It is to be reported at the end of this turn.
    is_changed: bool,
    pub(super) has_user: bool,
    /// A mail process has asked for its user, or done something.
    pub(super) has_begun: bool,
    /// Its process may be of another host.
    pub(super) is_remote: bool,
    since_ms: u64,
    pub(super) last_event_ms: u64,
    last_record_ms: u64,
    /// The process is gone, or anvil's list lacks the connection, since then.
    pub(super) missing_since_ms: Option<u64>,
    /// The reply of anvil that listed it last.
    seen_in: u64,
}

/// See the module.
pub(super) struct Sessions {
    fifo: Arc<FifoWriter>,
    all: Vec<Option<Box<Entry>>>,
    free: Vec<SessionAt>,
    count: usize,
    pub(super) max: usize,
    by_id: HashMap<Vec<u8>, SessionAt>,
    by_address: HashMap<Vec<u8>, SessionAt>,
    by_guid: HashMap<Vec<u8>, SessionAt>,
    nameless: Vec<SessionAt>,
    /// How many connections anvil's present reply lists as hibernated, by key.
    hibernated: HashMap<Vec<u8>, u32>,
    known: KnownSessions,
    pub(super) join: Join,
    pub(super) processes: Processes,
    pub(super) figures: Box<dyn Figures>,
    /// Whether the event that is being applied may be of another host.
    pub(super) is_remote: bool,
    /// What authentications are reported in: a session of service `auth`.
    auth: Option<Session>,
    auth_record_ms: u64,
    /// Whether anvil answers.
    pub(super) has_anvil: bool,
    adds: VecDeque<(Vec<u8>, Option<IpAddr>, Stats)>,
    /// Those to be reported at the end of this turn.
    changed: Vec<SessionAt>,
    /// Something waits for room in the FIFO, or for a FIFO.
    pub(super) is_behind: bool,
    cursor: usize,
    /// Sessions not followed, and differences of users lost, for want of room.
    pub(super) refused: u64,
    pub(super) lost_adds: u64,
}

impl Sessions {
    pub(super) fn new(
        fifo: Arc<FifoWriter>,
        known: KnownSessions,
        figures: Box<dyn Figures>,
        max: usize,
        every_ms: u64,
    ) -> Sessions {
        known
            .auth
            .iter()
            .for_each(|id| delivery::end_auth(&fifo, id));
        Sessions {
            fifo,
            all: Vec::new(),
            free: Vec::new(),
            count: 0,
            max,
            by_id: HashMap::new(),
            by_address: HashMap::new(),
            by_guid: HashMap::new(),
            nameless: Vec::new(),
            hibernated: HashMap::new(),
            known,
            join: Join::default(),
            processes: Processes::new(every_ms),
            figures,
            is_remote: false,
            auth: None,
            auth_record_ms: 0,
            has_anvil: false,
            adds: VecDeque::new(),
            changed: Vec::new(),
            is_behind: false,
            cursor: 0,
            refused: 0,
            lost_adds: 0,
        }
    }

    /// How many are followed.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn get(&mut self, at: SessionAt) -> Option<&mut Entry> {
        self.all.get_mut(at as usize)?.as_deref_mut()
    }

    pub(super) fn key(&self, at: SessionAt) -> Vec<u8> {
        let entry = self.all[at as usize].as_deref();
        entry.map_or(Vec::new(), |entry| entry.key.clone())
    }

    pub(super) fn by_id(&self, id: &[u8]) -> Option<SessionAt> {
        self.by_id.get(id).copied()
    }

    /// The session of a client, for events without its id.
    pub(super) fn by_address(&self, ip: &[u8], port: &[u8]) -> Option<SessionAt> {
        self.by_address.get(&address(ip, port)).copied()
    }

    /// A session that begins, or that began before this program. One that logs in now
    /// is never one of those whose connections were there before.
    pub(super) fn begin(
        &mut self,
        who: Who<'_>,
        key: Vec<u8>,
        is_login: bool,
        now: Now,
    ) -> Option<SessionAt> {
        if who.id.is_empty() || who.id.len() > MAX_ID_BYTES {
            return None;
        }
        let nameless = |at: &SessionAt| {
            let entry = self.all[*at as usize].as_deref();
            entry.is_some_and(|entry| entry.key == key)
        };
        if let Some(found) = self
            .nameless
            .iter()
            .position(nameless)
            .filter(|_| !is_login)
        {
            let at = self.nameless.swap_remove(found);
            let entry = self.all[at as usize].as_deref_mut()?;
            (entry.is_nameless, entry.id) = (false, who.id.to_vec());
            self.by_id.insert(who.id.to_vec(), at);
            return Some(at);
        }
        let at = self.insert(who, key, now)?;
        self.by_id.insert(who.id.to_vec(), at);
        if let Some(known) = self.known.by_id.remove(who.id) {
            let entry = self.all[at as usize].as_deref_mut()?;
            entry.report.resume(&known.total, known.num_cmds);
            (entry.total, entry.mark, entry.is_resumed) = (known.total, known.total, true);
            entry.phase = known.total;
        }
        Some(at)
    }

    fn insert(&mut self, who: Who<'_>, key: Vec<u8>, now: Now) -> Option<SessionAt> {
        if self.count >= self.max {
            self.refused += 1;
            return None;
        }
        let login = Login {
            user: who.user,
            service: who.service,
            pid: 0,
            ip: who.ip,
        };
        let at = self.free.pop().unwrap_or(self.all.len() as SessionAt);
        if at as usize == self.all.len() {
            self.all.push(None);
        }
        let ip = who.ip.map_or(String::new(), |ip| ip.to_string());
        let address = match who.port {
            b"" => Vec::new(),
            port => address(ip.as_bytes(), port),
        };
        if !address.is_empty() {
            self.by_address.insert(address.clone(), at);
        }
        self.count += 1;
        self.all[at as usize] = Some(Box::new(Entry {
            report: Session::held(&self.fifo, SessionId::given(who.id), login),
            id: who.id.to_vec(),
            key,
            address,
            guid: None,
            stage: Stage::Held,
            is_nameless: false,
            is_resumed: false,
            process: None,
            last: Stats::default(),
            base: Stats::default(),
            total: Stats::default(),
            phase: Stats::default(),
            mark: Stats::default(),
            is_remote: self.is_remote,
            hibernations: 0,
            is_hibernated: false,
            is_changed: false,
            has_user: !who.user.is_empty(),
            has_begun: false,
            since_ms: now.ms,
            last_event_ms: now.ms,
            last_record_ms: now.ms,
            missing_since_ms: None,
            seen_in: 0,
        }));
        Some(at)
    }

    /// The process that serves a session is known.
    pub(super) fn attach(&mut self, at: SessionAt, pid: u32, guid: Option<&Guid>, now: Now) {
        self.detach(at, now);
        let fresh_for = guid.and_then(|guid| fresh_for(pid, guid));
        let (all, mut first) = (&mut self.all, Stats::default());
        let share = &mut |to: SessionAt, more: &Stats| match to == at {
            true => first = *more,
            false => add(all, to, more),
        };
        let figures = &mut *self.figures;
        let attached = self
            .processes
            .attach(pid, at, fresh_for, figures, now.ms, share);
        let Some(entry) = self.all[at as usize].as_deref_mut() else {
            return;
        };
        if let Some((process, base)) = attached {
            (entry.process, entry.base) = (Some(process), base);
            entry.missing_since_ms = None;
        }
        if std::mem::take(&mut entry.is_resumed) {
            // Some of what its process used is in its total already.
            first = growth(&first, &entry.total);
        }
        entry.total.add(&first);
        entry.mark = entry.total;
        entry.is_hibernated = false;
        self.release(at, pid, now);
    }

    /// A session is served by a process that cannot be looked at, and that others of
    /// the same connection share.
    pub(super) fn attach_unseen(&mut self, at: SessionAt, connection: &[u8], now: Now) {
        let process = self.processes.attach_unseen(connection, at, now.ms);
        if let Some(entry) = self.get(at) {
            entry.process = Some(process);
        }
    }

    fn detach(&mut self, at: SessionAt, now: Now) {
        if let Some(entry) = self.all[at as usize].as_deref_mut() {
            if let Some(process) = entry.process.take() {
                self.processes.detach(process, at, now.ms);
            }
        }
    }

    /// A session needs to be held no longer.
    pub(super) fn release(&mut self, at: SessionAt, pid: u32, now: Now) {
        if let Some(entry) = self.get(at) {
            if entry.stage == Stage::Held {
                entry.stage = Stage::Open;
            }
            entry.report.release(pid);
            self.put(at, now);
        }
    }

    /// Looks at a session's process now. The totals of others that it serves are
    /// reported, too; its own are the caller's to report.
    pub(super) fn look(
        &mut self,
        process: ProcessAt,
        except: Option<SessionAt>,
        is_ending: bool,
        now: Now,
    ) {
        let mut changed = Vec::new();
        let all = &mut self.all;
        let share = &mut |at: SessionAt, more: &Stats| {
            add(all, at, more);
            if Some(at) != except {
                changed.push(at);
            }
        };
        let figures = &mut *self.figures;
        let look = self
            .processes
            .look(process, figures, now.ms, is_ending, share);
        for at in changed {
            self.put(at, now);
        }
        if look == Look::Gone {
            for at in self.processes.served(process) {
                if let Some(entry) = self.get(at) {
                    entry.missing_since_ms.get_or_insert(now.ms);
                }
            }
        }
    }

    /// A session's final event counts.
    pub(super) fn finish(&mut self, at: SessionAt, now: Now) {
        let Some(entry) = self.get(at) else {
            return;
        };
        let (process, base, last) = (entry.process, entry.base, entry.last);
        let Some(process) = process else {
            return entry.total.add(&last);
        };
        self.look(process, Some(at), true, now);
        let mut changed = Vec::new();
        let all = &mut self.all;
        let share = &mut |to: SessionAt, more: &Stats| {
            add(all, to, more);
            if to != at {
                changed.push(to);
            }
        };
        self.processes.finish(process, &base, &last, share);
        for at in changed {
            self.put(at, now);
        }
        self.detach(at, now);
    }

    /// The end of a session whose process is known, or never will be.
    pub(super) fn complete(&mut self, at: SessionAt, now: Now) {
        if let Some(connection) = self.join.forget(&self.key(at), at) {
            self.meet(at, connection, 0, now);
        }
        self.finish(at, now);
        self.end(at, now);
    }

    /// A session is over.
    pub(super) fn end(&mut self, at: SessionAt, now: Now) {
        self.detach(at, now);
        let Some(entry) = self.all[at as usize].as_deref_mut() else {
            return;
        };
        if matches!(entry.stage, Stage::Over(_)) {
            return;
        }
        let is_reported = entry.has_user;
        entry.stage = Stage::Over(now.ms);
        self.join.forget(&entry.key, at);
        if self.by_address.get(&entry.address) == Some(&at) {
            self.by_address.remove(&entry.address);
        }
        let is_nameless = std::mem::take(&mut entry.is_nameless);
        if is_nameless {
            self.nameless.retain(|&nameless| nameless != at);
        }
        if is_reported {
            entry.report.release(0);
            let total = entry.total;
            entry.report.update(&total);
            self.is_behind |= !entry.report.finish();
        }
        self.forget_connection(at);
    }

    /// The places that [`Sessions::visit`] may be called for.
    pub(super) fn places(&self) -> SessionAt {
        self.all.len() as SessionAt
    }

    /// Does what is due for a session.
    pub(super) fn visit(&mut self, at: SessionAt, now: Now) {
        let has_anvil = self.has_anvil;
        let Some(entry) = self.get(at) else {
            return;
        };
        let has_anvil = has_anvil && !entry.is_remote;
        let past = |since_ms: u64, limit_ms: u64| now.ms >= since_ms.saturating_add(limit_ms);
        let is_missing = entry
            .missing_since_ms
            .is_some_and(|since| past(since, LAST_EVENT_MS));
        match entry.stage {
            Stage::Over(since) => {
                let is_held = !entry.has_user;
                if past(since, KEEP_MS)
                    && (is_held || entry.report.finish() || past(since, ABSENCE_MS))
                {
                    self.remove(at);
                }
            }
            Stage::Held if !entry.has_user => {
                if past(entry.last_event_ms, UNSEEN_MS) {
                    self.end(at, now);
                }
            }
            // Its password was right, but no mail process has asked for its user: refused
            // for another reason, or passed on to another server.
            Stage::Held if !entry.has_begun => {
                if past(entry.since_ms, UNSEEN_MS) {
                    entry.has_user = false;
                    self.end(at, now);
                }
            }
            Stage::Held => {
                if past(entry.since_ms, HOLD_MS) || !has_anvil {
                    self.release(at, 0, now);
                }
            }
            Stage::Ending(until_ms) => {
                if past(until_ms, PATIENCE_MS) || !has_anvil {
                    self.complete(at, now);
                }
            }
            Stage::Lingering if past(entry.last_event_ms, LINGER_MS) => self.end(at, now),
            _ if is_missing => self.end(at, now),
            _ => {
                let limit_ms = match has_anvil {
                    true if entry.is_hibernated => SILENT_MS,
                    true => UNSEEN_MS,
                    false => SILENT_MS,
                };
                let is_unseen = entry.process.is_none() && past(entry.last_event_ms, limit_ms);
                if is_unseen {
                    self.end(at, now);
                } else if past(entry.last_record_ms, REFRESH_MS) {
                    self.put(at, now);
                }
            }
        }
    }

    fn remove(&mut self, at: SessionAt) {
        if let Some(entry) = self.all[at as usize].take() {
            if self.by_id.get(&entry.id) == Some(&at) {
                self.by_id.remove(&entry.id);
            }
            self.count -= 1;
            self.free.push(at);
        }
    }
}

/// When a process got a connection, if the connection was its own from the beginning.
fn fresh_for(pid: u32, guid: &Guid) -> Option<u64> {
    (guid_pid(guid) == pid).then(|| guid_usecs(guid))
}

/// Adds to a session's total.
fn add(all: &mut [Option<Box<Entry>>], at: SessionAt, more: &Stats) {
    if let Some(Some(entry)) = all.get_mut(at as usize) {
        entry.total.add(more);
    }
}

fn address(ip: &[u8], port: &[u8]) -> Vec<u8> {
    [ip, b" ", port].concat()
}
