//! Services and commands of a name, against a naive recount.

use super::state::restored;
use super::*;
use crate::stats::place;
use crate::store::filter::Pattern;
use crate::store::kinds::latency::BOUNDS_USECS;
use std::collections::BTreeMap;

/// What a service, or the commands of a name, should have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expected {
    value: u64,
    logins: u64,
    cmds: u64,
    connected: u64,
    /// How long commands took.
    times: Vec<u64>,
}

/// What is known of a session.
struct Known {
    service: &'static str,
    value: u64,
    /// The last command: number, upper-case name, value, clock_time, over.
    last: Option<(u32, String, u64, u64, bool)>,
    next_number: u32,
}

const SERVICES: [&str; 4] = ["imap", "pop3", "lmtp", "auth"];
const NAMES: [&str; 5] = ["FETCH", "fetch", "UID SEARCH", "NOOP", "LIST"];

#[derive(Default)]
struct Model {
    live: BTreeMap<u32, Known>,
    kinds: BTreeMap<(String, String), Expected>,
}

impl Model {
    /// The service of a session, and its commands of a name.
    fn at(&mut self, service: &str, name: &str) -> &mut Expected {
        let key = (service.to_owned(), name.to_owned());
        self.kinds.entry(key).or_default()
    }

    /// The last command of a session is over.
    fn end(&mut self, number: u32) {
        let known = self.live.get_mut(&number).unwrap();
        let service = known.service;
        if let Some((_, name, _, clock, over @ false)) = &mut known.last {
            *over = true;
            let (name, clock) = (name.clone(), *clock);
            self.at(service, &name).times.push(clock);
        }
    }
}

/// What the rows say, in the form of the model.
fn rows(store: &mut Store) -> BTreeMap<(String, String), Expected> {
    let mut found = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let counted = |totals: &Totals| Expected {
        value: totals.counters.stats.values[0],
        logins: totals.counters.num_logins,
        cmds: totals.counters.num_cmds,
        connected: totals.connected,
        times: Vec::new(),
    };
    walk(store, Level::Service, Filter::default(), |row| {
        if let Row::Service(name, totals, _) = row {
            found.insert((text(name), String::new()), counted(totals));
        }
    });
    walk(store, Level::Cmd, Filter::default(), |row| {
        if let Row::Cmd {
            service,
            name,
            totals,
            ..
        } = row
        {
            found.insert((text(service), text(name)), counted(totals));
        }
    });
    // What it counted is not what the model counts.
    found.retain(|_, kind| *kind != Expected::default());
    found
}

/// The histograms of commands of a name are those of these times.
fn assert_times(store: &mut Store, model: &Model) {
    let mut all = Latency::NONE;
    walk(store, Level::Cmd, Filter::default(), |row| {
        let Row::Cmd {
            service,
            name,
            latency,
            ..
        } = row
        else {
            panic!("{row:?}");
        };
        let key = [*service, *name].map(|it| String::from_utf8(it.to_vec()).unwrap());
        let mut expected = Latency::NONE;
        let times = &model.kinds[&key.clone().into()].times;
        times.iter().for_each(|&time| expected.add(time));
        assert_eq!(**latency, expected, "{key:?}");
        all.merge(latency);
    });
    walk(store, Level::Global, Filter::default(), |row| {
        assert_eq!(row.latency(), Some(&all));
    });
}

/// A record of a command.
fn of_command(random: &mut Random, model: &mut Model, store: &mut Store, number: u32, now: Now) {
    let session = format!("s{number}");
    let known = &model.live[&number];
    let service = known.service;
    let goes_on = random.below(2) == 0 && known.last.is_some();
    let done = random.below(3) == 0;
    let (value, usecs) = (random.below(1000), random.below(1 << 22));
    let name = NAMES[random.below(5) as usize];
    let (command, begins, mut more) = match (&known.last, goes_on) {
        (Some((command, _, before, clock, _)), true) => {
            (*command, None, (before + value, clock + usecs))
        }
        _ => (
            known.next_number,
            Some((name.as_bytes(), &b"args"[..])),
            (value, usecs),
        ),
    };
    let upper = match (&known.last, begins) {
        (Some((_, name, ..)), None) => name.clone(),
        _ => name.to_ascii_uppercase(),
    };
    if begins.is_some() {
        model.end(number);
        model.at(service, "").cmds += 1;
        model.at(service, &upper).cmds += 1;
        let known = model.live.get_mut(&number).unwrap();
        known.next_number += 1;
        known.last = Some((command, upper.clone(), 0, 0, false));
    }
    // Now and then a total shrinks, and is the base of what follows.
    let known = model.live.get_mut(&number).unwrap();
    let (_, _, before, clock, _) = known.last.as_mut().unwrap();
    let mut added = more.0 - *before;
    if begins.is_none() && random.below(10) == 0 && *before > 0 {
        more.0 = *before - 1;
        added = 0;
    }
    (*before, *clock) = more;
    model.at(service, &upper).value += added;
    let mut report = report(more.0);
    report.stats.values[place::clock_time] = more.1;
    let update = CommandUpdate {
        number: command.try_into().unwrap(),
        begins,
        done,
        report: &report,
    };
    let session = session.as_bytes();
    store.apply(&Record::UpdateCommand { session, update }, now);
    if done {
        model.end(number);
    }
}

