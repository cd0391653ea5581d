//! The memory limit: what is charged, what is freed, what goes on regardless.

use super::*;
use crate::store::entries::entry::{with_link, Command, Domain, Entry, Ip, Node, Session, User};
use crate::store::entries::table::Table;
use crate::store::mem::arena::Arena;

#[test]
fn invariants_and_totals_hold_while_memory_is_short() {
    let mut random = Random::seeded("a store at its limit");
    for memory_bytes in [256 << 10, 1 << 20] {
        let mut store = store(memory_bytes);
        let mut expected = Stats::default();
        let mut logins = 0;
        let long = "x".repeat(4000);
        for step in 0..60_000u32 {
            let now = at(step / 20);
            let number = random.below(20_000);
            let session = match random.below(50) {
                0 => format!("{number}-{long}"),
                _ => format!("session-{number}"),
            };
            let user = format!("user{}@domain{}", random.below(5000), random.below(500));
            match random.below(8) {
                0..=2 => {
                    let octets = Ipv4Addr::from(random.below(5000) as u32);
                    let record = Record::Connect {
                        session: session.as_bytes(),
                        user: user.as_bytes(),
                        service: b"imap",
                        pid: step,
                        ip: Some(IpAddr::V4(octets)),
                    };
                    if store.apply(&record, now) != Some(Note::DuplicateSession) {
                        logins += 1;
                    }
                }
                3 => {
                    let record = Record::AddUser {
                        user: user.as_bytes(),
                        service: b"imap",
                        ip: None,
                        report: &report(random.below(1000)),
                    };
                    if let Record::AddUser { report, .. } = &record {
                        expected.add(&report.stats);
                    }
                    store.apply(&record, now);
                }
                4 | 5 => {
                    let number = 1 + random.below(4) as u32;
                    let begins = (random.below(2) == 0).then_some("FETCH");
                    store.apply(&command(&session, number, begins, random.below(4) > 0), now);
                }
                _ => {
                    store.apply(&disconnect(&session), now);
                }
            }
            let usage = store.usage();
            assert!(usage.used_bytes <= usage.limit_bytes);
            if step % 500 == 0 {
                store.check();
            }
        }
        store.check();
        assert!(store.usage().evictions.iter().sum::<u64>() > 1000);
        let totals = store.totals_of_everything();
        assert_eq!(totals.counters.num_logins, logins);
        // Commands' totals are not counted upwards, so ADD-USER is all there is.
        assert_eq!(totals.counters.stats, expected);
    }
}

