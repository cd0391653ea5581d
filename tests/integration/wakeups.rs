//! Records that come one at a time: how often they wake the daemon, and that all it does
//! is done with those that came before.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    send_signal, skipped, sleeps, wait_until, waited_for_cpu, wakeups, Daemon, Setup,
};
use crate::http;
use crate::link::{Table, Writer};
use crate::records::{command, connect, Mail};

/// The most wake-ups in a second, whatever comes one at a time.
const MOST: u64 = 55;

/// The CONNECT of the session with this number, of the one user.
fn login(n: usize) -> Vec<u8> {
    connect(&format!("session{n}"), "user", "imap", 1, "")
}

/// Writes records one by one, so many a second at most, to one writer after the other.
/// Returns how many were lost.
fn pace(writers: &mut [Writer], records: impl Iterator<Item = Vec<u8>>, rate: u32) -> usize {
    let mut due = Instant::now();
    let lost = records.enumerate().filter(|(n, record)| {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // What the machine was late by is not made up for by a burst.
        due = due.max(Instant::now()) + Duration::from_secs(1) / rate;
        let index = n % writers.len();
        !writers[index].send(record)
    });
    lost.count()
}

/// The commands of a session as its writer reports them, with the stats field that is
/// usual, some 300 bytes.
fn commands() -> impl Iterator<Item = Vec<u8>> {
    let stats = Mail::sample().field();
    (1..).map(move |n| command("session0", n, "d", "FETCH", "1:100 (FLAGS)", &stats))
}

/// Has a pipe hold no more than this.
fn shrink(fifo: &str, bytes: libc::c_int) {
    let file = File::options().read(true).write(true).open(fifo);
    let file = file.expect("the FIFO");
    // SAFETY: no pointers; the descriptor is owned by `file`.
    let size = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    assert_eq!(size, bytes, "the size of the pipe");
}

/// Waits until an idle daemon sleeps for good. One that waits for a processor does not
/// sleep.
fn settle(daemon: &Daemon) {
    let mut before = wakeups(daemon.pid());
    wait_until("the daemon asleep", || {
        std::thread::sleep(Duration::from_millis(100));
        let is_asleep = sleeps(daemon.pid());
        before == std::mem::replace(&mut before, wakeups(daemon.pid())) && is_asleep
    });
}

/// Bursts that are written until one finds a daemon that had a processor at once: what a
/// pipe holds is lost with any reader when the reader does not run. Returns how many of
/// its records were lost.
fn burst(daemon: &Daemon, records: &[Vec<u8>], mut prepare: impl FnMut(&mut Writer)) -> usize {
    const LATE: Duration = Duration::from_millis(2);
    let mut writer = daemon.writer();
    for _ in 0..20 {
        prepare(&mut writer);
        let before = waited_for_cpu(daemon.pid());
        let lost = records.iter().filter(|record| !writer.send(record)).count();
        let waited = waited_for_cpu(daemon.pid()) - before;
        daemon.settle(&writer);
        if lost == 0 || waited < LATE {
            return lost;
        }
        println!("{lost} lost while the daemon waited {waited:?} for a processor");
    }
    panic!("no processor for the daemon, in 20 bursts");
}

#[test]
fn records_that_come_one_at_a_time_wake_it_rarely() {
    let daemon = Daemon::start("wakeups");
    let mail = || Writer::open(&daemon.fifo());
    let user = || Writer::open(&daemon.dir.at("run/stats-user"));
    let mut sent = 0;
    for mut writers in [vec![mail()], vec![mail(), user()]] {
        for rate in [7000, 1000, 300, 90, 53, 49, 41, 26] {
            settle(&daemon);
            let (before, begin) = (wakeups(daemon.pid()), Instant::now());
            let waited = waited_for_cpu(daemon.pid());
            let lost = pace(&mut writers, (sent..).map(login).take(rate), rate as u32);
            let woken = wakeups(daemon.pid()) - before;
            let millis = begin.elapsed().as_millis() as u64;
            let waited = (waited_for_cpu(daemon.pid()) - waited).as_millis() as u64;
            assert_eq!(lost, 0);
            let most = MOST * millis.div_ceil(1000);
            assert!(woken <= most, "{woken} in {millis} ms, {rate} records");
            // The records come in one second, however long the machine makes it; a daemon
            // without a processor is not woken.
            let least = 20 * 1000_u64.saturating_sub(waited) / 1000;
            assert!(woken >= least, "{woken} of {least}: it was awake");
            sent += rate;
        }
    }
    let logins = daemon.client().export("global").only().num("num_logins");
    assert_eq!(logins, sent as u64);
}

