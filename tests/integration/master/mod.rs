//! The daemon as a service of Dovecot's own master: of a real 2.3 here, of a master that
//! this test plays in `fake`.

mod fake;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::dovecot::{available, Dovecot, MAIL_USER};
use crate::harness::{
    free_port, holds_within, program, send_signal, text, wait_until, TempDir, DEADLINE,
};
use crate::link::{Client, Table, Writer};
use crate::mail::{deliver, Imap, Pop3};
use crate::records::{command, connect, disconnect, Mail};

const MESSAGE: &str = "From: a@example.org\r\nTo: b@example.org\r\nSubject: test\r\n\r\nHello.\r\n";

/// The section of the service: our program with options, and further lines.
fn service(options: &str, lines: &str) -> String {
    let program = program();
    format!("service old-stats {{\n  executable = {program} {options}\n{lines}\n}}\n")
}

/// Without protocols, waiting until it answers.
fn start(name: &str, options: &str, lines: &str) -> Dovecot {
    let dovecot = Dovecot::service(TempDir::new(name), &service(options, lines));
    wait_answer(&dovecot);
    dovecot
}

fn wait_answer(dovecot: &Dovecot) {
    wait_until("the service answering", || global(dovecot).is_some());
}

/// The global level, if it can be had.
fn global(dovecot: &Dovecot) -> Option<Table> {
    Client::try_unix(&dovecot.stats_socket())?.try_export("global")
}

fn wait_count(dovecot: &Dovecot, column: &str, value: u64) {
    let mut last = 0;
    let came = holds_within(DEADLINE, || {
        if let Some(table) = global(dovecot) {
            last = table.only().num(column);
        }
        last == value
    });
    assert!(came, "{column}: {last} instead of {value}");
}

/// The process of the service; the newest one while there are two.
fn pid_of(dovecot: &Dovecot) -> Option<u32> {
    let master = dovecot.pid().to_string();
    let output = Command::new("pgrep")
        .args(["-n", "-P", &master, "-x", "dovestatd"])
        .output()
        .expect("run pgrep");
    text(&output.stdout).trim().parse().ok()
}

/// Waits for the end of a process that is not this test's child.
fn wait_end(pid: u32) {
    wait_until("the end of the service's process", || {
        fs::metadata(format!("/proc/{pid}")).is_err()
    });
}

