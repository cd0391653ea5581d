//! Signals and kills at every moment, and several daemons that want one directory.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::attack::{sums_agree, Class, Tally};
use crate::harness::{program, send_signal, text, wait_until, Daemon, Setup, TempDir};
use crate::link::{Client, Writer};
use crate::records::{add_user, seed, Auth, Random};

/// A login that failed, of one of a few users.
fn failure(n: u64) -> Vec<u8> {
    let auth = Auth([0, 0, 1, 0, 0, 0]).field();
    add_user(&format!("u{}@d{}", n % 700, n % 7), "auth", &auth)
}

/// How many failures a daemon counted.
fn failures(daemon: &Daemon) -> u64 {
    daemon.client().export("global").only().num("auth_failures")
}

/// Takes the directory of a daemon that has ended.
fn directory(daemon: &mut Daemon) -> TempDir {
    wait_until("its end", || daemon.exited().is_some());
    std::mem::replace(&mut daemon.dir, TempDir::new("gone"))
}

#[test]
fn signals_while_records_and_requests_come_lose_nothing() {
    let mut tally = Tally::of(Class::Signals);
    let setup = Setup::new().option("stats_state_interval=1s");
    let mut daemon = Daemon::with("signalled", &setup);
    let mut random = Random::new(seed("signalled", 111));
    let stop = AtomicBool::new(false);
    let harmless = [
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGWINCH,
        libc::SIGURG,
        libc::SIGCONT,
        libc::SIGSTOP,
    ];
    let sent = std::thread::scope(|scope| {
        let records = scope.spawn(|| {
            let mut writer = daemon.writer();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                writer.send_waiting(&failure(sent));
                sent += 1;
            }
            daemon.settle(&writer);
            sent
        });
        let requests = scope.spawn(|| {
            let mut client = daemon.client();
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                client.export("user");
                let now = client.export("global").only().num("auth_failures");
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
        for _ in 0..600 {
            tally.tries(1);
            let signal = *random.pick(&harmless);
            daemon.signal(signal);
            if signal == libc::SIGSTOP {
                std::thread::sleep(Duration::from_millis(1));
                daemon.signal(libc::SIGCONT);
            }
            std::thread::sleep(Duration::from_micros(random.below(2500)));
        }
        stop.store(true, Ordering::Relaxed);
        requests.join().expect("the requests");
        records.join().expect("the records")
    });
    assert_eq!(failures(&daemon), sent);
    sums_agree(&daemon);
    tally.check(&mut daemon);
    daemon.stop();
}

#[test]
fn an_end_at_any_moment_counts_all_that_was_written() {
    let mut tally = Tally::of(Class::Signals);
    let mut random = Random::new(seed("ending", 121));
    let setup = Setup::new().option("stats_state_interval=1s");
    let mut daemon = Daemon::with("ending", &setup);
    let mut sent = 0;
    for round in 0..15 {
        tally.tries(1);
        let mut writer = daemon.writer();
        for _ in 0..random.below(6000) {
            writer.send_waiting(&failure(sent));
            sent += 1;
        }
        let mut asking = daemon.client();
        asking.send("EXPORT\tuser\n".repeat(20));
        drop(writer);
        let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGTERM];
        for signal in &signals[..1 + round % 3] {
            daemon.signal(*signal);
        }
        daemon.wait_stopped();
        let dir = std::mem::replace(&mut daemon.dir, TempDir::new("gone"));
        daemon = Daemon::in_dir(dir, &setup);
        assert_eq!(failures(&daemon), sent, "round {round}");
    }
    sums_agree(&daemon);
    tally.check(&mut daemon);
}