#[test]
fn nothing_wakes_an_idle_daemon() {
    let daemon = Daemon::start("asleep");
    daemon.feed(&[login(0)]);
    pace(&mut [daemon.writer()], (1..500).map(login), 1000);
    settle(&daemon);
    let before = wakeups(daemon.pid());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(wakeups(daemon.pid()) - before, 0);
}

#[test]
fn a_record_that_comes_alone_is_read_at_once() {
    let daemon = Daemon::start("alone");
    let mut writer = daemon.writer();
    let woken = (0..10).map(|n| {
        settle(&daemon);
        let before = wakeups(daemon.pid());
        assert!(writer.send(&login(n)));
        wait_until("the record being read", || writer.unread() == 0);
        settle(&daemon);
        wakeups(daemon.pid()) - before
    });
    let woken: Vec<u64> = woken.collect();
    // Its files it looks at twice a minute.
    let alone = woken.iter().filter(|&&woken| woken == 1).count();
    assert!(alone >= 8, "nothing else wakes it: {woken:?}");
}

/// Each asks a thousand times, right after one write(2), while others write, too.
#[test]
fn whoever_asks_sees_the_record_written_before() {
    const TIMES: u64 = 1000;
    let (daemon, port) = http::daemon("asks", Setup::new().unix("reset = yes"), "");
    let (mut writer, mut user) = (
        daemon.writer(),
        Writer::open(&daemon.dir.at("run/stats-user")),
    );
    let (mut client, mut page) = (daemon.client(), http::client(port));
    let mut sent = 0;
    let mut write = |sent: &mut usize| {
        for writer in [&mut user, &mut writer] {
            assert!(writer.send(&login(*sent)));
            *sent += 1;
        }
        *sent as u64
    };
    for _ in 0..TIMES {
        let sent = write(&mut sent);
        let global = client.export("global").only().num("num_logins");
        assert_eq!(global, sent, "EXPORT");
    }
    for _ in 0..TIMES {
        let sent = write(&mut sent);
        client.send("STATUS\n");
        let table = Table::parse(&client.reply());
        let lines = table.rows.iter().filter(|row| row[0] == "fifo");
        let lines: u64 = lines.map(|row| row[2].parse::<u64>().expect("lines")).sum();
        assert_eq!(lines, sent, "STATUS");
    }
    for _ in 0..TIMES {
        let sent = write(&mut sent);
        let answer = http::ask(&mut page, http::GET);
        let logins = answer.samples()["dovestat_global_logins_total"].parse::<u64>();
        assert_eq!(logins, Ok(sent), "a scrape");
    }
    for _ in 0..TIMES {
        write(&mut sent);
        client.reset();
        let global = client.export("global").only().num("num_logins");
        assert_eq!(global, 0, "RESET");
    }
    for times in 1..=100 {
        let sent = write(&mut sent);
        daemon.signal(libc::SIGUSR1);
        let logged = format!("; {sent} lines read; ");
        wait_until("the status", || {
            daemon.log().matches(" lines read; ").count() == times
        });
        assert!(daemon.log().contains(&logged), "USR1: {logged}");
    }
}

#[test]
fn a_burst_is_not_lost() {
    let daemon = Daemon::start("burst");
    daemon.feed(&[login(0)]);
    let records: Vec<_> = commands().take(4000).collect();
    for _ in 0..5 {
        assert_eq!(burst(&daemon, &records, |_| settle(&daemon)), 0);
    }
}

/// A burst that comes while the FIFO rests.
#[test]
fn a_burst_in_the_midst_of_others_is_not_lost() {
    let daemon = Daemon::start("burst-amid");
    daemon.feed(&[login(0)]);
    let records: Vec<_> = commands().take(4000).collect();
    for _ in 0..10 {
        let lost = burst(&daemon, &records, |writer| {
            pace(std::slice::from_mut(writer), commands().take(60), 300);
        });
        assert_eq!(lost, 0);
    }
}

#[test]
fn a_small_pipe_is_not_filled() {
    let daemon = Daemon::start("small-pipe");
    daemon.feed(&[login(0)]);
    shrink(&daemon.fifo(), 65536);
    let mut writers = [daemon.writer()];
    // The machine may be busy with other things, for longer than the pipe has room for.
    let tries = |lost: &mut dyn FnMut() -> usize| (0..10).any(|_| lost() == 0);
    for rate in [7000, 300] {
        let mut lost = || pace(&mut writers, commands().take(rate as usize / 4), rate);
        assert!(tries(&mut lost), "{rate} a second");
    }
    // Half of what the pipe holds, in the midst of others.
    let records: Vec<_> = commands().take(130).collect();
    for _ in 0..10 {
        let mut lost = || {
            pace(&mut writers, commands().take(30), 300);
            let lost = records.iter().filter(|record| !writers[0].send(record));
            lost.count()
        };
        assert!(tries(&mut lost), "a burst");
    }
}

