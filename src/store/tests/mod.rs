//! Tests of the whole store, and what they share: records, and replies as lists.

mod biggest;
mod compact;
mod kinds;
mod memory;
mod model;
mod pressure;
mod state;

use super::*;
use crate::stats::{Report, Stats, FIELD_COUNT};
use crate::store::testing::Random;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    min_time_secs: [60, 900, 3600, 43200, 43200],
};

/// The instant so many seconds after the start.
fn at(secs: u32) -> Now {
    Now {
        uptime_secs: secs,
        wall: WallTime {
            secs: 1_000_000 + secs,
            usecs: 0,
        },
    }
}

fn store(memory_bytes: usize) -> Store {
    let limits = Limits {
        memory_bytes,
        ..LIMITS
    };
    Store::new(&limits, at(0)).unwrap()
}

/// A report of `mail` whose first field is `value`.
const fn report(value: u64) -> Report {
    let mut values = [0; FIELD_COUNT];
    values[0] = value;
    Report {
        stats: Stats { values },
        has_mail: true,
        has_auth: false,
        has_net: false,
    }
}

fn connect<'a>(session: &'a str, user: &'a str, ip: Option<&str>) -> Record<'a> {
    Record::Connect {
        session: session.as_bytes(),
        user: user.as_bytes(),
        service: b"imap",
        pid: 1,
        ip: ip.map(|ip| ip.parse().unwrap()),
    }
}

fn update<'a>(session: &'a str, report: &'a Report) -> Record<'a> {
    Record::UpdateSession {
        session: session.as_bytes(),
        report,
    }
}

fn command<'a>(session: &'a str, number: u32, name: Option<&'a str>, done: bool) -> Record<'a> {
    Record::UpdateCommand {
        session: session.as_bytes(),
        update: CommandUpdate {
            number: number.try_into().unwrap(),
            begins: name.map(|name| (name.as_bytes(), &b"args"[..])),
            done,
            report: const { &report(1) },
        },
    }
}

fn disconnect(session: &str) -> Record<'_> {
    Record::Disconnect {
        session: session.as_bytes(),
    }
}

/// The keys of the rows of a reply, `None` when there is nothing to list.
fn list(store: &mut Store, level: Level, filter: Filter) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    walk(store, level, filter, |row| keys.push(row_key(row))).then_some(keys)
}

/// Walks in slices of one step; false when there is nothing to list.
fn walk(store: &mut Store, level: Level, filter: Filter, mut take: impl FnMut(&Row)) -> bool {
    let Opening::Rows(cursor) = store.open(level, filter) else {
        return false;
    };
    loop {
        let progress = store.read(&cursor, &mut 1, |row| {
            take(row);
            true
        });
        if progress == Progress::Done {
            break;
        }
    }
    store.close(cursor);
    true
}

fn row_key(row: &Row) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match row {
        Row::Command { name, .. } => text(name),
        Row::Session { session, .. } => text(session),
        Row::Parent(_, key, _) => text(&key.text()),
        Row::Service(..) | Row::Cmd { .. } | Row::Global(..) => "global".to_owned(),
    }
}

fn totals(store: &mut Store, level: Level, name: &str) -> Totals {
    let mut found = None;
    walk(store, level, Filter::default(), |row| match row {
        Row::Parent(.., totals) if row_key(row) == name => found = Some(**totals),
        _ => {}
    });
    found.unwrap_or_else(|| panic!("{level:?} {name} is listed"))
}

#[test]
fn a_session_counts_at_every_level_and_leaves() {
    let mut store = store(1 << 20);
    assert_eq!(
        store.apply(&connect("s", "u@d", Some("10.0.0.1")), at(1)),
        None
    );
    assert_eq!(store.apply(&update("s", &report(5)), at(2)), None);
    assert_eq!(store.apply(&update("s", &report(8)), at(3)), None);
    for (level, name) in [
        (Level::User, "u@d"),
        (Level::Domain, "d"),
        (Level::Ip, "10.0.0.1"),
    ] {
        let totals = totals(&mut store, level, name);
        assert_eq!(totals.counters.stats.values[0], 8, "{level:?}");
        assert_eq!((totals.counters.num_logins, totals.connected), (1, 1));
        assert_eq!(totals.last_update, at(3).wall);
        assert_eq!(totals.reset_secs, at(1).wall.secs);
    }
    store.apply(&disconnect("s"), at(4));
    let totals = totals(&mut store, Level::Domain, "d");
    assert_eq!((totals.connected, totals.last_update), (0, at(3).wall));
    store.check();
}

