//! `dovestat top`: what it remembers, the mouse, narrow screens, sessions counted
//! and ended.

use std::cell::Cell;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use crate::client::printed;
use crate::dovecot::{available, Dovecot, MAIL_USER};
use crate::harness::{text, Daemon, Setup, TempDir};
use crate::link::Writer;
use crate::mail::Imap;
use crate::records::{self, Mail};
use crate::screen::Terminal;

/// `top` in a terminal, with a directory for what it remembers.
fn start(socket: &str, state: &str, args: &[&str], columns: usize) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    command.args(["-s", socket, "top", "-d", "0.2"]).args(args);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env("XDG_STATE_HOME", state);
    Terminal::start(&mut command, 24, columns)
}

/// Two users, one of them with two sessions, and a command.
fn feed(daemon: &Daemon) {
    let mut mail = Mail::sample();
    mail.disk = [5000, 0];
    let pid = std::process::id();
    daemon.feed(&[
        records::connect("s1", "anna@example.org", "imap", pid, "10.0.0.1"),
        records::connect("s2", "anna@example.org", "pop3", 12, "10.0.0.2"),
        records::connect("s3", "bob@example.com", "imap", 13, "10.0.0.10"),
        records::update("s1", &mail.field()),
        records::command("s1", 1, "", "FETCH", "1:*", &mail.field()),
    ]);
}

/// Whether a row of the screen has both texts.
fn has_row(screen: &str, name: &str, cell: &str) -> bool {
    screen
        .lines()
        .any(|line| line.contains(name) && line.split_whitespace().any(|c| c == cell))
}

#[test]
fn it_looks_as_it_was_left() {
    let daemon = Daemon::start("top-state");
    feed(&daemon);
    let (socket, state) = (daemon.socket(), daemon.dir.at("state"));
    let mut top = start(&socket, &state, &[], 100);
    top.wait_text("▼DISK");
    top.keys("3");
    top.wait_text("SERVICE");
    top.keys("C");
    top.wait_text("▼CPU%");
    top.keys("c");
    top.wait_text("Columns");
    // The last column but one is shown in front.
    top.keys("Gk \x1b");
    top.wait_text("LOCK%");
    top.keys("q");
    assert!(top.wait_end().success());
    let mut top = start(&socket, &state, &[], 100);
    top.wait("level, sort and columns", |s| {
        s.contains("SERVICE") && s.contains("▼CPU%") && s.contains("LOCK%")
    });
    top.keys("q");
    top.wait_end();
    // The command line counts for more, and may say that nothing is to be recalled.
    let mut top = start(&socket, &state, &["-l", "ip", "disk"], 100);
    top.wait("level and sort as given", |s| {
        s.contains("ADDRESS") && s.contains("▼DISK")
    });
    let mut top = start(&socket, &state, &["--no-state"], 100);
    top.wait("users by disk", |s| {
        s.contains("USER ") && s.contains("▼DISK") && s.contains("bob@")
    });
    // What is in the file is no reason not to start.
    fs::write(
        daemon.dir.at("state/dovestat/top"),
        b"level = x\nsort=\xff\ncolumns ip = a b\n=",
    )
    .expect("write");
    let mut top = start(&socket, &state, &[], 100);
    top.wait_text("anna@");
}

#[test]
fn the_mouse_selects_opens_sorts_and_scrolls() {
    let daemon = Daemon::start("top-mouse");
    feed(&daemon);
    let many: Vec<Vec<u8>> = (0..60)
        .map(|n| records::add_user(&format!("user{n:02}@x"), "auth", ""))
        .collect();
    daemon.feed(&many);
    let mut top = start(&daemon.socket(), "/dev/null", &[], 80);
    // Titles stand where they stay once the rows are there.
    top.wait_text("anna@example.org");
    top.click("CPU%");
    top.wait_text("▼CPU%");
    top.click("USER");
    top.wait_text("USER▼");
    top.wait_text("user05@x");
    for _ in 0..25 {
        top.keys("\x1b[<65;1;1M");
    }
    top.wait_text("user59@x");
    top.keys("g");
    top.wait_text("bob@example.com");
    top.click("bob@example.com");
    top.click("bob@example.com");
    top.wait_text("bob@example.com ›  3 Sessions");
    top.keys("h");
    top.wait_text("5 ip");
    top.click("5 ip");
    top.wait_text("ADDRESS");
    // As addresses: 10.0.0.10 comes last.
    top.wait("addresses in order", |s| {
        let at = |ip: &str| s.find(&format!(" {ip} "));
        at("10.0.0.2") < at("10.0.0.10") && at("10.0.0.2").is_some()
    });
    top.keys("q");
    assert!(top.wait_end().success());
    top.assert_restored();
}

