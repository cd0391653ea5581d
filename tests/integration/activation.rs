//! Socket activation: FIFOs and sockets that somebody else opened, holds over
//! restarts, and passes to the daemon.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{chown, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{
    free_port, is_root, local, skipped, wait_until, works, Daemon, Setup, TempDir,
};
use crate::link::{Client, Writer};
use crate::records::connect;

/// Makes the daemon's program find its own number in LISTEN_PID.
pub const SELF: [&str; 4] = ["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"];

/// Passes descriptors from 3 on, as service managers do.
pub fn pass(command: &mut Command, fds: &[&OwnedFd], names: &str) {
    command
        .env("LISTEN_FDS", fds.len().to_string())
        .env("LISTEN_FDNAMES", names);
    let numbers: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let place = move || {
        // Out of the way of each other first.
        for (index, &number) in numbers.iter().enumerate() {
            let away = 500 + index as RawFd;
            // SAFETY: no pointers; a descriptor of the parent that is open.
            if unsafe { libc::dup2(number, away) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        for index in 0..numbers.len() as RawFd {
            // SAFETY: no pointers; what is overwritten is close-on-exec.
            if unsafe { libc::dup2(500 + index, 3 + index) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls that a child may make and
    // allocates nothing unless one fails.
    unsafe { command.pre_exec(place) };
}

/// Makes a FIFO and holds it as systemd does.
pub fn hold_fifo(path: &str) -> OwnedFd {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(libc::O_NONBLOCK);
    options.open(path).expect("hold the FIFO").into()
}

#[test]
fn what_was_passed_is_served_with_the_options_of_its_section() {
    let dir = TempDir::new("activation");
    fs::create_dir(dir.at("run")).expect("mkdir run");
    let fifo = hold_fifo(&dir.at("run/stats-mail"));
    let unix = OwnedFd::from(UnixListener::bind(dir.at("run/stats")).expect("bind"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = tcp.local_addr().expect("address").port();
    let tcp = OwnedFd::from(tcp);
    let inodes = |dir: &TempDir| {
        ["run/stats-mail", "run/stats"].map(|name| fs::metadata(dir.at(name)).map(|m| m.ino()).ok())
    };
    let before = inodes(&dir);
    let setup = Setup::new()
        .unix("header_always = yes")
        .inet(port, "reset = yes")
        .wrapped(&SELF);
    let mut dir = Some(dir);
    for round in 0..2u32 {
        let mut daemon = Daemon::spawn(dir.take().expect("a directory"), &setup, |command| {
            pass(command, &[&tcp, &fifo, &unix], "a:b:c");
        });
        daemon.wait_ready();
        let session = format!("s{round}");
        daemon.feed(&[connect(&session, "u", "imap", 1, "")]);
        assert!(daemon
            .client()
            .export("session")
            .find("session", &session)
            .is_some());
        let header = daemon.client().export_raw("ip");
        assert!(header.starts_with(b"ip\t"), "header_always of the section");
        Client::tcp(local(port)).reset();
        let log = daemon.log();
        assert!(!log.contains("no section"), "{log}");
        // stats-user was not passed: made and removed as ever.
        assert!(Path::new(&daemon.dir.at("run/stats-user")).exists());
        let back = daemon.stop();
        assert!(!Path::new(&back.at("run/stats-user")).exists());
        assert_eq!(inodes(&back), before, "the manager's files stay");
        dir = Some(back);
    }
}

#[test]
fn what_was_passed_and_vanished_is_the_managers_to_make() {
    let dir = TempDir::new("vanishpassed");
    fs::create_dir(dir.at("run")).expect("mkdir run");
    let fifo = hold_fifo(&dir.at("run/stats-mail"));
    let mut daemon = Daemon::spawn(dir, &Setup::new().wrapped(&SELF), |command| {
        pass(command, &[&fifo], "a");
    });
    daemon.wait_ready();
    let mut writer = daemon.writer();
    let path = daemon.fifo();
    fs::remove_file(&path).expect("remove the FIFO");
    daemon.signal(libc::SIGHUP);
    let expected = format!(
        "error: fifo_listener {path} is gone and is the service manager's: restart its socket unit"
    );
    wait_until("its being noticed", || daemon.log().contains(&expected));
    assert!(!Path::new(&path).exists());
    // Who had it open goes on.
    writer.send_waiting(&connect("after", "u", "imap", 1, ""));
    wait_until("a session", || {
        let sessions = daemon.client().export("session");
        sessions.rows.len() == 1
    });
    daemon.stop();
}

/// As the packaged units have it: systemd makes all files as root, in a directory of
/// root's where tmpfiles.d has put the lock, and the daemon never is root.
#[test]
fn a_base_dir_of_roots_is_enough_where_all_is_passed() {
    let test = "a_base_dir_of_roots_is_enough_where_all_is_passed";
    if !is_root() {
        return skipped(test, "it needs root");
    }
    if !works(test, &["setpriv", "--version"]) {
        return;
    }
    const USER: u32 = 65_534;
    let dir = TempDir::new("rootsdir");
    let base_dir = dir.at("dovestat");
    for name in ["dovestat", "state"] {
        fs::create_dir(dir.at(name)).expect("mkdir");
    }
    dir.write("dovestat/.lock", "");
    let names = ["stats-mail", "stats-user"].map(|name| format!("{base_dir}/{name}"));
    let fifos = names.each_ref().map(|path| hold_fifo(path));
    let socket = format!("{base_dir}/stats");
    let unix = OwnedFd::from(UnixListener::bind(&socket).expect("bind"));
    for (path, mode) in [
        (&dir.at("state"), 0o700),
        (&dir.at("dovestat/.lock"), 0o600),
        (&names[0], 0o220),
        (&names[1], 0o200),
        (&socket, 0o600),
    ] {
        chown(path, Some(USER), Some(USER)).expect("chown");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let user = format!("--reuid={USER}");
    let user = ["setpriv", &user, "--regid=65534", "--clear-groups"];
    // The default base_dir, which must be one that others cannot change.
    let mut setup = Setup::new()
        .option(&format!("base_dir={base_dir}"))
        .option(&format!("state_dir={}", dir.at("state")))
        .wrapped(&[&user[..], &SELF].concat());
    let runtime_dir = dir.path().display().to_string();
    setup
        .environment
        .push(("XDG_RUNTIME_DIR".to_owned(), runtime_dir));
    let mut daemon = Daemon::spawn(dir, &setup, |command| {
        pass(command, &[&fifos[0], &fifos[1], &unix], "a:a:b");
    });
    wait_until("its serving", || {
        assert!(daemon.exited().is_none(), "{}", daemon.log());
        daemon.log().contains("serving in ")
    });
    for (id, path) in ["mail", "user"].iter().zip(&names) {
        Writer::open(path).send_waiting(&connect(id, "u", "imap", 1, ""));
    }
    let mut client = Client::unix(&socket);
    wait_until("both sessions", || client.export("session").rows.len() == 2);
    let log = daemon.log();
    for unwanted in ["warning", "error", "no section"] {
        assert!(!log.contains(unwanted), "{log}");
    }

    // A second one of that user is refused by the lock, whoever holds the directory.
    let mut second = Daemon::spawn(TempDir::new("rootssecond"), &setup, |_| ());
    let mut status = None;
    wait_until("its end", || {
        status = second.exited();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(69));
    let expected = format!("{base_dir}: another dovestatd is serving there");
    assert!(second.log().contains(&expected), "{}", second.log());

    // Nor can a daemon that was taken over change what lies there.
    for script in [
        "mv stats-mail old",
        "rm -f stats-mail",
        "ln -sf /etc/passwd stats-mail",
        "mkfifo other",
        "rm -f .lock",
    ] {
        let tried = Command::new(user[0])
            .args(&user[1..])
            .args(["sh", "-c", script])
            .current_dir(&base_dir)
            .output();
        let tried = tried.expect("run setpriv");
        assert!(!tried.status.success(), "{script}");
    }
    let inodes = names
        .each_ref()
        .map(|path| fs::metadata(path).expect("a FIFO").ino());
    daemon.signal(libc::SIGTERM);
    daemon.wait_stopped();
    assert!(Path::new(&socket).exists());
    for (path, inode) in names.iter().zip(inodes) {
        assert_eq!(fs::metadata(path).expect("a FIFO").ino(), inode);
    }
}

#[test]
fn what_no_section_names_is_served_with_defaults() {
    let dir = TempDir::new("unnamed");
    let fifo = hold_fifo(&dir.at("other-fifo"));
    let unix = OwnedFd::from(UnixListener::bind(dir.at("other")).expect("bind"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = tcp.local_addr().expect("address").port();
    let (path, tcp) = (dir.at("other-fifo"), OwnedFd::from(tcp));
    let mut daemon = Daemon::spawn(dir, &Setup::new().wrapped(&SELF), |command| {
        pass(command, &[&fifo, &unix, &tcp], "mails::web");
    });
    daemon.wait_ready();
    let mut writer = Writer::open(&path);
    writer.send_waiting(&connect("s1", "u", "imap", 1, ""));
    daemon.settle(&writer);
    let mut client = Client::unix(&daemon.dir.at("other"));
    assert_eq!(client.export("session").rows.len(), 1);
    client.reset();
    let mut client = Client::tcp(local(port));
    assert_eq!(client.export("session").rows.len(), 1);
    client.send("RESET\n");
    assert_ne!(client.try_line().as_deref(), Some(b"OK\n".as_slice()));
    let log = daemon.log();
    assert!(
        log.contains("a FIFO passed by the service manager as \"mails\""),
        "{log}"
    );
}

#[test]
fn one_socket_for_all_addresses_stands_for_both_families() {
    let listener = match TcpListener::bind("[::]:0") {
        Ok(listener) => listener,
        Err(error) => return skipped("both families", &format!("no IPv6 here: {error}")),
    };
    let port = listener.local_addr().expect("address").port();
    let listener = OwnedFd::from(listener);
    let setup = Setup::new()
        .service(&format!("inet_listener {{\nport = {port}\nreset = yes\n}}"))
        .wrapped(&SELF);
    let mut daemon = Daemon::spawn(TempDir::new("dual"), &setup, |command| {
        pass(command, &[&listener], "web");
    });
    daemon.wait_ready();
    Client::tcp(local(port)).reset();
    Client::tcp(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).reset();
}

#[test]
fn what_cannot_be_served_is_refused() {
    let dir = TempDir::new("strange");
    let datagram = OwnedFd::from(UnixDatagram::unbound().expect("a socket"));
    let file = OwnedFd::from(File::open("/dev/null").expect("/dev/null"));
    let mut dir = Some(dir);
    for (fd, what) in [(datagram, "no listening stream"), (file, "a device")] {
        let setup = Setup::new().wrapped(&SELF);
        let mut daemon = Daemon::spawn(dir.take().expect("a directory"), &setup, |command| {
            pass(command, &[&fd], "strange");
        });
        let mut status = None;
        wait_until("its end", || {
            status = daemon.exited();
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(78));
        let log = daemon.log();
        assert!(log.contains(what) && log.contains("\"strange\""), "{log}");
        dir = Some(TempDir::new("strange"));
    }
}

#[test]
fn descriptors_for_another_process_are_closed() {
    let dir = TempDir::new("others");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
    let inode = |fd: &OwnedFd| {
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("/proc/self/fd")
    };
    let tcp = OwnedFd::from(tcp);
    let link = inode(&tcp);
    let mut daemon = Daemon::spawn(dir, &Setup::new(), |command| {
        pass(command, &[&tcp], "web");
        command.env("LISTEN_PID", "1");
    });
    daemon.wait_ready();
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("/proc/PID/fd");
    for entry in open {
        let path = entry.expect("an entry").path();
        assert_ne!(fs::read_link(&path).ok().as_ref(), Some(&link), "{path:?}");
    }
}

#[test]
fn systemd_socket_activate_starts_it() {
    const PROGRAM: &str = "systemd-socket-activate";
    if Command::new(PROGRAM).arg("--version").output().is_err() {
        assert!(std::env::var_os("DOVESTAT_PEERS").is_none(), "no {PROGRAM}");
        return skipped(PROGRAM, "it is not installed");
    }
    let dir = TempDir::new("systemd");
    fs::create_dir(dir.at("run")).expect("mkdir run");
    let (path, port) = (dir.at("run/stats"), free_port());
    let setup = Setup::new().inet(port, "").wrapped(&[
        PROGRAM,
        "--listen",
        &path,
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    // The first connection is what it is started by.
    let mut daemon = Daemon::spawn(dir, &setup, |_| ());
    daemon.wait_ready();
    assert_eq!(Client::tcp(local(port)).export("global").rows.len(), 1);
    let log = daemon.log();
    assert!(!log.contains("no section"), "{log}");
    let dir = daemon.stop();
    assert!(
        Path::new(&dir.at("run/stats")).exists(),
        "not ours to remove"
    );
}
