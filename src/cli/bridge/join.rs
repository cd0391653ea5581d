//! Which of anvil's connections is which session.
//!
//! anvil has no ids of sessions, and events have no connections. Both have user, service
//! and address: the key. Per key, the k-th connection by time is the k-th login, that is
//! the k-th lookup in the database of users that a mail process asked for.
//!
//! A login is dated by its lookup, a connection by its guid, which the mail process makes
//! when it has the reply: one or two milliseconds later, on an idle machine. Both reach
//! the bridge at other moments: events up to 60 ms late, and a session may be over before
//! anvil is asked. So:
//!
//! - Only connections older than [`IN_FLIGHT_MS`] are matched: their logins are known,
//!   and so is the end of those that anvil lists no more.
//! - Connections that are listed belong to sessions that have not ended. If there are as
//!   many of one as of the other, they are matched in order. If not, some event is late,
//!   or lost: after [`PATIENCE_MS`] the latest are matched.
//! - A session that has ended has a connection that is listed no more, or was too short
//!   for that. It gets the only one that can be its own, or none.
//!
//! Invariants: a login is matched once. Connections that are listed no more are dropped
//! soon. A key without logins and connections is not kept.

use super::anvil::{guid_usecs, Guid};
use super::Now;
use std::collections::HashMap;

/// The longest wait for the other half of a login.
pub(super) const PATIENCE_MS: u64 = 1000;

/// The longest time that events of a login are on their way. A session that ended is to
/// be forgotten no sooner.
pub(super) const IN_FLIGHT_MS: u64 = 100;

/// How long after its lookup a session that ended may have got its connection.
const NEAR_USECS: u64 = 50_000;

/// A session, by its place in the table of sessions.
pub(super) type SessionAt = u32;

/// A connection that anvil listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) guid: Guid,
    pub(super) pid: u32,
}

#[derive(Debug)]
struct Waiting {
    connection: Connection,
    usecs: u64,
    first_seen_ms: u64,
    last_seen_ms: u64,
    /// The reply that listed it last.
    reply: u64,
    /// It may have been that of a session that was forgotten.
    is_doubtful: bool,
}

#[derive(Debug)]
struct Login {
    session: SessionAt,
    /// When its user was looked up.
    usecs: u64,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of the events.
    logins: Vec<Login>,
    /// By time.
    connections: Vec<Waiting>,
}

/// User, service and address.
pub(super) fn key(user: &[u8], service: &[u8], ip: &[u8]) -> Vec<u8> {
    [user, b"\0", service, b"\0", ip].concat()
}

#[derive(Debug, Default)]
pub(super) struct Join {
    queues: HashMap<Vec<u8>, Queue>,
}

impl Join {
    /// A session's user was looked up.
    pub(super) fn login(&mut self, key: &[u8], session: SessionAt, usecs: u64) {
        let queue = self.queues.entry(key.to_vec()).or_default();
        if queue.logins.iter().all(|login| login.session != session) {
            queue.logins.push(Login {
                session,
                usecs,
                has_ended: false,
            });
        }
    }

    /// anvil lists a connection that is not matched yet, in its `reply`-th reply.
    pub(super) fn connection(&mut self, key: &[u8], connection: Connection, reply: u64, now: Now) {
        let connections = &mut self.queues.entry(key.to_vec()).or_default().connections;
        let same = |waiting: &&mut Waiting| waiting.connection.guid == connection.guid;
        if let Some(known) = connections.iter_mut().find(same) {
            (known.reply, known.last_seen_ms) = (reply, now.ms);
            return;
        }
        let usecs = guid_usecs(&connection.guid);
        let at = connections.partition_point(|waiting| waiting.usecs <= usecs);
        let waiting = Waiting {
            connection,
            usecs,
            first_seen_ms: now.ms,
            last_seen_ms: now.ms,
            reply,
            is_doubtful: false,
        };
        connections.insert(at, waiting);
    }

    /// The last event of a session has come. True if its login is known here: then it is
    /// to be forgotten in [`IN_FLIGHT_MS`], not now.
    pub(super) fn ended(&mut self, key: &[u8], session: SessionAt) -> bool {
        let queue = self.queues.get_mut(key);
        let mut logins = queue.into_iter().flat_map(|queue| &mut queue.logins);
        let login = logins.find(|login| login.session == session);
        login.map(|login| login.has_ended = true).is_some()
    }