#[test]
fn why_a_server_does_not_answer_is_shown_while_it_is_tried_again() {
    let dir = TempDir::new("top-deaf");
    let path = dir.at("stats");
    let deaf = UnixListener::bind(&path).expect("bind");
    // One connects, and is never accepted; who comes behind it waits.
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::listen(deaf.as_raw_fd(), 0) }, 0, "listen");
    let _first = UnixStream::connect(&path).expect("connect");
    let mut top = start(&path, "/dev/null", &[], 80);
    top.wait_text(": connecting");
    top.wait_text(": timed out, again in 1s");
    top.wait_text(": timed out, trying again");
}

#[test]
fn small_screens_keep_the_levels_and_messages_go_away() {
    let daemon = Daemon::start("top-narrow");
    feed(&daemon);
    let mut top = start(&daemon.socket(), "/dev/null", &[], 60);
    top.wait_text("6 all");
    top.keys("\\user=*example* connected since=5m\r");
    let levels = [
        "1 dom", "2 user", "3 sess", "4 cmd", "5 ip", "6 all", "7 svc", "8 kind",
    ];
    top.wait("filtered", |s| s.contains("2 rows"));
    for level in levels {
        top.wait_text(level);
    }
    top.resize(24, 64);
    top.wait("the filter as well", |s| {
        s.contains("\\us") && s.contains("2 rows") && levels.iter().all(|level| s.contains(level))
    });
    top.resize(24, 60);
    top.keys("3");
    top.wait_text("SERVICE");
    top.keys("\r");
    top.wait("the level below a long path", |s| {
        s.contains("4 Commands") || s.contains("4 cmd")
    });
    top.keys("w");
    top.wait_text("rates over 5s");
    top.wait("the message going", |s| {
        !s.contains("rates over 5s") && s.contains("q quit")
    });
}

#[test]
fn active_rows_are_those_that_move_also_among_totals() {
    let daemon = Daemon::start("top-active");
    feed(&daemon);
    let mut top = start(&daemon.socket(), "/dev/null", &[], 80);
    top.wait_text("anna@");
    top.keys("ta");
    top.wait("nothing moves", |s| s.contains("nothing is active now"));
    let moves = Cell::new(6000);
    top.wait("who moves is shown, with totals", |s| {
        let mut mail = Mail::sample();
        mail.disk = [moves.get(), 0];
        moves.set(moves.get() + 1);
        daemon.feed(&[records::update("s1", &mail.field())]);
        s.contains("anna@") && !s.contains("bob@") && s.contains("totals")
    });
    // Paused, ages stand still.
    top.keys("ap");
    top.wait_text("PAUSED");
    let age = |s: &str| {
        let row = s.lines().find(|line| line.contains("bob@"));
        row.and_then(|row| {
            row.split_whitespace()
                .find(|c| c.ends_with('s'))
                .map(str::to_owned)
        })
    };
    let before = age(&top.text());
    assert!(before.is_some(), "{}", top.text());
    let clock = |s: &str| {
        s.lines()
            .next()
            .map(|line| line[line.len() - 10..].to_owned())
    };
    let then = clock(&top.text());
    top.wait("two seconds of the clock", |s| {
        let secs = |clock: Option<String>| clock?.trim().rsplit(':').next()?.parse::<i32>().ok();
        (secs(clock(s)).unwrap_or(0) - secs(then.clone()).unwrap_or(0)).rem_euclid(60) >= 2
    });
    assert_eq!(age(&top.text()), before);
}

#[test]
fn users_have_their_sessions_counted() {
    let daemon = Daemon::start("top-sess");
    feed(&daemon);
    let mut top = start(&daemon.socket(), "/dev/null", &[], 100);
    top.wait("SESS of users", |s| {
        s.contains("SESS") && has_row(s, "anna@", "2") && has_row(s, "bob@", "1")
    });
    daemon.feed(&[records::disconnect("s2")]);
    top.wait("one fewer", |s| has_row(s, "anna@", "1"));
    top.keys("S");
    top.wait_text("▼SESS");
    // Not shown, they are not counted; shown again, they are.
    top.keys("Dc");
    top.wait_text("[x] SESS");
    top.keys("jjjj q");
    top.wait("the column gone", |s| !s.contains("SESS "));
    daemon.feed(&[records::connect("s4", "bob@example.com", "imap", 14, "")]);
    top.keys("S");
    top.wait("counted anew", |s| {
        s.contains("▼SESS") && has_row(s, "bob@", "2")
    });
    // A session's process, and how long it has been running.
    top.keys("t3");
    top.wait_text("SERVICE");
    top.wait_text(" s1 ");
    top.keys("/s1\r\r");
    let pid = std::process::id();
    top.wait_text(&format!("Process {pid}, running for "));
    top.wait_text("service imap");
    top.wait_text("FETCH");
}

