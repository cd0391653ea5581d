//! Clocks that step, entries that grow old, sessions that fall silent. The store
//! takes the time from who calls it, so most of this asks the store itself; what a
//! process is given of the past or the future comes by its state or by the kernel.

use std::fs::{self, File};
use std::time::{SystemTime, UNIX_EPOCH};

use dovestat::stats::Report;
use dovestat::store::{Filter, Level, Limits, Now, Opening, Progress, Row, Store, WallTime};
use dovestat::wire::{parse_record, StateWriter, StatsRoom};

use crate::attack::{Class, Tally};
use crate::harness::{unavailable, wait_until, Daemon, Setup, TempDir};
use crate::records::{add_user, command, connect, disconnect, seed, update, Mail, Random};
use crate::streams::Stream;

const MIB: usize = 1 << 20;

/// A second by the monotonic clock, late enough to look back from.
const START_SECS: u32 = 1 << 30;

const DAY_SECS: u32 = 86_400;

fn limits(memory_bytes: usize) -> Limits {
    Limits {
        memory_bytes,
        min_time_secs: [60, 900, 3600, 43_200, 43_200],
    }
}

fn at(uptime_secs: u32, wall_secs: u32) -> Now {
    Now {
        uptime_secs: START_SECS + uptime_secs,
        wall: WallTime {
            secs: wall_secs,
            usecs: 0,
        },
    }
}

fn store(memory_bytes: usize, now: Now) -> Store {
    Store::new(&limits(memory_bytes), now).expect("room for an empty store")
}

/// Applies a line, if it is a record.
fn apply(store: &mut Store, line: &[u8], now: Now) {
    let (room, report) = (&mut StatsRoom::default(), &mut Report::default());
    if let Ok(record) = parse_record(&mut line.to_vec(), room, report) {
        store.apply(&record, now);
    }
}

/// Ends the sessions that are silent; their ids.
fn end_silent(store: &mut Store, now: Now) -> Vec<Vec<u8>> {
    let mut ended = Vec::new();
    while store.disconnect_silent(now, |id, _| ended.push(id.to_vec())) {}
    ended
}

/// The rows of a level, without when they were made and touched.
fn rows(store: &mut Store, level: Level) -> Vec<String> {
    let Opening::Rows(cursor) = store.open(level, Filter::default()) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let mut steps = usize::MAX;
    let progress = store.read(&cursor, &mut steps, |row| {
        rows.push(match row {
            Row::Command {
                name,
                args,
                session,
                ..
            } => format!("{name:?} {args:?} {session:?}"),
            Row::Session {
                session,
                user,
                connected,
                counters,
                ..
            } => {
                format!("{session:?} {user:?} {connected} {counters:?}")
            }
            Row::Parent(_, key, totals) => {
                format!("{key:?} {} {:?}", totals.connected, totals.counters)
            }
            Row::Global(totals, _) | Row::Service(_, totals, _) | Row::Cmd { totals, .. } => {
                format!("{} {:?}", totals.connected, totals.counters)
            }
        });
        true
    });
    assert_eq!(progress, Progress::Done);
    store.close(cursor);
    rows
}

#[test]
fn steps_of_the_wall_clock_change_nothing_but_what_is_shown() {
    let mut tally = Tally::of(Class::Clocks);
    for limit in [MIB / 2, 64 * MIB] {
        let seed = seed("wall clock", 91);
        let mut random = Random::new(seed);
        let mut stream = Stream::new(seed);
        let (mut uptime, mut wall) = (0, 2_000_000_000);
        let mut steady = store(limit, at(0, wall));
        let mut jumping = store(limit, at(0, 5));
        for step in 0..30_000 {
            let ahead = if random.one_in(500) { 400 } else { 2 };
            uptime += random.below(ahead) as u32;
            if random.one_in(20) {
                tally.tries(1);
                let days = DAY_SECS * random.below(400) as u32;
                wall = match random.below(5) {
                    0 => 0,
                    1 => u32::MAX,
                    2 => wall.saturating_sub(days),
                    3 => wall.saturating_add(days),
                    _ => 2_000_000_000,
                };
            }
            let (now, then) = (at(uptime, 2_000_000_000 + uptime), at(uptime, wall));
            let line = stream.next_record();
            apply(&mut steady, &line, now);
            apply(&mut jumping, &line, then);
            assert_eq!(end_silent(&mut steady, now), end_silent(&mut jumping, then));
            assert_eq!(steady.usage(), jumping.usage(), "step {step}");
            if step % 3000 == 0 {
                for level in Level::ALL {
                    assert_eq!(
                        rows(&mut steady, level),
                        rows(&mut jumping, level),
                        "{level:?}"
                    );
                }
            }
        }
        let freed: u64 = steady.usage().evictions.iter().sum();
        assert_eq!(freed > 0, limit < MIB, "{freed} entries were freed");
    }
    tally.survived();
}

