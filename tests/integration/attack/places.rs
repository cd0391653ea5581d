//! What lies in the way of listeners, directories and files: things of every kind at
//! every path, and symlinks that another user planted for root to follow.

use std::fs;
use std::os::unix::fs::{chown, symlink, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::attack::{Class, Tally};
use crate::harness::{
    is_root, program, run, running, send_signal, skipped, text, wait_until, Daemon, Setup, TempDir,
};
use crate::link::Client;

/// Who is not root: nobody.
const NOBODY: u32 = 65_534;

/// What lies at a path without looking through it: its kind, mode, owner, inode and
/// content.
fn image(path: &str) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return "nothing".to_owned();
    };
    let content = match meta.is_file() {
        true => text(&fs::read(path).unwrap_or_default()),
        false => String::new(),
    };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    let (mode, uid, gid, ino) = (meta.mode(), meta.uid(), meta.gid(), meta.ino());
    format!("{mode:o} {uid} {gid} {ino} {content:?} {names:?}")
}

fn make_fifo(path: &str) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

/// Things that are no listeners of ours, and what keeps them alive.
type Obstacle = (&'static str, fn(&str) -> Box<dyn std::any::Any>);

const OBSTACLES: [Obstacle; 11] = [
    ("a file", |path| Box::new(fs::write(path, "precious"))),
    ("an empty file", |path| Box::new(fs::write(path, ""))),
    ("a directory", |path| Box::new(fs::create_dir(path))),
    ("a symlink to a file", |path| {
        fs::write(format!("{path}.target"), "precious").expect("write");
        Box::new(symlink(format!("{path}.target"), path))
    }),
    ("a symlink to a FIFO", |path| {
        make_fifo(&format!("{path}.target"));
        Box::new(symlink(format!("{path}.target"), path))
    }),
    ("a symlink to a socket", |path| {
        let target = format!("{path}.target");
        let socket = UnixListener::bind(&target).expect("bind");
        symlink(target, path).expect("symlink");
        Box::new(socket)
    }),
    ("a symlink to nothing", |path| {
        Box::new(symlink(format!("{path}.target"), path))
    }),
    ("a symlink to itself", |path| Box::new(symlink(path, path))),
    ("a symlink to a device", |path| {
        Box::new(symlink("/dev/null", path))
    }),
    ("a socket of datagrams", |path| {
        Box::new(UnixDatagram::bind(path))
    }),
    ("a socket that lives", |path| {
        Box::new(UnixListener::bind(path))
    }),
];

#[test]
fn what_is_not_ours_is_not_touched() {
    let mut tally = Tally::of(Class::Places);
    for name in ["stats", ".stats", "stats-mail", "stats-user"] {
        for (what, make) in OBSTACLES {
            // The name beside a socket's own is for ours alone, dead ones included.
            tally.tries(1);
            let dir = TempDir::new("obstacle");
            let config = dir.write("dovestatd.conf", &Setup::new().config(&dir));
            fs::create_dir(dir.at("run")).expect("mkdir run");
            let path = dir.at(&format!("run/{name}"));
            let _kept = make(&path);
            let target = format!("{path}.target");
            let before = (image(&path), image(&target));
            assert!(before.0 != "nothing", "{what}");
            let output = run(&["-F", "-c", &config]);
            let said = text(&output.stderr);
            let code = output.status.code();
            assert!(
                code.is_some_and(|code| code >= 64),
                "{what}: {code:?} {said}"
            );
            // The name beside is told of as the socket's own.
            let told = path.replace("/.stats", "/stats");
            assert!(said.contains(&told), "{what} at {name}: {said}");
            assert_eq!(
                (image(&path), image(&target)),
                before,
                "{what} at {name}: {said}"
            );
            // When it is gone the same daemon starts.
            fs::remove_dir_all(dir.at("run")).expect("remove run");
            let mut daemon = Daemon::in_dir(dir, &Setup::new());
            tally.check(&mut daemon);
            daemon.stop();
        }
    }
}

#[test]
fn what_a_stranger_puts_in_place_of_a_listener_stays() {
    let mut tally = Tally::of(Class::Places);
    for (what, make) in OBSTACLES {
        for name in ["stats", "stats-mail"] {
            tally.tries(1);
            let mut daemon = Daemon::start("swapped");
            let path = daemon.dir.at(&format!("run/{name}"));
            fs::rename(&path, format!("{path}.away")).expect("rename");
            let _kept = make(&path);
            let target = format!("{path}.target");
            let before = (image(&path), image(&target));
            daemon.signal(libc::SIGHUP);
            // By its old name it serves on.
            fs::rename(&path, format!("{path}.planted")).expect("rename");
            fs::rename(format!("{path}.away"), &path).expect("rename");
            tally.check(&mut daemon);
            fs::rename(&path, format!("{path}.away")).expect("rename");
            fs::rename(format!("{path}.planted"), &path).expect("rename");
            let _dir = daemon.stop();
            assert_eq!((image(&path), image(&target)), before, "{what} at {name}");
        }
    }
}

/// A daemon of root's whose settings lead into a directory of nobody's, in which
/// nobody planted a symlink to something of root's.
struct Trap {
    dir: TempDir,
    /// What is root's: a directory and a file in it, mode 0600.
    before: [String; 2],
}

impl Trap {
    /// Plants `theirs/NAME` to point at the directory, or at the file in it.
    fn plant(name: &str, to: &str) -> Trap {
        let dir = TempDir::new("trap");
        fs::create_dir(dir.at("roots")).expect("mkdir");
        fs::create_dir(dir.at("theirs")).expect("mkdir");
        let file = dir.write("roots/file", "precious\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::set_permissions(dir.at("roots"), fs::Permissions::from_mode(0o700)).expect("chmod");
        let link = dir.at(&format!("theirs/{name}"));
        symlink(dir.at(to), &link).expect("symlink");
        std::os::unix::fs::lchown(&link, Some(NOBODY), Some(NOBODY)).expect("lchown");
        chown(dir.at("theirs"), Some(NOBODY), Some(NOBODY)).expect("chown");
        let before = Trap::images(&dir);
        Trap { dir, before }
    }

    fn images(dir: &TempDir) -> [String; 2] {
        ["roots", "roots/file"].map(|name| image(&dir.at(name)))
    }

    /// Starts a daemon with `lines` in its settings, tells it HUP and ends it, if it
    /// starts at all; what happened to what is root's, if anything did.
    fn harm(self, lines: &str, user: &str) -> Option<String> {
        let Trap { dir, before } = self;
        let socket = dir.at("socket");
        let settings = format!(
            "log_path = {}\nbase_dir = {}\nstate_dir =\npidfile = {}\n{lines}\n\
             service stats {{\nuser = {user}\nunix_listener {socket} {{\nmode = 0600\n}}\n}}\n",
            dir.at("log.file"),
            dir.at("run"),
            dir.at("pid"),
        );
        let config = dir.write("trap.conf", &settings);
        let mut meanwhile = before.clone();
        // In the background, where the log is a file.
        let starter = Command::new(program())
            .args(["-c", &config])
            .stdin(Stdio::null())
            .output()
            .expect("start dovestatd");
        if starter.status.success() {
            let pid = running(&config).expect("a daemon");
            let mut client = Client::unix(&socket);
            client.export("global");
            send_signal(pid, libc::SIGHUP);
            client.export("global");
            client.export("global");
            meanwhile = Trap::images(&dir);
            send_signal(pid, libc::SIGTERM);
            wait_until("its end", || running(&config).is_none());
        }
        let (status, said) = (starter.status, text(&starter.stderr));
        let after = Trap::images(&dir);
        let harm = [meanwhile, after]
            .into_iter()
            .find(|images| *images != before);
        harm.map(|images| format!("{images:?}, were {before:?}; {status}, {said}"))
    }
}

#[test]
fn root_follows_no_symlink_that_another_user_planted() {
    if !is_root() {
        return skipped(
            "root_follows_no_symlink_that_another_user_planted",
            "needs root",
        );
    }
    let mut tally = Tally::of(Class::Places);
    let mut harms = Vec::new();
    for user in ["root", "nobody"] {
        for (what, to, lines) in [
            ("base_dir", "roots", "base_dir = @\n"),
            ("base_dir that is not there", "roots/new", "base_dir = @\n"),
            ("log_path", "roots/file", "log_path = @\n"),
            ("log_path that is not there", "roots/new", "log_path = @\n"),
            ("pidfile", "roots/file", "pidfile = @\n"),
            ("pidfile that is not there", "roots/new", "pidfile = @\n"),
            ("state_dir", "roots", "state_dir = @\n"),
            (
                "state_dir that is not there",
                "roots/new",
                "state_dir = @\n",
            ),
            (
                "FIFO",
                "roots/file",
                "service stats {\nfifo_listener @ {\nmode = 0622\n}\n}",
            ),
            (
                "FIFO, new",
                "roots/new",
                "service stats {\nfifo_listener @ {\nmode = 0622\n}\n}",
            ),
            (
                "socket",
                "roots/file",
                "service stats {\nunix_listener @ {\nmode = 0666\n}\n}",
            ),
            ("base_dir, below", "roots", "base_dir = @/run\n"),
            ("log_path, below", "roots", "log_path = @/log\n"),
            ("pidfile, below", "roots", "pidfile = @/pid\n"),
            ("state_dir, below", "roots", "state_dir = @/state\n"),
            (
                "FIFO, below",
                "roots",
                "service stats {\nfifo_listener @/fifo {\n}\n}",
            ),
            (
                "socket, below",
                "roots",
                "service stats {\nunix_listener @/s {\n}\n}",
            ),
            (
                "socket, new",
                "roots/new",
                "service stats {\nunix_listener @ {\nmode = 0666\n}\n}",
            ),
        ] {
            let trap = Trap::plant("name", to);
            let lines = lines.replace('@', &trap.dir.at("theirs/name"));
            tally.tries(1);
            let harm = trap.harm(&lines, user);
            harms.extend(harm.map(|harm| format!("{what}, as {user}: {harm}")));
        }
    }
    assert_eq!(harms, Vec::<String>::new());
    tally.survived();
}

#[test]
fn root_overwrites_nothing_by_the_names_that_files_have_meanwhile() {
    if !is_root() {
        let test = "root_overwrites_nothing_by_the_names_that_files_have_meanwhile";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    let mut harms = Vec::new();
    for name in [
        "state",
        "state.new",
        "state.bad",
        "state.probe",
        ".pid.new",
        "pid",
        ".lock",
        ".stats",
        "stats",
    ] {
        for (to, user) in [
            ("roots/file", "root"),
            ("roots/file", "nobody"),
            ("roots/new", "root"),
        ] {
            let trap = Trap::plant(name, to);
            let theirs = trap.dir.at("theirs");
            let lines = format!(
                "base_dir = {theirs}\nstate_dir = {theirs}\npidfile = {theirs}/pid\n\
                 stats_state_interval = 1 s"
            );
            tally.tries(1);
            let harm = trap.harm(&lines, user);
            harms.extend(harm.map(|harm| format!("{name} to {to}, as {user}: {harm}")));
        }
    }
    assert_eq!(harms, Vec::<String>::new());
    tally.survived();
}

#[test]
fn directories_that_are_something_else_are_told_of() {
    let mut tally = Tally::of(Class::Places);
    for setting in ["base_dir", "state_dir"] {
        for (what, make) in OBSTACLES {
            if what == "a directory" {
                continue;
            }
            tally.tries(1);
            let dir = TempDir::new("nodir");
            let path = dir.at("way");
            let _kept = make(&path);
            let target = format!("{path}.target");
            let before = (image(&path), image(&target));
            let setup = Setup::new().option(&format!("{setting}={path}"));
            if setting == "base_dir" {
                let config = dir.write("dovestatd.conf", &setup.config(&dir));
                let output = run(&["-F", "-c", &config, "-o", &format!("base_dir={path}")]);
                let said = text(&output.stderr);
                assert!(
                    output.status.code().is_some_and(|code| code >= 64),
                    "{what}: {said}"
                );
                assert!(said.contains(&path), "{what}: {said}");
            } else {
                // Without a state it serves all the same.
                let mut daemon = Daemon::in_dir(dir, &setup);
                assert!(daemon.log().contains(&path), "{what}: {}", daemon.log());
                tally.check(&mut daemon);
                let _dir = daemon.stop();
                assert_eq!((image(&path), image(&target)), before, "{setting}: {what}");
                assert!(!Path::new(&target).is_dir());
                continue;
            }
            assert_eq!((image(&path), image(&target)), before, "{setting}: {what}");
        }
    }
    tally.survived();
}