/// The lines of Dovecot's log about the service that are more than information.
fn complaints(dovecot: &Dovecot) -> Vec<String> {
    let grave = ["Warning: ", "Error: ", "Fatal: ", "Panic: "];
    let log = dovecot.log();
    let lines = log.lines().filter(|line| line.contains("old-stats"));
    let lines = lines.filter(|line| grave.iter().any(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_no_complaint(dovecot: &Dovecot) {
    assert_eq!(complaints(dovecot), [""; 0]);
}

/// Reloads, and waits until a process of the new generation serves: of a FIFO that is
/// replaced before there is one, nobody can read the records.
fn reload(dovecot: &Dovecot) {
    let found = || fs::metadata(dovecot.stats_fifo());
    let identity = || found().map(|found| (found.ino(), found.ctime(), found.ctime_nsec()));
    let (before, old) = (identity().expect("the FIFO"), pid_of(dovecot));
    send_signal(dovecot.pid(), libc::SIGHUP);
    wait_until("a new FIFO", || identity().is_ok_and(|now| now != before));
    wait_until("a new process", || {
        let _ = global(dovecot);
        pid_of(dovecot).is_some_and(|pid| Some(pid) != old)
    });
    wait_answer(dovecot);
}

/// Feeds a session with so many commands.
fn feed(dovecot: &Dovecot, id: &str, commands: u32) {
    let stats = Mail::sample().field();
    let mut writer = Writer::open(&dovecot.stats_fifo());
    writer.send_waiting(&connect(id, "a@example.org", "imap", 1, "192.0.2.1"));
    for number in 1..=commands {
        writer.send_waiting(&command(id, number, "d", "NOOP", "", &stats));
    }
    writer.send_waiting(&disconnect(id));
}

#[test]
fn mail_is_counted_and_doveadm_asks_without_a_path() {
    if !available("mail_is_counted_and_doveadm_asks_without_a_path") {
        return;
    }
    let lines = format!(
        "  fifo_listener old-stats-mail {{\n    user = {MAIL_USER}\n    mode = 0600\n  }}\n\
         \x20 fifo_listener old-stats-user {{\n    user = dovecot\n    mode = 0600\n  }}"
    );
    let dovecot = Dovecot::mail_and_service(TempDir::new("master-mail"), &service("", &lines));
    let users = ["alice@example.org", "bob@example.org", "carol@example.org"];
    let mut imap = Imap::login(dovecot.imap, users[0]);
    imap.ok("SELECT INBOX");
    imap.append(MESSAGE);
    Pop3::login(dovecot.pop3, users[1]).ok("QUIT");
    deliver(&dovecot.lmtp_socket(), &users[2..], MESSAGE, || ());
    wait_count(&dovecot, "num_logins", 3);
    // LMTP needs no password.
    wait_count(&dovecot, "auth_successes", 2);
    let dump = |what: &str| {
        let output = dovecot.doveadm(&["oldstats", "dump", what]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let sessions = dump("session");
    for (user, service) in users.iter().zip(["imap", "pop3", "lmtp"]) {
        let is_it = |line: &str| line.contains(user) && line.contains(&format!("\t{service}\t"));
        assert!(sessions.lines().any(is_it), "{user} {service}: {sessions}");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_dovestat"))
        .args(["check", "--dovecot", &dovecot.dir.at("dovecot.conf")])
        .output()
        .expect("run dovestat check");
    let found = text(&check.stdout);
    let serves = format!("serves at {} ", dovecot.stats_socket());
    assert!(
        found.contains(&serves) && !found.contains("WRONG"),
        "{found}"
    );
    let output = dovecot.doveadm(&["oldstats", "reset"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        global(&dovecot).expect("a reply").only().num("num_logins"),
        0
    );
    // The service runs as the user that Dovecot has for it, in its chroot.
    let pid = pid_of(&dovecot).expect("the service");
    let root = fs::read_link(format!("/proc/{pid}/root")).expect("its root");
    assert_eq!(root.to_str(), Some(&*dovecot.dir.at("run/empty")));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).split_whitespace().collect::<Vec<_>>()
    };
    let state = fs::metadata(dovecot.dir.at("state/dovestat")).expect("the state directory");
    assert_eq!(field("Uid:"), [&*state.uid().to_string(); 4]);
    assert_ne!(state.uid(), 0);
    assert_eq!(field("Groups:"), [&*state.gid().to_string()]);
    imap.logout();
    assert_no_complaint(&dovecot);
}

/// Has writers send sessions over ten reloads, and asserts that all is counted.
fn assert_nothing_lost(name: &str, records: u64, lines: &str) {
    const WRITERS: u64 = 4;
    const COMMANDS: u64 = 98;
    let dovecot = start(name, "-o stats_memory_limit=64M", lines);
    let (fifo, stats) = (dovecot.stats_fifo(), Mail::sample().field());
    let sessions = records / WRITERS / (COMMANDS + 2);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (fifo, stats, sent) = (&fifo, &stats, &sent);
            scope.spawn(move || {
                for session in 0..sessions {
                    let id = format!("w{number}s{session}");
                    let user = format!("u{}@example.org", session % 50);
                    // A mail process opens the FIFO that is there and keeps it; between
                    // two there may be none.
                    let mut opened = None;
                    wait_until("a FIFO", || {
                        opened = Writer::try_open(fifo).ok();
                        opened.is_some()
                    });
                    let mut writer = opened.expect("a writer");
                    writer.send_waiting(&connect(&id, &user, "imap", 1, "192.0.2.1"));
                    for number in 1..=COMMANDS as u32 {
                        writer.send_waiting(&command(&id, number, "d", "NOOP", "", stats));
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    writer.send_waiting(&disconnect(&id));
                }
            });
        }
        let all = WRITERS * sessions * COMMANDS;
        for number in 1..=10 {
            wait_until("the writers", || {
                sent.load(Ordering::Relaxed) >= all * number / 11
            });
            reload(&dovecot);
        }
    });
    wait_count(&dovecot, "num_cmds", WRITERS * sessions * COMMANDS);
    wait_count(&dovecot, "num_logins", WRITERS * sessions);
    wait_count(&dovecot, "num_connected_sessions", 0);
    assert_no_complaint(&dovecot);
}

#[test]
fn no_record_is_lost_over_ten_reloads() {
    if !available("no_record_is_lost_over_ten_reloads") {
        return;
    }
    assert_nothing_lost("master-reload", 100_000, "  process_min_avail = 1");
}

#[test]
fn no_record_is_lost_where_the_first_one_starts_the_process() {
    if !available("no_record_is_lost_where_the_first_one_starts_the_process") {
        return;
    }
    assert_nothing_lost("master-reload-0", 40_000, "");
}

#[test]
fn statistics_outlive_a_stop_and_the_death_of_the_master() {
    if !available("statistics_outlive_a_stop_and_the_death_of_the_master") {
        return;
    }
    let mut dovecot = start("master-stop", "", "  process_min_avail = 1");
    feed(&dovecot, "one", 10);
    wait_count(&dovecot, "num_cmds", 10);
    for (signal, expected) in [(libc::SIGTERM, 11), (libc::SIGKILL, 12)] {
        let pid = pid_of(&dovecot).expect("the service");
        // Records that nobody waited for are saved as well.
        feed(&dovecot, &format!("s{signal}"), 1);
        dovecot.restart(signal, || wait_end(pid));
        wait_count(&dovecot, "num_cmds", expected);
    }
    assert_no_complaint(&dovecot);
}

#[test]
fn a_service_that_doveadm_stops_saves_and_a_reload_starts_it_again() {
    if !available("a_service_that_doveadm_stops_saves_and_a_reload_starts_it_again") {
        return;
    }
    let dovecot = start("master-service-stop", "", "  process_min_avail = 1");
    let pid = pid_of(&dovecot).expect("the service");
    feed(&dovecot, "one", 10);
    let output = dovecot.doveadm(&["service", "stop", "old-stats"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    wait_end(pid);
    reload(&dovecot);
    wait_count(&dovecot, "num_cmds", 10);
    assert_no_complaint(&dovecot);
}

#[test]
fn an_idle_kill_is_answered_and_survived() {
    if !available("an_idle_kill_is_answered_and_survived") {
        return;
    }
    let dovecot = start("master-idle", "", "  idle_kill = 1 s");
    let pid = pid_of(&dovecot).expect("the service");
    let begin = std::time::Instant::now();
    let lives = || pid_of(&dovecot) == Some(pid);
    // The master sends INT each second, and complains where it is ignored.
    wait_until("four idle kills", || {
        !lives() || begin.elapsed() > std::time::Duration::from_millis(4500)
    });
    assert!(lives(), "{}", dovecot.log());
    wait_answer(&dovecot);
    assert_no_complaint(&dovecot);
}

#[test]
fn neither_a_chroot_nor_root_is_needed() {
    if !available("neither_a_chroot_nor_root_is_needed") {
        return;
    }
    let dovecot = start("master-no-chroot", "", "  chroot =");
    feed(&dovecot, "one", 10);
    reload(&dovecot);
    wait_count(&dovecot, "num_cmds", 10);
    assert_no_complaint(&dovecot);
    drop(dovecot);

    let dir = TempDir::new("master-no-root");
    let state = dir.at("own");
    fs::create_dir(&state).expect("mkdir own");
    let chown = Command::new("chown").args(["dovecot", &state]).status();
    assert!(chown.expect("chown").success());
    let options = format!("-o state_dir={state} -o stats_memory_limit=3M");
    let lines = "  chroot =\n  drop_priv_before_exec = yes\n  process_min_avail = 1";
    let dovecot = Dovecot::service(dir, &service(&options, lines));
    wait_answer(&dovecot);
    feed(&dovecot, "one", 10);
    wait_count(&dovecot, "num_cmds", 10);
    let pid = pid_of(&dovecot).expect("the service");
    reload(&dovecot);
    wait_end(pid);
    wait_count(&dovecot, "num_cmds", 10);
    let log = dovecot.log();
    assert!(log.contains("memory limit 3 M"), "{log}");
    let complaints = complaints(&dovecot);
    let is_known = |line: &String| line.contains("drop_priv_before_exec");
    assert!(complaints.iter().all(is_known), "{complaints:?}");
    assert_eq!(
        complaints.len(),
        2,
        "each process says it once: {complaints:?}"
    );
}

#[test]
fn a_vsz_limit_lowers_the_memory_limit_and_is_kept_to() {
    if !available("a_vsz_limit_lowers_the_memory_limit_and_is_kept_to") {
        return;
    }
    let lines = "  vsz_limit = 40 M\n  process_min_avail = 1";
    let dovecot = start("master-vsz", "-o stats_memory_limit=200M", lines);
    let pid = pid_of(&dovecot).expect("the service");
    let mut writer = Writer::open(&dovecot.stats_fifo());
    for number in 0..150_000 {
        let user = format!("u{number}@example.org");
        writer.send_waiting(&connect(&format!("s{number}"), &user, "imap", 1, ""));
    }
    wait_count(&dovecot, "num_logins", 150_000);
    for level in ["session", "user"] {
        let table = Client::unix(&dovecot.stats_socket()).export(level);
        assert!(table.rows.len() > 10_000, "{level}: {}", table.rows.len());
    }
    reload(&dovecot);
    wait_count(&dovecot, "num_logins", 150_000);
    wait_end(pid);
    let complaints = complaints(&dovecot);
    let is_known = |line: &String| {
        line.contains("stats_memory_limit 200 M") && line.contains("vsz_limit (RLIMIT_AS) 40 M")
            || line.contains("stats_memory_limit has room for no more")
            || line.contains("nothing can be freed under stats_memory_limit")
    };
    assert!(complaints.iter().all(is_known), "{complaints:?}");
    assert!(complaints[0].contains("lowered to"), "{complaints:?}");
}

#[test]
fn a_wrong_setting_is_logged_and_the_master_is_not_kept_busy() {
    if !available("a_wrong_setting_is_logged_and_the_master_is_not_kept_busy") {
        return;
    }
    let lines = service("-o stats_memory_limit=much", "  process_min_avail = 1");
    let dovecot = Dovecot::service(TempDir::new("master-wrong"), &lines);
    let count = || {
        let log = dovecot.log();
        log.matches("Fatal: -o stats_memory_limit=much: ").count()
    };
    wait_until("the mistake in Dovecot's log", || count() > 0);
    // Clients make the master start it again and again, each time after twice as long.
    // Those that come before it listens again may not be seen by it.
    let throttled = "throttling for 4.000 secs";
    wait_until("the next attempt", || {
        if let Some(mut client) = Client::try_unix(&dovecot.stats_socket()) {
            client.send_while_taken(b"EXPORT\tglobal\n", Duration::from_millis(10));
        }
        dovecot.log().contains(throttled)
    });
    let log = dovecot.log();
    let (log, _) = log.split_once(throttled).expect("it");
    assert_eq!(log.matches("throttling for 2.000 secs").count(), 1, "{log}");
    let attempts = log.matches("Fatal: -o stats_memory_limit=much: ").count();
    assert_eq!(attempts, 2, "{log}");
    assert!(log.contains("returned error 78"), "{log}");
}

/// A small file system at `state` of a directory.
struct Small(String);

impl Small {
    fn mount(dir: &TempDir) -> Small {
        let path = dir.at("state");
        fs::create_dir_all(&path).expect("mkdir state");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=0755", "none", &path])
            .status();
        assert!(mount.expect("mount").success());
        Small(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_full_state_directory_costs_the_statistics_and_nothing_else() {
    if !available("a_full_state_directory_costs_the_statistics_and_nothing_else") {
        return;
    }
    let dir = TempDir::new("master-full");
    let small = Small::mount(&dir);
    let dovecot = Dovecot::service(dir, &service("", "  process_min_avail = 1"));
    wait_answer(&dovecot);
    let block = format!("{}/block", small.0);
    // An error: it is full now.
    fs::write(&block, vec![0; 1 << 20]).unwrap_err();
    feed(&dovecot, "one", 10);
    wait_count(&dovecot, "num_cmds", 10);
    let mut writer = Writer::open(&dovecot.stats_fifo());
    reload(&dovecot);
    // It goes to the next process, whose statistics begin at 0.
    wait_count(&dovecot, "num_cmds", 0);
    writer.send_waiting(&connect("two", "a@example.org", "imap", 1, ""));
    wait_count(&dovecot, "num_logins", 1);
    fs::remove_file(&block).expect("rm block");
    reload(&dovecot);
    wait_count(&dovecot, "num_logins", 1);
    let complaints = complaints(&dovecot);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(
        complaints[0].contains("the state of before stays"),
        "{complaints:?}"
    );
    assert!(complaints[1].contains("make room there"), "{complaints:?}");
}

#[test]
fn any_service_and_our_own_file_serve() {
    if !available("any_service_and_our_own_file_serve") {
        return;
    }
    let dir = TempDir::new("master-own");
    let port = free_port();
    let own = "service stats {\n  unix_listener figures {\n    reset = no\n  }\n\
               \x20 inet_listener web {\n    port = 1\n    protocol = http\n  }\n}\n\
               stats_memory_limit = 2 M\nstats_user_min_time = 3 mins\n";
    let file = dir.write("dovestatd.conf", own);
    let program = program();
    let conf = format!(
        "old_stats_memory_limit = 4 M\n\
         service dovestat {{\n  executable = {program} -c {file} -o stats_ip_min_time=1h\n\
         \x20 process_limit = 1\n  user = dovecot\n\
         \x20 unix_listener figures {{\n    mode = 0666\n  }}\n\
         \x20 fifo_listener reports {{\n    mode = 0600\n  }}\n\
         \x20 inet_listener web {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n}}\n"
    );
    let dovecot = Dovecot::service(dir, &conf);
    let socket = dovecot.dir.at("run/figures");
    wait_until("the service answering", || {
        Client::try_unix(&socket).is_some_and(|mut client| client.try_export("global").is_some())
    });
    let mut writer = Writer::open(&dovecot.dir.at("run/reports"));
    writer.send_waiting(&connect("one", "a@example.org", "imap", 1, ""));
    wait_until("the session", || {
        Client::unix(&socket).export("session").rows.len() == 1
    });
    let answer = crate::http::get(port);
    assert_eq!(answer.samples()["dovestat_global_logins_total"], "1");
    let mut client = Client::unix(&socket);
    client.send("RESET\n");
    client.assert_closed("reset = no");
    // It is Dovecot's own process for the log that writes it.
    wait_until("Dovecot's own limit, which holds", || {
        dovecot.log().contains("memory limit 4 M")
    });
    let log = dovecot.log();
    assert!(!log.contains("Error: "), "{log}");
}
