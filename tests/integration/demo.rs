//! `dovestat demo`: frames that move, a screen, nothing left behind whatever ends
//! it, and the daemon's program found or built.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use crate::attack::{Class, Tally};
use crate::client::dovestat;
use crate::harness::{
    is_root, send_signal, skipped, text, wait_until, with_usual_signals, TempDir,
};
use crate::screen::Terminal;

/// The demonstration, in a directory of the test's.
fn demo(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = dovestat(&[&["demo"], args].concat());
    command.env("TMPDIR", dir.path()).env("TERM", "xterm");
    command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    with_usual_signals(&mut command);
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

/// Runs a program that was copied a moment ago: another test that starts a process just then
/// has it open for writing until it executes its own.
fn run(command: &mut Command) -> Output {
    loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
            output => return output.expect("run dovestat"),
        }
    }
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

/// The process that started the daemon and the workers.
fn stage(dir: &TempDir) -> u32 {
    let stage = processes(dir).into_iter().find(|pid| {
        let name = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.starts_with(b"dovestat-demo-stage")
    });
    stage.and_then(|pid| pid.parse().ok()).expect("the stage")
}

#[test]
fn daemon_and_workers_end_with_who_started_them() {
    let dir = TempDir::new("demo-killed");
    let mut child = started(&dir);
    send_signal(stage(&dir), libc::SIGKILL);
    wait_until("all of them ending", || {
        processes(&dir) == [child.id().to_string()]
    });
    let _ = child.kill();
    child.wait().expect("its end");
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
    send_signal(stage(&dir), libc::SIGTERM);
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
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(75));
    let told = text(&output.stderr);
    assert!(
        told.starts_with("dovestat: create ") && told.lines().count() == 1,
        "{told}"
    );
}

/// A directory with the client's program in it, where there is no daemon's.
fn without_daemon(dir: &TempDir, at: &str) -> PathBuf {
    let place = dir.path().join(at);
    fs::create_dir_all(&place).expect("directories");
    let program = place.join("dovestat");
    fs::copy(env!("CARGO_BIN_EXE_dovestat"), &program).expect("copy the client");
    program
}

/// A program in place of the daemon's that says where it is, and starts that.
fn named_daemon(dir: &TempDir, at: &str) -> PathBuf {
    let path = dir.path().join(at);
    fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
    let said = dir.path().join("said");
    let script = format!(
        "#!/bin/sh\necho \"$0\" >>{}\nexec {} \"$@\"\n",
        said.display(),
        crate::harness::program()
    );
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

/// One frame of a client; its directory for what it makes is `run`.
fn frame(dir: &TempDir, client: &Path, path: &Path) -> Command {
    let run = dir.path().join("run");
    fs::create_dir_all(&run).expect("a directory");
    let mut command = Command::new(client);
    command.args(["demo", "-B", "-n", "1", "-d", "0.1"]);
    command.stdin(Stdio::null()).env("TMPDIR", run);
    command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
        command.env_remove(name);
    }
    command
}

/// Shows a frame; gives the daemon's program that was started for it, and what
/// was told on standard error.
#[track_caller]
fn started_program(dir: &TempDir, command: &mut Command) -> (PathBuf, String) {
    let output = run(command);
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stdout.is_empty());
    let said = dir.path().join("said");
    let program = fs::read_to_string(&said).expect("a daemon was started");
    fs::remove_file(said).expect("remove");
    let told = text(&output.stderr);
    assert!(!text(&output.stdout).contains("noise"), "{output:?}");
    (program.trim_end().into(), told)
}

#[test]
fn the_daemon_is_found_where_programs_are() {
    let dir = TempDir::new("demo-finds");
    let client = without_daemon(&dir, "usr/bin");
    let path = dir.path().join("path");
    let mut command = frame(&dir, &client, &path);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let told = text(&output.stderr);
    let bin = dir.at("usr/bin");
    for place in ["dovestatd", &bin, &format!("{bin}/../sbin"), "$PATH"] {
        assert!(told.contains(place), "{place} in {told}");
    }
    assert_eq!(told.lines().count(), 1, "{told}");
    // The last to come is the first to be taken.
    for place in ["path/dovestatd", "usr/sbin/dovestatd", "usr/bin/dovestatd"] {
        let daemon = named_daemon(&dir, place);
        let started = started_program(&dir, &mut command);
        assert_eq!(started, (daemon, String::new()));
    }
    // What is no program is passed over.
    fs::set_permissions(
        dir.path().join("usr/bin/dovestatd"),
        fs::Permissions::from_mode(0o644),
    )
    .expect("chmod");
    let next = dir.path().join("usr/sbin/dovestatd");
    assert_eq!(started_program(&dir, &mut command).0, next);
}

