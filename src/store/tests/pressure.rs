//! What real servers do to a store whose memory is short: commands that are never
//! reported as done, floods, sessions that fill the limit, ids used again and again.

use super::*;
use crate::store::entries::lifecycle::Lifecycle;

/// The names of all commands, oldest first.
fn commands(store: &mut Store) -> Vec<String> {
    list(store, Level::Command, Filter::default()).unwrap_or_default()
}

#[test]
fn sessions_whose_commands_are_never_done_leave_room_for_new_ones() {
    let mut store = store(4 << 20);
    for session in 0..1000 {
        let id = format!("long-{session}");
        let user = format!("user{}@d{}", session % 400, session % 20);
        store.apply(&connect(&id, &user, Some("10.0.0.1")), at(1));
    }
    for number in 1..=100 {
        for session in 0..1000 {
            let id = format!("long-{session}");
            let secs = 1 + number / 10;
            assert_eq!(
                store.apply(&command(&id, number, Some("NOOP"), false), at(secs)),
                None
            );
        }
    }
    for session in 0..1000 {
        let id = format!("new-{session}");
        let user = format!("new{session}@d");
        assert_eq!(
            store.apply(&connect(&id, &user, Some("10.0.0.2")), at(12)),
            None
        );
    }
    assert_eq!(store.totals_of_everything().connected, 2000);
    let note = store.apply(&command("new-999", 1, Some("NEWEST"), false), at(12));
    assert_eq!(note, None);
    assert_eq!(commands(&mut store).last().unwrap(), "NEWEST");
    store.check();
}

#[test]
fn one_session_with_thousands_of_commands_keeps_its_newest() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", None), at(1));
    for number in 1..=12_000 {
        let name = format!("NOOP{number}");
        let note = store.apply(&command("s", number, Some(&name), false), at(number / 100));
        assert_eq!(note, None);
    }
    let listed = commands(&mut store);
    assert!(listed.len() > 4000, "{} are listed", listed.len());
    let first = 12_001 - listed.len();
    let expected: Vec<String> = (first..=12_000).map(|n| format!("NOOP{n}")).collect();
    assert_eq!(listed, expected);
}

#[test]
fn a_command_is_over_when_another_begins_and_counts_all_the_same() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", None), at(1));
    store.apply(&command("s", 1, Some("FIRST"), false), at(1));
    // The number of one that is not over is refused, that of one that is over is free,
    // but for the very same command.
    let duplicate = command("s", 1, Some("OTHER"), false);
    assert_eq!(store.apply(&duplicate, at(1)), Some(Note::DuplicateCommand));
    store.apply(&command("s", 2, Some("SECOND"), false), at(1));
    let again = command("s", 1, Some("FIRST"), false);
    assert_eq!(store.apply(&again, at(1)), None);
    // What comes late still counts to it, whether it is over by the next or done.
    let total = report(7);
    let late = |number: u32| Record::UpdateCommand {
        session: b"s",
        update: CommandUpdate {
            number: number.try_into().unwrap(),
            begins: None,
            done: true,
            report: &total,
        },
    };
    assert_eq!(store.apply(&late(1), at(2)), None);
    assert_eq!(store.apply(&late(2), at(2)), None);
    assert_eq!(store.apply(&late(2), at(3)), None);
    let mut values = Vec::new();
    walk(&mut store, Level::Command, Filter::default(), |row| {
        if let Row::Command { counters, .. } = row {
            values.push(counters.stats.values[0]);
        }
    });
    assert_eq!(values, [7, 7]);
    assert_eq!(store.apply(&duplicate, at(4)), None);
    assert_eq!(commands(&mut store), ["FIRST", "SECOND", "OTHER"]);
    assert_eq!(store.totals_of_everything().counters.num_cmds, 3);
    store.check();
}

/// Sessions of 400 users, domains and addresses, each with a command, that ended at once.
fn make_idle_sessions(store: &mut Store) {
    for number in 0..400 {
        let id = format!("idle-{number}");
        let user = format!("idle{number}@domain{number}");
        let ip = format!("10.0.{}.{}", number / 200, number % 200);
        store.apply(&connect(&id, &user, Some(&ip)), at(1));
        store.apply(&command(&id, 1, Some("SELECT"), false), at(1));
        store.apply(&disconnect(&id), at(1));
    }
}

