//! Small enough for appliances: the release builds, also the static one, on disk,
//! in memory and in time. They are built by `tests/run`; without them there is
//! nothing to measure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{
    holds_within, private_bytes, program, rss_bytes, unavailable, wait_until, waited_for_cpu,
    Daemon, Setup, TempDir,
};
use crate::link::Client;

/// The resident memory of Dovecot 2.3.19's service without statistics.
const MAX_IDLE_BYTES: u64 = 3_200_000;

/// The memory of that service that no other process has in common with it.
const MAX_IDLE_PRIVATE_BYTES: u64 = 256 << 10;

/// The most that a program may take on disk.
const MAX_PROGRAM_BYTES: u64 = 1 << 20;

/// A program of a release build; says so when there is none.
#[track_caller]
fn release(test: &str, build: &str, name: &str) -> Option<PathBuf> {
    let debug = PathBuf::from(program());
    let target = debug.parent().and_then(|dir| dir.parent()).expect("target");
    let path = target.join(build).join(name);
    if path.exists() {
        return Some(path);
    }
    unavailable(test, &format!("{} was not built", path.display()));
    None
}

/// Starts a build's daemon; gives it and how long it took until it answered, without the
/// time in which it or this thread waited for a processor.
fn start(program: &Path, name: &str) -> (Daemon, Duration) {
    let wrapper = format!("exec {} \"$@\"", program.display());
    // The harness's own program becomes $0, which is not looked at.
    let setup = Setup::new().wrapped(&["sh", "-c", &wrapper]);
    let dir = TempDir::new(name);
    let socket = dir.at("run/stats");
    let (started, waited) = (Instant::now(), waited_for_cpu("thread-self"));
    let daemon = Daemon::spawn(dir, &setup, |_| ());
    let end = started + Duration::from_secs(10);
    while Client::try_unix(&socket).is_none_or(|mut c| c.try_export("global").is_none()) {
        assert!(Instant::now() < end, "no answer\n{}", daemon.log());
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = started.elapsed();
    let waited = waited_for_cpu("thread-self") - waited + waited_for_cpu(daemon.pid());
    (daemon, took.saturating_sub(waited))
}

#[test]
fn the_programs_are_small() {
    for name in ["dovestatd", "dovestat", "dovestat-bridge"] {
        let Some(path) = release("the size of a program", "release", name) else {
            return;
        };
        let bytes = fs::metadata(&path).expect("the program").len();
        assert!(bytes <= MAX_PROGRAM_BYTES, "{name} has {bytes} bytes");
    }
}

#[test]
fn an_idle_daemon_takes_less_memory_than_the_original() {
    let Some(path) = release("idle memory", "release", "dovestatd") else {
        return;
    };
    let (daemon, _) = start(&path, "idle-memory");
    let is_small = || rss_bytes(daemon.pid()) < MAX_IDLE_BYTES;
    wait_until("less than 3.2 MB resident", is_small);
    let is_small = || private_bytes(daemon.pid()) < MAX_IDLE_PRIVATE_BYTES;
    wait_until("less than 256 KB private", is_small);
    // It is soon as small again as before many requests.
    let mut client = daemon.client();
    for _ in 0..100 {
        client.export_raw("session");
    }
    wait_until("less than 256 KB private again", || {
        client.export_raw("session");
        holds_within(Duration::from_millis(50), is_small)
    });
}

#[test]
fn it_answers_within_20_ms() {
    let Some(path) = release("the time of a start", "release", "dovestatd") else {
        return;
    };
    // The machine may be busy with other things; the daemon is not to be.
    let times: Vec<Duration> = (0..20).map(|_| start(&path, "start").1).collect();
    let best = times.iter().min().expect("some");
    assert!(*best < Duration::from_millis(20), "{times:?}");
}

#[test]
fn a_static_build_serves() {
    let build = "x86_64-unknown-linux-musl/release";
    let Some(path) = release("the static build", build, "dovestatd") else {
        return;
    };
    let program = fs::read(&path).expect("the program");
    let interpreter = b"/lib/ld-musl";
    assert!(
        !program.windows(interpreter.len()).any(|w| w == interpreter),
        "no dynamic linker"
    );
    let (daemon, _) = start(&path, "static");
    crate::requests::populate(&daemon);
    assert!(rss_bytes(daemon.pid()) < MAX_IDLE_BYTES);
    let before = daemon.client().export_raw("session");
    let dir = daemon.stop();
    // Its state is that of any other build.
    let daemon = Daemon::in_dir(dir, &Setup::new());
    assert_eq!(daemon.client().export_raw("session"), before);
}
