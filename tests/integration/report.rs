//! The library `dovestat::report`, as a server written in Rust uses it, with a
//! real daemon at the other end.

use std::sync::Arc;
use std::thread;

use dovestat::report::{FifoWriter, Login, Meter, Session};
use dovestat::stats::{place, Stats};

use crate::harness::{wait_until, Daemon, Setup};
use crate::link::Table;

/// What the daemon has, once it has read what was written.
fn export(daemon: &Daemon, what: &str) -> Table {
    daemon.settle(&daemon.writer());
    daemon.client().export(what)
}

/// Tells something until there was room for it.
fn tell(mut told: impl FnMut() -> bool) {
    wait_until("room in the FIFO", &mut told);
}

#[test]
fn sessions_of_many_threads_share_a_fifo() {
    const THREADS: u64 = 8;
    const SESSIONS: u64 = 40;
    let daemon = Daemon::start("report-threads");
    let fifo = Arc::new(FifoWriter::new(daemon.fifo()));
    let serve = |thread: u64, number: u64, fifo: &Arc<FifoWriter>| {
        let user = format!("u{}@d{thread}.example", number % 7);
        let mut session = Session::connect(
            fifo,
            Login {
                user: user.as_bytes(),
                service: b"imap",
                pid: std::process::id(),
                ip: format!("192.0.2.{number}").parse().ok(),
            },
        );
        let mut total = Stats::default();
        for _ in 0..3 {
            let command = session.begin_command(b"FETCH", b"1:*\t(FLAGS)");
            total.values[place::user_cpu] += 1_000_001;
            total.values[place::mail_read_count] += 1;
            tell(|| session.end_command(command, &total));
        }
        tell(|| session.update(&total));
        let id = session.id().to_string();
        assert!(session.disconnect());
        id
    };
    let serve_all = |thread: u64| {
        let fifo = Arc::clone(&fifo);
        move || {
            (0..SESSIONS)
                .map(|number| serve(thread, number, &fifo))
                .collect::<Vec<_>>()
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|n| thread::spawn(serve_all(n))).collect();
    let ids: Vec<Vec<String>> = threads
        .into_iter()
        .map(|t| t.join().expect("a thread"))
        .collect();
    let all = THREADS * SESSIONS;
    let table = export(&daemon, "global");
    let row = table.only();
    assert_eq!((row.num("num_logins"), row.num("num_cmds")), (all, 3 * all));
    assert_eq!(row.num("num_connected_sessions"), 0);
    assert_eq!(row.micros("user_cpu"), all * 3 * 1_000_001);
    assert_eq!(row.num("mail_read_count"), all * 3);
    let table = export(&daemon, "domain");
    assert_eq!(
        table.row("domain", "d3.example").num("mail_read_count"),
        SESSIONS * 3
    );
    let table = export(&daemon, "session");
    for id in ids.iter().flatten() {
        assert_eq!(table.row("session", id).get("connected"), "0");
    }
    let table = export(&daemon, &format!("command\tsession={}", ids[2][3]));
    assert_eq!(table.values("cmd"), ["FETCH"; 3]);
    assert_eq!(table.values("args"), ["1:*\x01t(FLAGS)"; 3]);
    assert_eq!(table.values("mail_read_count"), ["1", "2", "3"]);
    let log = daemon.log();
    // The last line of the start.
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains(" serving in "),
        "nothing to complain of: {log}"
    );
}

#[test]
fn a_restarted_daemon_learns_what_is_going_on() {
    let daemon = Daemon::start("report-restart");
    let fifo = Arc::new(FifoWriter::new(daemon.fifo()));
    let login = Login {
        user: b"bob@example.org",
        service: b"imap",
        pid: 7,
        ip: None,
    };
    let mut session = Session::connect(&fifo, login);
    let idle = session.begin_command(b"IDLE", b"");
    let search = session.begin_command(b"SEARCH", b"ALL");
    let mut total = Meter::start().read();
    total.values[place::mail_read_count] = 11;
    assert!(session.update(&total));
    let dir = daemon.stop();
    assert!(!session.update(&total), "nobody is there");
    assert!(!session.end_command(search, &total));
    let daemon = Daemon::in_dir(dir, &Setup::new());
    total.values[place::mail_read_count] = 12;
    assert!(session.update(&total));
    for level in ["session", "user", "domain", "global"] {
        let table = export(&daemon, level);
        assert_eq!(table.only().num("mail_read_count"), 12, "{level}");
    }
    let table = export(&daemon, "command");
    assert_eq!(table.values("cmd"), ["IDLE", "SEARCH"]);
    assert_eq!(table.values("user"), ["bob@example.org"; 2]);
    let ended = table.row("cmd", "SEARCH");
    assert_eq!(ended.num("mail_read_count"), 11, "what it ended with");
    // It remembers, and what it is told again is no mistake.
    let log = daemon.log();
    assert!(!log.contains("warning"), "{log}");
    assert!(session.end_command(idle, &total));
    drop(session);
    let table = export(&daemon, "session");
    assert_eq!(table.only().get("connected"), "0");
}