#[test]
fn a_flood_of_one_session_frees_its_own_commands() {
    for idle_secs in [3, 600] {
        let mut store = store(1 << 20);
        make_idle_sessions(&mut store);
        let secs = 1 + idle_secs;
        for number in 0..50 {
            let id = format!("other-{number}");
            store.apply(&connect(&id, "other@domain", None), at(secs));
            store.apply(&command(&id, 1, Some("OTHER"), false), at(secs));
        }
        let before = store.usage().evictions;
        store.apply(&connect("flood", "flooder@domain", None), at(secs));
        for number in 1..=200_000 {
            store.apply(&command("flood", number, Some("NOOP"), false), at(secs));
        }
        let freed = store.usage().evictions;
        assert_eq!(freed[1..], before[1..], "after {idle_secs} s");
        let listed = commands(&mut store);
        let others = listed.iter().filter(|name| *name == "OTHER").count();
        assert_eq!(others, 50, "after {idle_secs} s");
        store.check();
    }
}

#[test]
fn a_burst_of_many_sessions_frees_no_user_that_is_idle() {
    let mut store = store(1 << 20);
    make_idle_sessions(&mut store);
    let idle = [Level::User, Level::Domain, Level::Ip].map(|level| {
        let rows = list(&mut store, level, Filter::default());
        (level, rows.unwrap_or_default())
    });
    // Within one second far more than there is room for, and no session with more commands
    // than any other.
    for session in 0..200 {
        let id = format!("s{session}");
        store.apply(&connect(&id, &format!("u{session}@d"), None), at(50));
    }
    for number in 1..=100 {
        for session in 0..200 {
            let id = format!("s{session}");
            store.apply(&command(&id, number, Some("NOOP"), true), at(50));
        }
    }
    assert!(store.usage().evictions[0] > 10_000);
    for (level, idle) in idle {
        let rows = list(&mut store, level, Filter::default()).unwrap_or_default();
        assert!(idle.iter().all(|row| rows.contains(row)), "{level:?}");
    }
    store.check();
}

#[test]
fn sessions_of_one_id_are_listed_without_a_scan() {
    let mut store = store(16 << 20);
    // As a hibernating session: one id, again and again, among many others.
    for (now, wake) in (1..).zip(0..300) {
        let user = format!("u{}@d{}", wake % 3, wake % 2);
        store.apply(&connect("woken", &user, Some("10.0.0.7")), at(now));
        let name = format!("WAKE{wake}");
        store.apply(&command("woken", 1, Some(&name), false), at(now));
        store.apply(&disconnect("woken"), at(now));
        for other in 0..20 {
            let id = format!("other-{wake}-{other}");
            store.apply(&connect(&id, "o@o", None), at(now));
            store.apply(&command(&id, 1, Some("OTHER"), false), at(now));
        }
    }
    let named = Filter {
        session: Some(b"woken".to_vec()),
        ..Filter::default()
    };
    for (level, count) in [
        (Level::Command, 300),
        (Level::Session, 300),
        (Level::User, 6),
        (Level::Domain, 2),
        (Level::Ip, 1),
    ] {
        let Opening::Rows(cursor) = store.open(level, named.clone()) else {
            panic!("{level:?} has rows");
        };
        let mut keys = Vec::new();
        let mut steps = 700;
        let progress = store.read(&cursor, &mut steps, |row| {
            keys.push(row_key(row));
            true
        });
        assert_eq!(progress, Progress::Done, "{level:?} takes few steps");
        assert_eq!(keys.len(), count, "{level:?}");
        if level == Level::Command {
            let expected: Vec<String> = (0..300).map(|wake| format!("WAKE{wake}")).collect();
            assert_eq!(keys, expected);
        }
        store.close(cursor);
    }
    // The newest goes first, then others: what is left is still found.
    store.check();
    let mut left = 300;
    while left > 1 {
        let newest = store.find_session(b"woken").unwrap();
        let middle = store.sessions.arena[newest].older.unwrap();
        for link in [middle, newest] {
            if let Some(command) = store.sessions.arena[link].commands.head {
                Command::free(&mut store, command);
            }
            Session::free(&mut store, link);
            left -= 1;
        }
        if left % 50 == 0 {
            store.check();
        }
        let listed = list(&mut store, Level::Session, named.clone()).unwrap_or_default();
        assert_eq!(listed.len(), left);
    }
    store.check();
}