#[test]
fn a_machine_that_slept_for_days_goes_on() {
    let mut tally = Tally::of(Class::Clocks);
    for days in [1, 30, 365, 3650] {
        for sessions in [1u32, 256, 5000] {
            tally.tries(1);
            let mut store = store(MIB, at(0, 1000));
            for n in 0..sessions {
                apply(
                    &mut store,
                    &connect(&format!("s{n}"), "u@d", "imap", 1, "::1"),
                    at(1, 9),
                );
            }
            let kept = store.totals_of_everything().connected;
            let later = at(days * DAY_SECS, 7);
            assert_eq!(end_silent(&mut store, later).len() as u64, kept);
            assert!(end_silent(&mut store, later).is_empty(), "each once");
            assert_eq!(store.totals_of_everything().connected, 0);
            assert_eq!(store.next_silence_secs(), None);
            apply(&mut store, &connect("new", "v@e", "imap", 1, ""), later);
            apply(&mut store, &update("new", &Mail::sample().field()), later);
            let totals = store.totals_of_everything();
            assert_eq!(totals.connected, 1);
            assert_eq!(totals.counters.num_logins, u64::from(sessions) + 1);
        }
    }
    tally.survived();
}

/// Makes an idle entry of a kind: what its level is called, and its number there.
type Maker = (&'static str, usize, fn(u32) -> Vec<Vec<u8>>);

const MAKERS: [Maker; 5] = [
    ("commands", 0, |n| {
        vec![command("held", n + 2, "d", "FETCH", &"x".repeat(100), "")]
    }),
    ("sessions", 1, |n| {
        let id = format!("s{n}");
        vec![connect(&id, "held@held", "imap", 1, ""), disconnect(&id)]
    }),
    ("users", 2, |n| {
        vec![add_user(&format!("u{n}@held"), "auth", "")]
    }),
    ("domains", 3, |n| {
        vec![add_user(&format!("u@d{n}"), "auth", "")]
    }),
    ("addresses", 4, |n| {
        let (id, ip) = (format!("i{n}"), format!("2001:db8::{n:x}"));
        vec![connect(&id, "held@held", "imap", 1, &ip), disconnect(&id)]
    }),
];

#[test]
fn what_has_outlived_its_time_is_freed_before_what_has_not() {
    let mut tally = Tally::of(Class::Freeing);
    for (old_name, old_level, make_old) in MAKERS {
        for (new_name, new_level, make_new) in MAKERS {
            // Entries above others are not freed alone.
            if old_level >= new_level && old_level != 0 || old_level == new_level {
                continue;
            }
            tally.tries(1);
            let mut store = store(MIB / 2, at(0, 1000));
            let now = at(1, 1001);
            // Held for ever, and older than everything.
            for line in [
                connect("held", "held@held", "imap", 1, "192.0.2.1"),
                command("held", 1, "", "IDLE", "", ""),
            ] {
                apply(&mut store, &line, now);
            }
            for n in 0..300 {
                make_old(n)
                    .iter()
                    .for_each(|line| apply(&mut store, line, now));
            }
            let olds = store.usage().entries[old_level];
            assert!(olds >= 300, "{old_name}: {olds}");
            let later = at(2 * DAY_SECS, 3000);
            // It is heard of, as a session must be, and is not silent.
            apply(&mut store, &update("held", ""), later);
            for n in 300..20_000 {
                make_new(n)
                    .iter()
                    .for_each(|line| apply(&mut store, line, later));
                let usage = store.usage();
                if usage.evictions[old_level] >= 300 {
                    break;
                }
                let freed = usage.evictions[new_level];
                assert_eq!(freed, 0, "{new_name} freed before {old_name}: {usage:?}");
            }
            let usage = store.usage();
            assert!(usage.evictions[old_level] >= 300, "{old_name}: {usage:?}");
            assert!(usage.used_bytes <= usage.limit_bytes);
            let sessions = rows(&mut store, Level::Session);
            let held = format!("{:?}", b"held".as_slice());
            let held = sessions.iter().filter(|row| row.starts_with(&held));
            assert_eq!(held.count(), 1, "what is connected is not freed");
        }
    }
    tally.survived();
}

/// The wall clock.
fn wall_secs() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock past 1970").as_secs() as u32
}

/// Writes a state below `dir` as a daemon would have at `now`.
fn write_state(dir: &TempDir, store: &Store, now: Now) {
    fs::create_dir(dir.at("run")).expect("mkdir run");
    let file = File::create(dir.at("run/state")).expect("create the state");
    let mut writer = StateWriter::new(file).expect("begin the state");
    store
        .export(now, |saved| writer.put(saved))
        .expect("write the state");
    writer.finish().expect("end the state");
}

