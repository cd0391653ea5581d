//! A store that was saved and restored against one that went on, and writers that
//! do not know which it is.
//!
//! Past 600 lines: the cases share one way to save, restore and compare.

use super::*;
use crate::store::snapshot::restore::MAX_AWAY_SECS;
use crate::store::snapshot::values::Unsound;

/// The instant so many seconds after the start of a process whose monotonic
/// clock began at another time; the wall clock is the same for all.
fn elsewhere(secs: u32) -> Now {
    Now {
        uptime_secs: at(secs).uptime_secs + 5_000_000,
        ..at(secs)
    }
}

/// All values, as text.
fn values(store: &Store, now: Now) -> Vec<String> {
    let mut values = Vec::new();
    let done: Result<(), ()> = store.export(now, |saved| {
        let mut saved = *saved;
        if let Saved::Global {
            kept: Some(kept), ..
        } = &mut saved
        {
            // That depends on what was freed before.
            kept.used_bytes = 0;
        }
        values.push(format!("{saved:?}"));
        Ok(())
    });
    done.unwrap();
    values
}

/// A store made of the values of another.
pub(super) fn restored(
    from: &Store,
    now: Now,
    limits: &Limits,
    later: Now,
) -> Result<Store, Unsound> {
    let mut restoring = Restoring::new(limits, later).unwrap();
    from.export(now, |saved| restoring.take(saved))?;
    restoring.finish().map(|(store, _)| store)
}

/// Every row of every level, and of the lists below users and addresses.
fn rows(store: &mut Store) -> Vec<String> {
    let mut filters = vec![Filter::default()];
    filters.extend((0..6).map(|number| Filter {
        user: Some(Pattern::new(
            format!("user{number}@domain{}", number % 3).as_bytes(),
        )),
        ..Filter::default()
    }));
    filters.extend((0..4).map(|number| Filter {
        ip: Network::new(Ipv4Addr::new(10, 0, 0, number).into(), None),
        ..Filter::default()
    }));
    let mut rows = Vec::new();
    for filter in filters {
        for level in Level::ALL {
            let listed = walk(store, level, filter.clone(), |row| {
                rows.push(format!("{row:?}"))
            });
            rows.push(format!("{level:?} {listed}"));
        }
    }
    rows
}

/// Asserts that two stores list the same, and tells where they do not.
fn assert_same(step: u32, store: &mut Store, other: &mut Store) {
    let (rows, others) = (rows(store), rows(other));
    for (index, (row, other)) in rows.iter().zip(&others).enumerate() {
        assert_eq!(row, other, "row {index} in step {step}");
    }
    assert_eq!(rows.len(), others.len(), "rows in step {step}");
}

/// Anything that a writer may send.
fn with_any_record<T>(random: &mut Random, apply: impl FnOnce(&Record) -> T) -> T {
    let session = format!("session-{}", random.below(60));
    let number = random.below(6);
    let user = format!("user{number}@domain{}", number % 3);
    let ip = (random.below(4) > 0).then(|| format!("10.0.0.{}", random.below(4)));
    let value = random.bits() >> random.below(64).max(12);
    match random.below(11) {
        0..=2 => apply(&connect(&session, &user, ip.as_deref())),
        3 | 4 => apply(&update(&session, &report(value))),
        5..=7 => {
            let name = (random.below(3) > 0).then_some("FETCH");
            let done = random.below(2) == 0;
            apply(&command(&session, 1 + random.below(3) as u32, name, done))
        }
        8 => apply(&Record::AddUser {
            user: user.as_bytes(),
            service: b"imap",
            ip: None,
            report: &report(value >> 8),
        }),
        _ => apply(&disconnect(&session)),
    }
}