    /// A session has ended, or its process is known otherwise. Hands out the connection
    /// that it had.
    pub(super) fn forget(&mut self, key: &[u8], session: SessionAt) -> Option<Connection> {
        let queue = self.queues.get_mut(key)?;
        let at = queue
            .logins
            .iter()
            .position(|login| login.session == session)?;
        let Login { usecs, .. } = queue.logins.remove(at);
        let near = usecs..usecs + NEAR_USECS;
        let is_own = |waiting: &Waiting| near.contains(&waiting.usecs);
        let is_certain = |waiting: &Waiting| {
            let may_be_its =
                |login: &Login| (login.usecs..login.usecs + NEAR_USECS).contains(&waiting.usecs);
            !waiting.is_doubtful && !queue.logins.iter().any(may_be_its)
        };
        let mut own = (0..)
            .zip(&queue.connections)
            .filter(|(_, waiting)| is_own(waiting));
        let found = match (own.next(), own.next()) {
            (Some((place, waiting)), None) => is_certain(waiting).then_some(place),
            _ => None,
        };
        let connection = found.map(|place| queue.connections.remove(place).connection);
        for waiting in queue
            .connections
            .iter_mut()
            .filter(|waiting| is_own(waiting))
        {
            waiting.is_doubtful = true;
        }
        if queue.logins.is_empty() && queue.connections.is_empty() {
            self.queues.remove(key);
        }
        connection
    }

    /// Whether a login with this key waits for its connection.
    pub(super) fn expects(&self, key: &[u8]) -> bool {
        let queue = self.queues.get(key);
        queue.is_some_and(|queue| !queue.logins.is_empty())
    }

    /// Whether a login waits for its connection, or the other way round.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queues.is_empty()
    }

    /// The `reply`-th reply of anvil is complete. Hands out the connections that belong
    /// to sessions, and those to none (with their keys).
    pub(super) fn settle(
        &mut self,
        reply: u64,
        now: Now,
        mut hand_out: impl FnMut(&[u8], Option<SessionAt>, Connection),
    ) {
        self.queues.retain(|key, queue| {
            let Queue {
                logins,
                connections,
            } = queue;
            connections.retain(|waiting| {
                waiting.reply == reply || now.ms < waiting.last_seen_ms + 2 * IN_FLIGHT_MS
            });
            let is_listed = |waiting: &Waiting| {
                waiting.reply == reply && waiting.usecs + IN_FLIGHT_MS * 1000 <= now.usecs
            };
            let listed = connections.iter().filter(|waiting| is_listed(waiting));
            let (mut listed_count, mut last_usecs, mut is_late) = (0, 0, false);
            for waiting in listed {
                listed_count += 1;
                last_usecs = waiting.usecs;
                is_late |= now.ms >= waiting.first_seen_ms + PATIENCE_MS;
            }
            // A login without its connection among these is a later one.
            let is_open = |login: &Login| !login.has_ended && login.usecs <= last_usecs;
            let open = logins.iter().filter(|login| is_open(login)).count();
            if listed_count == 0 || (open != listed_count && !is_late) {
                return !(logins.is_empty() && connections.is_empty());
            }
            let (mut unknown, mut surplus) = (
                listed_count.saturating_sub(open),
                open.saturating_sub(listed_count),
            );
            let mut from = 0;
            connections.retain(|waiting| {
                if !is_listed(waiting) {
                    return true;
                }
                if unknown > 0 {
                    unknown -= 1;
                    hand_out(key, None, waiting.connection);
                    return false;
                }
                let next = |logins: &[Login], from: usize| {
                    let found = logins.iter().skip(from).position(is_open);
                    found.map(|found| from + found)
                };
                let mut found = next(logins, from);
                while let (Some(at), 1..) = (found, surplus) {
                    let later = next(logins, at + 1);
                    match later.is_some_and(|later| logins[later].usecs <= waiting.usecs) {
                        true => (found, surplus) = (later, surplus - 1),
                        false => break,
                    }
                }
                if let Some(at) = found {
                    let login = logins.remove(at);
                    hand_out(key, Some(login.session), waiting.connection);
                    from = at;
                }
                false
            });
            !(logins.is_empty() && connections.is_empty())
        });
    }
}

#[cfg(test)]
mod tests;
