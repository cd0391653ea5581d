//! The daemon as a service: what it tells the service manager, what it keeps of
//! root and of what it was started with.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{
    free_port, is_root, local, program, send_signal, skipped, wait_until, Daemon, Setup, TempDir,
    DEADLINE,
};
use crate::link::Client;
use crate::records::connect;

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// At a path in `dir`.
    fn at(path: &str) -> Manager {
        Manager::of(UnixDatagram::bind(path).expect("bind the manager's socket"))
    }

    fn of(socket: UnixDatagram) -> Manager {
        socket
            .set_read_timeout(Some(DEADLINE))
            .expect("set a timeout");
        Manager(socket)
    }

    /// The next message.
    #[track_caller]
    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// Asserts that nothing was said so far.
    #[track_caller]
    fn assert_silent(&self) {
        self.0.set_nonblocking(true).expect("nonblocking");
        let error = self.0.recv(&mut [0; 100]).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        self.0.set_nonblocking(false).expect("blocking");
    }
}

/// The value of an assignment in a message.
#[track_caller]
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let value = message
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {message:?}"))
}

#[test]
fn the_manager_hears_of_every_step() {
    let dir = TempDir::new("notify");
    let path = dir.at("notify");
    let manager = Manager::at(&path);
    let mut daemon = Daemon::spawn(dir, &Setup::new(), |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let ready = manager.message();
    assert_eq!(value(&ready, "READY"), "1");
    assert!(value(&ready, "STATUS").contains("0 users"), "{ready}");
    // Said when it is true: nobody has to try again.
    daemon.client().export("global");
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    daemon.signal(libc::SIGUSR1);
    let status = manager.message();
    assert!(value(&status, "STATUS").contains("1 users"), "{status}");
    daemon.signal(libc::SIGHUP);
    let reloading = manager.message();
    assert_eq!(value(&reloading, "RELOADING"), "1");
    let usecs: u64 = value(&reloading, "MONOTONIC_USEC").parse().expect("a time");
    assert!(usecs > 0);
    assert_eq!(value(&manager.message(), "READY"), "1");
    manager.assert_silent();
    daemon.signal(libc::SIGTERM);
    assert_eq!(value(&manager.message(), "STOPPING"), "1");
    daemon.wait_stopped();
}

#[test]
fn the_manager_may_have_no_path() {
    let name = format!("dovestat-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an abstract name");
    let manager = Manager::of(UnixDatagram::bind_addr(&address).expect("bind"));
    let dir = TempDir::new("abstract");
    let daemon = Daemon::spawn(dir, &Setup::new(), |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}"));
    });
    assert_eq!(value(&manager.message(), "READY"), "1");
    daemon.stop();
}

#[test]
fn a_manager_that_is_gone_or_does_not_read_is_not_missed() {
    let dir = TempDir::new("deaf");
    let path = dir.at("notify");
    let manager = Manager::at(&path);
    let setup = Setup::new();
    let mut daemon = Daemon::spawn(dir, &setup, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    daemon.wait_ready();
    for _ in 0..300 {
        daemon.signal(libc::SIGHUP);
        daemon.client().export("global");
    }
    drop(manager);
    daemon.signal(libc::SIGHUP);
    daemon.assert_alive();
    let dir = daemon.stop();
    let mut daemon = Daemon::spawn(dir, &setup, |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    });
    daemon.wait_ready();
}

