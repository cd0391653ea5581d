//! Help for tests: a directory of one's own, a process of one's own.
//!
//! Unit tests run concurrently in threads. What is shared by a whole process
//! (umask, signals, identity, fork) is tested in a copy of the test program
//! that runs this one test only.
//!
//! A child that is being spawned has a copy of every descriptor until it
//! executes its program, so what a test closed in that moment still lives. A
//! [`Scratch`] or a [`NotSpawning`] keeps a test safe from that: [`spawn`] waits
//! until no test has one, and must not be called by a test that has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Locked shared by every [`NotSpawning`], alone while a child is being spawned.
static SPAWNING: RwLock<()> = RwLock::new(());

/// A directory that is removed with its content when dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Keeps children from being spawned meanwhile.
    _not_spawning: NotSpawning,
}

/// Keeps children from being spawned while it lives. One per test.
pub(crate) struct NotSpawning(#[allow(dead_code)] RwLockReadGuard<'static, ()>);

impl NotSpawning {
    pub(crate) fn new() -> NotSpawning {
        NotSpawning(SPAWNING.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Scratch {
    /// Creates it; `name` is unique among the tests of one process.
    pub(crate) fn new(name: &str) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("dovestat-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Scratch {
            path,
            _not_spawning: NotSpawning::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Spawns a child while no test is in the middle of something; see above.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _alone = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// Names the test to rerun, in the process that is the rerun.
const VARIABLE: &str = "DOVESTAT_TEST_ALONE";

/// In the test program: runs the test `module::name` again in a process of its
/// own and gives what came out. In that process: `None`, go on.
pub(crate) fn rerun(module: &str, name: &str) -> Option<Output> {
    let (_, module) = module.split_once("::").unwrap();
    let test = format!("{module}::{name}");
    if std::env::var(VARIABLE).is_ok_and(|running| running == test) {
        return None;
    }
    let child = spawn(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--nocapture", "--test-threads=1"])
            .env(VARIABLE, &test)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    Some(child.wait_with_output().unwrap())
}

/// Runs `body` as the test `module::name` in a process of its own.
pub(crate) fn alone(module: &str, name: &str, body: impl FnOnce()) {
    match rerun(module, name) {
        None => body(),
        Some(output) => {
            let stdout = String::from_utf8_lossy(&output.stdout);
            let passed = output.status.success() && stdout.contains("1 passed");
            assert!(
                passed,
                "{stdout}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// Whether we are root; prints it when not, for tests that need it.
pub(crate) fn is_root() -> bool {
    let root = crate::sys::proc::user::effective_uid() == 0;
    if !root {
        println!("skipped: needs root");
    }
    root
}
