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
use crate::harness::{is_root, program, send_signal, skipped, text, wait_until, TempDir};
use crate::link::Client;

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
        // SAFETY: no pointers.
        let is_user = unsafe { libc::setgid(uid) == 0 && libc::setuid(uid) == 0 };
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let at = libc::AT_FDCWD;
        let (call, exchange) = (libc::SYS_renameat2, libc::RENAME_EXCHANGE);
        while is_user {
            // SAFETY: the names are NUL-terminated strings that outlive the call.
            unsafe { libc::syscall(call, at, one.as_ptr(), at, other.as_ptr(), exchange) };
        }
        // SAFETY: no pointers.
        unsafe { libc::_exit(1) }
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

/// The daemon that was started with a configuration.
fn running(config: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&b| b == 0)
                .any(|word| word == config.as_bytes())
        })
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