#[test]
fn many_sessions_of_a_user_or_address_are_listed_by_creation() {
    let mut store = store(16 << 20);
    // A placeholder, whose CONNECT comes when the user has newer sessions.
    store.apply(&update("late", &report(1)), at(1));
    for number in 0..2000 {
        let id = format!("s{number}");
        store.apply(&connect(&id, "u@d", Some("10.0.0.1")), at(1));
        if number == 500 {
            store.apply(&connect("late", "u@d", Some("10.0.0.1")), at(1));
        }
    }
    let all = list(&mut store, Level::Session, Filter::default()).unwrap();
    let of_user = Filter {
        user: Some(Pattern::new(b"u@d")),
        ..Filter::default()
    };
    let of_ip = Filter {
        ip: Network::new("10.0.0.1".parse().unwrap(), None),
        ..Filter::default()
    };
    assert_eq!(all.last().unwrap(), "late");
    assert_eq!(list(&mut store, Level::Session, of_user).unwrap(), all);
    assert_eq!(list(&mut store, Level::Session, of_ip).unwrap(), all);
    store.check();
}

/// Connects sessions of one user until there is no room for another; how many.
fn fill_with_connected(store: &mut Store) -> u32 {
    for number in 0.. {
        let id = format!("full-{number}");
        if store.apply(&connect(&id, "full@d", Some("10.0.0.1")), at(1)) == Some(Note::NoRoom) {
            return number;
        }
    }
    unreachable!("a limit is reached")
}

#[test]
fn commands_of_untracked_sessions_count_above_them() {
    let mut store = store(256 << 10);
    let tracked = u64::from(fill_with_connected(&mut store));
    // As many as the table of such a small limit has places for, some of them.
    for number in 0..20 {
        let id = format!("untracked-{number}");
        let note = store.apply(&connect(&id, "full@d", Some("10.0.0.1")), at(1));
        assert_eq!(note, Some(Note::NoRoom));
        for command_number in 1..=200 {
            let note = store.apply(&command(&id, command_number, Some("FETCH"), false), at(1));
            assert_eq!(note, Some(Note::Untracked));
        }
        let note = store.apply(&update(&id, &report(1000)), at(1));
        assert_eq!(note, Some(Note::Untracked));
        assert_eq!(
            store.apply(&disconnect(&id), at(1)),
            Some(Note::UnknownSession)
        );
    }
    // Of these nothing was announced.
    for number in 1..=100 {
        let id = format!("unheard-of-{number}");
        let note = store.apply(&command(&id, 1, Some("FETCH"), false), at(1));
        assert_eq!(note, Some(Note::Untracked));
    }
    let all = store.totals_of_everything();
    assert_eq!(all.counters.num_cmds, 4100);
    assert_eq!(all.counters.num_logins, tracked + 21);
    assert_eq!(
        all.counters.stats.values[0], 0,
        "there is no base for totals"
    );
    assert_eq!(all.connected, tracked);
    for (level, name) in [
        (Level::User, "full@d"),
        (Level::Domain, "d"),
        (Level::Ip, "10.0.0.1"),
    ] {
        let totals = totals(&mut store, level, name);
        assert_eq!(totals.counters.num_logins, tracked + 21, "{name}");
        assert_eq!(totals.counters.num_cmds, 4000, "{name}");
    }
    store.check();
}

#[test]
fn a_command_counts_above_a_session_that_has_no_room_to_count_it() {
    let mut store = store(256 << 10);
    // Its user and domain defer the session.
    store.apply(&connect("s0", "u@d", None), at(1));
    for number in 1..=65_535 {
        store.apply(&command("s0", number, Some("N"), true), at(1));
    }
    // With its widest counter, a number of commands of three bytes takes a longer blob.
    store.apply(&update("s0", &report(1 << 50)), at(1));
    while store.evict(at(1)) {}
    let filled = totals(&mut store, Level::User, "u@d").counters.num_cmds;
    assert_eq!(filled, 65_535);
    // Nothing is left for anything, be it large or small.
    for bytes in (1..=8192).rev() {
        let memory = &mut store.memory;
        while memory
            .heap
            .take(bytes, &mut memory.budget, super::mem::budget::Purpose::Grow)
            .is_ok()
        {}
    }
    let before = store.totals_of_everything().counters.num_cmds;
    let note = store.apply(&command("s0", 65_536, Some("N"), true), at(1));
    assert_eq!(note, Some(Note::NoRoom));
    assert_eq!(store.totals_of_everything().counters.num_cmds, before + 1);
    let mut of_session = 0;
    walk(&mut store, Level::Session, Filter::default(), |row| {
        if let Row::Session {
            session: b"s0",
            counters,
            ..
        } = row
        {
            of_session = counters.num_cmds;
        }
    });
    assert_eq!(of_session, 65_535, "the session had no room for it");
    let user = totals(&mut store, Level::User, "u@d").counters;
    assert_eq!(user.num_cmds, before + 1);
    let domain = totals(&mut store, Level::Domain, "d").counters;
    assert_eq!(domain.num_cmds, before + 1);
    store.check();
}

