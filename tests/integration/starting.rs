//! What a daemon does not trust at its start: directories that are its user's,
//! what its starter did with signals, another daemon; and what it says of settings
//! that are read again.

use std::fs;
use std::os::unix::fs::{chown, symlink, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    is_root, program, run_with, send_signal, skipped, text, wait_until, works, Daemon, Setup,
    TempDir,
};
use crate::link::Client;
use crate::records::connect;
use crate::requests::populate;

/// The number of a user that has nothing, and whose the service is.
const NOBODY: u32 = 65534;

/// A setup whose log is a file.
fn logging_to(path: &str) -> Setup {
    // Without -F, which the harness gives, it is in the background.
    Setup::new().option(&format!("log_path={path}"))
}

/// Starts a daemon in the background, as a service is; gives what the starter
/// said, and whether it went well.
fn start(dir: &TempDir, setup: &Setup) -> (bool, String) {
    let pidfile = format!("pidfile={}", dir.at("pid"));
    let config = dir.write("dovestatd.conf", &setup.config(dir));
    let started = Command::new(program())
        .args(["-c", &config, "-o", &pidfile])
        .args(&setup.options)
        .output()
        .expect("start dovestatd");
    (started.status.success(), text(&started.stderr))
}

/// The number of the daemon that [`start`] started.
fn pid(dir: &TempDir) -> u32 {
    let text = fs::read_to_string(dir.at("pid")).expect("the pidfile");
    text.trim().parse().expect("a number")
}

/// Ends what [`start`] started when a test fails.
struct Ends<'a>(&'a TempDir);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let text = fs::read_to_string(self.0.at("pid")).unwrap_or_default();
        if let (true, Ok(pid)) = (std::thread::panicking(), text.trim().parse()) {
            send_signal(pid, libc::SIGKILL);
        }
    }
}

/// Ends it.
fn end(dir: &TempDir) {
    let pid = pid(dir);
    send_signal(pid, libc::SIGTERM);
    wait_until("its end", || !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn root_writes_no_log_where_its_user_led_it() {
    if !is_root() {
        return skipped("logs of root", "needs root");
    }
    let dir = TempDir::new("log-symlink");
    let _ends = Ends(&dir);
    let secret = dir.write("secret", "root's\n");
    fs::create_dir(dir.at("logs")).expect("mkdir logs");
    chown(dir.at("logs"), Some(NOBODY), None).expect("chown logs");
    let log = dir.at("logs/log");
    let setup = logging_to(&log).service("user = nobody");
    type Link = fn(&str, &str) -> std::io::Result<()>;
    let links: [(Link, &str); 2] = [
        (|to, at| symlink(to, at), "a symlink"),
        (|to, at| fs::hard_link(to, at), "has another name"),
    ];
    for (link, why) in links {
        link(&secret, &log).expect("link");
        let (well, said) = start(&dir, &setup);
        assert!(!well && said.contains("log_path"), "{said}");
        assert!(said.contains(why), "{said}");
        let metadata = fs::metadata(&secret).expect("the secret");
        assert_eq!((metadata.uid(), metadata.len()), (0, 7));
        fs::remove_file(&log).expect("unlink");
    }
    // A log of its own it gives to the user, who opens the next one.
    let (well, said) = start(&dir, &setup);
    assert!(well, "{said}");
    assert_eq!(fs::metadata(&log).expect("the log").uid(), NOBODY);
    end(&dir);
}

#[test]
fn a_log_is_rotated_inside_a_chroot_and_settings_stay_as_they_were() {
    if !is_root() {
        return skipped("logs of a chroot", "needs root");
    }
    let dir = TempDir::new("log-chroot");
    let _ends = Ends(&dir);
    fs::create_dir(dir.at("logs")).expect("mkdir logs");
    chown(dir.at("logs"), Some(NOBODY), None).expect("chown logs");
    let log = dir.at("logs/log");
    let setup = logging_to(&log).service("user = nobody\nchroot = .");
    let (well, said) = start(&dir, &setup);
    assert!(well, "{said}");
    fs::rename(&log, dir.at("logs/log.1")).expect("rotate");
    send_signal(pid(&dir), libc::SIGHUP);
    wait_until("the new log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("the settings stay as they were")
    });
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("dovestatd.conf: cannot be read"), "{text}");
    end(&dir);
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("shutting down"), "{text}");
}

