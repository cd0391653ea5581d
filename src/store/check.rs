//! All invariants that entries, lists and cursors have to each other, recounted.
//!
//! For tests, of this room and of others, and for fuzzing: it looks at every
//! entry several times. The programs do not call it, so they do not contain it.

use crate::store::entries::entry::{each_parent, with_link, Entry, Flag, Node, Parent};
use crate::store::entries::lifecycle::domain_of;
use crate::store::entries::table::{key, rest, Table};
use crate::store::kinds::ServiceId;
use crate::store::mem::arena::Link;
use crate::store::mem::list::{Hook, List};
use crate::store::query::cursor::Cursor;
use crate::store::update::deferral;
use crate::store::Store;
use std::collections::HashSet;

impl Store {
    /// Checks that everything in the store agrees with everything else.
    ///
    /// # Panics
    /// When something does not, with a message what.
    pub fn check(&self) {
        check_level(&self.commands);
        check_level(&self.sessions);
        each_parent!(P => check_level(P::table(self)));
        self.check_connected();
        self.check_kinds();
        self.check_users();
        each_parent!(P => self.check_parents::<P>());
        self.check_sessions();
        self.check_indexes();
        self.check_ids();
        deferral::check(self);
        for walk in self.cursors.iter().flatten() {
            self.check_cursor(walk);
        }
        let budget = &self.memory.budget;
        assert!(
            budget.used_bytes() <= budget.limit_bytes(),
            "the limit is kept"
        );
        let reclaimable = self.memory.heap.reclaimable_bytes()
            + self.commands.arena.reclaimable_bytes()
            + self.sessions.arena.reclaimable_bytes();
        let of_parents = each_parent!(P => P::table(self).arena.reclaimable_bytes());
        let reclaimable = of_parents
            .into_iter()
            .fold(reclaimable, |sum, bytes| sum + bytes);
        assert_eq!(budget.reclaimable_bytes(), reclaimable);
    }

    /// The sessions of an id are linked from the newest, which is in the index, to the
    /// oldest.
    fn check_ids(&self) {
        let mut linked = 0;
        for newest in all(&self.sessions) {
            let mut at = &self.sessions.arena[newest];
            if !at.has(Flag::Indexed) {
                continue;
            }
            let id = key(&self.memory.heap, at);
            let mut newer = newest;
            linked += 1;
            while let Some(link) = at.older {
                at = &self.sessions.arena[link];
                assert_eq!(key(&self.memory.heap, at), id);
                assert_eq!(at.newer(), Some(newer), "{link:?} has a newer one");
                assert!(!at.has(Flag::Indexed) && !at.has(Flag::Connected));
                newer = link;
                linked += 1;
            }
        }
        assert_eq!(linked, self.sessions.arena.len(), "all are found by id");
    }

    /// The list of connected sessions has all of them, longest silent first.
    fn check_connected(&self) {
        let listed = list(&self.sessions, self.connected, |session| {
            session.common.in_age
        });
        let mut last_secs = 0;
        for link in &listed {
            let session = &self.sessions.arena[*link];
            assert!(session.has(Flag::Connected), "{link:?} is connected");
            assert!(session.has(Flag::Indexed), "{link:?} is found by its id");
            assert!(
                session.common.touched_secs >= last_secs,
                "connected sessions are in order of silence"
            );
            last_secs = session.common.touched_secs;
        }
        assert_eq!(self.global.connected, listed.len() as u64);
    }

    /// A session's service is that of its name, or `other`, and each service has as many
    /// connected sessions as it says.
    fn check_kinds(&self) {
        let services = &self.kinds.services;
        let mut connected = vec![0; services.len()];
        for link in all(&self.sessions) {
            let session = &self.sessions.arena[link];
            let at = usize::from(session.service.0);
            let name = rest(&self.memory.heap, session);
            assert!(session.service == ServiceId::OTHER || services[at].name.as_slice() == name);
            connected[at] += u64::from(session.has(Flag::Connected));
        }
        for link in all(&self.commands) {
            let command = &self.commands.arena[link];
            let is_left =
                command.in_session.next.is_none() && !command.common.stamp.has(Flag::Done);
            let goes_on = is_left && self.sessions.arena[command.session].has(Flag::Connected);
            assert!(goes_on || self.is_over(link), "{link:?} is over");
        }
        let told: Vec<u64> = services.iter().map(|service| service.connected).collect();
        assert_eq!(told, connected);
    }

    /// A user is below its domain.
    fn check_users(&self) {
        let mut user_count = 0;
        for domain_link in all(&self.domains) {
            let domain = &self.domains.arena[domain_link];
            for user_link in list(&self.users, domain.users, |user| user.in_domain) {
                let user = &self.users.arena[user_link];
                assert_eq!(user.domain, domain_link);
                assert_eq!(
                    domain_of(key(&self.memory.heap, user)),
                    key(&self.memory.heap, domain)
                );
                user_count += 1;
            }
        }
        assert_eq!(user_count, self.users.arena.len(), "users have domains");
    }

