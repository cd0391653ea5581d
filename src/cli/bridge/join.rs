//! Which of anvil's connections is which session.
//!
//! anvil has no ids of sessions, and events have no connections. Both have user, service
//! and address: the key. Of one key, a connection is the login whose address and port its
//! process has a socket to. Where there is no such socket, as with TLS, order decides: the
//! k-th connection by time is the k-th login, that is the k-th lookup in the database of
//! users that a mail process asked for. That is nearly always so: on a busy machine the
//! processes of logins of a moment may overtake each other.
//!
//! A login is dated by its lookup, a connection by its guid, which the mail process makes
//! when it has the reply: one or two milliseconds later, on an idle machine. Both reach
//! the bridge at other moments: events up to 60 ms late, and a session may be over before
//! anvil is asked. So:
//!
//! - Sockets are looked for where a key has more than one login or connection, or one of
//!   each that are not near each other. A connection whose socket leads to a waiting login
//!   is matched at once. If it leads elsewhere, the connection waits for that login, for
//!   [`PATIENCE_MS`].
//! - In order, only connections older than [`IN_FLIGHT_MS`] are matched: their logins are
//!   known, and so is the end of those that anvil lists no more.
//! - Connections that are listed belong to sessions that have not ended. If there are as
//!   many of one as of the other, they are matched in order. If not, some event is late,
//!   or lost: after [`PATIENCE_MS`] the latest are matched.
//! - A session that has ended has a connection that is listed no more, or was too short
//!   for that. It gets the one with its socket, or the only one that can be its own, or
//!   none.
//!
//! Invariants: a login is matched once. Connections that are listed no more are dropped
//! soon. A key without logins and connections is not kept.

use super::anvil::{guid_usecs, Guid};
use super::Now;
use std::collections::HashMap;
use std::net::SocketAddr;

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
    /// What its process's sockets are connected to; `None` before they were looked for.
    peers: Option<Vec<SocketAddr>>,
    /// It waits for the login that its socket leads to.
    is_held: bool,
}

impl Waiting {
    fn peers(&self) -> &[SocketAddr] {
        self.peers.as_deref().unwrap_or_default()
    }

    /// Whether its socket leads to this login.
    fn leads_to(&self, login: &Login) -> bool {
        login.peer.is_some_and(|peer| self.peers().contains(&peer))
    }

    /// Whether its socket leads to another login. Addresses that differ say nothing: of a
    /// client behind a proxy some events have the client's own.
    fn leads_elsewhere(&self, login: &Login) -> bool {
        let is_comparable = |peer: SocketAddr| {
            let mut peers = self.peers().iter();
            peers.any(|other| other.ip() == peer.ip())
        };
        login.peer.is_some_and(is_comparable) && !self.leads_to(login)
    }

    /// Whether it came soon after this login.
    fn is_near(&self, login: &Login) -> bool {
        (login.usecs..login.usecs + NEAR_USECS).contains(&self.usecs)
    }

    /// Whether it can be that of this login, which was short.
    fn may_be_of(&self, login: &Login) -> bool {
        self.is_near(login) && !self.leads_elsewhere(login)
    }
}

#[derive(Debug)]
struct Login {
    session: SessionAt,
    /// When its user was looked up.
    usecs: u64,
    /// What the socket of its connection is connected to.
    peer: Option<SocketAddr>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of the events.
    logins: Vec<Login>,
    /// By time.
    connections: Vec<Waiting>,
}

impl Queue {
    /// Whether order may err.
    fn is_ambiguous(&self) -> bool {
        match (&self.logins[..], &self.connections[..]) {
            ([], [_]) => false,
            ([login], [waiting]) => !waiting.is_near(login),
            _ => true,
        }
    }
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
    pub(super) fn login(
        &mut self,
        key: &[u8],
        session: SessionAt,
        usecs: u64,
        peer: Option<SocketAddr>,
    ) {
        let queue = self.queues.entry(key.to_vec()).or_default();
        if queue.logins.iter().all(|login| login.session != session) {
            queue.logins.push(Login {
                session,
                usecs,
                peer,
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
            peers: None,
            is_held: false,
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
        let forgotten = queue.logins.remove(at);
        let with_socket = queue
            .connections
            .iter()
            .position(|waiting| waiting.leads_to(&forgotten));
        let is_certain = |waiting: &Waiting| {
            let may_be_its = |login: &Login| waiting.may_be_of(login);
            !waiting.is_doubtful && !queue.logins.iter().any(may_be_its)
        };
        let mut own = (0..)
            .zip(&queue.connections)
            .filter(|(_, waiting)| waiting.may_be_of(&forgotten));
        let found = match (with_socket, own.next(), own.next()) {
            (Some(place), ..) => Some(place),
            (None, Some((place, waiting)), None) => is_certain(waiting).then_some(place),
            _ => None,
        };
        let connection = found.map(|place| queue.connections.remove(place).connection);
        if with_socket.is_none() {
            for waiting in &mut queue.connections {
                waiting.is_doubtful |= waiting.may_be_of(&forgotten);
            }
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

    /// Looks for the sockets of connections where order may err, once for each, by `find`:
    /// of processes, what their sockets are connected to.
    pub(super) fn find_peers(&mut self, find: impl FnOnce(&[u32]) -> Vec<(u32, SocketAddr)>) {
        let queues = self.queues.values_mut();
        let mut unknown: Vec<&mut Waiting> = queues
            .filter(|queue| queue.is_ambiguous())
            .flat_map(|queue| &mut queue.connections)
            .filter(|waiting| waiting.peers.is_none())
            .collect();
        if unknown.is_empty() {
            return;
        }
        let pids: Vec<u32> = unknown
            .iter()
            .map(|waiting| waiting.connection.pid)
            .collect();
        let found = find(&pids);
        for waiting in &mut unknown {
            let own = found
                .iter()
                .filter(|(pid, _)| *pid == waiting.connection.pid);
            waiting.peers = Some(own.map(|&(_, peer)| peer).collect());
        }
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
                // The later one, if a port was used again.
                let own = |login: &Login| login.usecs <= waiting.usecs && waiting.leads_to(login);
                if let Some(at) = logins.iter().rposition(own) {
                    hand_out(key, Some(logins.remove(at).session), waiting.connection);
                    return false;
                }
                waiting.reply == reply || now.ms < waiting.last_seen_ms + 2 * IN_FLIGHT_MS
            });
            for waiting in connections.iter_mut() {
                let mut logins = logins.iter();
                waiting.is_held = now.ms < waiting.first_seen_ms + PATIENCE_MS
                    && logins.any(|login| waiting.leads_elsewhere(login));
            }
            let is_listed = |waiting: &Waiting| {
                waiting.reply == reply
                    && waiting.usecs + IN_FLIGHT_MS * 1000 <= now.usecs
                    && !waiting.is_held
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
