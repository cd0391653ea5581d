//! Statistics over restarts, crashes, damaged files and full disks; FIFOs that
//! are held over restarts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::activation::{hold_fifo, pass, SELF};
use crate::attack::{Class, Tally};
use crate::harness::{is_root, run, text, wait_until, Daemon, Setup, TempDir};
use crate::link::{Table, Writer};
use crate::records::{
    add_user, carry_on, command, connect, disconnect, seed, update, Mail, Net, Random,
};
use crate::requests::{populate, ALL_LEVELS, LEVELS};

/// Everything the daemon lists.
fn everything(daemon: &Daemon) -> Vec<Vec<u8>> {
    let mut client = daemon.client();
    let levels = ALL_LEVELS
        .into_iter()
        .map(|level| client.export_raw(&format!("{level}\tmore\thistogram")));
    levels.collect()
}

/// A file among the tests' data.
fn data(name: &str) -> String {
    format!(
        "{}/tests/integration/data/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// The statistics of a session that read so many mails.
fn reads(count: u32) -> String {
    Mail {
        lookups: [0, 0, count],
        ..Mail::default()
    }
    .field()
}

#[test]
fn a_restart_goes_on_where_it_ended() {
    let mut daemon = Daemon::start("restart");
    populate(&daemon);
    daemon.feed(&[
        connect("on", "u@d", "imap", 1, "192.0.2.7"),
        update("on", &reads(10)),
        command("on", 1, "", "FETCH", "1:*", &reads(3)),
        update("on", &Net([7, 8, 9]).field()),
        update("never announced", &reads(1)),
    ]);
    for round in 0..3 {
        let before = everything(&daemon);
        let dir = daemon.stop();
        let mode = fs::metadata(dir.at("run/state"))
            .expect("the state")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        daemon = Daemon::in_dir(dir, &Setup::new());
        assert_eq!(everything(&daemon), before, "round {round}");
    }
    daemon.feed(&[
        update("on", &reads(15)),
        carry_on("on", 1, "cd", &reads(4)),
        connect("never announced", "v@d", "imap", 2, ""),
        disconnect("on"),
    ]);
    let mut client = daemon.client();
    let session = client.export("session\tsession=on");
    assert_eq!(session.only().num("mail_read_count"), 15);
    assert_eq!(session.only().get("connected"), "0");
    let session = client.export("session\tsession=on\tmore");
    assert_eq!(session.only().num("net_out_bytes"), 8);
    let user = client.export("user\tuser=u@d");
    assert_eq!(user.only().num("mail_read_count"), 15, "not counted twice");
    assert_eq!(user.only().num("num_logins"), 1);
    let placeholder = client.export("session\tsession=never announced");
    assert_eq!(placeholder.only().get("user"), "v@d");
    let log = daemon.log();
    assert!(log.contains("restored"), "{log}");
    assert!(!log.contains("warning"), "{log}");
}

#[test]
fn a_state_of_0_1_0_is_restored() {
    // Written by dovestatd 0.1.0, with what it listed.
    let listed = fs::read(data("state-0.1.0.txt")).expect("what it listed");
    let dir = TempDir::new("old-state");
    fs::create_dir(dir.at("run")).expect("mkdir run");
    fs::copy(data("state-0.1.0"), dir.at("run/state")).expect("copy the state");
    let daemon = Daemon::in_dir(dir, &Setup::new());
    let log = daemon.log();
    assert!(log.contains("restored 9 sessions and 8 users"), "{log}");
    let mut replies = listed.split_inclusive(|&b| b == b'\n').peekable();
    let mut client = daemon.client();
    for level in LEVELS {
        let mut reply = Vec::new();
        while !reply.ends_with(b"\n\n") {
            reply.extend_from_slice(replies.next().expect("a line of the reply"));
        }
        let (old, new) = (Table::parse(&reply), client.export(level));
        assert_eq!(new.rows.len(), old.rows.len(), "{level}");
        for name in &old.names {
            assert_eq!(new.values(name), old.values(name), "{name} of {level}");
        }
        // It knew nothing of these.
        let more = client.export(&format!("{level}\tmore"));
        for name in ["connect_time", "net_in_bytes", "net_out_bytes"] {
            let are_zero = |values: Vec<&str>| values.iter().all(|&value| value == "0");
            let is_there = more.names.iter().any(|other| other == name);
            assert!(
                !is_there || are_zero(more.values(name)),
                "{name} of {level}"
            );
        }
    }
    assert!(replies.peek().is_none());
    // What comes next is compared with the totals that it kept.
    daemon.feed(&[
        update("again", &reads(9)),
        carry_on("s2", 2, "cd", &reads(6)),
        disconnect("s4"),
    ]);
    let again = client.export("session\tsession=again\tconnected");
    assert_eq!(again.only().num("mail_read_count"), 9);
    let command = client.export("command\tsession=s2");
    assert_eq!(command.row("cmd", "FETCH").num("mail_read_count"), 6);
    let global = client.export("global");
    assert_eq!(global.only().num("mail_read_count"), 29);
    let log = daemon.log();
    assert!(!log.contains("warning"), "{log}");
}

#[test]
fn a_crash_loses_what_came_since_the_last_interval() {
    let mut tally = Tally::of(Class::Signals);
    tally.tries(1);
    let setup = Setup::new().option("stats_state_interval=1s");
    let mut daemon = Daemon::with("crash", &setup);
    let state = daemon.dir.at("run/state");
    assert!(!Path::new(&state).exists(), "nothing to write yet");
    populate(&daemon);
    let before = everything(&daemon);
    wait_until("the state", || Path::new(&state).exists());
    daemon.signal(libc::SIGKILL);
    wait_until("its end", || daemon.exited().is_some());
    let dir = std::mem::replace(&mut daemon.dir, TempDir::new("gone"));
    let again = Daemon::in_dir(dir, &setup);
    assert_eq!(everything(&again), before);
    tally.survived();
}

#[test]
fn a_state_dir_that_was_made_anew_has_the_state_again() {
    let setup = Setup::new().option("stats_state_interval=1s");
    let daemon = Daemon::with("state-anew", &setup);
    populate(&daemon);
    let state = daemon.dir.at("run/state");
    wait_until("the state", || Path::new(&state).exists());
    // The state is in base_dir, which the daemon makes anew.
    fs::remove_dir_all(daemon.dir.at("run")).expect("remove base_dir");
    daemon.signal(libc::SIGHUP);
    let fifo = daemon.fifo();
    wait_until("the FIFO", || Path::new(&fifo).exists());
    daemon.feed(&[connect("after", "u", "imap", 1, "")]);
    wait_until("the state in the new directory", || {
        Path::new(&state).exists()
    });
    // At the end it is written to yet another.
    fs::rename(daemon.dir.at("run"), daemon.dir.at("old")).expect("rename base_dir");
    fs::create_dir(daemon.dir.at("run")).expect("make base_dir");
    let dir = daemon.stop();
    let again = Daemon::in_dir(dir, &setup);
    let sessions = again.client().export("session");
    assert!(sessions.values("session").contains(&"after"));
}

#[test]
fn a_kill_while_it_is_written_leaves_a_whole_state() {
    const USERS: u32 = 20_000;
    let setup = Setup::new().option("stats_state_interval=1s");
    let mut daemon = Daemon::with("killed-writing", &setup);
    let mut writer = daemon.writer();
    for number in 0..USERS {
        writer.send_waiting(&add_user(&format!("user{number}@d"), "auth", &reads(1)));
    }
    let mut least = u64::from(USERS);
    for round in 0..5 {
        let dir = match round {
            0 => {
                daemon.settle(&writer);
                daemon.stop()
            }
            _ => {
                let new = daemon.dir.at("run/state.new");
                let mut writer = daemon.writer();
                wait_until("the state being written", || {
                    // Something new, so that it is written again and again.
                    writer.send_waiting(&add_user("more@d", "auth", &reads(1)));
                    (0..10_000).any(|_| Path::new(&new).exists())
                });
                daemon.signal(libc::SIGKILL);
                wait_until("its end", || daemon.exited().is_some());
                std::mem::replace(&mut daemon.dir, TempDir::new("gone"))
            }
        };
        daemon = Daemon::in_dir(dir, &setup);
        let log = daemon.log();
        assert!(
            log.contains("restored") && !log.contains("warning"),
            "{log}"
        );
        let table = daemon.client().export("global");
        let count = table.only().num("mail_read_count");
        assert!(count >= least, "round {round}: {count} after {least}");
        least = count;
    }
}

#[test]
fn nothing_is_written_where_there_is_nothing_new() {
    let setup = Setup::new().option("stats_state_interval=1s");
    let daemon = Daemon::with("nothing-new", &setup);
    let state = daemon.dir.at("run/state");
    daemon.feed(&[add_user("u", "auth", &reads(1))]);
    wait_until("the state", || Path::new(&state).exists());
    wait_until("no child", || children(daemon.pid()).is_empty());
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
        let status = status.expect("/proc/PID/status");
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt"));
        line.expect("voluntary_ctxt_switches").to_owned()
    };
    let written = fs::metadata(&state)
        .and_then(|m| m.modified())
        .expect("mtime");
    // The last client's end was heard of when this holds still.
    let mut before = switches();
    wait_until("a quiet daemon", || {
        std::thread::sleep(Duration::from_millis(50));
        let now = switches();
        std::mem::replace(&mut before, now.clone()) == now
    });
    // Longer than the interval: nothing wakes it.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(), before, "an idle daemon sleeps");
    let now = fs::metadata(&state)
        .and_then(|m| m.modified())
        .expect("mtime");
    assert_eq!(now, written);
}

/// The children of a process.
fn children(pid: u32) -> String {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn no_state_dir_no_state() {
    let setup = Setup::new().option("state_dir=");
    let daemon = Daemon::with("stateless", &setup);
    let log = daemon.log();
    assert!(
        log.contains("state_dir is empty: a restart will lose"),
        "{log}"
    );
    populate(&daemon);
    let dir = daemon.stop();
    assert!(!Path::new(&dir.at("run/state")).exists());
    let daemon = Daemon::in_dir(dir, &setup);
    assert!(daemon.client().export("session").rows.is_empty());
}

#[test]
fn a_state_dir_is_made_and_one_that_cannot_be_is_done_without() {
    let dir = TempDir::new("state-dir");
    let setup = Setup::new().option(&format!("state_dir={}", dir.at("b")));
    let daemon = Daemon::in_dir(dir, &setup);
    populate(&daemon);
    let dir = daemon.stop();
    assert!(Path::new(&dir.at("b/state")).exists());
    let mode = fs::metadata(dir.at("b"))
        .expect("its directory")
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o700);
    dir.write("file", "");
    let setup = Setup::new().option(&format!("state_dir={}", dir.at("file/b")));
    let daemon = Daemon::in_dir(dir, &setup);
    let log = daemon.log();
    assert!(log.contains("a restart will lose the statistics"), "{log}");
    daemon.stop();
}

#[test]
fn a_state_that_is_not_ours_is_set_aside() {
    let mut tally = Tally::of(Class::Disks);
    let daemon = Daemon::start("damaged");
    populate(&daemon);
    let mut dir = Some(daemon.stop());
    let state = dir.as_ref().expect("a directory").at("run/state");
    let good = fs::read(&state).expect("the state");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for (bytes, why) in [
        (flipped(good.len() / 2), "damaged"),
        (good[..good.len() - 1].to_vec(), "damaged"),
        (flipped(0), "not a state"),
        (Vec::new(), "not a state"),
        (b"dovestat state 3\nand more".to_vec(), "another version"),
    ] {
        tally.tries(1);
        fs::write(&state, &bytes).expect("write the state");
        let daemon = Daemon::in_dir(dir.take().expect("a directory"), &Setup::new());
        assert!(daemon.client().export("user").rows.is_empty(), "{why}");
        let log = daemon.log();
        assert!(
            log.contains(why) && log.contains("set aside as state.bad"),
            "{log}"
        );
        let aside = fs::read(daemon.dir.at("run/state.bad")).expect("state.bad");
        assert!(aside == bytes, "{why}: it was only renamed");
        dir = Some(daemon.stop());
    }
    // Neither what is no file at all nor what is larger than ever written.
    tally.tries(2);
    let file = fs::File::create(&state).expect("create the state");
    file.set_len(1 << 40).expect("a hole");
    let daemon = Daemon::in_dir(dir.take().expect("a directory"), &Setup::new());
    let log = daemon.log();
    assert!(log.contains("not a state of dovestat"), "{log}");
    let dir = daemon.stop();
    fs::remove_file(&state).expect("remove the state");
    fs::remove_file(dir.at("run/state.bad")).expect("remove state.bad");
    fs::create_dir(&state).expect("mkdir state");
    let daemon = Daemon::in_dir(dir, &Setup::new());
    assert!(
        daemon.log().contains("not a regular file"),
        "{}",
        daemon.log()
    );
    tally.survived();
}

/// The most memory that a process has had resident.
fn peak_bytes(daemon: &Daemon) -> u64 {
    let path = format!("/proc/{}/status", daemon.pid());
    let status = fs::read_to_string(path).expect("/proc/PID/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    1024 * kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmHWM")
}

#[test]
fn with_a_smaller_limit_connected_sessions_come_back_first() {
    const SESSIONS: u32 = 6000;
    const USERS: u32 = 40_000;
    let limit = |limit: &str| Setup::new().option(&format!("stats_memory_limit={limit}"));
    let begin = |daemon: &Daemon, first: u32| {
        let mut writer = daemon.writer();
        for number in first..SESSIONS {
            let ip = format!("10.0.{}.{}", number / 200, number % 200);
            let user = format!("user{number}@domain{}", number % 50);
            writer.send_waiting(&connect(&format!("s{number}"), &user, "imap", 1, &ip));
            writer.send_waiting(&update(&format!("s{number}"), &Mail::sample().field()));
        }
        daemon.settle(&writer);
    };
    let connected = |daemon: &Daemon| {
        let table = daemon.client().export("global");
        table.only().num("num_connected_sessions")
    };
    let fresh = |name: &str| {
        let daemon = Daemon::with("fresh", &limit(name));
        begin(&daemon, 0);
        (connected(&daemon), peak_bytes(&daemon))
    };
    let daemon = Daemon::with("large", &limit("32M"));
    begin(&daemon, 0);
    let mut writer = daemon.writer();
    for number in 0..USERS {
        writer.send_waiting(&add_user(
            &format!("idle{number}@elsewhere"),
            "auth",
            &reads(1),
        ));
    }
    daemon.settle(&writer);
    let totals = daemon.client().export("global");
    let mut dir = daemon.stop();
    let state = fs::read(dir.at("run/state")).expect("the state");
    assert!(state.len() > 2 << 20, "{} bytes", state.len());
    for name in ["1M", "300K"] {
        let (room, peak) = fresh(name);
        fs::write(dir.at("run/state"), &state).expect("write the state");
        let daemon = Daemon::in_dir(dir, &limit(name));
        let restored = connected(&daemon);
        assert!(restored >= room && room > 0, "{name}: {restored} of {room}");
        let log = daemon.log();
        let thousands = match restored {
            0..1000 => restored.to_string(),
            _ => format!("{},{:03}", restored / 1000, restored % 1000),
        };
        assert!(
            log.contains(&format!(
                "warning: restored the totals, {thousands} of 6,000 connected sessions and "
            )) && log.contains(" of 52,051 other entries from "),
            "{log}"
        );
        let now = daemon.client().export("global");
        for column in totals
            .names
            .iter()
            .filter(|name| *name != "num_connected_sessions")
        {
            assert_eq!(now.values(column), totals.values(column), "{column}");
        }
        // What is left out was not read into memory either.
        let restored_peak = peak_bytes(&daemon);
        assert!(
            restored_peak < peak + (2 << 20),
            "{name}: {restored_peak} bytes, fresh {peak}"
        );
        dir = daemon.stop();
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_logged_at_the_start() {
    let dir = TempDir::new("unwritable");
    fs::create_dir(dir.at("closed")).expect("mkdir");
    let mode = fs::Permissions::from_mode(0o555);
    fs::set_permissions(dir.at("closed"), mode).expect("chmod");
    let setup = |path: &str| {
        let setup = Setup::new().option(&format!("state_dir={path}"));
        match is_root() {
            true => setup.service("user = nobody"),
            false => setup,
        }
    };
    let closed = dir.at("closed");
    let daemon = Daemon::in_dir(dir, &setup(&closed));
    let log = daemon.log();
    assert!(
        log.contains(&format!("warning: state_dir {closed}: Permission denied"))
            && log.contains("a restart will lose the statistics: chown it to the daemon's user"),
        "{log}"
    );
    populate(&daemon);
    let dir = daemon.stop();
    let left = fs::read_dir(&closed).expect("read it").count();
    // The lock, which root made.
    assert!(left <= 1, "{left} files");
    // One that can be written is left as it was.
    let open = dir.at("open");
    let daemon = Daemon::in_dir(dir, &setup(&open));
    assert!(!daemon.log().contains("warning"), "{}", daemon.log());
    let names = fs::read_dir(daemon.dir.at("open")).expect("read it");
    let names: Vec<_> = names
        .map(|entry| entry.expect("a name").file_name())
        .collect();
    assert_eq!(names, [".state.lock"]);
}

#[test]
fn a_fifo_in_the_place_of_the_state_is_left_alone() {
    // The settings do not show that the two directories are one.
    let dir = TempDir::new("one-place");
    fs::create_dir(dir.at("run")).expect("mkdir");
    std::os::unix::fs::symlink("run", dir.at("link")).expect("symlink");
    let setup = Setup::new()
        .option(&format!("state_dir={}", dir.at("link")))
        .option("stats_state_interval=1s")
        .service("fifo_listener state {\nmode = 0600\n}");
    let daemon = Daemon::in_dir(dir, &setup);
    let log = daemon.log();
    assert!(
        log.contains("state is not a regular file; a restart will lose the statistics"),
        "{log}"
    );
    let fifo = daemon.dir.at("run/state");
    let mut writer = Writer::open(&fifo);
    writer.send_waiting(&add_user("u", "auth", &reads(1)));
    wait_until("a record by that FIFO", || {
        daemon
            .client()
            .export("global")
            .only()
            .num("mail_read_count")
            == 1
    });
    let dir = daemon.stop();
    // In the end the FIFO was taken away first.
    assert!(fs::metadata(&fifo).expect("a state").is_file());
    assert!(!Path::new(&dir.at("run/state.bad")).exists());
    // Where they show it, it does not start.
    let setup = Setup::new().service("fifo_listener state {\nmode = 0600\n}");
    let config = dir.write("dovestatd.conf", &setup.config(&dir));
    let output = run(&["-F", "-c", &config]);
    assert_eq!(output.status.code(), Some(78));
    let message = text(&output.stderr);
    assert!(
        message.contains("where the daemon keeps a file of its own (state_dir)"),
        "{message}"
    );
}

#[test]
fn a_disk_that_is_full_leaves_the_old_state() {
    let mut tally = Tally::of(Class::Disks);
    tally.tries(1);
    let mut daemon = Daemon::start("full");
    populate(&daemon);
    let before = everything(&daemon);
    let dir = daemon.stop();
    let old = fs::read(dir.at("run/state")).expect("the state");
    // No file may grow past 8 KiB; the log stays shorter.
    let small = Setup::new()
        .option("stats_state_interval=1s")
        .option("log_path=stderr")
        .wrapped(&["sh", "-c", "ulimit -f 16; exec \"$@\"", "sh"]);
    daemon = Daemon::in_dir(dir, &small);
    assert_eq!(everything(&daemon), before);
    let mut writer = daemon.writer();
    for number in 0..2000 {
        writer.send_waiting(&add_user(&format!("user{number}"), "auth", &reads(1)));
    }
    wait_until("the failure in the log", || {
        daemon.log().contains("the state of before stays")
    });
    assert!(fs::read(daemon.dir.at("run/state")).expect("the state") == old);
    assert!(!Path::new(&daemon.dir.at("run/state.new")).exists());
    assert_eq!(
        daemon.client().export("global").rows.len(),
        1,
        "it serves on"
    );
    tally.survived();
}

#[test]
fn what_is_in_a_fifo_of_its_own_at_the_end_counts() {
    let mut daemon = Daemon::start("drained");
    let mut writer = daemon.writer();
    daemon.signal(libc::SIGSTOP);
    for number in 0..300 {
        writer.send_waiting(&add_user(&format!("user{number}"), "auth", &reads(2)));
    }
    daemon.signal(libc::SIGTERM);
    daemon.signal(libc::SIGCONT);
    daemon.wait_stopped();
    let dir = std::mem::replace(&mut daemon.dir, TempDir::new("gone"));
    let again = Daemon::in_dir(dir, &Setup::new());
    assert_eq!(again.client().export("user").rows.len(), 300);
    let global = again.client().export("global");
    assert_eq!(global.only().num("mail_read_count"), 600);
}

#[test]
fn a_held_fifo_loses_not_one_record_over_restarts() {
    let mut tally = Tally::of(Class::Signals);
    tally.tries(RESTARTS as usize);
    const RECORDS: u32 = 100_000;
    const RESTARTS: u32 = 6;
    let dir = TempDir::new("held");
    fs::create_dir(dir.at("run")).expect("mkdir run");
    let path = dir.at("run/stats-mail");
    let held = hold_fifo(&path);
    let setup = Setup::new().wrapped(&SELF);
    let start = |dir: TempDir| {
        let mut daemon = Daemon::spawn(dir, &setup, |command| {
            pass(command, &[&held], "stats-mail");
        });
        daemon.wait_ready();
        daemon
    };
    let first = start(dir);
    let (begun, written) = (AtomicU32::new(0), AtomicBool::new(false));
    let assert_clean = |log: &str| assert!(!log.contains("warning"), "nothing refused: {log}");
    let daemon = std::thread::scope(|scope| {
        let mut daemon = first;
        scope.spawn(|| {
            let mut random = Random::new(seed("held FIFO", 7));
            let mut writer = Writer::open(&path);
            let mut bytes = Vec::new();
            for number in 0..RECORDS {
                // A share of them is written when a restart begins, and during it.
                let share = number / (RECORDS / (RESTARTS + 1) + 1);
                if number > 0 && begun.load(Ordering::SeqCst) < share {
                    wait_until("a restart", || begun.load(Ordering::SeqCst) >= share);
                }
                bytes.extend(match number % 3 {
                    0 => add_user(&format!("u{}@d", number % 50), "auth", &reads(1)),
                    _ => update(&format!("s{}", number % 70), &reads(number)),
                });
                bytes.push(b'\n');
                // Pieces of any length, so that lines are read in parts, too.
                if bytes.len() > 3000 {
                    let rest = bytes.split_off(random.index(bytes.len()));
                    writer.send_raw(&bytes);
                    bytes = rest;
                }
            }
            writer.send_raw(&bytes);
            written.store(true, Ordering::SeqCst);
        });
        for restart in 1..=RESTARTS {
            let at = daemon
                .client()
                .export("global")
                .only()
                .num("mail_read_count");
            let more = || {
                daemon
                    .client()
                    .export("global")
                    .only()
                    .num("mail_read_count")
                    > at
            };
            wait_until("records", || at > 0 || more());
            begun.store(restart, Ordering::SeqCst);
            let dir = daemon.stop();
            assert_clean(&fs::read_to_string(dir.at("log")).expect("its log"));
            daemon = start(dir);
        }
        wait_until("the last record", || written.load(Ordering::SeqCst));
        daemon
    });
    daemon.settle(&Writer::open(&path));
    let mut client = daemon.client();
    let users = client.export("user");
    let added: u64 = users.rows.len() as u64;
    assert_eq!(added, 51, "fifty users and that of the placeholders");
    let added_count = u64::from(RECORDS.div_ceil(3));
    let domain = client.export("domain\tdomain=d");
    let sum = domain.only().num("mail_read_count");
    assert_eq!(sum, added_count, "each of them counts one");
    // The totals of a session only grow, so its last one is what it counted.
    let mut last = std::collections::BTreeMap::new();
    for number in (0..RECORDS).filter(|number| number % 3 != 0) {
        last.insert(number % 70, u64::from(number));
    }
    let counted: u64 = last.values().sum();
    let global = client.export("global");
    assert_eq!(global.only().num("mail_read_count"), added_count + counted);
    assert_clean(&daemon.log());
    tally.survived();
}

#[test]
fn a_state_can_be_written_after_root_was_given_up() {
    if !is_root() {
        return crate::harness::skipped("state without root", "needs root");
    }
    let dir = TempDir::new("state-user");
    let setup = Setup::new().service("user = nobody\nchroot = .");
    let daemon = Daemon::in_dir(dir, &setup);
    populate(&daemon);
    let before = everything(&daemon);
    let dir = daemon.stop();
    let daemon = Daemon::in_dir(dir, &setup);
    assert_eq!(everything(&daemon), before);
}
