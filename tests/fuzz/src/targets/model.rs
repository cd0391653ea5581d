//! What a store has counted, kept in maps and added up by hand.
//!
//! The totals of everything are exact whatever happens. Those of users, domains and
//! addresses are exact as long as these are not freed and there was room; when there
//! was none they are taken from the store again ([`Model::learn`]), and likewise when
//! something was freed in a memory smaller than settings allow.

use super::naive::domain_of;
use dovestat::store::{Filter, Key, Level, Note, Opening, Progress, Record, Row, Store, Totals};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is modelled of an entry's counters: the first field, logins, commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The first statistics field.
    value: u64,
    /// num_logins.
    logins: u64,
    /// num_cmds.
    cmds: u64,
    /// How many sessions are connected.
    connected: u64,
}

impl Sum {
    /// Of an entry.
    fn of(totals: &Totals) -> Sum {
        Sum {
            value: totals.counters.stats.values[0],
            logins: totals.counters.num_logins,
            cmds: totals.counters.num_cmds,
            connected: totals.connected,
        }
    }

    /// Adds what was counted.
    fn add(&mut self, difference: Sum) {
        self.value += difference.value;
        self.logins += difference.logins;
        self.cmds += difference.cmds;
    }
}

/// Who a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// A user.
    User(Vec<u8>),
    /// A domain.
    Domain(Vec<u8>),
    /// An address.
    Ip(IpAddr),
}

/// Who counts what a session of a user from an address does.
fn above(user: &[u8], ip: Option<IpAddr>) -> impl Iterator<Item = Who> {
    let user_and_domain = [
        Who::User(user.to_vec()),
        Who::Domain(domain_of(user).to_vec()),
    ];
    user_and_domain.into_iter().chain(ip.map(Who::Ip))
}

/// The newest session of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// Whose.
    user: Vec<u8>,
    /// Where from.
    ip: Option<IpAddr>,
    /// Not yet disconnected.
    connected: bool,
    /// The last total of the first field.
    value: u64,
    /// Nobody announced it.
    placeholder: bool,
}

impl Session {
    /// One that nobody announced.
    const PLACEHOLDER: Session = Session {
        user: Vec::new(),
        ip: None,
        connected: true,
        value: 0,
        placeholder: true,
    };
}

/// The model.
#[derive(Default)]
pub struct Model {
    /// The totals of everything.
    global: Sum,
    /// Those of entries.
    sums: BTreeMap<Who, Sum>,
    /// The sessions.
    sessions: BTreeMap<Vec<u8>, Session>,
    /// What the store had freed when this was learnt.
    evictions: [u64; 5],
}

/// Hands all rows of a level to `take`.
fn each(store: &mut Store, level: Level, mut take: impl FnMut(&Row)) {
    let Opening::Rows(cursor) = store.open(level, Filter::default()) else {
        return;
    };
    while store.read(&cursor, &mut 1000, |row| {
        take(row);
        true
    }) == Progress::More
    {}
    store.close(cursor);
}

/// The sums of users, domains and addresses.
fn sums(store: &mut Store) -> BTreeMap<Who, Sum> {
    let mut sums = BTreeMap::new();
    for level in [Level::User, Level::Domain, Level::Ip] {
        each(store, level, |row| {
            let (who, totals) = match row {
                Row::Parent(Level::User, Key::Name(name), totals) => {
                    (Who::User(name.to_vec()), totals)
                }
                Row::Parent(_, Key::Name(name), totals) => (Who::Domain(name.to_vec()), totals),
                Row::Parent(_, Key::Address(ip), totals) => (Who::Ip(*ip), totals),
                _ => unreachable!("a level has rows of its kind"),
            };
            let before = sums.insert(who, Sum::of(totals));
            assert_eq!(before, None, "an entry is there once");
        });
    }
    sums
}

/// The newest sessions by id.
fn sessions(store: &mut Store) -> BTreeMap<Vec<u8>, Session> {
    let mut sessions = BTreeMap::new();
    each(store, Level::Session, |row| {
        if let Row::Session {
            session,
            user,
            ip,
            pid,
            connected,
            counters,
            ..
        } = *row
        {
            sessions.entry(session.to_vec()).or_insert(Session {
                user: user.to_vec(),
                ip,
                connected,
                value: counters.stats.values[0],
                // The model's own records have a pid.
                placeholder: pid == 0,
            });
        }
    });
    sessions
}

impl Model {
    /// Takes over what a store has of entries, and leaves the totals as they are.
    pub fn learn(&mut self, store: &mut Store) {
        self.sums = sums(store);
        self.sessions = sessions(store);
        self.evictions = store.usage().evictions;
    }

    /// The store was restored, with all that it had.
    pub fn restored(&mut self, store: &Store) {
        self.evictions = store.usage().evictions;
    }

    /// Compares.
    pub fn check(&mut self, store: &mut Store) {
        let found = Sum::of(&store.totals_of_everything());
        let connected = self.sessions.values().filter(|session| session.connected);
        self.global.connected = connected.count() as u64;
        assert_eq!(found, self.global, "the totals");
        self.connect();
        let found = sums(store);
        for (who, sum) in &self.sums {
            assert_eq!(found.get(who), Some(sum), "{who:?}");
        }
        assert_eq!(found.len(), self.sums.len(), "nobody else is there");
        assert_eq!(sessions(store), self.sessions);
    }

