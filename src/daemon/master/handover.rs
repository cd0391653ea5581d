//! What a process leaves to the one that follows it at a reload of Dovecot.
//!
//! The process that holds the state listens at the socket `handover` in state_dir. The
//! next one finds the state locked, connects there and waits. When the first is to end, it
//! saves its state and sends one message: the lock of the state, this very socket, and its
//! FIFOs, with their names. So the lock and the queue of those that wait pass on without a
//! moment in between, and processes follow one another in the order of their starts.
//!
//! A holder that dies without a message has its connections closed and its lock released:
//! who waited takes the lock.
//!
//! Must not: wait longer than the master lets the other process live.

use crate::config::own_files::{STATE_HANDOVER, STATE_LOCK};
use crate::config::{Fatal, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::log::Log;
use crate::daemon::master::Master;
use crate::daemon::snapshot::State;
use crate::daemon::start::listen::Opened;
use crate::sys::fd::pass::{self, MAX_FDS};
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::fs::created::Access;
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::fifo::Fifo;
use crate::sys::fs::lock::{lock_directory, DirLock};
use crate::sys::fs::lookup::{FileKind, Found, Inode};
use crate::sys::fs::socket::{bind_unix, connect_unix};
use crate::sys::proc::signal::Signals;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long is waited for the state. The master kills a process after 12 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long is waited before the lock is tried again while nobody listens.
const RETRY: Duration = Duration::from_millis(10);

/// The most FIFOs that are passed, each of which costs a buffer: those of many reloads
/// whose writers still live.
const MAX_FIFOS: usize = 16;

/// The room for the names of FIFOs, in bytes.
const NAMES_BYTES: usize = 16384;

/// What an earlier process left.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// Where the next process connects; `None`: nothing was left.
    pub socket: Option<UnixListener>,
    /// With their names. Their writers are those that have not opened the new ones yet.
    pub fifos: Vec<(String, Fifo, Inode)>,
}

/// A message taken apart.
#[cold]
#[inline(never)]
fn take_message(names: &[u8], fds: Vec<OwnedFd>) -> io::Result<(DirLock, Inherited)> {
    let mut fds = fds.into_iter();
    let (Some(lock), Some(socket)) = (fds.next(), fds.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut fifos = Vec::new();
    for (name, fd) in names.split(|&byte| byte == 0).zip(fds) {
        let file = File::from(fd);
        let Found { kind, inode, .. } = Found::from(&file.metadata()?);
        if kind == FileKind::Fifo {
            let name = String::from_utf8_lossy(name).into_owned();
            fifos.push((name, Fifo::ending(file), inode));
        }
    }
    let socket = Some(UnixListener::from(socket));
    Ok((DirLock::passed(lock), Inherited { socket, fifos }))
}

/// Waits for the message of the process that listens there; `None`: it is gone.
#[cold]
#[inline(never)]
fn receive(
    path: &Path,
    signals: &Signals,
    until: Instant,
) -> io::Result<Option<(DirLock, Inherited)>> {
    let Ok(stream) = connect_unix(path) else {
        return Ok(None);
    };
    let mut poll = PollSet::new();
    loop {
        poll.clear();
        let signal = poll.push(signals.as_fd(), Interest::READ);
        let message = poll.push(stream.as_fd(), Interest::READ);
        poll.wait(Some(until.saturating_duration_since(Instant::now())))?;
        if poll.ready(signal).readable {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if poll.ready(message).readable {
            break;
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let mut names = vec![0; NAMES_BYTES];
    match pass::receive(&stream, &mut names)? {
        (0, _) => Ok(None),
        (len_bytes, fds) => take_message(&names[..len_bytes], fds).map(Some),
    }
}

/// Waits for the lock of the state in `dir`, at `path`, that another process has.
/// `None`: in vain.
///
/// # Errors
/// `Interrupted` by a signal, and whatever keeps it from waiting.
#[cold]
#[inline(never)]
pub(crate) fn wait_for_state(
    (dir, path): (&Dir, &Path),
    owner: Owner,
    signals: &Signals,
    inherited: &mut Inherited,
) -> io::Result<Option<DirLock>> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match receive(&path.join(STATE_HANDOVER), signals, until) {
            Ok(Some((lock, found))) => {
                *inherited = found;
                return Ok(Some(lock));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Ok(None) | Err(_) => {}
        }
        if let Some(lock) = lock_directory(dir, STATE_LOCK, owner)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(RETRY);
    }
    Ok(None)
}

impl Master {
    /// Opens the state, waiting for the process that has it, and takes over what that
    /// leaves, then listens for the next one.
    ///
    /// # Errors
    /// As of [`State::open`].
    #[cold]
    #[inline(never)]
    pub(crate) fn open_state(
        &mut self,
        settings: &Settings,
        owner: Owner,
        signals: &Signals,
        opened: &mut Opened,
        log: &mut Log,
    ) -> Result<Option<State>, Fatal> {
        self.report_status();
        let mut inherited = Inherited::default();
        let Some(path) = settings.state_path() else {
            return State::open(settings, owner, &mut |_| Ok(None), log);
        };
        let mut wait = |dir: &Dir| wait_for_state((dir, path), owner, signals, &mut inherited);
        let Some(state) = State::open(settings, owner, &mut wait, log)? else {
            return Ok(None);
        };
        self.socket = inherited.socket.or_else(|| listen(path, owner, log));
        for (name, fifo, inode) in inherited.fifos {
            let current = &opened.fifos;
            // A service that was stopped and started has the FIFO that it had.
            if current.iter().any(|input| input.inode() == Some(inode)) {
                continue;
            }
            let follower = current.iter().find(|input| **input.name() == *name);
            let input = FifoInput::new(fifo, &name, Some(inode));
            let input = input.retired(follower);
            // What lies there was written before what its writers write to the new ones.
            opened.fifos.insert(0, input);
        }
        Ok(Some(state))
    }
}

/// Listens for the process that follows.
#[cold]
#[inline(never)]
fn listen(state_dir: &Path, owner: Owner, log: &mut Log) -> Option<UnixListener> {
    let access = Access {
        mode: 0o600,
        uid: owner.map(|(uid, _)| uid),
        gid: owner.map(|(_, gid)| gid),
    };
    let path = state_dir.join(STATE_HANDOVER);
    let made = bind_unix(&path, owner, access).map(|(socket, _)| socket);
    if let Err(error) = &made {
        let path = path.display();
        log.warning(&format!(
            "{path}: {error}; a reload of Dovecot may lose records: remove what lies there"
        ));
    }
    made.ok()
}

/// Passes the lock, the socket and the FIFOs to the process that waits.
#[cold]
#[inline(never)]
pub(super) fn pass_on(
    to: &UnixStream,
    lock: BorrowedFd,
    socket: &UnixListener,
    fifos: &[FifoInput],
) -> io::Result<()> {
    const { assert!(MAX_FIFOS + 2 <= MAX_FDS) };
    let mut fds = vec![lock, socket.as_fd()];
    let mut names = Vec::new();
    let left = fifos
        .iter()
        .filter(|fifo| fifo.can_end() && !fifo.has_ended());
    for fifo in left.take(MAX_FIFOS) {
        names.extend_from_slice(fifo.name().as_bytes());
        names.push(0);
        fds.push(fifo.fifo.as_fd());
    }
    // A message of no bytes would be the end of the stream.
    names.push(0);
    pass::send(to, &names[..names.len().min(NAMES_BYTES)], &fds)
}
