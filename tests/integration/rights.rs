//! What the daemon may not do, and logs: as a user without rights, and in a container
//! that has next to nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{is_root, program, skipped, text, wait_until, works, Daemon, Setup, TempDir};

#[test]
fn a_start_as_root_logs_what_its_user_may_not_do() {
    if !is_root() {
        return skipped("rights", "it needs root");
    }
    let dir = TempDir::new("rights");
    fs::create_dir(dir.at("theirs")).expect("mkdir");
    let (log, pidfile) = (dir.at("theirs/log"), dir.at("theirs/pid"));
    let setup = Setup::new().service("user = nobody");
    let config = setup.config(&dir).replace("stderr", &log) + &format!("pidfile = {pidfile}\n");
    let path = dir.write("dovestatd.conf", &config);
    // Not in the foreground: there it logs to standard error.
    let started = Command::new(program()).args(["-c", &path]).output();
    let started = started.expect("start dovestatd");
    assert!(started.status.success(), "{}", text(&started.stderr));
    let pid: i32 = fs::read_to_string(&pidfile)
        .expect("the pidfile")
        .trim()
        .parse()
        .expect("a pid");
    let logged = || fs::read_to_string(&log).expect("the log");
    let before = logged();
    crate::harness::send_signal(pid as u32, libc::SIGTERM);
    wait_until("its end", || logged().contains("shutting down"));
    for text in [
        " as user nobody, group ",
        &format!(
            "warning: log_path {log}: user nobody may not make files in its directory; have the \
             rotation of the log make the new file for that user (logrotate: create 0640 nobody), \
             or put the log in a directory of that user"
        ),
        &format!("pidfile {pidfile}: user nobody may not remove it; it stays at the end"),
    ] {
        assert!(before.contains(text), "{text}:\n{before}");
    }
}

#[test]
fn rights_that_suffice_are_not_mentioned() {
    let daemon = Daemon::start("rightsfine");
    assert!(!daemon.log().contains("may not"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_container_with_next_to_nothing_is_enough() {
    if !is_root() {
        return skipped("rights", "it needs root");
    }
    let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"];
    if !works("rights", &[&unshare[..], &["true"]].concat()) {
        return;
    }
    let dir = TempDir::new("container");
    let script =
        "mount -t tmpfs none /etc && mount -t tmpfs none /run && mount -t proc proc /proc \
                  && mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    let base_dir = format!("base_dir={}", dir.at("run"));
    let runtime_dir = dir.at("xdg");
    fs::create_dir(&runtime_dir).expect("mkdir");
    let container = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(unshare[0]);
        command
            .args(&unshare[1..])
            .args(["sh", "-c", script, "sh", program])
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &runtime_dir)
            .stdin(Stdio::null());
        command
    };
    // No other user has files and a state of its own there.
    for arguments in [&["-F", "-o", &base_dir][..], &[], &["-t"]] {
        let refused = container(program(), arguments).output();
        let refused = refused.expect("start a container");
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(78), "{arguments:?}: {said}");
        let (what, how) = said.split_once("; make it: ").expect("what to do");
        assert!(what.ends_with("no user dovestat on this system"), "{said}");
        assert!(how.contains("dovestat; or set user"), "{said}");
        assert!(!Path::new(&dir.at("run")).exists());
    }
    let user = [
        "-F",
        "-o",
        &base_dir,
        "-o",
        "service/stats/user=12345",
        "-o",
        "service/stats/group=2345",
    ];
    let own = format!("{runtime_dir}/dovestat");
    for (arguments, user, place) in [
        (&user[..], "user 12345, group 2345", dir.at("run")),
        (&["-F"], "user 0, group 0", own.clone()),
    ] {
        let log = fs::File::create(dir.at("log")).expect("the log");
        let mut container_process = container(program(), arguments)
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("start a container");
        let log = || fs::read_to_string(dir.at("log")).expect("the log");
        wait_until("it to serve", || log().contains("serving in "));
        assert!(
            log().contains(&format!(" as {user}, serving in {place}, ")),
            "{}",
            log()
        );
        if place == own {
            // Root's own clients find it, and nobody else does.
            let found = container(env!("CARGO_BIN_EXE_dovestat"), &["dump", "global"]).output();
            let found = found.expect("start a client");
            assert!(found.status.success(), "{}", text(&found.stderr));
            assert_eq!(fs::metadata(&own).expect("it").mode() & 0o7777, 0o700);
        }
        // TERM of the first process of a container does nothing by itself.
        let children = format!("/proc/{0}/task/{0}/children", container_process.id());
        let child = fs::read_to_string(children).expect("its children");
        crate::harness::send_signal(child.trim().parse().expect("a pid"), libc::SIGTERM);
        let status = container_process.wait().expect("its end");
        assert_eq!(status.code(), Some(0), "{}", log());
        assert!(log().contains("shutting down"), "{}", log());
        let has_state = Path::new(&format!("{place}/state")).exists();
        assert_eq!(has_state, place != own);
        fs::remove_dir_all(place).expect("remove base_dir");
    }
}

#[test]
fn the_first_process_of_a_container_stays_in_the_foreground() {
    if !is_root() {
        return skipped("rights", "it needs root");
    }
    let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"];
    if !works("rights", &[&unshare[..], &["true"]].concat()) {
        return;
    }
    let dir = TempDir::new("containerfirst");
    let setup = Setup::new();
    let config = setup.config(&dir).replace("stderr", &dir.at("log"));
    let path = dir.write("dovestatd.conf", &config);
    let mut container = Command::new(unshare[0])
        .args(&unshare[1..])
        .args([program(), "-c", &path])
        .spawn()
        .expect("start a container");
    let socket = dir.at("run/stats");
    wait_until("it to serve", || {
        crate::link::Client::try_unix(&socket).is_some()
    });
    assert!(
        container.try_wait().expect("wait").is_none(),
        "it has ended"
    );
    container.kill().expect("kill");
    container.wait().expect("its end");
}