#[test]
fn a_restart_may_find_itself_before_or_long_after_what_it_kept() {
    let mut tally = Tally::of(Class::Clocks);
    let here = wall_secs();
    let days = |count: u32| count * DAY_SECS;
    for wall in [
        0,
        1,
        here - days(3000),
        here - days(10),
        here - 1,
        here + 3600,
        here + days(10),
        here + days(3000),
        u32::MAX,
    ] {
        tally.tries(1);
        let now = at(1000, wall);
        let mut saved = store(MIB, now);
        for line in [
            connect("s1", "u@d", "imap", 1, "192.0.2.1"),
            update("s1", &Mail::sample().field()),
            command("s1", 1, "", "IDLE", "", ""),
            connect("s2", "v@e", "imap", 2, "192.0.2.2"),
            disconnect("s2"),
        ] {
            apply(&mut saved, &line, now);
        }
        let dir = TempDir::new("clockstep");
        write_state(&dir, &saved, now);
        let mut daemon = Daemon::in_dir(dir, &Setup::new());
        let mut client = daemon.client();
        let (sessions, global) = (client.export("session"), client.export("global"));
        assert_eq!(sessions.values("session"), ["s2", "s1"], "{wall}");
        let s1 = sessions.row("session", "s1");
        assert_eq!(s1.get("last_update"), format!("{wall}.000000"));
        assert_eq!(s1.get("connected"), "1", "{wall}: it may still be there");
        assert_eq!(global.only().num("read_count"), 10);
        assert_eq!(client.export("command").values("cmd"), ["IDLE"]);
        tally.check(&mut daemon);
        daemon.stop();
    }
}

#[test]
fn who_is_silent_for_15_minutes_is_disconnected_with_one_line() {
    let mut tally = Tally::of(Class::Silence);
    let dir = TempDir::new("silent");
    let here = wall_secs();
    let begun = at(0, here - 898);
    let mut saved = store(4 * MIB, begun);
    let hostile = "q\x1b[2J\nforged";
    let mut lines: Vec<Vec<u8>> = (0..400)
        .map(|n| connect(&format!("quiet{n}"), "quiet@d", "imap", 1, ""))
        .collect();
    lines.push(connect(hostile, hostile, "imap", 1, ""));
    lines.extend((0..6).map(|n| connect(&format!("busy{n}"), "busy@d", "imap", 1, "")));
    tally.tries(lines.len());
    lines.iter().for_each(|line| apply(&mut saved, line, begun));
    write_state(&dir, &saved, at(898, here));
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    // Every kind of valid record of a session counts, totals that shrank too.
    daemon.feed(&[
        update("busy0", ""),
        update("busy1", &Mail::sample().field()),
        update("busy1", &Mail::default().field()),
        command("busy2", 1, "", "NOOP", "", ""),
        command("busy3", 1, "d", "NOOP", "", ""),
        b"UPDATE-CMD\tbusy4\t7\tc\t".to_vec(),
        update("busy5", &Mail::sample().field()),
        // And wrong ones do not.
        update("quiet0", "!!!!"),
        b"UPDATE-CMD\tquiet1\t0\t\tA\tB\t".to_vec(),
        b"CONNECT\tquiet2\tquiet@d\timap\tx".to_vec(),
        connect("quiet3", "quiet@d", "imap", 1, ""),
    ]);
    let mut client = daemon.client();
    wait_until("silence being noticed", || {
        client.export("session\tconnected").rows.len() == 6
    });
    let listed = client.export("session\tconnected");
    let mut listed = listed.values("session");
    listed.sort_unstable();
    assert_eq!(
        listed,
        ["busy0", "busy1", "busy2", "busy3", "busy4", "busy5"]
    );
    assert_eq!(client.export("session").rows.len(), 407, "they stay listed");
    let log = daemon.log();
    for n in 0..400 {
        let line = format!("session \"quiet{n}\" of user \"quiet@d\"");
        assert_eq!(log.matches(&line).count(), 1, "{line}");
    }
    assert_eq!(log.matches("nothing for 15 minutes").count(), 401);
    assert!(
        log.contains(r#"session "q\x1b[2J\nforged" of user"#),
        "{log}"
    );
    tally.check(&mut daemon);
    daemon.stop();
}

#[test]
fn a_machine_may_have_been_up_for_no_time_or_for_ages() {
    const TEST: &str = "a_machine_may_have_been_up_for_no_time_or_for_ages";
    let mut tally = Tally::of(Class::Clocks);
    for offset_secs in [100_000_000u64, 3_000_000_000] {
        let offset = offset_secs.to_string();
        let wrapper = [
            "unshare",
            "--time",
            "--monotonic",
            &offset,
            "--boottime",
            &offset,
        ];
        let shown = std::process::Command::new(wrapper[0])
            .args(&wrapper[1..])
            .args(["cat", "/proc/uptime"])
            .output();
        let uptime = shown
            .ok()
            .map(|output| crate::harness::text(&output.stdout));
        let uptime = uptime.and_then(|text| text.split('.').next()?.parse::<u64>().ok());
        if uptime.is_none_or(|secs| secs < offset_secs) {
            unavailable(TEST, "no clocks of one's own by unshare(1)");
            return;
        }
        tally.tries(1);
        let setup = Setup::new()
            .wrapped(&wrapper)
            .option("stats_state_interval=1s");
        let mut daemon = Daemon::with("uptime", &setup);
        tally.check(&mut daemon);
        // From one such machine to another.
        let dir = daemon.stop();
        let mut daemon = Daemon::in_dir(dir, &Setup::new());
        assert_eq!(daemon.client().export("session").rows.len(), 2);
        tally.tries(1);
        tally.check(&mut daemon);
        daemon.stop();
    }
}
