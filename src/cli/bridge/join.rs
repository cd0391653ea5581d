//! Which of anvil's connections is which session.
//!
//! anvil has no ids of sessions, and events have no connections. Both have user, service
//! and address: the key. Per key, the k-th connection by time is the k-th login, that is
//! the k-th lookup in the database of users that a mail process asked for.
//!
//! A login is dated by its lookup, a connection by its guid, which the mail process makes
//! when it has the reply: one or two milliseconds later, on an idle machine. Both reach
//! the bridge at other moments: the event up to 60 ms late, and a session may end before
//! anvil was asked. So a key is settled when each of its connections is older than
//! [`IN_FLIGHT_MS`], there are as many logins, and each was before its connection; or
//! when its oldest connection has waited for [`PATIENCE_MS`]. Then there may be logins too
//! many (sessions that were too short to be seen: one is skipped if the next is before the
//! connection, too) or too few (events that were lost: the oldest connections are left
//! over).
//!
//! Invariants: a login is matched once; connections that anvil lists no more are dropped
//! soon.
//! A key without logins and connections is not kept.

use super::anvil::{guid_usecs, Guid};
use super::Now;
use std::collections::HashMap;

/// The longest wait for the other half of a login.
pub(super) const PATIENCE_MS: u64 = 1000;

/// The longest time that events of a login are on their way. A session that ended is to
/// be forgotten no sooner, nor is a connection that anvil lists no more.
pub(super) const IN_FLIGHT_MS: u64 = 100;

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
    first_seen_ms: u64,
    /// The reply that listed it last, and when that was.
    reply: u64,
    last_seen_ms: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Sessions and when their users were looked up, in the order of the events.
    logins: Vec<(SessionAt, u64)>,
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
        if queue.logins.iter().all(|login| login.0 != session) {
            queue.logins.push((session, usecs));
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
        let earlier = |waiting: &Waiting| guid_usecs(&waiting.connection.guid) <= usecs;
        let at = connections.partition_point(earlier);
        connections.insert(
            at,
            Waiting {
                connection,
                first_seen_ms: now.ms,
                reply,
                last_seen_ms: now.ms,
            },
        );
    }

    /// A session has ended, or its process is known otherwise.
    pub(super) fn forget(&mut self, key: &[u8], session: SessionAt) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.logins.retain(|login| login.0 != session);
            if queue.logins.is_empty() && queue.connections.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// Whether a login with this key waits for its connection.
    pub(super) fn expects(&self, key: &[u8]) -> bool {
        self.queues
            .get(key)
            .is_some_and(|queue| !queue.logins.is_empty())
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
            let is_late = |waiting: &Waiting| now.ms >= waiting.first_seen_ms + PATIENCE_MS;
            let mut pairs = logins.iter().zip(&*connections);
            let is_complete = logins.len() == connections.len()
                && pairs.all(|(login, waiting)| {
                    let usecs = guid_usecs(&waiting.connection.guid);
                    login.1 <= usecs && usecs + IN_FLIGHT_MS * 1000 <= now.usecs
                });
            let is_due = is_complete || connections.iter().any(is_late);
            if !connections.is_empty() && is_due {
                let unknown = connections.len().saturating_sub(logins.len());
                let mut surplus = logins.len().saturating_sub(connections.len());
                for waiting in connections.drain(..unknown) {
                    if waiting.reply == reply {
                        hand_out(key, None, waiting.connection);
                    }
                }
                let mut from = 0;
                for waiting in connections.drain(..) {
                    let usecs = guid_usecs(&waiting.connection.guid);
                    while surplus > 0 && logins[from + 1].1 <= usecs {
                        (from, surplus) = (from + 1, surplus - 1);
                    }
                    hand_out(key, Some(logins[from].0), waiting.connection);
                    from += 1;
                }
                // Sessions that were skipped are too short to be listed ever; those
                // behind may still be.
                logins.drain(..from);
            }
            !(logins.is_empty() && connections.is_empty())
        });
    }
}

#[cfg(test)]
mod tests;
