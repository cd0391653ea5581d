//! A program run and reported, with its children, as one session.
//!
//! Owns: the program, from its start to an end like its own; the session that stands for it.
//! It gets the signals that are sent to this process, and stops it when it stops: the starter
//! sees no process in between. It has our process group, terminal, standard streams and
//! environment.
//!
//! Must not: let the daemon, its absence, or an argument that is of no use for the
//! report matter to the program; write anything where a mail server would take it
//! for the program's, but a line about such an argument.

use super::args::RunOptions;
use super::server::usual;
use crate::cli::warn;
use crate::config::Fatal;
use crate::report::{Children, FifoWriter, Login, Session};
use crate::stats::Stats;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::proc::signal::{die_of, send, Signals};
use crate::sys::proc::user::{real_uid, User};
use crate::sys::reason;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names the FIFO when no option does.
const FIFO_VARIABLE: &str = "DOVESTAT_FIFO";

/// Name the session's user when no option does.
const USER_VARIABLES: [&str; 2] = ["USER", "LOGNAME"];

/// Where the client is: of tcpserver and couriertcpd, and of Dovecot's
/// post-login scripts.
const IP_VARIABLES: [&str; 2] = ["TCPREMOTEIP", "IP"];

/// Exit codes of env(1) and of shells: what is found cannot be run, nothing is
/// found, and the base of those for signals.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNALLED: u8 = 128;

/// The longest wait for a full FIFO at the end. Without it a
/// burst of records costs the session its last figures.
const PATIENCE: Duration = Duration::from_millis(100);

/// The pause when the system has no memory even for poll(2).
const BACKOFF: Duration = Duration::from_millis(100);

/// Runs the program; gives its exit code, or ends as it did.
pub(super) fn run(options: &RunOptions) -> Result<ExitCode, Fatal> {
    options.left_out.iter().for_each(|what| warn(what));
    let fifo = Arc::new(fifo(options.fifo.as_ref()));
    warn_if_unread(&fifo);
    let signals = Signals::install_to_pass_on().map_err(Fatal::io("signal handlers"))?;
    let mut children = Children::new();
    let pid = match start(&options.program, &options.args) {
        Ok(pid) => pid,
        Err(error) => {
            let program = options.program.to_string_lossy();
            warn(&format!("{program}: {}", reason(&error)));
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if is_missing {
                NOT_FOUND
            } else {
                CANNOT_RUN
            }));
        }
    };
    signals.unblock_child().map_err(Fatal::io("signal mask"))?;
    let login = Login {
        user: &user(options),
        service: &service(options),
        pid,
        ip: options.ip.or_else(ip),
    };
    let mut session = Session::connect(&fifo, login);
    let mut next_report = Instant::now() + options.every;
    let status = loop {
        let is_gone = wait(&signals, &fifo, next_report);
        for signal in signals.take_passed() {
            // It may have ended just now.
            let _ = send(pid, signal);
        }
        if let Some(status) = take_changes(&mut children, pid, &signals)? {
            break status;
        }
        let now = Instant::now();
        if is_gone || now >= next_report {
            session.update(&children.total());
            next_report = now + options.every;
        }
    };
    finish(session, &fifo, &children.total());
    Ok(end_like(status))
}

/// Starts the program; gives its process.
fn start(program: &OsStr, args: &[OsString]) -> io::Result<u32> {
    let started = Command::new(program).args(args).spawn();
    let child = match started {
        // A script without #!, which execvp(3) would give to a shell.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "exec \"$0\" \"$@\""]);
            shell.arg(program).args(args).spawn()?
        }
        started => started?,
    };
    Ok(child.id())
}

/// Waits until something happened, at most until `until`. True when the FIFO has
/// lost its reader.
fn wait(signals: &Signals, fifo: &FifoWriter, until: Instant) -> bool {
    let mut set = PollSet::new();
    set.push(signals.as_fd(), Interest::READ);
    let watched = fifo.watched();
    let slot = watched
        .as_ref()
        .map(|end| set.push(end.as_fd(), Interest::default()));
    match set.wait(Some(until.saturating_duration_since(Instant::now()))) {
        Ok(()) => slot.is_some_and(|slot| set.ready(slot).readable),
        Err(_) => {
            std::thread::sleep(BACKOFF);
            false
        }
    }
}

