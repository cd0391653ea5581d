//! Looking ahead: the entries that records and rows are about to need.
//!
//! A record that comes to a session which no record came to for a while waits for
//! main memory, several times one after the other: for the index's bucket, the
//! entry, its id, its counters and its neighbours in the list by age. Looked at
//! step by step for some records together, these waits go on at the same time, and
//! the records then find everything in the processor's cache. It is the same with a
//! command's row, which shows its session and user.
//!
//! Nothing is changed here, and nothing decided: a [`Hint`] says where a session
//! was, and whoever uses it looks whether that still holds.

use super::arena::{Arena, Link};
use super::entry::{Command, Session};
use super::level::key;
use super::Store;
use std::hint::black_box;

/// The most records that are looked ahead for together: more than a processor can
/// wait for at once.
pub const LOOK_AHEAD: usize = 32;

/// Rows of commands that are looked ahead for together.
pub(super) const ROWS_AHEAD: usize = 16;

/// Where the session of an id was.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// The session.
    link: Link<Session>,
    /// [`Index::removals`](super::index::Index::removals) at that time.
    removals: u32,
}

/// Brings an entry into the cache: both ends of it, as it may lie across a border
/// between lines.
fn fetch(sessions: &Arena<Session>, link: Link<Session>) {
    let session = &sessions[link];
    black_box((session.common.in_level.prev, session.pid));
}

impl Store {
    /// Brings the sessions of these ids into the processor's cache, at most
    /// [`LOOK_AHEAD`] of them, and tells where they are.
    pub fn look_ahead(&self, ids: &[&[u8]]) -> [Option<Hint>; LOOK_AHEAD] {
        let sessions = &self.sessions.arena;
        let mut links: [Option<Link<Session>>; LOOK_AHEAD] = [None; LOOK_AHEAD];
        // Hashes beforehand: between two loads a processor looks only so far ahead.
        let mut hashes = [0; LOOK_AHEAD];
        for (hash, id) in hashes.iter_mut().zip(ids) {
            *hash = self.memory.hash_key.hash(id);
        }
        for (link, &hash) in links.iter_mut().zip(&hashes[..ids.len()]) {
            *link = self.sessions.index.first(hash);
        }
        for &link in links.iter().flatten() {
            fetch(sessions, link);
        }
        for &link in links.iter().flatten() {
            let text = self.memory.heap.bytes(sessions[link].common.text);
            black_box(text.first().copied());
        }
        for (link, id) in links.iter_mut().zip(ids) {
            while let Some(session) = link.map(|link| &sessions[link]) {
                if key(&self.memory.heap, session) == *id {
                    break;
                }
                *link = session.chain;
            }
        }
        for &link in links.iter().flatten() {
            let common = &sessions[link].common;
            let counters = self.memory.heap.bytes(common.counters);
            black_box((counters.first().copied(), counters.last().copied()));
            for neighbour in [common.in_age.prev, common.in_age.next]
                .into_iter()
                .flatten()
            {
                fetch(sessions, neighbour);
            }
        }
        let removals = self.sessions.index.removals();
        links.map(|link| link.map(|link| Hint { link, removals }))
    }

    /// Brings what the rows of a command and of those behind it in their level show
    /// into the processor's cache, [`ROWS_AHEAD`] in all.
    pub(super) fn look_ahead_of_rows(&self, first: Link<Command>) {
        let commands = std::iter::successors(Some(first), |&link| {
            self.commands.arena[link].common.in_level.next
        });
        let mut links: [Option<Link<Session>>; ROWS_AHEAD] = [None; ROWS_AHEAD];
        for (link, command) in links.iter_mut().zip(commands) {
            *link = Some(self.commands.arena[command].session);
        }
        let sessions = || {
            links
                .iter()
                .flatten()
                .map(|&link| &self.sessions.arena[link])
        };
        for session in sessions() {
            black_box((session.common.in_level.prev, session.pid));
        }
        for session in sessions() {
            let text = self.memory.heap.bytes(session.common.text);
            let user = &self.users.arena[session.user];
            black_box((text.first().copied(), user.common.text, user.created_secs));
        }
        for session in sessions() {
            let text = self
                .memory
                .heap
                .bytes(self.users.arena[session.user].common.text);
            black_box(text.first().copied());
        }
    }

    /// The session of that id, if a hint that was made for it still holds. It was
    /// compared with the id as it is escaped, which is longer than an id with escapes.
    #[inline]
    pub(super) fn hinted(&self, hint: Option<Hint>, id: &[u8]) -> Option<Link<Session>> {
        let Hint { link, removals } = hint?;
        let holds = removals == self.sessions.index.removals()
            && usize::from(self.sessions.arena[link].common.key_len) == id.len();
        debug_assert!(!holds || key(&self.memory.heap, &self.sessions.arena[link]) == id);
        holds.then_some(link)
    }
}