#[test]
fn refused_records_change_nothing() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u", None), at(1));
    store.apply(&command("s", 1, Some("NOOP"), false), at(1));
    let before = format!("{:?}", store.usage());
    for (record, note) in [
        (
            connect("s", "other@new", Some("10.0.0.1")),
            Note::DuplicateSession,
        ),
        (
            command("s", 1, Some("OTHER"), false),
            Note::DuplicateCommand,
        ),
        (disconnect("unknown"), Note::UnknownSession),
    ] {
        assert_eq!(store.apply(&record, at(9)), Some(note));
    }
    assert_eq!(format!("{:?}", store.usage()), before);
    assert_eq!(store.totals_of_everything().last_update, at(1).wall);
    store.apply(&disconnect("s"), at(2));
    for record in [
        update("s", &report(3)),
        disconnect("s"),
        command("s", 2, Some("X"), true),
    ] {
        assert_eq!(store.apply(&record, at(9)), Some(Note::Disconnected));
    }
    assert_eq!(store.totals_of_everything().last_update, at(1).wall);
    store.check();
}

#[test]
fn a_placeholder_becomes_the_session_and_keeps_its_base() {
    let mut store = store(1 << 20);
    assert_eq!(
        store.apply(&update("s", &report(5)), at(1)),
        Some(Note::Placeholder)
    );
    let totals_then = store.totals_of_everything();
    assert_eq!(
        (totals_then.connected, totals_then.counters.num_logins),
        (1, 0)
    );
    assert_eq!(totals_then.counters.stats.values[0], 5);
    assert_eq!(store.apply(&connect("s", "u@d", Some("::1")), at(2)), None);
    store.check();
    store.apply(&update("s", &report(7)), at(3));
    assert_eq!(
        totals(&mut store, Level::User, "u@d").counters.stats.values[0],
        2
    );
    assert_eq!(
        totals(&mut store, Level::User, "").counters.stats.values[0],
        5
    );
    let totals_now = store.totals_of_everything();
    assert_eq!(
        (totals_now.connected, totals_now.counters.num_logins),
        (1, 1)
    );
    assert_eq!(totals_now.counters.stats.values[0], 7);
    assert_eq!(
        store.apply(&connect("s", "u@d", None), at(4)),
        Some(Note::DuplicateSession)
    );
}

#[test]
fn an_id_used_again_is_a_new_session_beside_the_old() {
    let mut store = store(1 << 20);
    for secs in 1..4 {
        store.apply(&connect("s", "u", None), at(secs));
        store.apply(&disconnect("s"), at(secs));
    }
    store.apply(&connect("s", "u", None), at(9));
    let filter = Filter {
        session: Some(b"s".to_vec()),
        ..Filter::default()
    };
    assert_eq!(list(&mut store, Level::Session, filter).unwrap().len(), 4);
    store.check();
}

#[test]
fn silence_of_15_minutes_disconnects_to_the_second() {
    let mut store = store(1 << 20);
    store.apply(&connect("quiet", "u", None), at(0));
    store.apply(&connect("busy", "u", None), at(0));
    store.apply(&update("busy", &report(1)), at(10));
    assert_eq!(store.next_silence_secs(), Some(900));
    assert!(!store.disconnect_silent(at(899), |_, _| panic!("no session is silent yet")));
    let mut silent = Vec::new();
    assert!(store.disconnect_silent(at(900), |session, user| {
        silent.push((session.to_vec(), user.to_vec()));
    }));
    assert_eq!(silent, [(b"quiet".to_vec(), b"u".to_vec())]);
    assert!(!store.disconnect_silent(at(909), |_, _| panic!("busy is not silent")));
    assert_eq!(store.next_silence_secs(), Some(910));
    store.check();
}