/// Takes what became of all children; the end of the program `pid` if it has come
/// to that. When job control stopped the program, this process stops, too, until the job
/// continues. SIGSTOP is meant for one process, and so is the SIGCONT after it.
fn take_changes(
    children: &mut Children,
    pid: u32,
    signals: &Signals,
) -> Result<Option<ExitStatus>, Fatal> {
    let mut end = None;
    while let Some(change) = children.next_change().map_err(Fatal::io("wait"))? {
        if change.pid != pid {
            continue;
        }
        match change.status.stopped_signal() {
            Some(libc::SIGSTOP) => {}
            Some(signal) => signals.stop_by(signal).map_err(Fatal::io("stop"))?,
            None => end = Some(change.status),
        }
    }
    Ok(end)
}

/// Reports the last figures and the end of the session.
fn finish(mut session: Session, fifo: &FifoWriter, total: &Stats) {
    let end = Instant::now() + PATIENCE;
    while !session.update(total) {
        let left = end.saturating_duration_since(Instant::now());
        // No reader to wait for, or no time left.
        let Some(full) = fifo.watched().filter(|_| !left.is_zero()) else {
            break;
        };
        let mut set = PollSet::new();
        set.push(full.as_fd(), Interest::WRITE);
        if set.wait(Some(left)).is_err() {
            break;
        }
    }
    session.disconnect();
}

/// Ends as the program did.
fn end_like(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        // Where that is not possible: the exit code of a shell.
        let _ = die_of(signal);
        return ExitCode::from(SIGNALLED.wrapping_add(signal as u8));
    }
    ExitCode::from(status.code().unwrap_or(0) as u8)
}

/// Warns a person at a terminal that no daemon reads the FIFO. Elsewhere standard error
/// belongs to the program, and may be read, mailed or kept by its starter.
fn warn_if_unread(fifo: &FifoWriter) {
    if !io::stderr().is_terminal() {
        return;
    }
    if let Err(error) = fifo.probe() {
        let why = match error.raw_os_error() {
            Some(libc::ENXIO) => "no daemon reads it".to_owned(),
            _ => reason(&error),
        };
        warn(&format!("not reported: {}: {why}", fifo.path().display()));
    }
}

/// Where to report to: like a client's server, the first that is there.
pub(super) fn fifo(given: Option<&PathBuf>) -> FifoWriter {
    let variable = || env::var_os(FIFO_VARIABLE).filter(|path| !path.is_empty());
    match given.cloned().or_else(|| variable().map(PathBuf::from)) {
        Some(path) => FifoWriter::new(path),
        None => FifoWriter::checked(usual::file("stats-mail"), usual::believe),
    }
}

fn user(options: &RunOptions) -> Vec<u8> {
    let variable = |name: &str| env::var_os(name).filter(|user| !user.is_empty());
    if let Some(user) = &options.user {
        return user.clone();
    }
    if let Some(user) = USER_VARIABLES.into_iter().find_map(variable) {
        return user.as_bytes().to_vec();
    }
    let found = User::find(&real_uid().to_string()).ok().flatten();
    found
        .and_then(|user| user.name)
        .unwrap_or_default()
        .into_bytes()
}

/// The service: the program's name, without where it is.
fn service(options: &RunOptions) -> Vec<u8> {
    if let Some(service) = &options.service {
        return service.clone();
    }
    let name = Path::new(&options.program).file_name();
    name.unwrap_or(&options.program).as_bytes().to_vec()
}

/// The client's address, from the program that accepted the connection.
fn ip() -> Option<IpAddr> {
    IP_VARIABLES
        .into_iter()
        .find_map(|name| env::var(name).ok()?.parse().ok())
}
