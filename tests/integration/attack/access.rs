//! Who may write, read and reset: modes and owners of all that a daemon makes, and
//! another user who tries each of it.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::attack::{Class, Tally};
use crate::client::dovestat;
use crate::harness::{free_port, is_root, local, skipped, text, Daemon, Setup, TempDir};
use crate::http;
use crate::link::{latin1, Client};
use crate::records::connect;
use crate::requests::populate;

/// A user and group that own nothing.
const STRANGER: u32 = 54_321;

/// Whether a command succeeds for a user and group without further groups.
fn succeeds(mut command: Command, (uid, gid): (u32, u32)) -> bool {
    let command = command.uid(uid).gid(gid).stdin(Stdio::null());
    let output = command.output().expect("run a command");
    println!(
        "{uid}:{gid} {command:?}: {} {}",
        output.status,
        text(&output.stderr)
    );
    output.status.success()
}

/// A command of the shell.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Makes what is not an ordinary user's own directory.
type Maker = fn(&str);

/// What anybody may try: its name, whether it reads or writes, and the command.
fn attempts(daemon: &Daemon) -> Vec<(&'static str, Command)> {
    let (fifo, socket) = (daemon.fifo(), daemon.socket());
    let run = daemon.dir.at("run");
    vec![
        ("write", shell(&format!("echo CONNECT > {fifo}"))),
        // Both at once, as nobody waits then.
        ("read", shell(&format!("exec 3<>{fifo}"))),
        ("ask", dovestat(&["-s", &socket, "dump", "global"])),
        ("reset", dovestat(&["-s", &socket, "reset"])),
        ("remove", shell(&format!("rm -f {socket}"))),
        ("replace", shell(&format!("mv {fifo} {run}/away"))),
        ("create", shell(&format!("echo x > {run}/new"))),
        ("see the state", shell(&format!("cat {run}/state"))),
        ("lock", shell(&format!("exec 3<{run}/.lock"))),
        (
            "log",
            shell(&format!("echo forged >> {}", daemon.dir.at("log"))),
        ),
        ("signal", shell(&format!("kill -USR1 {}", daemon.pid()))),
        ("trace", shell(&format!("cat /proc/{}/mem", daemon.pid()))),
    ]
}

#[test]
fn a_stranger_may_do_nothing_by_default() {
    if !is_root() {
        return skipped("a_stranger_may_do_nothing_by_default", "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    for user in ["root", "nobody"] {
        for umask in ["0", "0777"] {
            let script = format!("umask {umask}; exec \"$@\"");
            let setup = Setup::new()
                .service(&format!("user = {user}"))
                .wrapped(&["sh", "-c", &script, "sh"])
                .option("stats_state_interval=1s");
            let mut daemon = Daemon::with("stranger", &setup);
            populate(&daemon);
            let state = daemon.dir.at("run/state");
            crate::harness::wait_until("a state", || fs::metadata(&state).is_ok());
            let before = daemon.client().export_raw("global");
            for (what, command) in attempts(&daemon) {
                tally.tries(1);
                assert!(
                    !succeeds(command, (STRANGER, STRANGER)),
                    "{what}, umask {umask}"
                );
            }
            assert_eq!(daemon.client().export_raw("global"), before);
            for (name, mode) in [
                ("", 0o755),
                ("stats", 0o600),
                ("stats-mail", 0o200),
                ("stats-user", 0o200),
                ("state", 0o600),
                (".lock", 0o600),
            ] {
                tally.tries(1);
                let meta = fs::symlink_metadata(daemon.dir.at(&format!("run/{name}")));
                let meta = meta.expect("it");
                assert_eq!(
                    meta.permissions().mode() & 0o7777,
                    mode,
                    "{name}, umask {umask}"
                );
                let is_its = meta.uid() == 0 || user == "nobody" && meta.uid() == 65_534;
                assert!(is_its, "{name} belongs to {}", meta.uid());
            }
            tally.check(&mut daemon);
            daemon.stop();
        }
    }
}

#[test]
fn a_group_may_do_what_its_mode_says_and_others_nothing() {
    let test = "a_group_may_do_what_its_mode_says_and_others_nothing";
    if !is_root() {
        return skipped(test, "needs root");
    }
    let groups = fs::read_to_string("/etc/group").expect("/etc/group");
    let group = groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok().filter(|gid| *gid != 0)?;
        Some((fields[0].to_owned(), gid))
    });
    let Some((name, gid)) = group else {
        return skipped(test, "there is no group but root's");
    };
    let mut tally = Tally::of(Class::Access);
    let setup = Setup::new().service(&format!(
        "fifo_listener stats-mail {{\ngroup = {name}\nmode = 0220\n}}\n\
         unix_listener stats {{\ngroup = {name}\nmode = 0660\nreset = no\n}}"
    ));
    let mut daemon = Daemon::with("group", &setup);
    let member = (STRANGER, gid);
    for (what, command) in attempts(&daemon) {
        tally.tries(1);
        let may = ["write", "ask"].contains(&what);
        assert_eq!(succeeds(command, member), may, "{what} as one of {name}");
    }
    for (what, command) in attempts(&daemon) {
        tally.tries(1);
        assert!(!succeeds(command, (STRANGER, STRANGER)), "{what}");
    }
    tally.check(&mut daemon);
}