#[test]
fn an_unknown_name_differs_from_a_filter_that_nothing_fits() {
    let mut store = store(1 << 20);
    for level in [
        Level::Command,
        Level::Session,
        Level::User,
        Level::Domain,
        Level::Ip,
    ] {
        assert_eq!(
            list(&mut store, level, Filter::default()),
            None,
            "{level:?}"
        );
    }
    assert_eq!(
        list(&mut store, Level::Global, Filter::default())
            .unwrap()
            .len(),
        1
    );
    store.apply(&connect("s", "u@d", Some("10.0.0.1")), at(1));
    store.apply(&command("s", 1, Some("NOOP"), true), at(1));
    let user = |name: &str| Filter {
        user: Some(Pattern::new(name.as_bytes())),
        ..Filter::default()
    };
    let domain = |name: &str| Filter {
        domain: Some(Pattern::new(name.as_bytes())),
        ..Filter::default()
    };
    let ip = |ip: &str, bits| Filter {
        ip: Network::new(ip.parse().unwrap(), bits),
        ..Filter::default()
    };
    for (level, filter, expected) in [
        (Level::Session, user("x"), None),
        (Level::User, user("x"), None),
        (Level::Command, user("x"), Some(0)),
        (Level::Domain, user("x"), Some(0)),
        (Level::Ip, user("x"), Some(0)),
        (Level::User, user("x*"), Some(0)),
        (Level::User, user("u?d"), Some(1)),
        (Level::User, domain("x"), None),
        (Level::Domain, domain("x"), None),
        (Level::Session, domain("x"), Some(0)),
        (Level::Session, domain("d"), Some(1)),
        (Level::Session, ip("10.0.0.2", None), None),
        (Level::Ip, ip("10.0.0.2", None), None),
        (Level::User, ip("10.0.0.2", None), Some(0)),
        (Level::Ip, ip("10.0.0.2", Some(31)), Some(0)),
        (Level::Ip, ip("10.0.0.0", Some(31)), Some(1)),
        (Level::Command, user("u@d"), Some(1)),
        (Level::Command, domain("d"), Some(1)),
    ] {
        let found = list(&mut store, level, filter.clone()).map(|keys| keys.len());
        assert_eq!(found, expected, "{level:?} {filter:?}");
    }
}

#[test]
fn a_cursor_lists_what_existed_whatever_happens_meanwhile() {
    let mut random = Random::seeded("cursors under change");
    for _ in 0..200 {
        let mut store = store(1 << 20);
        let names: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            store.apply(
                &connect(
                    name,
                    &format!("u{}@d{}", number % 4, number % 2),
                    Some("::1"),
                ),
                at(1),
            );
            store.apply(&command(name, 1, Some(name), true), at(1));
            store.apply(&disconnect(name), at(1));
        }
        for level in [Level::Command, Level::Session, Level::User, Level::Domain] {
            // A network that no session is in makes the walk go down everywhere.
            let nowhere = Network::new(Ipv4Addr::LOCALHOST.into(), Some(8));
            let filter = Filter {
                ip: nowhere.filter(|_| random.below(2) == 0),
                user: Some(Pattern::new(b"u*")),
                ..Filter::default()
            };
            let Opening::Rows(cursor) = store.open(level, filter.clone()) else {
                continue;
            };
            let before: HashSet<String> = list(&mut store, level, Filter::default())
                .unwrap_or_default()
                .into_iter()
                .collect();
            let mut seen = HashSet::new();
            let mut steps = 0;
            loop {
                let progress = store.read(&cursor, &mut 1, |row| {
                    assert!(seen.insert(row_key(row)), "{} listed twice", row_key(row));
                    true
                });
                if progress == Progress::Done {
                    break;
                }
                steps += 1;
                assert!(steps < 1000, "the walk ends");
                match random.below(3) {
                    0 => {
                        store.evict(at(2));
                    }
                    1 => {
                        let name = format!("new{steps}");
                        store.apply(&connect(&name, "u1@d1", None), at(2));
                        store.apply(&command(&name, 1, Some(&name), true), at(2));
                    }
                    _ => {}
                }
                store.check();
            }
            store.close(cursor);
            assert!(
                seen.is_subset(&before),
                "{level:?} listed {seen:?} of {before:?}"
            );
        }
    }
}

