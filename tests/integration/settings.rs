//! What the configuration names and this system does not have, what the start logs of
//! the settings it has taken, and which clients may connect.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Command, Output};

use crate::harness::{free_port, is_root, run, text, wait_until, Daemon, Setup, TempDir};

/// What has root's daemon not ask for the user dovestat, whom a machine may not have,
/// if the file does not say who it is to be.
fn own_user(file: &str) -> &'static [&'static str] {
    let text = fs::read_to_string(file).unwrap_or_default();
    match text.lines().any(|line| line.starts_with("user = ")) {
        true => &[],
        false => &["-o", "service/stats/user=root"],
    }
}

/// `dovestatd -t` on a file.
fn check(file: &str) -> Output {
    run(&[&["-t", "-c", file], own_user(file)].concat())
}

/// Standard error of a start that is refused for the configuration.
#[track_caller]
fn refused(file: &str) -> String {
    let output = run(&[&["-F", "-c", file], own_user(file)].concat());
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    text(&output.stderr)
}

#[test]
fn a_check_finds_all_that_the_start_refuses() {
    let dir = TempDir::new("missing");
    let at = |name: &str| dir.at(name);
    let file = dir.write(
        "dovestatd.conf",
        &format!(
            "base_dir = {}\nlog_path = {}\npidfile = {}\nstate_dir = {}\nservice stats {{\n\
             user = no-such-user\ngroup = no-such-group\nchroot = jail\n\
             fifo_listener stats-mail {{\nuser = no-such-vmail\ngroup = no-such-mail\n}}\n\
             fifo_listener {} {{\n}}\nunix_listener sub/stats {{\nuser = 12345\n}}\n\
             unix_listener off/stats {{\nmode = 0\nuser = no-such-one\n}}\n}}\n",
            at("no/base"),
            at("no/log"),
            at("no/pid"),
            at("no/state/dir"),
            at("no/fifo"),
        ),
    );
    let output = check(&file);
    assert_eq!(output.status.code(), Some(78));
    let expected_line = text(&output.stderr).replace(&format!("{}/", dir.path().display()), "");
    let service = if is_root() {
        "dovestatd.conf:6: service stats: user: no user no-such-user on this system\n\
         dovestatd.conf:7: service stats: group: no group no-such-group on this system\n\
         dovestatd.conf:8: service stats: chroot: the directory no/base/jail does not exist\n"
    } else {
        ""
    };
    let expected = format!(
        "dovestatd.conf:4: state_dir no/state/dir: the directory no/state does not exist\n\
         dovestatd.conf:1: base_dir no/base: the directory no does not exist\n\
         dovestatd.conf:2: log_path no/log: the directory no does not exist\n\
         dovestatd.conf:3: pidfile no/pid: the directory no does not exist\n\
         {service}\
         dovestatd.conf:10: fifo_listener stats-mail: no user no-such-vmail on this system\n\
         dovestatd.conf:11: fifo_listener stats-mail: no group no-such-mail on this system\n\
         dovestatd.conf:13: fifo_listener no/fifo: the directory no does not exist\n\
         dovestatd.conf:15: unix_listener sub/stats: the directory no/base/sub does not exist\n"
    );
    assert_eq!(
        expected_line.replace(&format!("{}", dir.path().display()), "."),
        expected
    );
    // The start prints the same, but for the log, which is standard error with -F, and
    // the state, which it can do without.
    let without_log: Vec<&str> = expected
        .lines()
        .filter(|l| !l.contains("log_path") && !l.contains("state_dir"))
        .collect();
    let printed = refused(&file).replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(printed.lines().collect::<Vec<_>>(), without_log);
    assert!(!dir.path().join("no").exists(), "directories were made");

    let pidfile = at("no/pid");
    let wrong = dir.write(
        "wrong.conf",
        &format!("base_dri = /x\npidfile = {pidfile}\n"),
    );
    let both = text(&check(&wrong).stderr);
    assert!(both.contains("wrong.conf:1: unknown setting"), "{both}");
    assert!(
        both.contains(&format!("wrong.conf:2: pidfile {pidfile}: ")),
        "{both}"
    );

    let good = dir.write("good.conf", &format!("base_dir = {}\n", at("base")));
    let output = check(&good);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("{good}: ok\n"));
    assert_eq!(text(&output.stderr), "");
    assert!(!dir.path().join("base").exists(), "a check made it");
}

/// A slip in a path makes no chain of directories.
#[test]
fn a_slip_in_base_dir_is_told() {
    let dir = TempDir::new("slip");
    let file = dir.write(
        "dovestatd.conf",
        &format!("base_dir = {}\n", dir.at("rnu/stats")),
    );
    let printed = refused(&file);
    let expected = format!(
        "{file}:1: base_dir {}: the directory {} does not exist\n",
        dir.at("rnu/stats"),
        dir.at("rnu")
    );
    assert_eq!(printed, expected);
    assert!(!dir.path().join("rnu").exists());
}

