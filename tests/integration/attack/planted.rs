//! Another user of the machine, who puts things where the client looks by default, or
//! where it is told to report, and keeps changing them.
//!
//! The victim is a user of a number that no account has, so that its directory in /tmp
//! is nobody else's.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{chown, symlink, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::attack::{Class, Tally};
use crate::client::dovestat;
use crate::harness::{is_root, program, skipped, text, wait_until, TempDir};
use crate::link::Client;
use crate::records::connect;
use crate::screen::Terminal;

/// A user and group that own nothing.
const STRANGER: u32 = 54_321;

/// Started again and again, this often.
const TRIES: usize = 60;

/// A process that is killed when dropped, with those that it started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: kill takes two numbers; the group is that of a child not waited for.
        unsafe { libc::kill(-(self.0.id() as i32), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

/// Starts a command as a user, in a group of its own.
fn as_user(command: &mut Command, uid: u32) -> &mut Command {
    command.uid(uid).gid(uid).process_group(0)
}

/// The default directory of a user that no other test is, removed when dropped.
struct Default {
    uid: u32,
    path: PathBuf,
}

impl Default {
    fn of(number: u32) -> Default {
        let uid = 2_000_000_000 + number * 10_000_000 + std::process::id();
        let path = PathBuf::from(format!("/tmp/dovestat-{uid}"));
        let default = Default { uid, path };
        default.remove();
        default
    }

    fn remove(&self) {
        let removed = match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&self.path),
            Ok(_) => fs::remove_file(&self.path),
            Err(error) => Err(error),
        };
        assert!(removed.is_ok() || !self.path.exists());
    }

    /// The client as this user, with nothing said about where a daemon is.
    fn client(&self, args: &[&str]) -> Output {
        let mut command = dovestat(args);
        command.env_remove("XDG_RUNTIME_DIR");
        command.env_remove("DOVESTAT_FIFO").env("TERM", "dumb");
        let output = as_user(&mut command, self.uid).output();
        output.expect("run dovestat")
    }
}

