//! Directories and names that another process swaps while root starts a daemon: what
//! root makes, changes and gives away stays where the settings say.
//!
//! The attacker is the service's user, whose base_dir is, or a third one. In what is
//! root's, nothing may change, not even for a moment: the times of its directory tell.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, lchown, symlink, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::attack::{Class, Tally};
use crate::harness::{is_root, program, running, send_signal, skipped, text, wait_until, TempDir};

/// The service's user.
const NOBODY: u32 = 65_534;

/// A user who has nothing to do with it.
const STRANGER: u32 = 54_321;

/// How often a daemon is started under attack, unless that takes too long.
const STARTS: usize = 120;

/// What is too long.
const LONGEST: Duration = Duration::from_secs(20);

/// A process of a user who swaps two names, over and over; killed when dropped.
struct Swapper(libc::pid_t);

impl Swapper {
    fn start(uid: u32, one: &str, other: &str) -> Swapper {
        let [one, other] = [one, other].map(|path| CString::new(path).expect("a path"));
        // SAFETY: no pointers; the child makes system calls only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid > 0 {
            return Swapper(pid);
        }
        // SAFETY: a list of no groups.
        let mut rc = unsafe { libc::setgroups(0, std::ptr::null()) };
        // SAFETY: no pointers.
        rc |= unsafe { libc::setgid(uid) };
        // SAFETY: no pointers.
        rc |= unsafe { libc::setuid(uid) };
        // SAFETY: no pointers.
        rc |= unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if rc != 0 {
            // SAFETY: no pointers.
            unsafe { libc::_exit(1) };
        }
        let at = libc::AT_FDCWD;
        let (call, exchange) = (libc::SYS_renameat2, libc::RENAME_EXCHANGE);
        loop {
            // SAFETY: the names are NUL-terminated strings that outlive the call.
            unsafe { libc::syscall(call, at, one.as_ptr(), at, other.as_ptr(), exchange) };
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        // SAFETY: no pointers; a child that was not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        let mut status = 0;
        // SAFETY: the pointer is to `status`, borrowed for the call.
        unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert!(libc::WIFSIGNALED(status), "it swapped until it was killed");
    }
}

/// A base_dir of the service's user, and a directory of root's with a file, a FIFO and a
/// socket.
struct Scene {
    dir: TempDir,
    _socket: UnixListener,
    before: String,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let dir = TempDir::new(name);
        for (name, uid) in [("roots", 0), ("run", NOBODY), ("run/sub", NOBODY)] {
            fs::create_dir(dir.at(name)).expect("mkdir");
            chown(dir.at(name), Some(uid), Some(uid)).expect("chown");
        }
        symlink(dir.at("roots"), dir.at("run/link")).expect("symlink");
        lchown(dir.at("run/link"), Some(NOBODY), Some(NOBODY)).expect("lchown");
        let file = dir.write("roots/file", "precious\n");
        fs::set_permissions(file, Permissions::from_mode(0o600)).expect("chmod");
        mkfifo(&dir.at("roots/fifo"));
        let socket = UnixListener::bind(dir.at("roots/socket")).expect("bind");
        let before = image(&dir.at("roots"));
        Scene {
            dir,
            _socket: socket,
            before,
        }
    }

    /// The settings of a daemon with its files in `run`, but for `lines`.
    fn settings(&self, lines: &str) -> String {
        let (run, log, pid) = (self.dir.at("run"), self.dir.at("log"), self.dir.at("pid"));
        let text = format!(
            "base_dir = {run}\nlog_path = {log}\npidfile = {pid}\nstate_dir =\n\
             service stats {{\nuser = nobody\nunix_listener stats {{\nmode = 0600\n}}\n}}\n{lines}\n"
        );
        self.dir.write("dovestatd.conf", &text.replace("@", &run))
    }

    /// Starts a daemon in the background and ends it again if it serves; whether it did,
    /// and what it said. Panics if anything of root's changed.
    #[track_caller]
    fn start(&self) -> (Option<i32>, String) {
        let config = self.dir.at("dovestatd.conf");
        let starter = Command::new(program())
            .args(["-c", &config])
            .stdin(Stdio::null())
            .output()
            .expect("start dovestatd");
        let said = text(&starter.stderr);
        let while_serving = image(&self.dir.at("roots"));
        if starter.status.success() {
            let pid = running(&config).expect("a daemon");
            send_signal(pid, libc::SIGTERM);
            wait_until("its end", || running(&config).is_none());
        }
        for now in [while_serving, image(&self.dir.at("roots"))] {
            assert_eq!(now, self.before, "what is root's; {said}");
        }
        (starter.status.code(), said)
    }

    /// Starts daemons while the service's user swaps a directory with a symlink.
    #[track_caller]
    fn attack(&self, lines: &str, tally: &mut Tally) {
        self.settings(lines);
        let (served, refused) = self.starts(NOBODY, tally);
        // Both happened, or nothing was tried.
        assert!(served > 0 && refused > 0, "{served} served, {refused} not");
        // It is nobody's fault when it is left alone.
        let (code, said) = self.start();
        assert_eq!(code, Some(0), "{said}");
    }

    #[track_caller]
    fn starts(&self, uid: u32, tally: &mut Tally) -> (usize, usize) {
        let (sub, link) = (self.dir.at("run/sub"), self.dir.at("run/link"));
        let swapper = Swapper::start(uid, &sub, &link);
        let begun = Instant::now();
        let (mut served, mut refused) = (0, 0);
        while served + refused < STARTS && begun.elapsed() < LONGEST {
            tally.tries(1);
            match self.start() {
                (Some(0), _) => served += 1,
                (code, said) => {
                    assert!(code.is_some_and(|code| code >= 64), "{code:?} {said}");
                    refused += 1;
                }
            }
        }
        drop(swapper);
        if fs::symlink_metadata(&sub).expect("it").is_symlink() {
            fs::rename(&sub, self.dir.at("run/away")).expect("rename");
            fs::rename(&link, &sub).expect("rename");
        }
        (served, refused)
    }
}