fn any_record(random: &mut Random, model: &mut Model, store: &mut Store, now: Now) {
    let number = random.below(60) as u32;
    let session = format!("s{number}");
    let user = format!("u{}@d", random.below(9));
    match (random.below(8), model.live.contains_key(&number)) {
        (_, false) => {
            let service = SERVICES[random.below(4) as usize];
            let connect = Record::Connect {
                session: session.as_bytes(),
                user: user.as_bytes(),
                service: service.as_bytes(),
                pid: 1,
                ip: None,
            };
            assert_eq!(store.apply(&connect, now), None);
            let kind = model.at(service, "");
            kind.logins += u64::from(service != "auth");
            kind.connected += 1;
            let known = Known {
                service,
                value: 0,
                last: None,
                next_number: 1,
            };
            model.live.insert(number, known);
        }
        (0, true) => {
            model.end(number);
            let known = model.live.remove(&number).unwrap();
            model.at(known.service, "").connected -= 1;
            store.apply(&disconnect(&session), now);
        }
        (1, true) => {
            let difference = random.below(1 << 30);
            let known = model.live.get_mut(&number).unwrap();
            known.value += difference;
            let (service, value) = (known.service, known.value);
            model.at(service, "").value += difference;
            store.apply(&update(&session, &report(value)), now);
        }
        (2, true) => {
            let service = SERVICES[random.below(4) as usize];
            let record = Record::AddUser {
                user: user.as_bytes(),
                service: service.as_bytes(),
                ip: None,
                report: &report(7),
            };
            store.apply(&record, now);
            model.at(service, "").value += 7;
        }
        (_, true) => of_command(random, model, store, number, now),
    }
}

#[test]
fn services_and_commands_agree_with_a_naive_recount() {
    let mut random = Random::seeded("kinds against a naive recount");
    let (mut store, mut model) = (store(64 << 20), Model::default());
    for step in 0..20_000u32 {
        let now = at(step / 100);
        any_record(&mut random, &mut model, &mut store, now);
        if step % 2000 == 1999 {
            let mut expected = model.kinds.clone();
            expected.values_mut().for_each(|kind| kind.times.clear());
            expected.retain(|_, kind| *kind != Expected::default());
            assert_eq!(rows(&mut store), expected);
            assert_times(&mut store, &model);
            store.check();
        }
        if step < 15_000 && random.below(5000) == 0 {
            store.reset(now);
            for kind in model.kinds.values_mut() {
                let connected = kind.connected;
                *kind = Expected {
                    connected,
                    ..Expected::default()
                };
            }
        }
    }
    let count = |model: &Model| {
        model
            .kinds
            .values()
            .map(|kind| kind.times.len())
            .sum::<usize>()
    };
    assert!(count(&model) > 500, "{}", count(&model));
}

#[test]
fn services_together_are_everything_while_memory_is_short() {
    let mut random = Random::seeded("kinds while memory is short");
    let mut store = store(150_000);
    // Commands that were counted and done at once.
    let mut done = 0;
    for step in 0..30_000u32 {
        let session = format!("session-with-a-long-id-{}", random.below(3000));
        let user = format!("user{}@domain{}", random.below(900), random.below(90));
        let name = format!("CMD{}", random.below(30));
        let now = at(step / 300);
        let before = store.totals_of_everything().counters.num_cmds;
        match random.below(8) {
            0..=2 => store.apply(&connect(&session, &user, None), now),
            3 => store.apply(&update(&session, &report(random.below(1 << 40))), now),
            4..=6 => store.apply(
                &command(&session, 1 + step, Some(&name), step % 2 == 0),
                now,
            ),
            _ => store.apply(&disconnect(&session), now),
        };
        let counted = store.totals_of_everything().counters.num_cmds - before;
        done += if step % 2 == 0 { counted } else { 0 };
        if step % 1000 == 0 {
            store.check();
        }
    }
    let everything = store.totals_of_everything();
    let mut sum = Counters::default();
    let mut connected = 0;
    walk(&mut store, Level::Service, Filter::default(), |row| {
        if let Row::Service(_, totals, _) = row {
            sum.add(&totals.counters);
            connected += totals.connected;
        }
    });
    assert_eq!(
        (sum, connected),
        (everything.counters, everything.connected)
    );
    let (mut cmds, mut over) = (0, 0);
    walk(&mut store, Level::Cmd, Filter::default(), |row| {
        if let Row::Cmd {
            totals, latency, ..
        } = row
        {
            cmds += totals.counters.num_cmds;
            over += latency.count();
        }
    });
    assert_eq!(cmds, everything.counters.num_cmds);
    assert!(
        done > 1000 && over >= done && over <= cmds,
        "{done} {over} {cmds}"
    );
}

