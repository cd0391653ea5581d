//! The daemon as a service: what it tells the service manager, what it keeps of
//! root and of what it was started with.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::harness::{Daemon, Setup, TempDir, DEADLINE};
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
