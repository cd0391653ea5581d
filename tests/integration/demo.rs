//! `dovestat demo`: frames that move, a screen, and nothing left behind whatever
//! ends it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::client::dovestat;
use crate::harness::{send_signal, text, wait_until, TempDir};
use crate::screen::Terminal;

/// The demonstration, in a directory of the test's.
fn demo(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = dovestat(&[&["demo"], args].concat());
    command.env("TMPDIR", dir.path()).env("TERM", "xterm");
    command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command
}

/// The processes that have the directory in their environment.
fn processes(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let wanted = format!("TMPDIR={}\0", dir.path().display());
    let is_ours = |pid: &String| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        text(&environ).contains(&wanted)
    };
    pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
        .filter(is_ours)
        .collect()
}

/// How many files and directories are left.
fn left(dir: &TempDir) -> usize {
    fs::read_dir(dir.path()).expect("the directory").count()
}

#[track_caller]
fn wait_cleared(dir: &TempDir) {
    wait_until("everything being cleared away", || {
        left(dir) == 0 && processes(dir).is_empty()
    });
}

#[test]
fn frames_show_moving_numbers_and_nothing_is_left() {
    let dir = TempDir::new("demo-frames");
    let args = ["-B", "-n", "3", "-d", "0.5", "-f", "csv"];
    let output = demo(&dir, &args).output().expect("run dovestat");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (left(&dir), processes(&dir).len()),
        (0, 0),
        "by the time it ends"
    );
    let csv = text(&output.stdout);
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().expect("a header");
    let rows: Vec<Vec<&str>> = lines.collect();
    let column = |name: &str| {
        let at = names.iter().position(|known| *known == name);
        at.unwrap_or_else(|| panic!("{name} in {names:?}"))
    };
    let mut frames: Vec<&str> = rows.iter().map(|row| row[column("time")]).collect();
    frames.dedup();
    assert_eq!(frames.len(), 3, "{csv}");
    let moving = |name: &str| {
        let is_moving = |row: &&Vec<&str>| row[column(name)].parse::<f64>().is_ok_and(|n| n > 0.0);
        rows.iter().filter(is_moving).count()
    };
    for name in [
        "num_cmds",
        "user_cpu",
        "read_bytes",
        "write_bytes",
        "mail_read_count",
    ] {
        assert!(moving(name) >= 2, "{name} in {csv}");
    }
    let mut users: Vec<&str> = rows.iter().map(|row| row[column("user")]).collect();
    users.sort_unstable();
    users.dedup();
    assert!(users.len() >= 3, "{csv}");
}

/// Starts it and waits for its first frame.
fn started(dir: &TempDir) -> Child {
    let mut child = demo(dir, &["-B", "-d", "0.2"]).spawn().expect("start");
    let stdout = child.stdout.take().expect("its output");
    let mut lines = BufReader::new(stdout).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok()), "a frame");
    // Whoever reads frames goes on doing so.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn nothing_is_left_whatever_ends_it() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGKILL] {
        let dir = TempDir::new("demo-ends");
        let mut child = started(&dir);
        assert!(left(&dir) == 1 && processes(&dir).len() >= 8);
        send_signal(child.id(), signal);
        child.wait().expect("its end");
        wait_cleared(&dir);
    }
    // Its parts may be ended, too.
    let dir = TempDir::new("demo-stage");
    let mut child = started(&dir);
    let stage = processes(&dir).into_iter().find(|pid| {
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.starts_with(b"dovestat-demo-stage")
    });
    let stage = stage.and_then(|pid| pid.parse().ok()).expect("the stage");
    send_signal(stage, libc::SIGTERM);
    wait_until("the stage being cleared", || left(&dir) == 0);
    let _ = child.kill();
    child.wait().expect("its end");
    wait_cleared(&dir);
}

#[test]
fn it_fills_a_screen_and_leaves_it() {
    let dir = TempDir::new("demo-screen");
    let mut command = demo(&dir, &[]);
    command.stdin(Stdio::null());
    let mut top = Terminal::start(&mut command, 24, 80);
    top.wait("users at work", |screen| {
        screen.contains("@example.org") && screen.contains("▼CPU%")
    });
    top.keys("3");
    top.wait("their sessions", |screen| {
        screen.contains(" imap ") || screen.contains(" pop3 ")
    });
    top.keys("q");
    assert!(top.wait_end().success());
    top.assert_restored();
    assert_eq!((left(&dir), processes(&dir).len()), (0, 0));
}

#[test]
fn what_cannot_begin_says_why() {
    let dir = TempDir::new("demo-fails");
    let mut command = demo(&dir, &["-B", "-n", "1"]);
    command.env("TMPDIR", dir.at("nothing"));
    let output = command.output().expect("run dovestat");
    assert_eq!(output.status.code(), Some(75));
    let told = text(&output.stderr);
    assert!(
        told.starts_with("dovestat: create ") && told.lines().count() == 1,
        "{told}"
    );
}