    /// Counts who is connected.
    fn connect(&mut self) {
        for sum in self.sums.values_mut() {
            sum.connected = 0;
        }
        for session in self.sessions.values().filter(|session| session.connected) {
            for who in above(&session.user, session.ip) {
                self.sums.entry(who).or_default().connected += 1;
            }
        }
    }

    /// A record may have freed entries: those that stayed have what they had.
    fn free(&mut self, record: &Record, store: &mut Store) {
        if store.usage().evictions == self.evictions {
            return;
        }
        // Freed for the record when nothing else was left, and made again.
        let again: Vec<Who> = match *record {
            Record::Connect { user, ip, .. } | Record::AddUser { user, ip, .. } => {
                above(user, ip.map(|ip| ip.to_canonical())).collect()
            }
            _ => above(b"", None).collect(),
        };
        self.connect();
        let found = sums(store);
        for (who, sum) in self.sums.iter().filter(|(who, _)| !again.contains(who)) {
            if let Some(found) = found.get(who) {
                assert_eq!(found, sum, "{who:?}, of those that stayed");
            }
        }
        self.learn(store);
    }

    /// The totals were cleared.
    pub fn reset(&mut self) {
        self.global = Sum::default();
    }

    /// A session was silent too long.
    pub fn silent(&mut self, id: &[u8]) {
        let session = self.sessions.get_mut(id).expect("a session that is known");
        assert!(session.connected);
        session.connected = false;
    }

    /// Counts for a user and an address and all above.
    fn count(&mut self, user: &[u8], ip: Option<IpAddr>, difference: Sum) {
        self.global.add(difference);
        for who in above(user, ip) {
            self.sums.entry(who).or_default().add(difference);
        }
    }

    /// A record was applied, with that result.
    pub fn apply(&mut self, record: &Record, note: Option<Note>, store: &mut Store) {
        let before = self.global.value;
        let known = self.sessions.get(record.subject()).cloned();
        let is_over = known.as_ref().is_some_and(|session| !session.connected);
        let is_update = matches!(
            record,
            Record::UpdateSession { .. } | Record::UpdateCommand { .. }
        );
        if is_update && is_over {
            assert_eq!(note, Some(Note::Disconnected));
            return self.free(record, store);
        }
        if note == Some(Note::Untracked) {
            assert!(is_update && known.is_none());
            if let Record::UpdateCommand { update, .. } = record {
                self.global.cmds += u64::from(update.begins.is_some());
            }
            return self.learn(store);
        }
        match *record {
            Record::Connect {
                session, user, ip, ..
            } => {
                let ip = ip.map(|ip| ip.to_canonical());
                let stands_for = known.filter(|session| session.connected);
                let is_duplicate = stands_for.as_ref().is_some_and(|old| !old.placeholder);
                // One that repeats the very same session is no mistake.
                assert!(is_duplicate || note != Some(Note::DuplicateSession));
                if is_duplicate {
                    return self.free(record, store);
                }
                let login = Sum {
                    logins: 1,
                    ..Sum::default()
                };
                self.count(user, ip, login);
                let new = Session {
                    user: user.to_vec(),
                    ip,
                    connected: true,
                    value: stands_for.map_or(0, |old| old.value),
                    placeholder: false,
                };
                self.sessions.insert(session.to_vec(), new);
            }
            Record::UpdateSession { session, report } => {
                let known = self.sessions.entry(session.to_vec());
                let known = known.or_insert(Session::PLACEHOLDER);
                let value = match report.has_mail {
                    true => report.stats.values[0],
                    false => known.value,
                };
                let difference = Sum {
                    value: value.saturating_sub(known.value),
                    ..Sum::default()
                };
                known.value = value;
                let (user, ip) = (known.user.clone(), known.ip);
                self.count(&user, ip, difference);
            }
            Record::UpdateCommand {
                session,
                ref update,
            } => {
                let known = self.sessions.entry(session.to_vec());
                let known = known.or_insert(Session::PLACEHOLDER);
                let (user, ip) = (known.user.clone(), known.ip);
                let is_new = store.totals_of_everything().counters.num_cmds > self.global.cmds;
                let may_be_new = update.begins.is_some() && note != Some(Note::DuplicateCommand);
                assert!(may_be_new || !is_new);
                let difference = Sum {
                    cmds: u64::from(is_new),
                    ..Sum::default()
                };
                self.count(&user, ip, difference);
            }
            Record::AddUser {
                user, ip, report, ..
            } => {
                let difference = Sum {
                    value: report.stats.values[0],
                    ..Sum::default()
                };
                self.count(user, ip.map(|ip| ip.to_canonical()), difference);
            }
            Record::Disconnect { session } => match self.sessions.get_mut(session) {
                None => assert_eq!(note, Some(Note::UnknownSession)),
                Some(known) => {
                    assert_eq!(note == Some(Note::Disconnected), !known.connected);
                    known.connected = false;
                }
            },
        }
        if note == Some(Note::NoRoom) {
            // A total without room for its new base is counted with a later one.
            if store.totals_of_everything().counters.stats.values[0] == before {
                self.global.value = before;
            }
            self.learn(store);
        }
        self.free(record, store);
    }
}
