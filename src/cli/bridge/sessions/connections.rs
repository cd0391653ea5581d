//! The connections that anvil lists, and the sessions they belong to.

use super::{fresh_for, known_key, Entry, Sessions, Stage, Who};
use crate::cli::bridge::join::{Connection, SessionAt};
use crate::cli::bridge::Now;

impl Sessions {
    /// A connection in anvil's `reply`-th reply.
    pub(in crate::cli::bridge) fn connection(
        &mut self,
        key: &[u8],
        connection: Connection,
        reply: u64,
        is_old: bool,
        now: Now,
    ) {
        if let Some(&at) = self.by_guid.get(&connection.guid[..]) {
            if let Some(entry) = self.get(at) {
                entry.seen_in = reply;
            }
        } else if is_old && !self.join.expects(key) {
            self.take_up(key, connection, reply, true, now);
        } else {
            let (guid, figures) = (&connection.guid, &mut *self.figures);
            let fresh_for = fresh_for(connection.pid, guid);
            let _ = self
                .processes
                .sight(connection.pid, fresh_for, figures, now.ms);
            self.join.connection(key, connection, reply, now);
        }
    }

    /// anvil's reply is complete: its connections find their sessions. Returns how many
    /// found none.
    pub(in crate::cli::bridge) fn settle(&mut self, reply: u64, now: Now) -> usize {
        let figures = &mut *self.figures;
        self.join.find_peers(|pids| figures.peers(pids));
        let (mut matched, mut unmatched) = (Vec::new(), Vec::new());
        self.join
            .settle(reply, now, |key, at, connection| match at {
                Some(at) => matched.push((at, connection)),
                None => unmatched.push((key.to_vec(), connection)),
            });
        for (at, connection) in matched {
            self.meet(at, connection, reply, now);
        }
        // Sessions without a connection are known only now.
        for (key, connection) in &unmatched {
            self.take_up(key, *connection, reply, false, now);
        }
        let mut over = Vec::new();
        for (at, entry) in (0..).zip(&mut self.all) {
            let Some(entry) = entry.as_deref_mut() else {
                continue;
            };
            if matches!(entry.stage, Stage::Ending(until_ms) if now.ms >= until_ms) {
                over.push(at);
            }
            let is_missing = match (entry.is_hibernated, self.hibernated.get_mut(&entry.key)) {
                (true, Some(left @ 1..)) => {
                    *left -= 1;
                    entry.missing_since_ms = None;
                    false
                }
                (true, _) => true,
                (false, _) => entry.guid.is_some() && entry.seen_in != reply,
            };
            if is_missing {
                entry.missing_since_ms.get_or_insert(now.ms);
            }
        }
        for at in over {
            self.complete(at, now);
        }
        unmatched.len()
    }

    /// anvil begins another reply.
    pub(in crate::cli::bridge) fn begin_reply(&mut self) {
        self.hibernated.clear();
    }

    /// A connection that anvil lists as hibernated.
    pub(in crate::cli::bridge) fn hibernated(&mut self, key: Vec<u8>) {
        *self.hibernated.entry(key).or_default() += 1;
    }

    /// The connection of a session is gone, while the session goes on.
    pub(in crate::cli::bridge) fn forget_connection(&mut self, at: SessionAt) {
        let guid = self.get(at).and_then(|entry| entry.guid.take());
        if let Some(guid) = guid {
            self.by_guid.remove(&guid[..]);
        }
    }

    /// A session has this connection.
    pub(in crate::cli::bridge) fn meet(
        &mut self,
        at: SessionAt,
        connection: Connection,
        reply: u64,
        now: Now,
    ) {
        let Some(entry) = self.get(at) else {
            return;
        };
        let former = entry.guid.replace(connection.guid);
        entry.seen_in = reply;
        let has_process = entry.process.is_some();
        if let Some(former) = former {
            self.by_guid.remove(&former[..]);
        }
        self.by_guid.insert(connection.guid.to_vec(), at);
        if !has_process {
            self.attach(at, connection.pid, Some(&connection.guid), now);
        }
    }

    /// A connection whose login this program has not seen.
    fn take_up(&mut self, key: &[u8], connection: Connection, reply: u64, is_old: bool, now: Now) {
        // One of ours whose lookup was lost.
        let is_it = |entry: &Option<Box<Entry>>| {
            let entry = entry.as_deref();
            entry.is_some_and(|entry| {
                let is_alone = entry.process.is_none() && entry.guid.is_none();
                is_alone && matches!(entry.stage, Stage::Held | Stage::Open) && entry.key == key
            })
        };
        let ours = || self.all.iter().position(is_it);
        if let Some(at) = (!is_old).then(ours).flatten() {
            return self.meet(at as SessionAt, connection, reply, now);
        }
        let known = self
            .known
            .by_connection
            .remove(&known_key(key, connection.pid));
        let digits: String = connection
            .guid
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut parts = key.split(|&byte| byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (user, service, ip) = (part(), part(), part());
        let who = Who {
            id: known.as_deref().unwrap_or(digits.as_bytes()),
            user,
            service,
            ip: std::str::from_utf8(ip).ok().and_then(|ip| ip.parse().ok()),
            port: b"",
        };
        let Some(at) = self.begin(who, key.to_vec(), true, now) else {
            return;
        };
        if known.is_none() {
            self.nameless.push(at);
        }
        if let Some(entry) = self.get(at) {
            entry.is_nameless = known.is_none();
        }
        self.meet(at, connection, reply, now);
    }
}