fn mkfifo(path: &str) {
    let made = Command::new("mkfifo").args(["-m", "600", path]).status();
    assert!(made.expect("mkfifo").success());
}

/// What is in a directory: names, owners, modes, contents; and when that changed.
fn image(dir: &str) -> String {
    let of = |path: &Path| {
        let meta = fs::symlink_metadata(path).expect("it");
        let content = match meta.is_file() {
            true => text(&fs::read(path).expect("a file")),
            false => String::new(),
        };
        let changed = (meta.ctime(), meta.ctime_nsec());
        let (mode, uid, gid, names) = (meta.mode(), meta.uid(), meta.gid(), meta.nlink());
        format!("{path:?} {mode:o} {uid} {gid} {names} {changed:?} {content:?}\n")
    };
    let entries = fs::read_dir(dir).expect("a directory");
    let mut lines: Vec<_> = entries
        .map(|entry| of(&entry.expect("it").path()))
        .collect();
    lines.sort_unstable();
    of(Path::new(dir)) + &lines.concat()
}

#[test]
fn listeners_are_made_in_no_directory_that_was_swapped_in() {
    let test = "listeners_are_made_in_no_directory_that_was_swapped_in";
    if !is_root() {
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    for listener in ["fifo_listener", "unix_listener"] {
        let scene = Scene::new("swap-listener");
        let lines =
            format!("service stats {{\n{listener} sub/new {{\nuser = nobody\nmode = 0666\n}}\n}}");
        scene.attack(&lines, &mut tally);
    }
    tally.survived();
}

#[test]
fn the_log_is_made_in_no_directory_that_was_swapped_in() {
    if !is_root() {
        let test = "the_log_is_made_in_no_directory_that_was_swapped_in";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    for name in ["new", "file"] {
        let scene = Scene::new("swap-log");
        scene.attack(&format!("log_path = @/sub/{name}"), &mut tally);
    }
    tally.survived();
}

#[test]
fn state_and_pidfile_are_made_in_no_directory_that_was_swapped_in() {
    if !is_root() {
        let test = "state_and_pidfile_are_made_in_no_directory_that_was_swapped_in";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    for lines in [
        "state_dir = @/sub",
        "state_dir = @/sub/new",
        "pidfile = @/sub/new",
    ] {
        let scene = Scene::new("swap-files");
        scene.attack(lines, &mut tally);
    }
    tally.survived();
}

#[test]
fn no_base_dir_and_no_chroot_is_used_that_was_swapped_in() {
    if !is_root() {
        let test = "no_base_dir_and_no_chroot_is_used_that_was_swapped_in";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    for lines in [
        "base_dir = @/sub",
        "base_dir = @/sub/new",
        "service stats {\nchroot = sub\n}",
    ] {
        let scene = Scene::new("swap-base");
        scene.attack(lines, &mut tally);
    }
    tally.survived();
}

/// What a directory on the way can be: its owner, its mode, and why root does not trust
/// it, if it does not.
const DIRECTORIES: [(u32, u32, Option<&str>); 9] = [
    (0, 0o755, None),
    (0, 0o700, None),
    (NOBODY, 0o755, None),
    (NOBODY, 0o700, None),
    (
        STRANGER,
        0o755,
        Some("belongs to user 54321 (uid 54321), not to root or nobody; chown it"),
    ),
    (
        STRANGER,
        0o1777,
        Some("belongs to user 54321 (uid 54321), not to root or nobody; chown it"),
    ),
    (
        0,
        0o775,
        Some("can be changed by others (mode 0775); chmod go-w it"),
    ),
    (
        0,
        0o757,
        Some("can be changed by others (mode 0757); chmod go-w it"),
    ),
    (
        NOBODY,
        0o1777,
        Some("can be changed by others (mode 1777); chmod go-w it"),
    ),
];

#[test]
fn directories_that_others_can_change_are_refused() {
    if !is_root() {
        let test = "directories_that_others_can_change_are_refused";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    let section = |listener: &str| format!("service stats {{\n{listener} {{\nmode = 0600\n}}\n}}");
    let chroot = "service stats {\nchroot = @\n}".to_owned();
    for (setting, lines) in [
        ("base_dir", "base_dir = @".to_owned()),
        ("base_dir", "base_dir = @/new".to_owned()),
        ("state_dir", "state_dir = @".to_owned()),
        ("state_dir", "state_dir = @/new".to_owned()),
        ("log_path", "log_path = @/new".to_owned()),
        ("pidfile", "pidfile = @/new".to_owned()),
        ("fifo_listener", section("fifo_listener @/new")),
        ("unix_listener", section("unix_listener @/new")),
        ("service stats: chroot", chroot),
    ] {
        for (uid, mode, why) in DIRECTORIES {
            // The directory itself, and one below it.
            for below in ["", "/below"] {
                tally.tries(1);
                let scene = Scene::new("modes");
                let way = scene.dir.at("way");
                let end = format!("{way}{below}");
                fs::create_dir(&way).expect("mkdir");
                fs::create_dir_all(&end).expect("mkdir");
                chown(&end, Some(NOBODY), None).expect("chown");
                chown(&way, Some(uid), None).expect("chown");
                fs::set_permissions(&way, Permissions::from_mode(mode)).expect("chmod");
                scene.settings(&lines.replace('@', &end));
                let (code, said) = scene.start();
                let Some(why) = why else {
                    assert_eq!(code, Some(0), "{lines} {uid} {mode:o}: {said}");
                    continue;
                };
                assert_eq!(code, Some(77), "{lines} {uid} {mode:o}: {said}");
                let what = format!("dovestatd: {setting} {end}");
                assert!(said.contains(&what), "{what}: {said}");
                let why = format!(": {way} {why} or set another path\n");
                assert!(said.ends_with(&why), "{why}: {said}");
                let made = fs::read_dir(&end).expect("it").count();
                assert_eq!(made, 0, "{lines} {uid} {mode:o}");
            }
        }
    }
    tally.survived();
}

#[test]
fn a_sticky_directory_of_roots_may_be_on_the_way_and_have_files() {
    if !is_root() {
        let test = "a_sticky_directory_of_roots_may_be_on_the_way_and_have_files";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    let section = |listener: &str| format!("service stats {{\n{listener} {{\nmode = 0600\n}}\n}}");
    for (lines, may) in [
        ("base_dir = @/new".to_owned(), true),
        ("base_dir = @".to_owned(), false),
        ("state_dir = @".to_owned(), false),
        ("log_path = @/new".to_owned(), true),
        ("pidfile = @/new".to_owned(), true),
        (section("fifo_listener @/new"), true),
        (section("unix_listener @/new"), true),
        // Others can put their own there.
        ("log_path = @/theirs".to_owned(), false),
        ("base_dir = @/theirs.d".to_owned(), false),
        ("state_dir = @/theirs.d".to_owned(), false),
        ("log_path = @/link/log".to_owned(), false),
        (section("fifo_listener @/theirs"), false),
        (section("fifo_listener @/theirs.fifo"), false),
        (section("unix_listener @/theirs"), false),
    ] {
        tally.tries(1);
        let scene = Scene::new("sticky");
        let way = scene.dir.at("way");
        let at = |name: &str| format!("{way}/{name}");
        fs::create_dir(&way).expect("mkdir");
        fs::set_permissions(&way, Permissions::from_mode(0o1777)).expect("chmod");
        fs::write(at("theirs"), "").expect("write");
        fs::create_dir(at("theirs.d")).expect("mkdir");
        mkfifo(&at("theirs.fifo"));
        symlink(scene.dir.at("roots"), at("link")).expect("symlink");
        for name in ["theirs", "theirs.d", "theirs.fifo", "link"] {
            lchown(at(name), Some(STRANGER), Some(STRANGER)).expect("lchown");
        }
        scene.settings(&lines.replace('@', &way));
        let (code, said) = scene.start();
        assert_eq!(code == Some(0), may, "{lines}: {said}");
    }
    tally.survived();
}

#[test]
fn symlinks_of_roots_are_followed() {
    if !is_root() {
        return skipped("symlinks_of_roots_are_followed", "needs root");
    }
    let scene = Scene::new("links");
    symlink("run", scene.dir.at("to-run")).expect("symlink");
    symlink(scene.dir.at("to-run"), scene.dir.at("to-link")).expect("symlink");
    symlink("real-log", scene.dir.at("to-log")).expect("symlink");
    let link = scene.dir.at("to-link");
    let lines = format!(
        "base_dir = {link}\nstate_dir = {link}/../run\npidfile = {link}/pid\nlog_path = {}\n",
        scene.dir.at("to-log")
    );
    scene.settings(&lines);
    let (code, said) = scene.start();
    assert_eq!(code, Some(0), "{said}");
    let log = fs::read_to_string(scene.dir.at("real-log")).expect("the log");
    assert!(log.contains(&format!("serving in {link}")), "{log}");
    assert!(Path::new(&scene.dir.at("run/state")).exists());
}

#[test]
fn files_that_root_did_not_make_are_not_given_away() {
    if !is_root() {
        let test = "files_that_root_did_not_make_are_not_given_away";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    for (place, uid, warning) in [
        // As a rotation leaves it.
        ("roots.d", 0, "may not make files in its directory"),
        ("roots.d", STRANGER, "may not make files in its directory"),
        (
            "run",
            0,
            "may not open it anew (Permission denied); chown it to that user",
        ),
        ("run", NOBODY, ""),
    ] {
        tally.tries(1);
        let scene = Scene::new("given");
        fs::create_dir(scene.dir.at("roots.d")).expect("mkdir");
        let log = scene.dir.write(&format!("{place}/log"), "before\n");
        chown(&log, Some(uid), Some(uid)).expect("chown");
        fs::set_permissions(&log, Permissions::from_mode(0o600)).expect("chmod");
        scene.settings(&format!("log_path = {log}"));
        let (code, said) = scene.start();
        assert_eq!(code, Some(0), "{said}");
        let meta = fs::metadata(&log).expect("the log");
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (uid, 0o600), "{place}");
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.starts_with("before\n") && text.contains("shutting down"));
        let warned = format!("warning: log_path {log}: user nobody {warning}");
        let is_warned = text.contains(&warned);
        assert_eq!(is_warned, !warning.is_empty(), "{place} {uid}: {text}");
        // One that it made is, and opened anew by its user.
        fs::remove_file(&log).expect("unlink");
        let (code, said) = scene.start();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            fs::metadata(&log).expect("the log").uid(),
            NOBODY,
            "{place}"
        );
    }
    tally.survived();
}

/// What the service's user can plant in its directory to have root change, and where.
type Plant = (&'static str, fn(&str, &str) -> std::io::Result<()>);

#[test]
fn what_was_planted_for_a_listener_leads_root_to_nothing() {
    if !is_root() {
        let test = "what_was_planted_for_a_listener_leads_root_to_nothing";
        return skipped(test, "needs root");
    }
    let mut tally = Tally::of(Class::Places);
    let plants: [Plant; 2] = [
        ("a symlink", |to, at| symlink(to, at)),
        // Where the system lets an ordinary user make one.
        ("a hard link", |to, at| fs::hard_link(to, at)),
    ];
    for (kind, plant) in plants {
        for to in ["file", "fifo", "socket"] {
            for name in ["new", ".new"] {
                for listener in ["fifo_listener", "unix_listener"] {
                    tally.tries(1);
                    let mut scene = Scene::new("planted");
                    let at = scene.dir.at(&format!("run/sub/{name}"));
                    plant(&scene.dir.at(&format!("roots/{to}")), &at).expect("plant");
                    if kind == "a symlink" {
                        lchown(&at, Some(NOBODY), Some(NOBODY)).expect("lchown");
                    }
                    scene.before = image(&scene.dir.at("roots"));
                    scene.settings(&format!(
                        "service stats {{\n{listener} sub/new {{\nuser = nobody\nmode = 0666\n}}\n}}"
                    ));
                    let (code, said) = scene.start();
                    // The name beside is a socket's only.
                    let is_in_the_way = name == "new" || listener == "unix_listener";
                    assert_eq!(
                        code != Some(0),
                        is_in_the_way,
                        "{kind} to {to} at {name}, {listener}: {said}"
                    );
                }
            }
        }
    }
    tally.survived();
}