#[test]
fn frames_are_limited_and_say_what_sorts() {
    let daemon = Daemon::start("top-limit");
    feed(&daemon);
    let socket = daemon.socket();
    let frame = |args: &[&str]| {
        printed(&[&["-s", &socket, "top", "-B", "-n", "1", "-d", "0.1"], args].concat())
    };
    let limited = frame(&["--limit", "1", "cpu"]);
    assert!(
        limited.contains("CPU%") && limited.contains("1 of 2 rows"),
        "{limited}"
    );
    assert!(!limited.contains("bob@"), "{limited}");
    assert!(
        limited.contains("▼CPU%") || limited.contains("vCPU%"),
        "{limited}"
    );
    let named = frame(&["user-"]);
    assert!(
        named.contains("USER▲") || named.contains("USER^"),
        "{named}"
    );
    let csv = frame(&["-f", "csv", "--limit", "1"]);
    assert_eq!(csv.lines().count(), 2, "{csv}");
}

#[test]
fn a_server_that_does_not_know_a_filter_is_refused() {
    let name = "top_acts::a_server_that_does_not_know_a_filter_is_refused";
    if !available(name) {
        return;
    }
    let original = Dovecot::original("top-service");
    let mut writer = Writer::open(&original.stats_fifo());
    for record in [
        records::connect("s1", "anna@x", "imap", 1, "10.0.0.1"),
        records::connect("s2", "bob@x", "pop3", 2, "10.0.0.2"),
    ] {
        writer.send_waiting(&record);
    }
    let mut top = start(&original.stats_socket(), "/dev/null", &[], 100);
    top.wait_text("bob@x");
    top.keys("\\service=pop3\r");
    top.wait_text("does not know the filter service=");
    top.keys("3\\service=pop3\r");
    top.wait("its sessions are filtered here", |s| {
        s.contains("bob@x") && !s.contains("anna@x")
    });
    top.keys("2");
    top.wait_text("anna@x");
}

#[test]
fn sessions_are_ended_by_doveadm_after_a_question() {
    let name = "top_acts::sessions_are_ended_by_doveadm_after_a_question";
    if !available(name) {
        return;
    }
    let dir = TempDir::new("kick-dovecot");
    let setup = Setup::new().service(&format!(
        "fifo_listener stats-mail {{\nuser = {MAIL_USER}\nmode = 0600\n}}"
    ));
    let daemon = Daemon::with("kick", &setup);
    let dovecot = Dovecot::mail(dir, &daemon.fifo());
    // The real program, which has to be told of a Dovecot that is not the system's.
    let bin = daemon.dir.at("bin");
    fs::create_dir(&bin).expect("mkdir");
    let real = Command::new("sh")
        .args(["-c", "command -v doveadm"])
        .output()
        .expect("sh");
    let wrapper = format!(
        "#!/bin/sh\nexec {} -c {} \"$@\"\n",
        text(&real.stdout).trim(),
        dovecot.dir.at("dovecot.conf")
    );
    let wrapper = daemon.dir.write("bin/doveadm", &wrapper);
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut alice = Imap::login(dovecot.imap, "alice@example.org");
    let mut bob = Imap::login(dovecot.imap, "bob@example.org");

    let mut command = Command::new(env!("CARGO_BIN_EXE_dovestat"));
    command.args([
        "-s",
        &daemon.socket(),
        "top",
        "-d",
        "0.2",
        "name",
        "connected",
    ]);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env("XDG_STATE_HOME", "/dev/null");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{bin}:{path}"));
    let mut top = Terminal::start(&mut command, 24, 80);
    top.wait("both users", |s| s.contains("alice@") && s.contains("bob@"));
    top.keys("K");
    top.wait_text("doveadm kick alice@example.org");
    top.keys("n");
    top.wait_text("nothing was ended");
    alice.ok("NOOP");
    top.keys("K");
    top.wait_text("This ends all sessions of alice@example.org");
    top.keys("y");
    top.wait_text("kicked connections from the following users");
    top.keys("q");
    top.wait("alice is gone, bob is not", |s| {
        s.contains("bob@") && !s.contains("alice@")
    });
    bob.ok("NOOP");
    // At the totals of a server there is nothing to end.
    top.keys("1");
    top.wait_text(" example.org ");
    top.keys("K");
    top.wait_text("K is for a user, a session or an address");
    dovecot.stop();
}