#[test]
fn the_start_lists_listeners_and_sizes() {
    let port = free_port();
    let http = free_port();
    let setup = Setup::new()
        .service("fifo_listener stats-user {\nmode = 0622\n}")
        .inet(port, "allow_nets = 127.0.0.0/8")
        .service(&format!("inet_listener http {{\nport = {http}\n}}"));
    let daemon = Daemon::with("listing", &setup);
    let (log, run) = (daemon.log(), daemon.dir.at("run"));
    let id = |option| {
        let output = Command::new("id").arg(option).output().expect("run id");
        text(&output.stdout).trim().to_owned()
    };
    let (user, group) = (id("-un"), id("-gn"));
    for line in [
        format!(
            "dovestatd: records from {run}/stats-mail (owner {user}, group {group}, mode 0200)\n"
        ),
        format!(
            "dovestatd: records from {run}/stats-user (owner {user}, group {group}, mode 0622)\n"
        ),
        format!("dovestatd: clients at {run}/stats (owner {user}, group {group}, mode 0600)\n"),
        format!("dovestatd: clients at 127.0.0.1:{port} (from 127.0.0.0/8)\n"),
        format!("dovestatd: clients of HTTP at 0.0.0.0:{http}\n"),
        format!("serving in {run}, memory limit 16 M\n"),
    ] {
        assert!(log.contains(&line), "{line}\n{log}");
    }
    let open = format!(
        "warning: {}:{}: inet_listener: no address is set: all who can reach port {http} on any \
         address of this host can read all statistics; set address (* :: if that is meant) or \
         allow_nets\n",
        daemon.dir.at("dovestatd.conf"),
        fs::read_to_string(daemon.dir.at("dovestatd.conf"))
            .expect("the configuration")
            .lines()
            .position(|line| line.contains("inet_listener http"))
            .expect("the section")
            + 1
    );
    assert!(log.contains(&open), "{log}");
}

/// Connects to a port of the loopback from an address of it.
fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    let address = |ip: [u8; 4], port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(ip),
        },
        sin_zero: [0; 8],
    };
    let length = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let source = address(from, 0);
    // SAFETY: the address and its length are of one object that outlives the call.
    let bound = unsafe { libc::bind(fd, std::ptr::from_ref(&source).cast(), length) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    let target = address([127, 0, 0, 1], port);
    // SAFETY: likewise.
    let done = unsafe { libc::connect(fd, std::ptr::from_ref(&target).cast(), length) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    TcpStream::from(socket)
}

/// Whether a client from an address is answered, not closed.
fn is_answered(from: [u8; 4], port: u16) -> bool {
    use std::io::Write as _;
    let mut client = connect_from(from, port);
    // One that is refused may be gone already.
    let _ = client.write_all(b"EXPORT\tglobal\n");
    let mut byte = [0];
    matches!(client.read(&mut byte), Ok(1))
}

#[test]
fn only_allowed_networks_are_served() {
    let port = free_port();
    let setup = Setup::new().inet(port, "allow_nets = 127.0.0.2 127.1.0.0/16");
    let mut daemon = Daemon::with("allow-nets", &setup);
    assert!(is_answered([127, 0, 0, 2], port));
    assert!(is_answered([127, 1, 255, 255], port));
    assert!(!is_answered([127, 0, 0, 1], port));
    assert!(!is_answered([127, 2, 0, 0], port));
    let expected_line = format!(
        "warning: connection closed: the client may not come from there: \
         inet_listener 127.0.0.1:{port}: 127.0.0.1 is in none of allow_nets\n"
    );
    assert!(daemon.log().contains(&expected_line), "{}", daemon.log());
    // A change holds from HUP on.
    let file = daemon.dir.at("dovestatd.conf");
    let config = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, config.replace("127.0.0.2 127.1.0.0/16", "127.0.0.1")).expect("write it");
    daemon.signal(libc::SIGHUP);
    wait_until("the reload", || {
        daemon.log().contains("settings read again")
    });
    assert!(!is_answered([127, 0, 0, 2], port));
    assert!(is_answered([127, 0, 0, 1], port));
    daemon.assert_alive();
}

#[test]
fn an_empty_chroot_is_made_as_dovecot_does() {
    if !is_root() {
        return crate::harness::skipped("an_empty_chroot_is_made_as_dovecot_does", "not root");
    }
    let setup = Setup::new().service("chroot = empty");
    let daemon = Daemon::with("empty", &setup);
    daemon.feed(&["CONNECT\tid1\tuser@example.org\timap\t1"]);
    assert_eq!(daemon.client().export("session").rows.len(), 1);
    let empty = daemon.dir.path().join("run/empty");
    let root = fs::read_link(format!("/proc/{}/root", daemon.pid())).expect("its root");
    assert_eq!(root, empty);
    assert_eq!(fs::read_dir(&empty).expect("a directory").count(), 0);
    daemon.stop();
}

