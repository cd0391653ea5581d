//! What is reported, and what a full FIFO, or an absent one, did not take.
//!
//! Invariant: what is not delivered stays where it is, in sessions and in `adds`, and is
//! delivered in rounds, so that no session keeps others from their turn.

use super::{Sessions, Stage, MAX_ADDS, MAX_COMMANDS, REFRESH_MS};
use crate::cli::bridge::join::SessionAt;
use crate::cli::bridge::Now;
use crate::report::{add_user, FifoWriter, Login, Session, SessionId};
use crate::stats::Stats;
use std::net::IpAddr;
use std::sync::Arc;

/// The user of the session of authentications: there are rows of it at the levels of
/// users and domains.
const AUTH_USER: &[u8] = b"auth@dovestat";

fn auth_session(fifo: &Arc<FifoWriter>, id: SessionId) -> Session {
    let pid = std::process::id();
    let login = Login {
        user: AUTH_USER,
        service: b"auth",
        pid,
        ip: None,
    };
    let mut auth = Session::held(fifo, id, login);
    auth.release(pid);
    auth
}

/// Ends the session of authentications of a bridge that was killed.
pub(super) fn end_auth(fifo: &Arc<FifoWriter>, id: &[u8]) {
    let mut auth = auth_session(fifo, SessionId::given(id));
    auth.resume(&Stats::default(), 0);
    drop(auth);
}

impl Sessions {
    /// Reports a session's total, with its commands, at the end of this turn.
    pub(in crate::cli::bridge) fn put(&mut self, at: SessionAt, now: Now) {
        let Some(entry) = self.get(at) else {
            return;
        };
        entry.last_record_ms = now.ms;
        let is_full = entry.report.pending_commands() >= MAX_COMMANDS;
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push(at);
        }
        if is_full {
            self.deliver(at);
        }
    }

    fn deliver(&mut self, at: SessionAt) {
        let Some(entry) = self.get(at) else {
            return;
        };
        entry.is_changed = false;
        let (total, stage) = (entry.total, entry.stage);
        if !matches!(stage, Stage::Over(_)) {
            self.is_behind |= !entry.report.update(&total) && stage != Stage::Held;
        }
    }

    /// Reports what changed in this turn.
    pub(in crate::cli::bridge) fn flush(&mut self) {
        for at in std::mem::take(&mut self.changed) {
            self.deliver(at);
        }
        self.is_behind |= !self.fifo.flush();
    }

    pub(in crate::cli::bridge) fn record_auth(&mut self, args: &[u8], used: &Stats, now: Now) {
        let fifo = &self.fifo;
        let auth = self
            .auth
            .get_or_insert_with(|| auth_session(fifo, SessionId::new()));
        auth.record_command(b"AUTH", args, used);
        self.put_auth(now);
    }

    /// Refreshes the session of authentications.
    fn put_auth(&mut self, now: Now) {
        if let Some(auth) = &mut self.auth {
            self.auth_record_ms = now.ms;
            self.is_behind |= !auth.update(&Stats::default());
        }
    }

    /// Adds to what a user and an address did.
    pub(in crate::cli::bridge) fn add_user(
        &mut self,
        user: &[u8],
        ip: Option<IpAddr>,
        more: &Stats,
    ) {
        if self.adds.is_empty() && add_user(&self.fifo, user, ip, more) {
            return;
        }
        self.is_behind = true;
        match self.adds.len() < MAX_ADDS {
            true => self.adds.push_back((user.to_vec(), ip, *more)),
            false => self.lost_adds += 1,
        }
    }

    /// Delivers what a full FIFO, or an absent one, did not take; true when the FIFO has
    /// no more room.
    pub(in crate::cli::bridge) fn catch_up(&mut self) -> bool {
        if !self.fifo.flush() {
            return true;
        }
        while let Some((user, ip, more)) = self.adds.front() {
            if !add_user(&self.fifo, user, *ip, more) {
                return true;
            }
            self.adds.pop_front();
        }
        let generation = self.fifo.generation();
        let auth = self
            .auth
            .as_mut()
            .filter(|auth| auth.is_pending(generation));
        if auth.is_some_and(|auth| !auth.update(&Stats::default())) {
            return true;
        }
        for _ in 0..self.all.len() {
            self.cursor = (self.cursor + 1) % self.all.len();
            let Some(entry) = self.all[self.cursor].as_deref_mut() else {
                continue;
            };
            let is_delivered = match entry.stage {
                Stage::Over(_) => !entry.has_user || entry.report.finish(),
                _ if entry.report.is_pending(generation) => {
                    let total = entry.total;
                    entry.report.update(&total)
                }
                _ => true,
            };
            if !is_delivered {
                return true;
            }
        }
        self.is_behind = false;
        false
    }

    /// Does what is due, in each round.
    pub(in crate::cli::bridge) fn refresh(&mut self, now: Now) {
        if now.ms >= self.auth_record_ms + REFRESH_MS {
            self.put_auth(now);
        }
    }

    /// Ends this program: its sessions go on in the next run of it.
    pub(in crate::cli::bridge) fn leave(mut self) {
        self.flush();
        for entry in self.all.into_iter().flatten() {
            entry.report.leave();
        }
        drop(self.auth);
        self.fifo.flush();
    }
}