impl Drop for Default {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A daemon of a user in a directory, open to all, that has counted a made-up user.
fn daemon(uid: u32, base_dir: &Path, dir: &TempDir) -> Running {
    let base_dir = base_dir.display();
    let config = format!(
        "base_dir = {base_dir}\nservice stats {{\nfifo_listener stats-mail {{\nmode = 0622\n}}\n\
         unix_listener stats {{\nmode = 0666\n}}\n}}\n"
    );
    let config = dir.write("theirs.conf", &config);
    let mut command = Command::new(program());
    command.args(["-F", "-c", &config]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(as_user(&mut command, uid).spawn().expect("start it"));
    let socket = format!("{base_dir}/stats");
    wait_until("their daemon", || Client::try_unix(&socket).is_some());
    let mut record = connect("m", "made-up@x", "imap", 1, "");
    record.push(b'\n');
    fs::write(format!("{base_dir}/stats-mail"), record).expect("a record");
    wait_until("their user", || users(&socket) == ["made-up@x"]);
    running
}

/// The users that a daemon has.
fn users(socket: &str) -> Vec<String> {
    let table = Client::unix(socket).export("user");
    table
        .values("user")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Whether the tests here make sense: as root, and where no daemon answers first.
fn is_possible(test: &str) -> bool {
    if !is_root() {
        skipped(test, "it needs root");
    } else if ["/run/dovestat", "/run/dovecot"]
        .iter()
        .any(|dir| Path::new(dir).exists())
    {
        skipped(test, "a service of this machine would answer");
    } else {
        return true;
    }
    false
}

/// All commands that look for a daemon; what is told by each about the directory.
#[track_caller]
fn assert_nothing_believed(victim: &Default, why: &str, tally: &mut Tally) {
    for (args, code) in [
        (&["dump", "user"][..], 75),
        (&["dump", "user", "--sort", "user"], 75),
        (&["top", "-B", "-n", "1"], 75),
        (&["reset"], 75),
        (&["check"], 1),
    ] {
        tally.tries(1);
        let output = victim.client(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains("made-up"), "{args:?}: {told}");
        assert!(!told.contains("dovestatd 0"), "{args:?}: {told}");
        let dir = victim.path.display();
        let expected = format!("not used: {dir} (owner ");
        assert!(
            told.contains(&expected) && told.contains(why),
            "{args:?}: {told}"
        );
    }
    tally.tries(1);
    let output = victim.client(&["run", "-u", "alice@x", "true"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "", "it is the program's");
}

#[test]
fn a_planted_default_directory_gets_and_gives_nothing() {
    if !is_possible("a_planted_default_directory_gets_and_gives_nothing") {
        return;
    }
    let mut tally = Tally::of(Class::Places);
    let (dir, victim) = (TempDir::new("planted"), Default::of(0));
    let (socket, path) = (
        victim.path.join("stats").display().to_string(),
        &victim.path,
    );
    // The control: what is the user's own is used.
    let own = daemon(victim.uid, path, &dir);
    assert_eq!(
        text(&victim.client(&["dump", "user", "--fields", "user"]).stdout),
        "user\nmade-up@x\n"
    );
    assert!(victim
        .client(&["run", "-u", "alice@x", "true"])
        .status
        .success());
    wait_until("the record", || {
        users(&socket).contains(&"alice@x".to_owned())
    });
    drop(own);
    victim.remove();

    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("chown");
    let _running = daemon(STRANGER, &theirs, &dir);
    symlink(&theirs, path).expect("a symlink");
    assert_nothing_believed(&victim, "it is no directory", &mut tally);
    assert_eq!(users(&socket), ["made-up@x"]);
    victim.remove();

    let running = daemon(STRANGER, path, &dir);
    assert_nothing_believed(&victim, "another user has made it", &mut tally);
    // One that passes for the victim's but for its mode.
    chown(path, Some(victim.uid), Some(victim.uid)).expect("chown");
    for mode in [0o777, 0o775, 0o757] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        assert_nothing_believed(&victim, "others may write in it", &mut tally);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_eq!(users(&socket), ["made-up@x"]);
    // What is named is believed.
    chown(path, Some(STRANGER), Some(STRANGER)).expect("chown");
    let fifo = path.join("stats-mail").display().to_string();
    let named = victim.client(&["-s", &socket, "dump", "user", "--fields", "user"]);
    assert_eq!(text(&named.stdout), "user\nmade-up@x\n");
    victim.client(&["run", "--fifo", &fifo, "-u", "alice@x", "true"]);
    wait_until("the record", || {
        users(&socket).contains(&"alice@x".to_owned())
    });
    drop(running);
    tally.survived();
}

#[test]
fn a_default_directory_that_is_swapped_all_the_time_gets_nothing() {
    if !is_possible("a_default_directory_that_is_swapped_all_the_time_gets_nothing") {
        return;
    }
    let mut tally = Tally::of(Class::Places);
    let (dir, victim) = (TempDir::new("swapped"), Default::of(1));
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("chown");
    let _running = daemon(STRANGER, &theirs.join("run"), &dir);
    let script = "while :; do ln -s \"$1\" \"$2\"; rm \"$2\"; ln -s /usr \"$2\"; rm \"$2\"; \
                  mkdir \"$2\"; ln -s \"$1/stats\" \"$1/stats-mail\" \"$2\"; rm -r \"$2\"; done";
    let mut swap = Command::new("sh");
    swap.args(["-c", script, "sh"]);
    swap.args([&theirs.join("run"), &victim.path]);
    swap.stdin(Stdio::null()).stderr(Stdio::null());
    let swapping = Running(as_user(&mut swap, STRANGER).spawn().expect("start sh"));
    for _ in 0..TRIES {
        tally.tries(2);
        assert!(victim
            .client(&["run", "-u", "alice@x", "true"])
            .status
            .success());
        let dump = victim.client(&["dump", "user"]);
        assert_eq!(
            (dump.status.code(), dump.stdout.len()),
            (Some(75), 0),
            "{dump:?}"
        );
    }
    drop(swapping);
    let socket = theirs.join("run/stats").display().to_string();
    assert_eq!(users(&socket), ["made-up@x"]);
    tally.survived();
}

#[test]
fn a_fifo_that_is_swapped_with_a_file_leaves_the_file_as_it_is() {
    if !is_possible("a_fifo_that_is_swapped_with_a_file_leaves_the_file_as_it_is") {
        return;
    }
    let mut tally = Tally::of(Class::Places);
    let dir = TempDir::new("fifoswap");
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("chown");
    let _running = daemon(STRANGER, &theirs.join("run"), &dir);
    let secret = dir.write("secret", "root's");
    let fifo = theirs.join("fifo");
    let script =
        "while :; do ln -sf \"$1\" \"$3\"; ln -sf \"$2\" \"$3\"; ln -sf /dev/ptmx \"$3\"; \
                  rm \"$3\"; mkfifo \"$3\"; done";
    let mut swap = Command::new("sh");
    swap.args(["-c", script, "sh"]);
    swap.args([
        &theirs.join("run/stats-mail"),
        &PathBuf::from(&secret),
        &fifo,
    ]);
    swap.stdin(Stdio::null()).stderr(Stdio::null());
    let swapping = Running(as_user(&mut swap, STRANGER).spawn().expect("start sh"));
    let fifo = fifo.display().to_string();
    for _ in 0..TRIES {
        tally.tries(1);
        // Root's, which could write to anything.
        let output = dovestat(&["run", "--fifo", &fifo, "-u", "alice@x", "true"]).output();
        assert!(output.expect("run dovestat").status.success());
    }
    drop(swapping);
    assert_eq!(fs::read_to_string(&secret).expect("it"), "root's");
    tally.survived();
}

#[test]
fn root_remembers_nothing_in_the_home_of_another() {
    if !is_possible("root_remembers_nothing_in_the_home_of_another") {
        return;
    }
    let mut tally = Tally::of(Class::Places);
    let dir = TempDir::new("homes");
    let shown = crate::harness::Daemon::start("homesshown");
    for (owner, is_kept) in [(0, true), (STRANGER, false)] {
        tally.tries(1);
        let home = dir.path().join(format!("home-{owner}"));
        fs::create_dir(&home).expect("a directory");
        chown(&home, Some(owner), Some(owner)).expect("chown");
        let mut command = dovestat(&["-s", &shown.socket(), "top"]);
        command.env("HOME", &home).env_remove("XDG_STATE_HOME");
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        let mut top = Terminal::start(&mut command, 24, 80);
        top.wait("a frame", |screen| screen.contains("USER"));
        top.keys("q");
        assert!(top.wait_end().success());
        let left = fs::read_dir(&home).expect("it").count();
        assert_eq!(left, usize::from(is_kept), "{owner}");
        let kept = fs::metadata(home.join(".local/state/dovestat/top"));
        let why = kept.map_err(|error| error.kind());
        assert_eq!(
            why.map(|_| ()),
            if is_kept {
                Ok(())
            } else {
                Err(ErrorKind::NotFound)
            }
        );
    }
    tally.survived();
}