#[test]
fn frees_by_the_largest_share_of_min_time() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", None), at(0));
    store.apply(&command("s", 1, Some("DONE"), true), at(0));
    store.apply(&command("s", 2, Some("RUNS"), false), at(0));
    store.apply(&connect("gone", "v@e", None), at(0));
    store.apply(&disconnect("gone"), at(0));
    let freed = |store: &mut Store, secs| {
        let before = store.usage().entries;
        assert!(store.evict(at(secs)));
        let after = store.usage().entries;
        (0..5).find(|&table| after[table] < before[table]).unwrap()
    };
    // Shares at 30 s: command 30/60, session 30/900, user 30/3600.
    assert_eq!(freed(&mut store, 30), 0, "the finished command");
    assert_eq!(freed(&mut store, 30), 0, "the one that goes on");
    assert_eq!(freed(&mut store, 30), 1, "the disconnected session");
    assert_eq!(freed(&mut store, 30), 2, "its user");
    assert_eq!(freed(&mut store, 30), 3, "its domain");
    assert!(
        !store.evict(at(1_000_000)),
        "what is connected is not freed"
    );
    store.check();
}

#[test]
fn a_walk_of_sessions_does_not_miss_one_that_is_announced_meanwhile() {
    let named = Filter {
        session: Some(b"middle".to_vec()),
        ..Filter::default()
    };
    for (filter, expected) in [
        (Filter::default(), &["newest", "middle", "oldest"][..]),
        (named, &["middle"]),
    ] {
        let mut store = store(1 << 20);
        for name in ["oldest", "middle", "newest"] {
            store.apply(&update(name, &report(1)), at(1));
        }
        let Opening::Rows(cursor) = store.open(Level::Session, filter) else {
            panic!("there are sessions");
        };
        let mut seen = Vec::new();
        loop {
            if seen.len() + 2 == expected.len() || expected.len() == 1 {
                store.apply(&connect("middle", "u@d", Some("::1")), at(2));
            }
            let progress = store.read(&cursor, &mut 1, |row| {
                seen.push(row_key(row));
                true
            });
            if progress == Progress::Done {
                break;
            }
        }
        store.close(cursor);
        assert_eq!(seen, expected);
        store.check();
    }
}

#[test]
fn since_is_when_a_record_came_though_nothing_is_added_yet() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", Some("::1")), at(1));
    store.apply(&update("s", &report(1)), at(100));
    for level in [Level::Session, Level::User, Level::Domain, Level::Ip] {
        for (secs, found) in [(100, 1), (101, 0)] {
            let filter = Filter {
                since_secs: at(secs).wall.secs.into(),
                ..Filter::default()
            };
            let rows = list(&mut store, level, filter).unwrap();
            assert_eq!(rows.len(), found, "{level:?} since {secs}");
        }
    }
}

#[test]
fn sessions_of_a_user_or_address_are_listed_by_creation() {
    let mut store = store(1 << 20);
    store.apply(&update("first", &report(1)), at(1));
    store.apply(&connect("second", "u@d", Some("::1")), at(2));
    store.apply(&connect("first", "u@d", Some("::1")), at(3));
    let user = Filter {
        user: Some(Pattern::new(b"u@d")),
        ..Filter::default()
    };
    let ip = Filter {
        ip: Network::new("::1".parse().unwrap(), None),
        ..Filter::default()
    };
    for filter in [Filter::default(), user, ip] {
        let sessions = list(&mut store, Level::Session, filter).unwrap();
        assert_eq!(sessions, ["second", "first"]);
    }
}
