//! What the demonstration plays on: a directory of its own, the daemon, the
//! workers; created together, removed when the client ends.
//!
//! Invariants: what was made is taken away again when this ends, by its standard
//! input or by a signal; see [`Drop`].

use super::{failed, Role};
use crate::cli::warn;
use crate::config::Fatal;
use crate::report::SessionId;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::proc::child::tie;
use crate::sys::proc::signal::{send, Signals};
use crate::sys::proc::user::effective_uid;
use crate::sys::reason;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many workers there are.
const WORKERS: usize = 12;

/// How long the daemon may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// Lines of the daemon's log that are reported when it does not start.
const LOG_LINES: usize = 5;

/// The longest path of the directory that leaves room for a socket's name in it.
const MAX_DIR_BYTES: usize = 60;

struct Made {
    dir: PathBuf,
    workers: Vec<Child>,
    daemon: Option<Child>,
}

/// Sets the stage, prints the socket's path, and clears it when
/// standard input ends. Argument: the daemon's program.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), Fatal> {
    let program = args.next().unwrap_or_default();
    let signals = Signals::install().map_err(Fatal::io("signal handlers"))?;
    let made = make(&program)?;
    let socket = made.dir.join("run/stats");
    let printed = writeln!(io::stdout(), "{}", socket.display());
    printed.map_err(Fatal::output)?;
    let mut set = PollSet::new();
    let slots = [
        set.push(io::stdin().as_fd(), Interest::READ),
        set.push(signals.as_fd(), Interest::READ),
    ];
    // Nothing is ever written to our standard input: it is at its end.
    while !slots.iter().any(|&slot| set.ready(slot).readable) {
        set.wait(None).map_err(Fatal::io("poll"))?;
    }
    drop(made);
    Ok(())
}

fn make(program: &OsStr) -> Result<Made, Fatal> {
    let mut base = env::temp_dir();
    if base.as_os_str().len() > MAX_DIR_BYTES || !base.is_absolute() {
        base = PathBuf::from("/tmp");
    }
    let id = SessionId::new().to_string();
    let dir = base.join(format!("dovestat-demo-{}", &id[16..]));
    let created = DirBuilder::new().mode(0o700).create(&dir);
    created.map_err(failed("create", &dir))?;
    let mut made = Made {
        dir,
        workers: Vec::new(),
        daemon: None,
    };
    made.start_daemon(program)?;
    made.start_workers()?;
    Ok(made)
}

impl Made {
    /// Starts the daemon and waits until it serves.
    fn start_daemon(&mut self, program: &OsStr) -> Result<(), Fatal> {
        let config = self.dir.join("dovestatd.conf");
        let mut text = format!("base_dir = {}\n", self.dir.join("run").display());
        if effective_uid() == 0 {
            // One that changes its user would not be killed with us.
            text += "service stats {\n  user = root\n}\n";
        }
        fs::write(&config, text).map_err(failed("write", &config))?;
        let log = self.dir.join("log");
        let mut command = Command::new(program);
        command.arg("-F").arg("-c").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).map_err(failed("create", &log))?);
        let daemon = tie(&mut command).spawn();
        let daemon = daemon.map_err(failed("start", Path::new(program)))?;
        let daemon = self.daemon.insert(daemon);
        let socket = self.dir.join("run/stats");
        let serves = wait_until(|| {
            let has_ended = !matches!(daemon.try_wait(), Ok(None));
            let serves = UnixStream::connect(&socket).is_ok();
            (has_ended || serves).then_some(serves)
        });
        match serves {
            Some(true) => Ok(()),
            _ => {
                report_end_of(&log);
                Err(Fatal::Reported)
            }
        }
    }

    fn start_workers(&mut self) -> Result<(), Fatal> {
        let mail = self.dir.join("mail");
        fs::create_dir(&mail).map_err(failed("create", &mail))?;
        for number in 0..WORKERS {
            let mut command = Role::Worker.command()?;
            command.arg(number.to_string());
            command.arg(&mail).arg(self.dir.join("run/stats-mail"));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            // A message about a full disk would garble top's screen.
            command.stderr(Stdio::null());
            let worker = tie(&mut command)
                .spawn()
                .map_err(Fatal::io("start a worker"))?;
            self.workers.push(worker);
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for mut worker in self.workers.drain(..) {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let pid = daemon.id();
            let mut has_ended = || !matches!(daemon.try_wait(), Ok(None));
            // The number of one that has ended may be another's by now.
            if !has_ended() {
                let _ = send(pid, libc::SIGTERM);
                wait_until(|| has_ended().then_some(()));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            warn(&format!(
                "remove {}: {}",
                self.dir.display(),
                reason(&error)
            ));
        }
    }
}

/// Waits until there is an answer; `None` when there is none in time.
fn wait_until<T>(mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = answer();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        std::thread::sleep(LOOK);
    }
}

/// Reports the last lines of a log.
fn report_end_of(log: &Path) {
    warn("demo: the daemon does not serve");
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        warn(line);
    }
}