#[test]
fn a_restored_store_goes_on_as_if_nothing_had_been() {
    let mut random = Random::seeded("restored store in lockstep");
    let mut store = store(64 << 20);
    let mut other = restored(&store, at(0), &LIMITS, elsewhere(0)).unwrap();
    for step in 0..6000u32 {
        let secs = step / 2;
        if random.below(150) == 0 {
            other = restored(&store, at(secs), &LIMITS, elsewhere(secs)).unwrap();
            other.check();
            assert_same(step, &mut store, &mut other);
        }
        match random.below(500) {
            0 => {
                store.reset(at(secs));
                other.reset(elsewhere(secs));
            }
            1 => {
                let mut told = [Vec::new(), Vec::new()];
                while store.disconnect_silent(at(secs), |id, _| told[0].push(id.to_vec())) {}
                while other.disconnect_silent(elsewhere(secs), |id, _| told[1].push(id.to_vec())) {}
                assert_eq!(told[0], told[1]);
            }
            2 => {
                assert_eq!(store.evict(at(secs)), other.evict(elsewhere(secs)));
            }
            _ => with_any_record(&mut random, |record| {
                let notes = [
                    store.apply(record, at(secs)),
                    other.apply(record, elsewhere(secs)),
                ];
                assert_eq!(notes[0], notes[1], "{record:?}");
            }),
        }
        if random.below(100) == 0 {
            assert_same(step, &mut store, &mut other);
            let values = [values(&store, at(secs)), values(&other, elsewhere(secs))];
            for (value, other) in values[0].iter().zip(&values[1]) {
                assert_eq!(value, other, "in step {step}");
            }
            assert_eq!(values[0].len(), values[1].len(), "in step {step}");
        }
    }
    other.check();
}

#[test]
fn with_less_room_the_least_important_is_left_out() {
    let mut random = Random::seeded("restoring with less room");
    let mut store = store(8 << 20);
    for number in 0..20_000u32 {
        let now = at(number / 100);
        let session = format!("s{number}");
        let user = format!("u{}@d{}", random.below(9000), random.below(500));
        store.apply(&connect(&session, &user, Some("10.0.0.1")), now);
        store.apply(&update(&session, &report(7)), now);
        // The last hundred stay.
        if number < 19_900 {
            store.apply(&disconnect(&session), now);
        }
    }
    let before = store.totals_of_everything();
    let held = |store: &mut Store| {
        let filter = Filter {
            connected: true,
            ..Filter::default()
        };
        list(store, Level::Session, filter).unwrap()
    };
    for memory_bytes in [8 << 20, 2 << 20, 512 << 10, 256 << 10] {
        let limits = Limits {
            memory_bytes,
            ..LIMITS
        };
        let mut other = restored(&store, at(200), &limits, elsewhere(200)).unwrap();
        other.check();
        let after = other.totals_of_everything();
        assert_eq!(after, before, "{memory_bytes}");
        assert_eq!(held(&mut other), held(&mut store), "{memory_bytes}");
        assert!(other.usage().used_bytes <= memory_bytes);
        // What is left of the idle sessions is the youngest of them.
        let all = list(&mut store, Level::Session, Filter::default()).unwrap();
        let left = list(&mut other, Level::Session, Filter::default()).unwrap();
        assert_eq!(left, all[..left.len()], "{memory_bytes}");
        assert_eq!(left.len() < all.len(), memory_bytes < 8 << 20);
    }
}

/// The record that begins a session of its own user, domain and address, and what it
/// reports.
fn begin_session(store: &mut Store, number: u32, now: Now) {
    let session = format!("session-{number:06}");
    let user = format!("user-{number:06}@domain-{}.example", number % 100);
    let ip = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
    store.apply(&connect(&session, &user, Some(&ip)), now);
    store.apply(&update(&session, &report(u64::from(number))), now);
}

/// A store with 6,000 connected sessions, and with as many idle ones and 20,000
/// users, all younger than most of the connected ones.
fn busy_store() -> Store {
    let mut store = store(16 << 20);
    for number in 0..6000 {
        begin_session(&mut store, number, at(number / 60));
    }
    for number in 0..20_000u32 {
        let user = format!("idle-{number}@elsewhere");
        store.apply(
            &Record::AddUser {
                user: user.as_bytes(),
                service: b"imap",
                ip: None,
                report: &report(1),
            },
            at(60),
        );
        if number < 6000 {
            begin_session(&mut store, 6000 + number, at(60));
            let session = format!("session-{:06}", 6000 + number);
            store.apply(&command(&session, 1, Some("NOOP"), true), at(60));
            store.apply(&disconnect(&session), at(60));
        }
    }
    assert_eq!(store.usage().evictions, [0; 5]);
    store
}