#[test]
fn who_may_read_the_directory_cannot_keep_it_from_being_served() {
    if !is_root() {
        let test = "who_may_read_the_directory_cannot_keep_it_from_being_served";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    let daemon = Daemon::start("held");
    let dir = daemon.stop();
    // Held by anybody who can open it.
    let stranger = fs::File::open(dir.at("run")).expect("open base_dir");
    // SAFETY: no pointers; the descriptor is owned by `stranger`.
    let rc = unsafe { libc::flock(stranger.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(rc, 0, "flock");
    tally.tries(1);
    let mut daemon = Daemon::in_dir(dir, &Setup::new());
    tally.check(&mut daemon);
}

#[test]
fn an_ordinary_users_own_directory_must_be_its_own() {
    if !is_root() {
        let test = "an_ordinary_users_own_directory_must_be_its_own";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Access);
    let cases: [(&str, Maker); 5] = [
        ("another's", |path| {
            fs::create_dir(path).expect("mkdir");
            std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).expect("chown");
        }),
        ("root's", |path| fs::create_dir(path).expect("mkdir")),
        ("open to all", |path| {
            fs::create_dir(path).expect("mkdir");
            std::os::unix::fs::chown(path, Some(STRANGER), Some(STRANGER)).expect("chown");
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        }),
        ("a symlink to its own", |path| {
            let own = format!("{path}.own");
            fs::create_dir(&own).expect("mkdir");
            std::os::unix::fs::chown(&own, Some(STRANGER), Some(STRANGER)).expect("chown");
            std::os::unix::fs::symlink(&own, path).expect("symlink");
        }),
        ("a file", |path| fs::write(path, "").expect("write")),
    ];
    for (what, make) in cases {
        tally.tries(1);
        let dir = TempDir::new("ordinary");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
        make(&dir.at("dovestat"));
        let mut command = Command::new(crate::harness::program());
        command.arg("-F").env("XDG_RUNTIME_DIR", dir.path());
        command.env_remove("NOTIFY_SOCKET");
        let output = command
            .uid(STRANGER)
            .gid(STRANGER)
            .stdin(Stdio::null())
            .output()
            .expect("start dovestatd");
        let (code, said) = (output.status.code(), text(&output.stderr));
        assert!(
            code.is_some_and(|code| code == 77 || code == 74),
            "{what}: {code:?} {said}"
        );
    }
    tally.survived();
}

#[test]
fn reset_is_for_those_it_is_given_to() {
    let mut tally = Tally::of(Class::Access);
    let ports = [free_port(), free_port(), free_port()];
    let setup = Setup::new()
        .service("unix_listener closed {\nmode = 0600\nreset = no\n}")
        .inet(ports[0], "")
        .inet(ports[1], "reset = yes")
        .inet(ports[2], "protocol = http");
    let mut daemon = Daemon::with("whoresets", &setup);
    populate(&daemon);
    let closed = daemon.dir.at("run/closed");
    let logins = || daemon.client().export("global").only().num("num_logins");
    let mut expected = logins();
    // And which of them mean it.
    let ways = [
        ("RESET\n", true),
        ("RESET\r\n", true),
        ("RESET\tglobal\n", true),
        ("EXPORT\tglobal\nRESET\n", true),
        ("EXPORT\tglobal\r\nRESET\r\nRESET\n", true),
        ("RES\x01ET\n", false),
        ("reset\n", false),
        ("RESET / HTTP/1.1\r\n\r\n", false),
        // By a browser that was sent here.
        (
            "POST /reset HTTP/1.1\r\nContent-Length: 6\r\n\r\nRESET\n",
            false,
        ),
    ];
    for (n, (way, is_meant)) in ways.into_iter().enumerate() {
        for may in [false, true] {
            let clients = match may {
                false => vec![
                    Client::tcp(local(ports[0])),
                    Client::unix(&closed),
                    http::client(ports[2]),
                ],
                true => vec![Client::tcp(local(ports[1])), daemon.client()],
            };
            for mut client in clients {
                tally.tries(1);
                client.send(way);
                client.half_close();
                let answer = latin1(&client.rest());
                let was_reset = may && is_meant;
                assert_eq!(answer.contains("OK\n"), was_reset, "{way:?}, {may}");
                let now = logins();
                assert_eq!(now, if was_reset { 0 } else { expected }, "{way:?}, {may}");
                daemon.feed(&[connect(&format!("more{n}"), "u", "imap", 1, "")]);
                expected = logins();
            }
        }
    }
    tally.check(&mut daemon);
}
