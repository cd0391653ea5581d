//! Walks of the biggest entries.

use super::*;

/// The rows of a walk of the biggest, in slices of `steps`, `rounds` times.
fn biggest(
    store: &mut Store,
    level: Level,
    limit: usize,
    steps: usize,
    rounds: usize,
) -> Vec<String> {
    let Opening::Rows(cursor) = store.open_biggest(level, limit) else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    for round in 0..rounds {
        if round > 0 {
            store.again(&cursor);
        }
        loop {
            let progress = store.read(&cursor, &mut steps.clone(), |row| {
                keys.push(row_key(row));
                true
            });
            if progress == Progress::Done {
                break;
            }
        }
    }
    store.close(cursor);
    keys
}

#[test]
fn the_biggest_are_found_in_any_slices_and_listed_oldest_first() {
    let mut store = store(1 << 20);
    assert!(biggest(&mut store, Level::User, 3, 1, 1).is_empty());
    for (number, load) in [5, 1, 9, 9, 3, 7].into_iter().enumerate() {
        let (session, user) = (format!("s{number}"), format!("u{number}@d{number}"));
        store.apply(
            &connect(&session, &user, Some(&format!("10.0.0.{number}"))),
            at(1),
        );
        store.apply(&update(&session, &report(load)), at(1));
    }
    for steps in [1, 2, 5, 100] {
        let users = |store: &mut Store, limit| biggest(store, Level::User, limit, steps, 1);
        assert_eq!(users(&mut store, 3), ["u2@d2", "u3@d3", "u5@d5"]);
        assert_eq!(users(&mut store, 1), ["u3@d3"], "the newer of two equals");
        assert_eq!(users(&mut store, 6).len(), 6);
        assert_eq!(users(&mut store, 7).len(), 6);
        let twice = biggest(&mut store, Level::Domain, 2, steps, 2);
        assert_eq!(twice, ["d2", "d3", "d2", "d3"]);
        assert_eq!(biggest(&mut store, Level::Ip, 1, steps, 1).len(), 1);
        assert_eq!(biggest(&mut store, Level::Global, 1, steps, 2).len(), 2);
    }
    store.check();
}

#[test]
fn a_search_for_the_biggest_survives_everything() {
    let mut store = store(1 << 20);
    for number in 0..50 {
        let (session, user) = (format!("s{number}"), format!("u{number}"));
        store.apply(&connect(&session, &user, None), at(1));
        store.apply(&disconnect(&session), at(1));
    }
    let Opening::Rows(cursor) = store.open_biggest(Level::User, 10) else {
        panic!("there are users");
    };
    let mut rows = 0;
    for secs in 2.. {
        let progress = store.read(&cursor, &mut 3, |_| {
            rows += 1;
            true
        });
        // Sessions and users go away under it.
        for _ in 0..10 {
            store.evict(at(secs));
        }
        if progress == Progress::Done {
            break;
        }
    }
    store.close(cursor);
    assert!(rows < 10, "{rows} rows");
    store.check();
}