#[test]
fn connected_sessions_come_first_where_there_is_less_room() {
    let store = busy_store();
    let before = store.totals_of_everything();
    for memory_bytes in [1 << 20, 300 << 10] {
        let limits = Limits {
            memory_bytes,
            ..LIMITS
        };
        let mut fresh = Store::new(&limits, at(0)).unwrap();
        for number in 0..6000 {
            begin_session(&mut fresh, number, at(number / 60));
        }
        let room = fresh.totals_of_everything().connected;
        let mut restoring = Restoring::new(&limits, elsewhere(100)).unwrap();
        let done = store.export(at(100), |saved| match restoring.is_full() {
            false => restoring.take(saved).map_err(Some),
            true => Err(None),
        });
        assert_eq!(done, Err(None), "the rest need not be read");
        let (other, kept) = restoring.finish().unwrap();
        other.check();
        assert_eq!(kept.connected, 6000);
        assert_eq!(
            kept.entries,
            store.usage().entries.map(|count| count as u64)
        );
        let after = other.totals_of_everything();
        assert_eq!(after.counters, before.counters);
        assert!(
            after.connected >= room && room > 0,
            "{memory_bytes}: {} of {room}",
            after.connected
        );
        assert!(other.usage().used_bytes <= memory_bytes);
    }
}

#[test]
fn a_full_store_is_restored_under_its_own_limit() {
    for memory_bytes in [1 << 20, 300 << 10] {
        let limits = Limits {
            memory_bytes,
            ..LIMITS
        };
        let restored_of =
            |store: &Store| restored(store, at(100), &limits, elsewhere(100)).unwrap();
        let mut connected = Store::new(&limits, at(0)).unwrap();
        for number in 0..6000 {
            begin_session(&mut connected, number, at(number / 60));
        }
        let totals = connected.totals_of_everything();
        assert_eq!(restored_of(&connected).totals_of_everything(), totals);
        let mut idle = Store::new(&limits, at(0)).unwrap();
        for number in 0..20_000u32 {
            let now = at(number / 200);
            begin_session(&mut idle, number, now);
            let session = format!("session-{number:06}");
            idle.apply(&command(&session, 1, Some("NOOP"), true), now);
            idle.apply(&disconnect(&session), now);
        }
        assert!(idle.usage().evictions != [0; 5]);
        // Growing may use the last pages of the limit, making entries may not.
        let count = |store: &Store| store.usage().entries.iter().sum::<usize>();
        let (before, after) = (count(&idle), count(&restored_of(&idle)));
        assert!(before - after <= before / 50, "{after} of {before}");
    }
}

#[test]
fn idle_entries_come_by_importance_whatever_their_level() {
    let store = busy_store();
    let mut values = Vec::new();
    let taken: Result<(), ()> = store.export(at(100), |saved| {
        values.push(match saved {
            Saved::Session {
                connected: true, ..
            } => 's',
            Saved::Parent { level, origin, .. } if !origin.is_pinned => {
                level.name().chars().next().unwrap()
            }
            Saved::Session { .. } => 'S',
            Saved::Command { .. } => 'c',
            Saved::Global { .. } => 'g',
            _ => 'p',
        });
        Ok(())
    });
    taken.unwrap();
    values.dedup();
    let order: String = values.into_iter().collect();
    // Domains and addresses have the longest min_time, commands the shortest.
    let idle = order.trim_start_matches("g").trim_start_matches(['p', 's']);
    assert_eq!(idle, "diuSc");
}