#[test]
fn directories_are_made_that_others_can_pass() {
    let dir = TempDir::new("made");
    let (base, state) = (dir.at("base"), dir.at("state"));
    let setup = Setup::new()
        .option(&format!("base_dir={base}"))
        .option(&format!("state_dir={state}"));
    let daemon = Daemon::spawn(dir, &setup, |_| ());
    let socket = format!("{base}/stats");
    wait_until("its socket", || Client::try_unix(&socket).is_some());
    // It is made after the socket.
    wait_until("its state_dir", || fs::metadata(&state).is_ok());
    let mode = |path: &str| {
        let metadata = fs::metadata(path).expect("a directory");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!([mode(&base), mode(&state)], [0o755, 0o700]);
    drop(daemon);
}

/// Has a daemon started by somebody who blocks all signals and does not want to
/// hear of children.
fn by_a_strange_starter(command: &mut Command) {
    let prepare = || {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: memory for a set of ours during the call.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: a set filled in by the call before; the old one is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
        // SAFETY: no pointers.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        Ok(())
    };
    // SAFETY: the closure makes calls that may be made between fork and exec.
    unsafe { command.pre_exec(prepare) };
}

#[test]
fn what_the_starter_did_with_signals_does_not_matter() {
    let setup = Setup::new().option("stats_state_interval=1s");
    let dir = TempDir::new("signals");
    let mut daemon = Daemon::spawn(dir, &setup, by_a_strange_starter);
    daemon.wait_ready();
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    wait_until("the state", || {
        Path::new(&daemon.dir.at("run/state")).exists()
    });
    daemon.signal(libc::SIGHUP);
    wait_until("the settings read again", || {
        daemon.log().contains("settings read again")
    });
    // What the writer's end was taken for would stand there.
    let dir = daemon.stop();
    let log = fs::read_to_string(dir.at("log")).expect("the log");
    assert!(!log.contains("error"), "{log}");
    // Without -F, the starter hears why it does not serve.
    let daemon = Daemon::in_dir(dir, &setup);
    let dir = TempDir::new("signals-starter");
    let taken = format!("unix_listener {} {{\n mode = 0600\n}}", daemon.socket());
    let config = Setup::new().service(&taken).config(&dir);
    let config = dir.write("dovestatd.conf", &config);
    let refused = run_with(&["-c", &config], by_a_strange_starter);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
}

#[test]
fn two_daemons_do_not_share_a_state() {
    let state = TempDir::new("shared-state");
    let setup = || Setup::new().option(&format!("state_dir={}", state.at("state")));
    let first = Daemon::with("shared-first", &setup());
    populate(&first);
    let second = Daemon::with("shared-second", &setup());
    let log = second.log();
    assert!(
        log.contains("another daemon keeps its state there"),
        "{log}"
    );
    second.stop();
    let before = first.client().export_raw("user");
    let dir = first.stop();
    let again = Daemon::in_dir(dir, &setup());
    assert_eq!(again.client().export_raw("user"), before);
}

#[test]
fn hup_raises_the_limit_of_clients() {
    let limit = |daemon: &Daemon| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
        let limits = limits.expect("/proc/PID/limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3));
        soft.and_then(|soft| soft.parse::<u64>().ok())
            .expect("a limit")
    };
    let setup = |clients: u32| {
        let setup = Setup::new().service(&format!("client_limit = {clients}"));
        setup.wrapped(&[
            "sh",
            "-c",
            "ulimit -n 300; ulimit -S -n 100; exec \"$@\"",
            "sh",
        ])
    };
    let daemon = Daemon::with("hup-clients", &setup(20));
    assert_eq!(limit(&daemon), 100);
    for (clients, expected) in [(200, 264), (500, 564)] {
        let config = setup(clients).config(&daemon.dir);
        daemon.dir.write("dovestatd.conf", &config);
        let before = daemon.log().len();
        daemon.signal(libc::SIGHUP);
        wait_until("the settings read again", || {
            daemon.log()[before..].contains("settings read again")
        });
        let told = daemon.log()[before..].contains("client_limit 500 needs 564 descriptors");
        // Who is root may have more than the hard limit.
        assert!(limit(&daemon) == expected || told, "{}", daemon.log());
    }
}

#[test]
fn hup_does_not_put_the_state_off() {
    let setup = Setup::new().option("stats_state_interval=1s");
    let daemon = Daemon::with("hup-state", &setup);
    daemon.feed(&[connect("s1", "u", "imap", 1, "")]);
    let (state, begun) = (daemon.dir.at("run/state"), Instant::now());
    wait_until("the state", || {
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(100));
        Path::new(&state).exists()
    });
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn code_that_the_dynamic_linker_wrote_to_stays() {
    let test = "code_that_the_dynamic_linker_wrote_to_stays";
    if !works(test, &["cc", "--version"]) {
        return;
    }
    let dir = TempDir::new("textrel");
    // A function that finds its variable by an address in its code.
    let source = dir.write(
        "poll.c",
        "#define _GNU_SOURCE\n#include <poll.h>\n#include <signal.h>\n\
         static volatile int calls;\n\
         int poll(struct pollfd *fds, nfds_t count, int timeout)\n\
         {\n calls++;\n struct timespec t = {timeout / 1000, timeout % 1000 * 1000000L};\n\
         return ppoll(fds, count, timeout < 0 ? 0 : &t, 0);\n}\n",
    );
    let library = dir.at("poll.so");
    let built = Command::new("cc")
        .args([
            "-O1",
            "-shared",
            "-fno-pic",
            "-mcmodel=large",
            "-Wl,-z,notext",
        ])
        .args(["-o", &library, &source])
        .output()
        .expect("run cc");
    if !built.status.success() {
        return skipped(test, &text(&built.stderr));
    }
    let dynamic = Command::new("readelf").args(["-d", &library]).output();
    if !dynamic.is_ok_and(|output| text(&output.stdout).contains("TEXTREL")) {
        return skipped(test, "the library has no text relocations");
    }
    let mut setup = Setup::new();
    setup.environment.push(("LD_PRELOAD".into(), library));
    let mut daemon = Daemon::in_dir(dir, &setup);
    for _ in 0..20 {
        daemon.assert_alive();
    }
    daemon.stop();
}