#[test]
fn a_start_that_is_interrupted_anywhere_leaves_nothing_in_the_way() {
    let mut tally = Tally::of(Class::Signals);
    let mut random = Random::new(seed("starting", 131));
    let mut dir = TempDir::new("starting");
    let signals = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGKILL,
    ];
    for round in 0..40 {
        tally.tries(1);
        let mut daemon = Daemon::spawn(dir, &Setup::new(), |_| ());
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        daemon.signal(signals[round % signals.len()]);
        // Before it minds signals, each of them is its end; afterwards some are not.
        std::thread::sleep(Duration::from_millis(2));
        if daemon.exited().is_none() {
            daemon.signal(libc::SIGKILL);
        }
        dir = directory(&mut daemon);
    }
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    tally.check(&mut daemon);
    let dir = daemon.stop();
    let left: Vec<String> = fs::read_dir(dir.at("run"))
        .expect("base_dir")
        .map(|entry| text(entry.expect("an entry").file_name().as_encoded_bytes()))
        .filter(|name| !name.ends_with(".lock") && name != "state")
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_kill_while_the_state_is_written_leaves_the_old_one_or_the_new() {
    let mut tally = Tally::of(Class::Signals);
    let mut random = Random::new(seed("killed", 141));
    let mut daemon = Daemon::start("killed");
    // Enough to write for a while.
    let records: Vec<Vec<u8>> = (0..8000)
        .map(|n| add_user(&format!("user{n}@domain{}", n % 50), "auth", ""))
        .collect();
    daemon.feed(&records);
    daemon = Daemon::in_dir(daemon.stop(), &Setup::new());
    let (mut saved, mut old) = (0, 0);
    for round in 0..25 {
        tally.tries(1);
        let records: Vec<Vec<u8>> = (0..100).map(|n| failure(saved + n)).collect();
        daemon.feed(&records);
        daemon.signal(libc::SIGTERM);
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        if daemon.exited().is_none() {
            daemon.signal(libc::SIGKILL);
        }
        daemon = Daemon::in_dir(directory(&mut daemon), &Setup::new());
        let log = daemon.log();
        assert!(!log.contains("set aside"), "{log}");
        let found = failures(&daemon);
        assert!(
            found == saved || found == saved + 100,
            "round {round}: {found}, {saved}"
        );
        old += u32::from(found == saved);
        saved = found;
        sums_agree(&daemon);
    }
    println!("{old} of 25 kills left the old state");
    tally.check(&mut daemon);
}

#[test]
fn of_many_that_start_at_once_one_serves() {
    let mut tally = Tally::of(Class::Places);
    let mut dir = TempDir::new("many");
    for round in 0..6 {
        let config = dir.write("many.conf", &Setup::new().config(&dir));
        let start = || {
            Command::new(program())
                .args(["-F", "-c", &config])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start dovestatd")
        };
        let mut others: Vec<Child> = (0..6).map(|_| start()).collect();
        tally.tries(others.len());
        wait_until("all but one having given up", || {
            let ended = |child: &mut Child| child.try_wait().expect("wait").is_some();
            others
                .iter_mut()
                .filter_map(|child| ended(child).then_some(()))
                .count()
                == 5
        });
        let mut winner = None;
        for mut other in others {
            match other.try_wait().expect("wait") {
                Some(status) => assert_eq!(status.code(), Some(69), "round {round}"),
                None => winner = Some(other),
            }
        }
        // Those that come while it serves change nothing about it.
        let mut winner = winner.expect("one that serves");
        let socket = dir.at("run/stats");
        let mut client = None;
        wait_until("the one answering", || {
            client = Client::try_unix(&socket);
            client
                .as_mut()
                .is_some_and(|client| client.try_export("global").is_some())
        });
        let mut late: Vec<Child> = (0..3).map(|_| start()).collect();
        tally.tries(late.len());
        for other in &mut late {
            assert_eq!(other.wait().expect("wait").code(), Some(69));
        }
        let mut writer = Writer::open(&dir.at("run/stats-mail"));
        writer.send_waiting(&failure(round));
        let mut client = client.expect("a client");
        wait_until("it counting", || {
            client.export("global").only().num("auth_failures") == round + 1
        });
        send_signal(winner.id(), libc::SIGTERM);
        assert_eq!(winner.wait().expect("wait").code(), Some(0));
    }
    // One that is killed is followed by the next at once.
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    for _ in 0..5 {
        tally.tries(1);
        daemon.signal(libc::SIGKILL);
        dir = directory(&mut daemon);
        daemon = Daemon::in_dir(dir, &Setup::new());
    }
    tally.check(&mut daemon);
}