/// A cargo that writes its arguments to a file and puts a daemon where it is told
/// to build one.
fn fake_cargo(dir: &TempDir, builds: &Path) -> PathBuf {
    let path = dir.path().join("cargo");
    let ready = named_daemon(dir, "ready");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}\necho noise\ncp {} {}\n",
        dir.at("arguments"),
        ready.display(),
        builds.display()
    );
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

#[test]
fn cargo_builds_the_daemon_if_it_runs_the_client() {
    let manifest = env!("CARGO_MANIFEST_DIR");
    for (place, options) in [
        ("target/debug", "--profile dev"),
        ("target/release", "--profile release"),
        (
            "target/x86_64-unknown-linux-musl/release",
            "--profile release --target x86_64-unknown-linux-musl",
        ),
    ] {
        let dir = TempDir::new("demo-builds");
        let client = without_daemon(&dir, place);
        let mark = "CACHEDIR.TAG";
        dir.write(&format!("{place}/../{mark}"), "");
        dir.write(&format!("target/{mark}"), "");
        let daemon = dir.path().join(place).join("dovestatd");
        let cargo = fake_cargo(&dir, &daemon);
        let mut command = frame(&dir, &client, Path::new("/nothing"));
        command.env("CARGO", &cargo);
        command.env("CARGO_MANIFEST_DIR", manifest);
        command.env("CARGO_PKG_NAME", "another");
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(69), "not its cargo");
        command.env("CARGO_PKG_NAME", env!("CARGO_PKG_NAME"));
        let started = started_program(&dir, &mut command);
        assert_eq!(started, (daemon.clone(), "noise\n".to_owned()));
        let target = dir.at("target");
        assert_eq!(
            fs::read_to_string(dir.path().join("arguments")).expect("they"),
            format!(
                "build --bin dovestatd --manifest-path {manifest}/Cargo.toml \
                 {options} --target-dir {target}\n"
            )
        );
        // It is there now.
        let started = started_program(&dir, &mut command);
        assert_eq!(started, (daemon, String::new()));
    }
}

#[test]
fn no_cargo_of_the_environment_runs_for_a_program_that_is_installed() {
    let mut tally = Tally::of(Class::Places);
    let dir = TempDir::new("demo-cargo");
    let installed = without_daemon(&dir, "usr/bin");
    let built = without_daemon(&dir, "target/debug");
    let tag = dir.write("target/CACHEDIR.TAG", "");
    for client in [&installed, &built] {
        if client == &built {
            if !is_root() {
                return skipped("no_cargo_of_the_environment", "it needs root");
            }
            // What another user built.
            std::os::unix::fs::chown(&tag, Some(54_321), None).expect("chown");
        }
        tally.tries(1);
        let cargo = fake_cargo(&dir, &client.with_file_name("dovestatd"));
        let mut command = frame(&dir, client, Path::new("/nothing"));
        command.env("CARGO", &cargo);
        command.env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"));
        command.env("CARGO_PKG_NAME", env!("CARGO_PKG_NAME"));
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        assert!(!dir.path().join("arguments").exists(), "it was run");
        tally.survived();
    }
}

#[test]
fn a_build_that_fails_is_told() {
    let dir = TempDir::new("demo-unbuilt");
    let client = without_daemon(&dir, "target/debug");
    dir.write("target/CACHEDIR.TAG", "");
    let mut command = frame(&dir, &client, Path::new("/nothing"));
    command.env("CARGO", "false");
    command.env("CARGO_MANIFEST_DIR", dir.path());
    command.env("CARGO_PKG_NAME", env!("CARGO_PKG_NAME"));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains("run false: exit status: 1"), "{told}");
    assert!(told.contains("is not in"), "{told}");
}