#[test]
fn room_for_a_command_is_not_made_by_freeing_it() {
    let mut store = store(256 << 10);
    store.apply(&connect("s", "u@d", None), at(1));
    let args = "x".repeat(5080);
    let of_session = |update| Record::UpdateCommand {
        session: b"s",
        update,
    };
    let number = 1.try_into().unwrap();
    let first = CommandUpdate {
        number,
        begins: Some((b"N", args.as_bytes())),
        done: false,
        report: &report(1),
    };
    assert_eq!(store.apply(&of_session(first), at(1)), None);
    // The command is all that can be freed, and what it needs to grow, pages of longer
    // texts, is more than what is left.
    while store
        .memory
        .budget
        .room_bytes(super::mem::budget::Purpose::Grow)
        >= 12_288
    {
        let memory = &mut store.memory;
        let taken = memory
            .heap
            .take(64, &mut memory.budget, super::mem::budget::Purpose::Grow);
        taken.unwrap();
    }
    let mut total = report(1);
    total.stats.values.fill(1 << 50);
    let more = CommandUpdate {
        number,
        begins: None,
        done: true,
        report: &total,
    };
    assert_eq!(store.apply(&of_session(more), at(1)), Some(Note::NoRoom));
    assert_eq!(commands(&mut store), ["N"]);
    store.check();
}

#[test]
fn texts_that_are_too_long_are_refused_and_free_nothing() {
    let mut store = store(256 << 10);
    for number in 0..200 {
        let id = format!("s{number}");
        store.apply(&connect(&id, &format!("u{number}@d"), None), at(1));
        store.apply(&disconnect(&id), at(1));
    }
    let before = store.usage();
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let long_user = Record::AddUser {
        user: long.as_bytes(),
        service: b"imap",
        ip: None,
        report: &report(1),
    };
    for record in [
        connect(&long, "u@d", None),
        connect("s", &long, None),
        update(&long, &report(1)),
        command("s", 1, Some(&long), false),
        long_user,
    ] {
        assert_eq!(store.apply(&record, at(2)), Some(Note::TooLong));
    }
    assert_eq!(store.usage(), before);
    let longest = "x".repeat(MAX_TEXT_BYTES);
    store.apply(&connect("s", &longest, None), at(2));
    assert_eq!(
        list(&mut store, Level::Session, Filter::default()).unwrap()[0],
        "s"
    );
}

#[test]
fn a_placeholder_keeps_its_place_when_the_new_user_has_no_room() {
    let mut store = store(256 << 10);
    store.apply(&update("early", &report(5)), at(1));
    fill_with_connected(&mut store);
    let before = store.totals_of_everything();
    // A new user, domain and address, for none of which there is room.
    let user = format!("new@{}", "d".repeat(3000));
    let late = connect("early", &user, Some("10.9.9.9"));
    assert_eq!(store.apply(&late, at(2)), Some(Note::NoRoom));
    store.check();
    let after = store.totals_of_everything();
    assert_eq!(after.connected, before.connected);
    assert_eq!(after.counters.num_logins, before.counters.num_logins + 1);
    let named = Filter {
        session: Some(b"early".to_vec()),
        user: Some(Pattern::new(b"")),
        ..Filter::default()
    };
    assert_eq!(list(&mut store, Level::Session, named).unwrap(), ["early"]);
}

#[test]
fn failed_logins_count_at_their_address() {
    let mut store = store(1 << 20);
    let mut failed = Report {
        has_auth: true,
        ..Report::default()
    };
    failed.stats.values[crate::stats::place::auth_failures] = 1;
    for user in ["a@d", "b@d", "a@d"] {
        let record = Record::AddUser {
            user: user.as_bytes(),
            service: b"imap",
            ip: "::ffff:10.0.0.9".parse().ok(),
            report: &failed,
        };
        assert_eq!(store.apply(&record, at(1)), None);
    }
    let counted = |store: &mut Store, level, name| {
        let totals = totals(store, level, name);
        assert_eq!(totals.counters.num_logins, 0);
        totals.counters.stats.values[crate::stats::place::auth_failures]
    };
    assert_eq!(counted(&mut store, Level::User, "a@d"), 2);
    assert_eq!(counted(&mut store, Level::Domain, "d"), 3);
    assert_eq!(counted(&mut store, Level::Ip, "10.0.0.9"), 3);
    store.check();
}