#[test]
fn values_of_version_1_are_put_in_order_before_they_are_restored() {
    const SESSIONS: u32 = 6000;
    let now = at(10);
    let basis = |age_secs, count| Basis {
        age_secs,
        last_update: at(1).wall,
        counters: Counters {
            num_cmds: count,
            ..Counters::default()
        },
        place: 0,
    };
    let origin = |is_pinned, basis| Origin {
        created_secs: 1,
        is_pinned,
        basis,
        pending: Counters::default(),
    };
    let restore = |memory_bytes| {
        let limits = Limits {
            memory_bytes,
            ..LIMITS
        };
        let mut restoring = Restoring::new(&limits, now).unwrap();
        let mut take = |saved: &Saved| restoring.take(saved).unwrap();
        take(&Saved::Global {
            now: now.wall,
            reset_secs: 5,
            last_update: at(1).wall,
            counters: basis(0, 7).counters,
            kept: None,
        });
        take(&Saved::Parent {
            level: Level::Domain,
            key: Key::Name(b""),
            above: None,
            origin: origin(true, basis(0, 7)),
        });
        for number in 0..2 * SESSIONS {
            take(&Saved::Parent {
                level: Level::User,
                key: Key::Name(format!("user-{number}").as_bytes()),
                above: Some(0),
                origin: origin(
                    number >= SESSIONS,
                    basis(if number < SESSIONS { 3 } else { 0 }, 1),
                ),
            });
        }
        for number in 0..SESSIONS {
            take(&Saved::Session {
                id: format!("session-{number}").as_bytes(),
                service: b"imap",
                user: SESSIONS + number,
                ip: None,
                pid: 1,
                connected: true,
                placeholder: false,
                indexed: true,
                basis: basis(SESSIONS - number, 1),
                user_place: 0,
                ip_place: 0,
                pending: [false; 3],
                created_secs: 0,
            });
        }
        // Not the order of the values.
        for number in (0..SESSIONS).rev() {
            restoring.take_place(Listing::Sessions, number).unwrap();
        }
        let (store, kept) = restoring.finish().unwrap();
        store.check();
        assert_eq!(kept.connected, u64::from(SESSIONS));
        assert_eq!(kept.entries, [0, 6000, 12_000, 1, 0]);
        let totals = store.totals_of_everything();
        assert_eq!((totals.reset_secs, totals.counters.num_cmds), (5, 7));
        store
    };
    let mut all = restore(16 << 20);
    assert_eq!(all.usage().entries, [0, 6000, 12_000, 1, 0]);
    let sessions = list(&mut all, Level::Session, Filter::default()).unwrap();
    assert_eq!(sessions[0], "session-0", "the newest by its place");
    for memory_bytes in [1 << 20, 300 << 10] {
        let mut some = restore(memory_bytes);
        let connected = some.totals_of_everything().connected;
        assert!((1000..6000).contains(&connected) || memory_bytes < 1 << 20);
        assert!(connected > 0);
        let [_, sessions, users, ..] = some.usage().entries;
        assert_eq!(sessions as u64, connected);
        assert!(users - sessions < 100, "{users} users, {sessions} sessions");
        // Those of the latest records.
        let sessions = list(&mut some, Level::Session, Filter::default()).unwrap();
        let newest: Vec<_> = (0..SESSIONS).rev().take(sessions.len()).collect();
        let expected: Vec<_> = newest
            .iter()
            .rev()
            .map(|n| format!("session-{n}"))
            .collect();
        assert_eq!(sessions, expected);
    }
}

#[test]
fn ages_go_on_while_nobody_counts() {
    for (away, expected) in [
        (0, 10),
        (100, 110),
        (MAX_AWAY_SECS, 10 + MAX_AWAY_SECS),
        (MAX_AWAY_SECS + 1, 10 + MAX_AWAY_SECS),
        // The wall clock went back.
        (-500_000i64 as u32, 10),
    ] {
        let mut store = store(1 << 20);
        store.apply(&connect("idle", "u@d", None), at(0));
        store.apply(&disconnect("idle"), at(0));
        store.apply(&connect("held", "v@e", None), at(0));
        let later = Now {
            uptime_secs: 1 << 30,
            wall: WallTime {
                secs: at(10).wall.secs.wrapping_add(away),
                usecs: 0,
            },
        };
        let other = restored(&store, at(10), &LIMITS, later).unwrap();
        let idle = other.sessions.idle.head.unwrap();
        let age = later.uptime_secs - other.sessions.arena[idle].common.touched_secs;
        assert_eq!(age, expected, "away for {away}");
        let due = other.next_silence_secs().unwrap();
        assert_eq!(due, later.uptime_secs - 10 + SILENCE_SECS);
    }
}