#[test]
fn entries_cost_what_their_module_says() {
    assert_eq!(Arena::<Command>::slot_bytes(), 64);
    assert_eq!(Arena::<Session>::slot_bytes(), 116);
    assert_eq!(Arena::<User>::slot_bytes(), 80);
    assert_eq!(Arena::<Domain>::slot_bytes(), 68);
    assert_eq!(Arena::<Ip>::slot_bytes(), 68);
    // And all together: a session of its own user and ip, with two commands.
    let mut store = store(64 << 20);
    let empty_bytes = store.usage().used_bytes;
    let mut stats = Report {
        has_mail: true,
        ..Report::default()
    };
    // As the recorded IMAP sessions end.
    stats.stats.values = [
        3375, 18112, 898, 400, 0, 170, 40, 12288, 372736, 382, 166853, 320, 119651, 120, 0, 120,
        182160, 120, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let count = 60_000;
    for number in 0..count {
        let id = format!("yR+mHvJgZoB/{number:04}");
        let user = format!("user{number}@example.org");
        let octets = Ipv4Addr::from(number);
        store.apply(&connect(&id, &user, Some(&octets.to_string())), at(1));
        let record = Record::UpdateSession {
            session: id.as_bytes(),
            report: &stats,
        };
        store.apply(&record, at(1));
        for command_number in 1..3 {
            let record = Record::UpdateCommand {
                session: id.as_bytes(),
                update: CommandUpdate {
                    number: command_number.try_into().unwrap(),
                    begins: Some((b"FETCH", b"1:* (FLAGS)")),
                    done: true,
                    report: &Report {
                        stats: Stats {
                            values: [
                                797, 0, 820, 87, 0, 2, 0, 0, 4096, 2, 17168, 1, 43, 0, 0, 0, 0, 0,
                                0, 0, 0, 0, 0, 0, 0, 0, 0,
                            ],
                        },
                        ..stats
                    },
                },
            };
            store.apply(&record, at(1));
        }
    }
    let used_bytes = store.usage().used_bytes - empty_bytes;
    let each = used_bytes / count as usize;
    // Slots 112 + 80 + 68 + 2 * 64, texts and counters 72 + 40 + 24 + 2 * 48, places in
    // indexes 3 * 4; the rest is pages that are not full, and their tables.
    let expected = 388 + 232 + 12;
    assert!(
        (expected..expected * 103 / 100).contains(&each),
        "{each} bytes, not {expected}"
    );
}

#[test]
fn the_budget_is_what_the_allocator_counts() {
    let mut random = Random::seeded("budget against allocator");
    let before_bytes = crate::sys::counting::live_bytes();
    let mut store = store(4 << 20);
    for step in 0..40_000u32 {
        {
            let number = random.below(3000);
            let session = format!(
                "session-{number}-{}",
                "x".repeat(random.below(300) as usize)
            );
            let user = format!("user{}@domain{}", random.below(3000), random.below(300));
            let now = at(step / 10);
            match random.below(4) {
                0 => store.apply(&connect(&session, &user, Some("192.0.2.1")), now),
                1 => store.apply(&disconnect(&session), now),
                2 => store.apply(&command(&session, 1, Some("FETCH"), step % 3 > 0), now),
                _ => store.apply(&update(&session, &report(random.bits() >> 20)), now),
            };
        }
        if step % 1000 != 0 {
            continue;
        }
        let allocated = (crate::sys::counting::live_bytes() - before_bytes) as usize;
        let mapped = store.memory.heap.slab_bytes().mapped
            + store.commands.arena.slab_bytes().mapped
            + store.sessions.arena.slab_bytes().mapped
            + store.users.arena.slab_bytes().mapped
            + store.domains.arena.slab_bytes().mapped
            + store.ips.arena.slab_bytes().mapped;
        let used = store.usage().used_bytes;
        // Tables of indexes are allocated whole; their front is charged.
        let untouched = store.commands.index.untouched_bytes()
            + store.sessions.index.untouched_bytes()
            + store.users.index.untouched_bytes()
            + store.domains.index.untouched_bytes()
            + store.ips.index.untouched_bytes();
        // What is charged for the allocator's own needs: five indexes, and three
        // tables for each of 46 slabs at most.
        let overhead = (5 + 3 * 46) * super::mem::budget::BLOCK_OVERHEAD_BYTES;
        let real = allocated - untouched + mapped;
        assert!(
            real <= used && used <= real + overhead,
            "{real} used as {used}"
        );
    }
}

#[test]
fn the_largest_share_of_min_time_is_freed_first() {
    let mut random = Random::seeded("shares of min_time");
    let mut store = store(8 << 20);
    let mut secs = 0;
    for step in 0..3000u32 {
        // Now and then nothing happens for half a day.
        secs += match random.below(100) {
            0 => 43_200,
            _ => random.below(3) as u32,
        };
        let now = at(secs);
        let session = format!("s{}", random.below(400));
        let user = format!("u{}@d{}", random.below(200), random.below(40));
        let user_alone = format!("u@d{step}");
        let ip = Ipv4Addr::from(random.below(3000) as u32).to_string();
        match random.below(8) {
            0 | 1 => store.apply(&connect(&session, &user, Some(&ip)), now),
            2..=4 => store.apply(&disconnect(&session), now),
            5 => {
                let record = Record::AddUser {
                    user: user_alone.as_bytes(),
                    service: b"imap",
                    ip: None,
                    report: &report(1),
                };
                store.apply(&record, now)
            }
            _ => store.apply(&command(&session, step + 1, Some("X"), step % 10 > 0), now),
        };
        if step < 1000 || random.below(4) == 0 {
            continue;
        }
        check_eviction(&mut store, now);
    }
    store.check();
    // And so on to the last entry that may be freed.
    while check_eviction(&mut store, at(secs + 100_000)) {}
    store.check();
    let freed = store.usage().evictions;
    assert!(
        freed.iter().all(|&count| count > 0),
        "freed by table: {freed:?}"
    );
}

/// Frees an entry and checks that it was the one to be freed: a user, domain or ip that had
/// outlived more of its min_time than any other and than commands and sessions would have
/// with a second more, or alone all of it; else the command or session that had outlived
/// most. False when there is none to free.
fn check_eviction(store: &mut Store, now: Now) -> bool {
    let of = |store: &Store, are_parents: bool, more_secs| {
        let is_small = |node: Node| matches!(node, Node::Command(_) | Node::Session(_));
        let mut shares = idle_shares(store, now, more_secs);
        shares.retain(|&(node, _)| is_small(node) != are_parents);
        let most = shares.iter().map(|&(_, share)| share).fold(-1.0, f64::max);
        (shares, most)
    };
    let (parents, most_of_parents) = of(store, true, 0);
    let (small, most_of_small) = of(store, false, 0);
    let (_, most_with_more) = of(store, false, 1);
    let is_past_alone = most_of_parents >= 1.0 && most_of_small < 1.0;
    let (shares, largest) = match is_past_alone || most_of_parents > most_with_more + 1e-9 {
        true => (parents, most_of_parents),
        false => (small, most_of_small),
    };
    let before = store.usage().evictions;
    if !store.evict(now) {
        assert!(shares.is_empty());
        return false;
    }
    let after = store.usage().evictions;
    let gone = shares
        .iter()
        .filter(|&&(node, share)| share >= largest - 1e-9 && !is_alive(store, node))
        .count();
    // Commands go before their session, which may have outlived more.
    let is_command = after[0] > before[0];
    assert!(
        gone == 1 || (gone == 0 && is_command),
        "{gone} of the oldest freed"
    );
    true
}

/// Whether nothing freed the entry since the node was read.
fn is_alive(store: &Store, node: Node) -> bool {
    with_link!(node, link => store.table(link).arena.is_used(link))
}

/// Every idle entry, and the share of its min_time it has outlived, with some seconds more.
fn idle_shares(store: &Store, now: Now, more_secs: u32) -> Vec<(Node, f64)> {
    fn of<T: Entry>(table: &Table<T>, now: Now, more_secs: u32, shares: &mut Vec<(Node, f64)>) {
        let mut at = table.idle.head;
        while let Some(link) = at {
            let common = table.arena[link].common();
            let age_secs = f64::from(now.uptime_secs - common.touched_secs + more_secs);
            let share = age_secs / f64::from(table.min_time_secs);
            shares.push((T::node(link), share));
            at = common.in_age.next;
        }
    }
    let mut shares = Vec::new();
    of(&store.commands, now, more_secs, &mut shares);
    of(&store.sessions, now, more_secs, &mut shares);
    of(&store.users, now, more_secs, &mut shares);
    of(&store.domains, now, more_secs, &mut shares);
    of(&store.ips, now, more_secs, &mut shares);
    shares
}

#[test]
fn min_times_are_honoured_while_memory_allows() {
    let mut store = store(1 << 20);
    // A day of sessions of six seconds each that all fit into the limit.
    for number in 0..14_400u32 {
        let secs = number * 6;
        let id = format!("s{number}");
        store.apply(
            &connect(&id, &format!("u{}@d", number % 100), None),
            at(secs),
        );
        store.apply(&command(&id, 1, Some("NOOP"), true), at(secs));
        store.apply(&disconnect(&id), at(secs + 1));
        // Of the last 15 minutes every session is there, of the last minute every
        // command.
        if number % 100 == 99 {
            let sessions = list(&mut store, Level::Session, Filter::default()).unwrap();
            let recent: Vec<String> = (0..150.min(number))
                .map(|back| format!("s{}", number - back))
                .collect();
            assert_eq!(sessions[..recent.len()], recent);
            assert!(store.usage().entries[0] >= 10);
        }
    }
    assert!(store.usage().evictions[1] > 0, "the limit was reached");
    assert_eq!(
        store.usage().evictions[2],
        0,
        "users are younger than their min_time"
    );
}

#[test]
fn a_session_without_room_to_grow_counts_its_totals_once() {
    let mut store = store(256 << 10);
    let mut sessions = Vec::new();
    // All of them stay connected, so nothing can be freed for another.
    loop {
        let id = format!("s{}", sessions.len());
        if store.apply(&connect(&id, "u@d", None), at(1)) == Some(Note::NoRoom) {
            break;
        }
        sessions.push(id);
    }
    let mut widest = Report {
        has_mail: true,
        has_auth: true,
        has_net: true,
        ..Report::default()
    };
    let mut refused = 0;
    for round in 1..4 {
        widest.stats.values = [round << 30; crate::stats::FIELD_COUNT];
        for id in &sessions {
            let record = Record::UpdateSession {
                session: id.as_bytes(),
                report: &widest,
            };
            if let Some(note) = store.apply(&record, at(1)) {
                assert_eq!(note, Note::NoRoom);
                refused += 1;
            }
        }
        store.check();
    }
    assert!(refused > 0, "the limit was reached");
    let mut sum = 0;
    walk(&mut store, Level::Session, Filter::default(), |row| {
        if let Row::Session { counters, .. } = row {
            sum += counters.stats.values[0];
        }
    });
    let totals = store.totals_of_everything();
    assert_eq!(totals.counters.stats.values[0], sum);
    assert_eq!(totals.connected, sessions.len() as u64);
}
