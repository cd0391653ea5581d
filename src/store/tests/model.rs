//! The store against a naive recount of all its records.

use super::*;
use std::collections::{BTreeMap, HashSet};

/// The naive model: everything is in maps and added up one by one.
#[derive(Default)]
struct Model {
    /// Counters of users, domains and ips by kind and name.
    totals: BTreeMap<(char, String), (u64, u64, u64)>,
    /// Last totals of sessions: value, user, ip, commands, connected.
    sessions: BTreeMap<String, (u64, String, Option<String>, u64, bool)>,
    /// Numbers of commands that are not done.
    running: HashSet<(String, u32)>,
    /// The number of each session's last command.
    last: BTreeMap<String, u32>,
}

impl Model {
    /// Adds value, logins and commands to everything a session belongs to.
    fn add(&mut self, user: &str, ip: Option<&str>, difference: (u64, u64, u64)) {
        let domain = user.split_once('@').map_or("", |(_, domain)| domain);
        let mut names = vec![
            ('u', user.to_owned()),
            ('d', domain.to_owned()),
            ('g', String::new()),
        ];
        names.extend(ip.map(|ip| ('i', ip.to_owned())));
        for name in names {
            let sum = self.totals.entry(name).or_default();
            sum.0 += difference.0;
            sum.1 += difference.1;
            sum.2 += difference.2;
        }
    }
}

#[test]
fn totals_agree_with_a_naive_recount() {
    let mut random = Random::seeded("store against a naive recount");
    let mut store = store(64 << 20);
    let mut model = Model::default();
    for step in 0..30_000u32 {
        let now = at(step / 100);
        let number = random.below(300);
        let session = format!("session-{number}");
        let user = format!("user{}@domain{}", random.below(40), random.below(7));
        let ip = (random.below(4) > 0).then(|| format!("10.0.0.{}", random.below(30)));
        match random.below(10) {
            0 | 1 => {
                store.apply(&connect(&session, &user, ip.as_deref()), now);
                let known = model.sessions.get(&session);
                if known.is_none_or(|known| !known.4) {
                    model.add(&user, ip.as_deref(), (0, 1, 0));
                    model.running.retain(|(of, _)| *of != session);
                    model.last.remove(&session);
                    model.sessions.insert(session, (0, user, ip, 0, true));
                }
            }
            2..=4 => {
                let Some(known) = model.sessions.get_mut(&session).filter(|known| known.4) else {
                    continue;
                };
                let difference = random.bits() >> random.below(64).max(20);
                known.0 += difference;
                let (value, user, ip) = (known.0, known.1.clone(), known.2.clone());
                model.add(&user, ip.as_deref(), (difference, 0, 0));
                store.apply(&update(&session, &report(value)), now);
            }
            5..=7 => {
                let Some(known) = model.sessions.get_mut(&session).filter(|known| known.4) else {
                    continue;
                };
                let number = 1 + random.below(3) as u32;
                let done = random.below(2) == 0;
                // A number larger than the last one is not looked for.
                let is_largest = model.last.get(&session).is_none_or(|&last| number > last);
                let is_running = !is_largest && model.running.contains(&(session.clone(), number));
                if random.below(2) == 0 {
                    store.apply(&command(&session, number, Some("FETCH"), done), now);
                    // The first record of a command that is repeated begins nothing.
                    if !is_running {
                        model.last.insert(session.clone(), number);
                        model.running.insert((session.clone(), number));
                        known.3 += 1;
                        let (user, ip) = (known.1.clone(), known.2.clone());
                        model.add(&user, ip.as_deref(), (0, 0, 1));
                    }
                } else {
                    store.apply(&command(&session, number, None, done), now);
                }
                if done {
                    model.running.remove(&(session, number));
                }
            }
            8 => {
                let record = Record::AddUser {
                    user: user.as_bytes(),
                    service: b"imap",
                    ip: None,
                    report: &report(3),
                };
                store.apply(&record, now);
                model.add(&user, None, (3, 0, 0));
            }
            _ => {
                store.apply(&disconnect(&session), now);
                if let Some(known) = model.sessions.get_mut(&session) {
                    known.4 = false;
                }
            }
        }
    }
    store.check();
    for ((kind, name), expected) in &model.totals {
        let found = match kind {
            'u' => totals(&mut store, Level::User, name),
            'd' => totals(&mut store, Level::Domain, name),
            'i' => totals(&mut store, Level::Ip, name),
            _ => store.totals_of_everything(),
        };
        let counters = found.counters;
        let found = (
            counters.stats.values[0],
            counters.num_logins,
            counters.num_cmds,
        );
        assert_eq!(found, *expected, "{kind} {name}");
    }
    let live: BTreeMap<String, (u64, u64)> = model
        .sessions
        .iter()
        .filter(|(_, known)| known.4)
        .map(|(name, known)| (name.clone(), (known.0, known.3)))
        .collect();
    let mut listed = BTreeMap::new();
    let filter = Filter {
        connected: true,
        ..Filter::default()
    };
    walk(&mut store, Level::Session, filter, |row| {
        if let Row::Session { counters, .. } = row {
            listed.insert(row_key(row), (counters.stats.values[0], counters.num_cmds));
        }
    });
    assert_eq!(listed, live);
}