/// A HUP with an include that became a FIFO changes nothing and waits for nothing.
#[test]
fn hup_waits_for_no_fifo() {
    let dir = TempDir::new("hup-fifo");
    let include = dir.write("more.conf", "stats_carbon_name = a\n");
    let setup = Setup {
        lines: vec![format!("!include {include}")],
        ..Setup::new()
    };
    let mut daemon = Daemon::in_dir(dir, &setup);
    fs::remove_file(&include).expect("remove it");
    let made = Command::new("mkfifo").arg(&include).status();
    assert!(made.expect("run mkfifo").success());
    daemon.signal(libc::SIGHUP);
    let expected_line = format!("\"{include}\" cannot be read: neither a file nor a link to one\n");
    wait_until("the reload refused", || {
        let log = daemon.log();
        log.contains(&expected_line) && log.contains("the settings stay as they were")
    });
    daemon.assert_alive();
}

/// What a person reads has no numbers of errno, and no address twice.
#[test]
fn reasons_are_words() {
    let dir = TempDir::new("reasons");
    let base = format!("base_dir={}", dir.at("run"));
    let user = if is_root() { "root" } else { "unused" };
    let user = format!("service/stats/user={user}");
    // Of TEST-NET-1: no address of this machine.
    let elsewhere = "service/stats/inet_listener/x/address=192.0.2.1";
    let port = "service/stats/inet_listener/x/port=65000";
    let output = run(&["-F", "-o", &base, "-o", &user, "-o", elsewhere, "-o", port]);
    assert_eq!(
        text(&output.stderr).lines().last(),
        Some("dovestatd: inet_listener 192.0.2.1:65000: Cannot assign requested address")
    );
    assert_eq!(
        text(&check("/nonexistent/file").stderr),
        "/nonexistent/file: cannot be read: No such file or directory\n"
    );
    let closed = free_port();
    let setup = Setup::new()
        .option(&format!("stats_carbon_server=127.0.0.1:{closed}"))
        .option("stats_carbon_interval=1s");
    let daemon = Daemon::with("refused", &setup);
    let expected_line = format!(
        "no whole report to carbon: 127.0.0.1:{closed}: Connection refused (0 bytes were written)\n"
    );
    wait_until("the refusal", || daemon.log().contains(&expected_line));
    daemon.signal(libc::SIGUSR1);
    wait_until("the status", || {
        daemon.log().contains(" of 16 M of memory used, ")
    });
}

/// A daemon in the background whose log is nowhere warns its starter.
#[test]
fn without_a_system_log_the_starter_hears_so() {
    let test = "without_a_system_log_the_starter_hears_so";
    if std::path::Path::new("/dev/log").exists() {
        return crate::harness::skipped(test, "there is a /dev/log");
    }
    let dir = TempDir::new("no-log");
    let setup = Setup {
        lines: vec![format!("pidfile = {}", dir.at("pid"))],
        ..Setup::new()
    };
    let config = setup.config(&dir).replace("log_path = stderr\n", "");
    let file = dir.write("dovestatd.conf", &config);
    let output = run(&["-c", &file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid = fs::read_to_string(dir.at("pid")).expect("its pidfile");
    let pid = pid.trim().parse().expect("a process id");
    crate::harness::send_signal(pid, libc::SIGTERM);
    assert_eq!(
        text(&output.stderr),
        "dovestatd: no system log at /dev/log: what is logged is lost until there is one; \
         set log_path to a file, or use -F\n"
    );
    wait_until("its end", || !std::path::Path::new(&dir.at("pid")).exists());
}

/// The configuration of the Dovecot that is installed, as its package has it and as
/// doveconf prints it, is ours to read as well, and to serve with.
#[test]
fn the_installed_dovecots_configuration_is_read_as_it_is() {
    if !crate::dovecot::available("the_installed_dovecots_configuration_is_read_as_it_is") {
        return;
    }
    let dir = TempDir::new("installed");
    let mut files = vec!["/usr/share/dovecot/dovecot.conf".to_owned()];
    for option in ["-a", "-n"] {
        let output = Command::new("doveconf").arg(option).output();
        let output = output.expect("run doveconf");
        assert!(output.status.success(), "{output:?}");
        files.push(dir.write(&format!("doveconf{option}"), &text(&output.stdout)));
    }
    for file in &files {
        let output = check(file);
        let printed = format!(
            "{file}: ok (Dovecot's own file: only settings and service of its statistics are \
             taken)\n"
        );
        assert_eq!(text(&output.stdout), printed, "{output:?}");
        assert_eq!(text(&output.stderr), "");
    }
    let setup = Setup {
        lines: vec![
            format!("!include {}", files[1]),
            format!("base_dir = {}", dir.at("run")),
        ],
        ..Setup::new()
    };
    // The harness's own lines stand in front.
    let daemon = Daemon::in_dir(dir, &setup);
    let fifo = daemon.dir.at("run/old-stats-mail");
    assert!(
        daemon
            .log()
            .contains(&format!("records from {fifo} (owner ")),
        "{}",
        daemon.log()
    );
    let mut writer = crate::link::Writer::open(&fifo);
    writer.send_waiting(b"CONNECT\tid1\tuser\timap\t1");
    daemon.settle(&writer);
    assert_eq!(daemon.client().export("session").rows.len(), 1);
}