#[test]
fn a_command_that_is_freed_before_it_is_over_took_as_long_as_is_known() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", None), at(0));
    let mut slow = report(0);
    slow.stats.values[place::clock_time] = 3_000_000;
    let update = |number: u32, done| CommandUpdate {
        number: number.try_into().unwrap(),
        begins: Some((b"SEARCH", b"TEXT x")),
        done,
        report: &slow,
    };
    let record = |number, done| Record::UpdateCommand {
        session: b"s",
        update: update(number, done),
    };
    let counted = |store: &mut Store| {
        let mut found = Latency::NONE;
        walk(store, Level::Cmd, Filter::default(), |row| {
            found = *row.latency().unwrap()
        });
        found
    };
    store.apply(&record(1, false), at(1));
    assert_eq!(counted(&mut store).count(), 0, "it is not over");
    while store.usage().entries[Level::Command as usize] > 0 {
        assert!(store.evict(at(2)));
    }
    let place = BOUNDS_USECS
        .iter()
        .position(|&bound| bound >= 3_000_000)
        .unwrap();
    assert_eq!(counted(&mut store).counts[place], 1);
    store.apply(&record(2, true), at(3));
    store.apply(&command("s", 2, None, true), at(3));
    store.apply(&disconnect("s"), at(3));
    assert_eq!(counted(&mut store).count(), 2, "each once");
}

#[test]
fn slow_commands_are_noted_when_they_are_over() {
    let mut store = store(1 << 20);
    store.set_slow_limit(Some(SlowLimit {
        usecs: 999_999,
        with_args: true,
    }));
    store.apply(&connect("s", "u@d", Some("192.0.2.7")), at(0));
    let mut slow = report(5);
    slow.stats.values[place::clock_time] = 1_000_000;
    let of = |number: u32| Record::UpdateCommand {
        session: b"s",
        update: CommandUpdate {
            number: number.try_into().unwrap(),
            begins: Some((b"Search", b"TEXT x")),
            done: false,
            report: &slow,
        },
    };
    store.apply(&of(1), at(1));
    assert_eq!(store.take_slow(), (vec![], 0), "it is not over");
    store.apply(&command("s", 2, Some("NOOP"), true), at(2));
    let noted = SlowCommand {
        last_update: at(1).wall,
        user: b"u@d".to_vec(),
        session: b"s".to_vec(),
        ip: "192.0.2.7".parse().ok(),
        service: b"imap".to_vec(),
        name: b"Search".to_vec(),
        args: Some(b"TEXT x".to_vec()),
        stats: slow.stats,
    };
    assert_eq!(store.take_slow(), (vec![noted], 0));
    store.set_slow_limit(Some(SlowLimit {
        usecs: 999_999,
        with_args: false,
    }));
    for number in 3..30 {
        store.apply(&of(number), at(3));
    }
    let (noted, left_out) = store.take_slow();
    assert_eq!((noted.len(), left_out), (16, 10));
    assert!(noted.iter().all(|one| one.args.is_none()));
    store.set_slow_limit(None);
    store.apply(&of(40), at(3));
    assert_eq!(store.take_slow(), (vec![], 0));
}

