//! Compaction: pages that a few entries pin are given back, and nothing is lost.

use super::*;

/// A limit under which tests see many pages.
const LIMIT: usize = 4 << 20;

/// The records of a peak: so many sessions, with a command each, of which every
/// `stay`th remains.
fn peak(store: &mut Store, count: usize, stay: usize, secs: u32) {
    for number in 0..count {
        let id = format!("peak-{number:05}");
        let user = format!("user{number}@domain{}", number % 300);
        let ip = Ipv4Addr::from(0x0a00_0000 + number as u32).to_string();
        store.apply(&connect(&id, &user, Some(&ip)), at(secs));
        store.apply(&command(&id, 1, Some("SELECT"), false), at(secs));
    }
    for number in (0..count).filter(|number| number % stay > 0) {
        store.apply(&disconnect(&format!("peak-{number:05}")), at(secs + 1));
    }
}

/// New commands of one of the sessions that stayed; how many are listed then.
fn fill_with_commands(store: &mut Store, session: &str, secs: u32) -> usize {
    store.apply(&connect(session, "new@domain", None), at(secs));
    for number in 1..60_000 {
        let note = store.apply(&command(session, number, Some("FETCH"), false), at(secs));
        assert_eq!(note, None, "command {number}");
    }
    store.usage().entries[0]
}

#[test]
fn after_a_peak_there_is_as_much_room_as_in_a_new_store() {
    let mut fresh = store(LIMIT);
    let kept_fresh = fill_with_commands(&mut fresh, "s", 10);
    let mut store = store(LIMIT);
    peak(&mut store, 9000, 60, 1);
    let connected = store.totals_of_everything().connected;
    // Two days later, so that all that is idle goes first.
    let secs = 200_000;
    for number in 0..200 {
        let id = format!("new-{number:04}-with-a-longer-name");
        let user = format!("a-longer-name-{number}@a-longer-domain.example");
        let ip = format!("2001:db8::{number:x}");
        let note = store.apply(&connect(&id, &user, Some(&ip)), at(secs));
        assert_eq!(note, None);
        store.check();
    }
    assert_eq!(store.totals_of_everything().connected, connected + 200);
    let kept = fill_with_commands(&mut store, "s", secs);
    store.check();
    // Sessions, users and addresses that stayed take their room.
    assert!(kept * 100 >= kept_fresh * 80, "{kept} of {kept_fresh}");
    let usage = store.usage();
    assert!(usage.lost_bytes * 5 <= usage.limit_bytes, "{usage:?}");
}

#[test]
fn at_most_a_fifth_is_lost_to_holes_at_any_time() {
    let mut random = Random::seeded("holes");
    for memory_bytes in [1 << 20, 4 << 20] {
        let mut store = store(memory_bytes);
        let mut secs = 1;
        for round in 0..40u32 {
            // Each round makes entries of other sizes than the one before.
            let length = [0, 30, 90, 250, 700, 1500, 2500, 5000][random.below(8) as usize];
            let long = "x".repeat(length);
            let stay = 1 + random.below(60) as usize;
            let count = (memory_bytes / (400 + length)).min(4000);
            for number in 0..count {
                let id = format!("{round}-{number}");
                let user = format!("{}{number}@{round}", &long[..length.min(300)]);
                store.apply(&connect(&id, &user, Some("10.1.1.1")), at(secs));
                let record = Record::UpdateCommand {
                    session: id.as_bytes(),
                    update: CommandUpdate {
                        number: 1.try_into().unwrap(),
                        begins: Some((b"FETCH", long.as_bytes())),
                        done: false,
                        report: &report(random.below(1 << 40)),
                    },
                };
                store.apply(&record, at(secs));
                if number % stay > 0 || round % 4 > 0 {
                    store.apply(&disconnect(&id), at(secs));
                }
                let usage = store.usage();
                assert!(usage.used_bytes <= usage.limit_bytes);
                assert!(
                    usage.lost_bytes * 5 <= usage.limit_bytes,
                    "round {round}, {number}: {usage:?}"
                );
            }
            store.check();
            // What stayed of the round before goes.
            for number in 0..count {
                let before = round.saturating_sub(1);
                store.apply(&disconnect(&format!("{before}-{number}")), at(secs));
            }
            secs += random.below(2000) as u32;
        }
    }
}

#[test]
fn walks_that_began_before_entries_moved_list_them_all() {
    let mut random = Random::seeded("walks over entries that move");
    for case in 0..30 {
        let mut store = store(1 << 20);
        peak(&mut store, 1200, 20, 1);
        // Frees what is idle, slots here and there.
        while store.evict(at(2)) {}
        let zooms = [Level::Session, Level::User, Level::Domain, Level::Ip];
        let level = zooms[case % 4];
        let mut expected = list(&mut store, level, Filter::default()).unwrap();
        let by_domain = Filter {
            domain: Some(Pattern::new(b"*")),
            ..Filter::default()
        };
        let opening = match random.below(3) {
            0 => store.open(level, Filter::default()),
            1 => store.open(level, by_domain),
            _ => {
                expected.reverse();
                store.open_biggest(level, 2000)
            }
        };
        let Opening::Rows(cursor) = opening else {
            panic!("there are entries");
        };
        let mut seen = Vec::new();
        loop {
            let mut steps = 1 + random.below(100) as usize;
            let progress = store.read(&cursor, &mut steps, |row| {
                seen.push(row_key(row));
                true
            });
            if progress == Progress::Done {
                break;
            }
            for _ in 0..random.below(20) {
                store.compact(1);
            }
            store.check();
        }
        store.close(cursor);
        assert_eq!(seen, expected, "case {case}");
    }
}

#[test]
fn entries_that_moved_have_what_they_had() {
    let mut random = Random::seeded("entries that move");
    let mut store = store(2 << 20);
    peak(&mut store, 3000, 7, 1);
    for number in 0..3000 {
        // Some ids are used a second time.
        if number % 50 == 1 {
            let id = format!("peak-{number:05}");
            store.apply(&connect(&id, "again@domain1", Some("10.2.3.4")), at(2));
            store.apply(&command(&id, 1, Some("NOOP"), false), at(2));
        }
    }
    while store.usage().entries[1] > 600 {
        assert!(store.evict(at(2)));
    }
    let zooms = [
        Level::Command,
        Level::Session,
        Level::User,
        Level::Domain,
        Level::Ip,
    ];
    let all = |store: &mut Store| {
        let mut rows = Vec::new();
        for level in zooms {
            walk(store, level, Filter::default(), |row| {
                rows.push(format!("{row:?}"));
            });
        }
        rows
    };
    let goes_on = "peak-00007";
    store.apply(&command(goes_on, 9, Some("FETCH"), false), at(2));
    let before = all(&mut store);
    let lost = store.usage().lost_bytes;
    for _ in 0..500 {
        store.compact(1);
        if random.below(20) == 0 {
            store.check();
            assert_eq!(all(&mut store), before);
        }
    }
    store.check();
    assert_eq!(all(&mut store), before);
    let usage = store.usage();
    assert!(usage.lost_bytes < lost, "{usage:?}, {lost} lost before");
    assert!(!store.is_compaction_due(0), "there is nothing left to move");
    // A command that goes on is found where it is.
    assert_eq!(store.apply(&command(goes_on, 9, None, true), at(3)), None);
}