#[test]
fn the_watchdog_is_fed_when_it_is_asked_for() {
    let dir = TempDir::new("watchdog");
    let path = dir.at("notify");
    let manager = Manager::at(&path);
    // The process is known only to itself.
    let setup = Setup::new().wrapped(&["sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
    let daemon = Daemon::spawn(dir, &setup, |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "100000");
    });
    assert_eq!(value(&manager.message(), "READY"), "1");
    for _ in 0..5 {
        let message = manager.message();
        assert_eq!(value(&message, "WATCHDOG"), "1");
        assert!(
            value(&message, "STATUS").starts_with("serving"),
            "{message}"
        );
    }
    let _dir = daemon.stop();
    while manager.0.set_nonblocking(true).is_ok() && manager.0.recv(&mut [0; 1000]).is_ok() {}
    manager.0.set_nonblocking(false).expect("blocking");
    // One that means another process is not for us.
    let mut daemon = Daemon::spawn(TempDir::new("nodog"), &Setup::new(), |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000")
            .env("WATCHDOG_PID", "1");
    });
    assert_eq!(value(&manager.message(), "READY"), "1");
    daemon.wait_ready();
    let timeout = Duration::from_millis(200);
    manager.0.set_read_timeout(Some(timeout)).expect("timeout");
    assert!(manager.0.recv(&mut [0; 100]).is_err(), "no sign of life");
}

/// A line of /proc/PID/status.
#[track_caller]
fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc/PID/status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let words = line
        .unwrap_or_else(|| panic!("no {key}"))
        .split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