#[test]
fn filters_select_kinds_and_their_commands() {
    let mut store = store(1 << 20);
    for (session, service) in [("a", "imap"), ("b", "pop3")] {
        let connect = Record::Connect {
            session: session.as_bytes(),
            user: b"u@d",
            service: service.as_bytes(),
            pid: 1,
            ip: None,
        };
        store.apply(&connect, at(1));
        for (number, name) in [(1, "fetch"), (2, "STAT")] {
            store.apply(&command(session, number, Some(name), true), at(number));
        }
    }
    store.apply(&disconnect("b"), at(3));
    let service = |name: &str| Some(Pattern::new(name.as_bytes()));
    let mut listed = |level, filter| {
        let mut found = Vec::new();
        walk(&mut store, level, filter, |row| {
            found.push(match row {
                Row::Service(name, ..) => name.escape_ascii().to_string(),
                Row::Cmd { service, name, .. } => {
                    format!("{} {}", service.escape_ascii(), name.escape_ascii())
                }
                Row::Command { name, service, .. } => {
                    format!("{} {}", service.escape_ascii(), name.escape_ascii())
                }
                row => row_key(row),
            });
        });
        found.join(", ")
    };
    let none = Filter::default;
    assert_eq!(listed(Level::Service, none()), "imap, pop3");
    assert_eq!(
        listed(Level::Cmd, none()),
        "imap FETCH, imap STAT, pop3 FETCH, pop3 STAT"
    );
    let of_pop3 = || Filter {
        service: service("p*"),
        ..none()
    };
    assert_eq!(listed(Level::Service, of_pop3()), "pop3");
    assert_eq!(listed(Level::Cmd, of_pop3()), "pop3 FETCH, pop3 STAT");
    assert_eq!(listed(Level::Command, of_pop3()), "pop3 fetch, pop3 STAT");
    let fetches = || Filter {
        cmd: service("FE*"),
        ..none()
    };
    assert_eq!(listed(Level::Cmd, fetches()), "imap FETCH, pop3 FETCH");
    assert_eq!(listed(Level::Command, fetches()), "imap fetch, pop3 fetch");
    let connected = || Filter {
        connected: true,
        ..none()
    };
    assert_eq!(listed(Level::Service, connected()), "imap");
    let late = || Filter {
        since_secs: at(2).wall.secs.into(),
        ..none()
    };
    assert_eq!(listed(Level::Cmd, late()), "imap STAT, pop3 STAT");
}

#[test]
fn a_time_is_counted_once_whatever_is_freed() {
    let mut store = store(1 << 20);
    store.apply(&connect("s", "u@d", None), at(0));
    store.apply(&command("s", 1, Some("NOOP"), false), at(1));
    store.apply(&command("s", 2, Some("NOOP"), false), at(2));
    // The first goes on, so that the second is freed before it.
    store.apply(&command("s", 1, None, false), at(9));
    assert!(store.evict(at(9)));
    let link = store.find_session(b"s").unwrap();
    let first = store.find_command(link, 1.try_into().unwrap()).unwrap();
    assert!(store.find_command(link, 2.try_into().unwrap()).is_none());
    assert!(store.is_over(first), "another one followed");
    let count = |store: &mut Store| {
        let mut count = 0;
        walk(store, Level::Cmd, Filter::default(), |row| {
            count += row.latency().unwrap().count();
        });
        count
    };
    assert_eq!(count(&mut store), 2);
    store.check();
    store = restored(&store, at(9), &LIMITS, at(9)).unwrap();
    store.apply(&command("s", 3, Some("NOOP"), false), at(9));
    assert_eq!(count(&mut store), 2, "the third is not over");
    while store.usage().entries[Level::Command as usize] > 0 {
        assert!(store.evict(at(10)));
    }
    store.apply(&disconnect("s"), at(10));
    assert_eq!(count(&mut store), 3);
}

#[test]
fn a_time_is_counted_once_where_there_is_no_room_for_the_next_command() {
    let mut store = store(64 << 10);
    store.apply(&connect("s", "u@d", None), at(0));
    store.apply(&command("s", 1, Some("NOOP"), false), at(0));
    let fits = |store: &mut Store, number: u32| {
        let id = format!("session{number}");
        store.apply(&connect(&id, "u@d", None), at(0)).is_none()
    };
    (0..)
        .take_while(|&number| fits(&mut store, number))
        .for_each(drop);
    let mut kept = 0;
    for number in 2..200 {
        let note = store.apply(&command("s", number, Some("NOOP"), false), at(1));
        kept += u64::from(note.is_none());
    }
    store.apply(&disconnect("s"), at(2));
    let (mut cmds, mut over) = (0, 0);
    walk(&mut store, Level::Cmd, Filter::default(), |row| {
        cmds += row.totals().unwrap().counters.num_cmds;
        over += row.latency().unwrap().count();
    });
    assert_eq!(
        (cmds, over),
        (199, 1 + kept),
        "that of one without room is not known"
    );
}