/// What is read without a rest is read many times faster than a rest for each pipeful
/// would allow.
#[test]
fn a_flood_is_read_without_rest() {
    let daemon = Daemon::start("flood");
    daemon.feed(&[login(0)]);
    shrink(&daemon.fifo(), 65536);
    let flood: Vec<u8> = commands()
        .take(40_000)
        .flat_map(|record| [record, vec![b'\n']].concat())
        .collect();
    let mut writer = daemon.writer();
    let begin = Instant::now();
    writer.send_raw(&flood);
    daemon.settle(&writer);
    let pipefuls = flood.len() as u32 / 65536;
    assert!(begin.elapsed() < Duration::from_millis(20) * pipefuls);
}

/// TERM comes while the FIFOs rest.
#[test]
fn the_end_loses_nothing() {
    let mut daemon = Daemon::start("window-end");
    let mut sent = 0;
    for _ in 0..10 {
        let count = 50;
        pace(
            &mut [daemon.writer()],
            (sent..).map(login).take(count),
            2000,
        );
        sent += count;
        daemon = Daemon::in_dir(daemon.stop(), &Setup::new());
        let logins = daemon.client().export("global").only().num("num_logins");
        assert_eq!(logins, sent as u64);
    }
}

/// What the daemon does by itself it does with all records, too: between waking up and
/// making the process that writes the state, or connecting to carbon, it reads the FIFOs.
#[test]
fn the_state_and_carbon_contain_what_came_before() {
    let test = "the_state_and_carbon_contain_what_came_before";
    let mut setup = Setup::new().option("stats_state_interval=1s");
    let carbon = std::net::TcpListener::bind("127.0.0.1:0").expect("a receiver");
    let port = carbon.local_addr().expect("its address").port();
    setup.lines.push(format!(
        "stats_carbon_server = 127.0.0.1:{port}\nstats_carbon_interval = 1 s"
    ));
    let daemon = Daemon::with("window-state", &setup);
    let trace = daemon.dir.at("trace");
    let strace = Command::new("strace")
        .args([
            "-e",
            "trace=poll,read,connect,clone,clone3,fork",
            "-o",
            &trace,
            "-p",
        ])
        .arg(daemon.pid().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        let required = std::env::var("DOVESTAT_PEERS").is_ok_and(|v| v == "required");
        assert!(!required, "{test}: no strace, but DOVESTAT_PEERS=required");
        return skipped(test, "strace is not installed");
    };
    let status = format!("/proc/{}/status", daemon.pid());
    wait_until("strace watching", || {
        let status = fs::read_to_string(&status).expect("status");
        !status.contains("TracerPid:\t0\n")
    });
    let (state, mut writers, mut sent) = (daemon.dir.at("run/state"), [daemon.writer()], 0);
    wait_until("a state and a report", || {
        let count = 40;
        pace(&mut writers, (sent..).map(login).take(count), 1000);
        sent += count;
        let trace = fs::read_to_string(&trace).unwrap_or_default();
        Path::new(&state).exists() && trace.contains("connect(")
    });
    send_signal(strace.id(), libc::SIGINT);
    strace.wait().expect("the end of strace");
    let trace = fs::read_to_string(&trace).expect("the trace");
    let fds = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its descriptors");
    let fifo = daemon.fifo();
    let fifo = fds.flatten().find(|fd| {
        let path = fs::read_link(fd.path()).unwrap_or_default();
        path.as_os_str() == fifo.as_str()
    });
    let fifo = fifo.expect("its FIFO").file_name();
    // Watched, poll(2) reports them.
    let watched = format!("{{fd={},", fifo.to_string_lossy());
    let mut has_read = false;
    let mut acts = Vec::new();
    for line in trace.lines() {
        let call = line.split('(').next().expect("a call");
        match call {
            "poll" => has_read = line.contains(&watched),
            "read" => has_read = true,
            "connect" if line.contains("AF_INET") => acts.push((call, has_read)),
            "clone" | "clone3" | "fork" => acts.push(("fork", has_read)),
            _ => {}
        }
    }
    for act in ["fork", "connect"] {
        let mut found = acts.iter().filter(|(call, _)| *call == act).peekable();
        assert!(found.peek().is_some(), "{act} in {trace}");
        assert!(found.all(|(_, has_read)| *has_read), "{act} in {trace}");
    }
}