/// What a command prints.
#[track_caller]
fn printed(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

#[test]
fn nothing_of_root_is_kept() {
    if !is_root() {
        return skipped("nothing of root is kept", "needs root");
    }
    // One with supplementary groups, if there is any.
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let names = users.lines().filter_map(|line| line.split(':').next());
    let group_count = |name: &&str| printed("id", &["-G", name]).split(' ').count();
    let user = names.filter(|&name| name != "root").max_by_key(group_count);
    let user = user.expect("a user");
    let setup = Setup::new().service(&format!("user = {user}\nchroot = ."));
    let daemon = Daemon::with("privileges", &setup);
    let pid = daemon.pid();
    let (uid, gid) = (printed("id", &["-u", user]), printed("id", &["-g", user]));
    assert_eq!(status(pid, "Uid"), [&*uid; 4].join(" "));
    assert_eq!(status(pid, "Gid"), [&*gid; 4].join(" "));
    let sorted = |text: &str| {
        let mut numbers: Vec<u32> = text.split(' ').filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    let groups = printed("id", &["-G", user]);
    assert_eq!(sorted(&status(pid, "Groups")), sorted(&groups), "{user}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Umask"), "0027");
    let root = fs::read_link(format!("/proc/{pid}/root")).expect("/proc/PID/root");
    assert_eq!(root, Path::new(&daemon.dir.at("run")));
}

#[test]
fn no_descriptor_is_inherited_or_passed_on() {
    let dir = TempDir::new("descriptors");
    let secret = File::open("/etc/passwd").expect("/etc/passwd");
    let number = secret.as_raw_fd();
    let mut daemon = Daemon::spawn(dir, &Setup::new(), |command| {
        let leak = move || {
            for to in [3, 4, 57] {
                // SAFETY: no pointers; a descriptor of the parent that is open.
                unsafe { libc::dup2(number, to) };
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls that a child may make.
        unsafe { command.pre_exec(leak) };
    });
    daemon.wait_ready();
    let pid = daemon.pid();
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc/PID/fd") {
        let entry = entry.expect("an entry");
        let number: i32 = entry
            .file_name()
            .to_string_lossy()
            .parse()
            .expect("a number");
        if number < 3 {
            continue;
        }
        // That of a client may be closed by now.
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        assert_ne!(link, Path::new("/etc/passwd"), "{number} leaked");
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else {
            continue;
        };
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .expect("flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("octal flags");
        assert_ne!(flags & libc::O_CLOEXEC, 0, "{number}, {link:?}");
        seen += 1;
    }
    assert!(seen > 4, "FIFOs, a socket, the lock and more");
}

#[test]
fn children_do_not_believe_that_they_are_the_service() {
    let dir = TempDir::new("environment");
    fs::create_dir(dir.at("bin")).expect("mkdir bin");
    let spy = dir.write(
        "bin/getent",
        &format!("#!/bin/sh\nenv > {}\n", dir.at("env.new")),
    );
    let script = fs::read_to_string(&spy).expect("the script");
    let (new, env) = (dir.at("env.new"), dir.at("env"));
    fs::write(&spy, format!("{script}mv {new} {env}\n")).expect("write the script");
    fs::set_permissions(&spy, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = format!("{}:{}", dir.at("bin"), std::env::var("PATH").expect("PATH"));
    let setup = Setup::new().option("stats_carbon_server=carbon.invalid");
    let setup = setup.option("stats_carbon_interval=1s");
    let manager = Manager::at(&dir.at("notify"));
    let _daemon = Daemon::spawn(dir, &setup, |command| {
        command
            .env("PATH", path)
            .env("SECRET", "of the starter")
            .env(
                "NOTIFY_SOCKET",
                manager.0.local_addr().unwrap().as_pathname().unwrap(),
            )
            .env("WATCHDOG_USEC", "60000000")
            .env("WATCHDOG_PID", "1")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", "1")
            .env("LISTEN_FDNAMES", "x");
    });
    wait_until("a host name looked up", || Path::new(&env).exists());
    let seen = fs::read_to_string(&env).expect("its environment");
    assert!(seen.contains("PATH="), "{seen}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "SECRET"] {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
}

#[test]
fn core_limits_are_those_of_the_starter() {
    for limit in ["0", "unlimited"] {
        let script = format!("ulimit -S -c {limit}; exec \"$@\"");
        let setup = Setup::new().wrapped(&["sh", "-c", &script, "sh"]);
        let daemon = Daemon::with("core", &setup);
        let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
        let limits = limits.expect("/proc/PID/limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let soft = line.and_then(|line| line.split_whitespace().nth(4));
        assert_eq!(soft, Some(limit));
    }
}

#[test]
fn a_pidfile_is_there_while_the_daemon_is() {
    let dir = TempDir::new("pidfile");
    let path = dir.at("d.pid");
    fs::write(&path, "99999999 of a daemon that was killed\n").expect("write");
    let setup = Setup::new().option(&format!("pidfile={path}"));
    let config = dir.write("dovestatd.conf", &setup.config(&dir));
    // In the background, from another directory, with a relative path.
    let starter = Command::new(program())
        .args(["-c", "dovestatd.conf"])
        .args(&setup.options)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(starter.expect("start dovestatd").success(), "{config}");
    let text = fs::read_to_string(&path).expect("the pidfile");
    let pid: u32 = text
        .strip_suffix('\n')
        .and_then(|text| text.parse().ok())
        .expect("a number");
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("/proc/PID/cwd");
    assert_eq!(cwd, Path::new("/"));
    let mode = fs::metadata(&path)
        .expect("the pidfile")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o644);
    // It still finds its configuration.
    dir.write(
        "dovestatd.conf",
        &setup
            .config(&dir)
            .replace("log_path = stderr", &format!("log_path = {}", dir.at("x"))),
    );
    send_signal(pid, libc::SIGHUP);
    Client::unix(&dir.at("run/stats")).export("global");
    send_signal(pid, libc::SIGTERM);
    wait_until("its end", || !Path::new(&format!("/proc/{pid}")).exists());
    assert!(!Path::new(&path).exists(), "removed");
    assert!(!Path::new(&dir.at(".d.pid.new")).exists());
}

/// What the descriptors of a process lead to.
fn descriptors(pid: u32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc/PID/fd");
    // That of a client may be closed by now.
    all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .collect()
}

#[test]
fn no_directory_outside_of_a_chroot_stays_open_but_of_the_state_and_the_log() {
    if !is_root() {
        return skipped("descriptors of a chroot", "needs root");
    }
    for (chroot, state, log) in [
        (".", "auto", false),
        ("empty", "", false),
        ("empty", "auto", false),
        ("empty", "", true),
    ] {
        let dir = TempDir::new("chroot-descriptors");
        let mut setup = Setup::new()
            .service(&format!("user = nobody\nchroot = {chroot}"))
            .option(&format!("state_dir={}", state))
            .option(&format!("pidfile={}", dir.at("pid")));
        let (config, run) = (dir.at("dovestatd.conf"), dir.at("run"));
        fs::create_dir(dir.at("logs")).expect("mkdir logs");
        if log {
            setup = setup.option(&format!("log_path={}", dir.at("logs/log")));
        }
        dir.write("dovestatd.conf", &setup.config(&dir));
        // In the background, where the log is a file.
        let mut command = Command::new(program());
        command.args(["-c", &config]).args(&setup.options);
        assert!(command.status().expect("start dovestatd").success());
        let pid = fs::read_to_string(dir.at("pid")).expect("the pidfile");
        let pid = pid.trim().parse().expect("a number");
        let open = descriptors(pid);
        let root = Path::new(&run)
            .join(chroot)
            .components()
            .collect::<PathBuf>();
        let outside = open
            .into_iter()
            .filter(|path| path.is_dir() && !path.starts_with(&root));
        let outside: Vec<PathBuf> = outside.collect();
        send_signal(pid, libc::SIGTERM);
        wait_until("its end", || !Path::new(&format!("/proc/{pid}")).exists());
        let mut expected = Vec::new();
        if log {
            expected.push(PathBuf::from(dir.at("logs")));
        }
        if chroot == "empty" && state == "auto" {
            expected.push(PathBuf::from(&run));
        }
        assert_eq!(outside, expected, "{chroot} {state:?} {log}");
    }
}

#[test]
fn a_pidfile_that_root_made_stays_as_it_was_if_it_cannot_be_removed() {
    if !is_root() {
        return skipped("a pidfile that root made", "needs root");
    }
    let dir = TempDir::new("pidfile-root");
    let path = dir.at("d.pid");
    let setup = Setup::new()
        .service("user = nobody\nchroot = .")
        .option(&format!("pidfile={path}"));
    let daemon = Daemon::in_dir(dir, &setup);
    let written = fs::read_to_string(&path).expect("it");
    assert_eq!(written.trim(), daemon.pid().to_string());
    assert_eq!(fs::metadata(&path).expect("it").uid(), 0);
    // By a descriptor of it the daemon's user could write what root's tools trust.
    for link in descriptors(daemon.pid()) {
        assert_ne!(link, Path::new(&path));
    }
    let dir = daemon.stop();
    let left = fs::read_to_string(&path).expect("it is still there");
    assert_eq!(left, written);
    // The next one has its own.
    let daemon = Daemon::in_dir(dir, &setup);
    let now = fs::read_to_string(&path).expect("it");
    assert_eq!(now.trim(), daemon.pid().to_string());
}

#[test]
fn hup_changes_how_the_next_clients_are_served() {
    let port = free_port();
    let setup = Setup::new()
        .unix("header_always = no")
        .inet(port, "reset = no");
    let mut daemon = Daemon::with("hup-options", &setup);
    let mut old = daemon.client();
    assert_eq!(old.export_raw("user"), b"\n");
    let changed = Setup::new()
        .unix("header_always = yes")
        .inet(port, "reset = yes")
        .config(&daemon.dir);
    daemon.dir.write("dovestatd.conf", &changed);
    daemon.signal(libc::SIGHUP);
    wait_until("the settings read again", || {
        daemon.log().contains("settings read again")
    });
    assert!(!daemon.log().contains("restart"), "{}", daemon.log());
    assert_eq!(old.export_raw("user"), b"\n", "as it was connected");
    assert_ne!(daemon.client().export_raw("user"), b"\n");
    Client::tcp(local(port)).reset();
    let more = format!("pidfile = /nonexistent/pid\nstate_dir =\n{changed}");
    daemon.dir.write(
        "dovestatd.conf",
        &more.replace("mode = 0600", "mode = 0660"),
    );
    daemon.signal(libc::SIGHUP);
    wait_until("what needs a restart", || {
        daemon
            .log()
            .contains("need a restart: pidfile, state_dir, unix_listener stats (they")
    });
    daemon.assert_alive();
    assert_ne!(daemon.client().export_raw("user"), b"\n");
}