#[test]
fn what_no_export_writes_is_not_believed() {
    let basis = Basis {
        age_secs: 0,
        last_update: WallTime::default(),
        counters: Counters::default(),
        place: 0,
    };
    let origin = Origin {
        created_secs: 0,
        is_pinned: false,
        basis,
        pending: Counters::default(),
    };
    let wrong_time = Basis {
        last_update: WallTime {
            secs: 0,
            usecs: 1_000_000,
        },
        ..basis
    };
    let long = [b'x'; MAX_TEXT_BYTES + 1];
    let session = |indexed, connected, user, ip| Saved::Session {
        id: b"id",
        service: b"imap",
        user,
        ip,
        pid: 1,
        connected,
        placeholder: false,
        indexed,
        basis,
        user_place: 0,
        ip_place: 0,
        pending: [false; 3],
        created_secs: 0,
    };
    let command = |session, running: u32| Saved::Command {
        session,
        name: b"FETCH",
        args: b"",
        command_number: running.try_into().ok(),
        is_done: false,
        basis,
        cmd: None,
        is_over: false,
    };
    let domain = |name, basis| Saved::Parent {
        level: Level::Domain,
        key: Key::Name(name),
        above: None,
        origin: Origin { basis, ..origin },
    };
    let user = |name, domain| Saved::Parent {
        level: Level::User,
        key: Key::Name(name),
        above: Some(domain),
        origin,
    };
    let global = Saved::Global {
        now: at(9).wall,
        reset_secs: 0,
        last_update: WallTime::default(),
        counters: Counters::default(),
        kept: Some(Kept::default()),
    };
    let ip = Saved::Parent {
        level: Level::Ip,
        key: Key::Address([10, 0, 0, 1].into()),
        above: None,
        origin,
    };
    let good = [
        domain(b"d", basis),
        ip,
        user(b"u@d", 0),
        session(true, true, 0, Some(0)),
        command(0, 1),
    ];
    let begin = || {
        let mut restoring = Restoring::new(&LIMITS, at(9)).unwrap();
        restoring.take(&global).unwrap();
        for saved in &good {
            restoring.take(saved).unwrap();
        }
        restoring
    };
    begin().finish().unwrap().0.check();
    for wrong in [
        global,
        domain(b"d", basis),
        domain(b"e", wrong_time),
        domain(&long, basis),
        ip,
        user(b"u@d", 0),
        user(b"v@e", 0),
        user(b"v@d", 1),
        session(true, false, 0, None),
        session(false, true, 0, None),
        session(false, false, 1, None),
        session(false, false, 0, Some(1)),
        command(1, 1),
    ] {
        assert_eq!(begin().take(&wrong), Err(Unsound), "{wrong:?}");
    }
    for listing in Listing::ALL {
        assert_eq!(begin().take_place(listing, 0), Ok(()), "{listing:?}");
        assert_eq!(begin().take_place(listing, 1), Err(Unsound), "{listing:?}");
    }
    let mut early = Restoring::new(&LIMITS, at(0)).unwrap();
    assert_eq!(early.take(&good[0]), Err(Unsound));
    assert!(early.finish().is_err());
}

#[test]
fn a_record_that_repeats_what_is_known_is_no_mistake() {
    let mut store = store(1 << 20);
    let first = connect("s", "u@d", Some("10.0.0.1"));
    store.apply(&first, at(1));
    store.apply(&command("s", 1, Some("IDLE"), false), at(1));
    let before = store.totals_of_everything();
    let mut again = |record: &Record| store.apply(record, at(2));
    assert_eq!(again(&first), None);
    for other in [
        connect("s", "v@d", Some("10.0.0.1")),
        connect("s", "u@d", Some("10.0.0.2")),
        connect("s", "u@d", None),
        Record::Connect {
            session: b"s",
            user: b"u@d",
            service: b"pop3",
            pid: 1,
            ip: "10.0.0.1".parse().ok(),
        },
        Record::Connect {
            session: b"s",
            user: b"u@d",
            service: b"imap",
            pid: 2,
            ip: "10.0.0.1".parse().ok(),
        },
    ] {
        assert_eq!(again(&other), Some(Note::DuplicateSession), "{other:?}");
    }
    let other = command("s", 1, Some("NOOP"), true);
    assert_eq!(again(&other), Some(Note::DuplicateCommand));
    assert_eq!(again(&disconnect("t")), Some(Note::UnknownSession));
    // It goes on, here to its end.
    assert_eq!(again(&command("s", 1, Some("IDLE"), true)), None);
    // What is done may be told of all the same.
    assert_eq!(store.apply(&command("s", 1, None, true), at(3)), None);
    let note = store.apply(&command("s", 2, None, true), at(3));
    assert_eq!(note, Some(Note::UnknownCommand));
    let after = store.totals_of_everything();
    assert_eq!(
        (after.connected, after.counters.num_logins),
        (before.connected, before.counters.num_logins)
    );
    store.check();
}