    /// A session is below its parents, and counted there while connected.
    fn check_parents<P: Parent>(&self) {
        let mut below = 0;
        for parent in all(P::table(self)) {
            let mut children: Vec<Node> = self.children(P::node(parent)).collect();
            if let Node::Domain(_) = P::node(parent) {
                let sessions = children.into_iter().flat_map(|user| self.children(user));
                children = sessions.collect();
            }
            let mut connected = 0;
            for child in children {
                let Node::Session(link) = child else {
                    panic!("{child:?} is no session");
                };
                let session = self.entry(link);
                assert_eq!(P::of(&session.above), Some(parent));
                connected += u32::from(session.has(Flag::Connected));
                below += 1;
            }
            let tally = self.entry(parent).tally();
            assert_eq!(tally.connected, connected, "of {:?}", P::node(parent));
        }
        let sessions = all(&self.sessions).into_iter();
        let above = sessions.filter(|&link| P::of(&self.entry(link).above).is_some());
        assert_eq!(below, above.count(), "sessions are below their parents");
        for link in all(&self.sessions) {
            let session = self.entry(link);
            assert_eq!(self.entry(session.user()).domain, session.domain());
        }
    }

    /// A command is below its session, and one id is that of one session only.
    fn check_sessions(&self) {
        let (mut command_count, mut with_commands) = (0, 0);
        let mut ids = HashSet::new();
        for session_link in all(&self.sessions) {
            let session = &self.sessions.arena[session_link];
            let mut its = 0;
            for link in list(&self.commands, session.commands, |command| {
                command.in_session
            }) {
                let command = &self.commands.arena[link];
                assert_eq!(command.session, session_link);
                its += 1;
            }
            assert_eq!(session.command_count, its, "of session {session_link:?}");
            command_count += its as usize;
            with_commands += usize::from(its > 0);
            if session.has(Flag::Indexed) {
                let id = key(&self.memory.heap, session);
                assert!(ids.insert(id), "two sessions are found by one id");
            }
        }
        assert_eq!(
            command_count,
            self.commands.arena.len(),
            "commands have sessions"
        );
        assert_eq!(self.sessions_with_commands, with_commands);
    }

    /// All indexed entries are found by their keys.
    fn check_indexes(&self) {
        each_parent!(P => self.check_index(P::table(self), |_| true));
        self.check_index(&self.sessions, |session| session.has(Flag::Indexed));
    }

    /// Entries of a level that satisfy `is_indexed` are found by their keys.
    fn check_index<T: Entry>(&self, table: &Table<T>, is_indexed: impl Fn(&T) -> bool) {
        for link in all(table) {
            let entry = &table.arena[link];
            if is_indexed(entry) {
                let hashed = self.memory.hashed(key(&self.memory.heap, entry));
                assert_eq!(table.find(&self.memory, hashed), Some(link), "by its key");
            }
        }
    }

    /// A cursor stands at an entry that exists and has the flag for it.
    fn check_cursor(&self, walk: &Cursor) {
        let end = walk.end.map(Node::Command);
        for node in [walk.at, end].into_iter().flatten() {
            let exists = with_link!(node, link => self.table(link).arena.is_used(link));
            assert!(exists, "a cursor stands at {node:?}");
            let stamp = with_link!(node, link => self.entry(link).common().stamp);
            assert!(stamp.has(Flag::Watched), "{node:?} knows of its cursor");
        }
    }
}

/// The entries of a list, whose links agree in both directions.
fn list<T: Entry>(table: &Table<T>, list: List<T>, hook: impl Fn(&T) -> Hook<T>) -> Vec<Link<T>> {
    let mut found = Vec::new();
    let (mut before, mut at) = (None, list.head);
    while let Some(link) = at {
        let hook = hook(&table.arena[link]);
        assert_eq!(hook.prev, before, "what is before {link:?}");
        found.push(link);
        assert!(found.len() <= table.arena.len(), "a list ends");
        (before, at) = (Some(link), hook.next);
    }
    assert_eq!(list.tail, before, "the tail of a list");
    found
}

/// All entries of a level.
fn all<T: Entry>(table: &Table<T>) -> Vec<Link<T>> {
    list(table, table.all, |entry| entry.common().in_level)
}

/// The list of a level has all entries of its arena, the idle list those of them that are
/// not pinned, longest untouched first.
fn check_level<T: Entry>(table: &Table<T>) {
    let all = all(table);
    let mut listed = HashSet::new();
    for &link in &all {
        assert!(table.arena.is_used(link), "{link:?} exists");
        assert!(listed.insert(link.number()), "{link:?} is listed twice");
    }
    assert_eq!(all.len(), table.arena.len(), "all entries are listed");
    let idle = list(table, table.idle, |entry| entry.common().in_age);
    let mut last_secs = 0;
    for link in &idle {
        let entry = &table.arena[*link];
        assert!(listed.contains(&link.number()), "{link:?} exists");
        assert!(!entry.is_pinned(), "{link:?} is idle and pinned");
        assert!(
            entry.common().touched_secs >= last_secs,
            "idle entries are in order of age"
        );
        last_secs = entry.common().touched_secs;
    }
    let pinned = all.iter().filter(|&&link| table.arena[link].is_pinned());
    assert_eq!(
        pinned.count() + idle.len(),
        all.len(),
        "what is not pinned is idle"
    );
}
