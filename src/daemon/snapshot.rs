//! Statistics saved for the next start: the file `state` in `state_dir`.
//!
//! It is written when the daemon ends, and every `stats_state_interval` after
//! something changed, so an idle daemon sleeps on. While the daemon serves, a
//! child process writes it ([`SnapshotChild`]): the child has all sums and entries as they were
//! at one instant, and the loop does not wait for the disk. The cost is a copy of each
//! page that changes meanwhile.
//!
//! The file is replaced as a whole; when it cannot be written the old one stays.
//! Whether that works is tried at the start. One that cannot be read is set aside as
//! `state.bad`, and the daemon starts with nothing.
//!
//! A FIFO that the service manager keeps open keeps its bytes while no daemon runs. When
//! the daemon ends, the part of a line that was read of it is saved, too. It is not saved
//! earlier: after a crash, the lines that were read since would not follow it.
//!
//! Invariants: the directory was opened before root and the root directory were given up, and
//! is opened anew only where another one has taken its path, as where base_dir vanished and
//! was made anew; the state has one daemon at a time, whatever their base_dirs are, by a lock
//! of its own.
//!
//! Must not: end the daemon, whatever happens to the file.

use super::log::{grouped, Log, Severity};
use crate::config::own_files::{
    STATE as NAME, STATE_LOCK as LOCK, STATE_PROBE as PROBE, STATE_SET_ASIDE as SET_ASIDE,
    STATE_TEMPORARY as TEMPORARY,
};
use crate::config::{Fatal, Settings};
use crate::daemon::input::fifo::FifoInput;
use crate::store::{Kept, Limits, Now, Restoring, Store, WallTime};
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::lock::{lock_directory, DirLock};
use crate::sys::fs::trust::is_refused;
use crate::sys::proc::snapshot_child::SnapshotChild;
use crate::sys::proc::user::effective_uid;
use crate::sys::reason;
use crate::wire::{PartialLine, StateError, StateItem, StateReader, StateWriter};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changes when there is something new to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Lines read so far.
    pub lines: u64,
    pub connected: u64,
    /// When the totals were cleared.
    pub reset_secs: u32,
    /// When a record last reached them.
    pub last_update: WallTime,
}

/// The state of a daemon and the writing of it.
#[derive(Debug)]
pub(super) struct State {
    dir: Dir,
    /// Keeps other daemons out.
    lock: DirLock,
    path: PathBuf,
    /// The path is out of reach.
    in_chroot: bool,
    /// The time between two writes; `None`: at the end only.
    every: Option<Duration>,
    /// The mark of what the file contains.
    written: Mark,
    /// When it is to be written next, if there is anything new.
    due: Option<Instant>,
    /// The child process that is writing it.
    writer: Option<SnapshotChild>,
    /// The last write failed, which is logged once.
    is_failing: bool,
}

/// Waits for the daemon that has the lock of a directory; `None`: in vain.
type Wait<'a> = &'a mut dyn FnMut(&Dir) -> io::Result<Option<DirLock>>;

/// The time between two writes.
fn interval(settings: &Settings) -> Option<Duration> {
    match settings.stats_state_interval_secs {
        0 => None,
        secs => Some(Duration::from_secs(secs.into())),
    }
}

/// The warning about a directory where no state can be kept, and the remedy.
fn loss(path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let uid = effective_uid();
            format!("chown it to the daemon's user (uid {uid}), or set another state_dir")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable (under systemd by ReadWritePaths=), or set another state_dir".into()
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or set another state_dir".into()
        }
        _ => "set state_dir to a directory for this daemon alone".to_owned(),
    };
    let (path, why) = (path.display(), reason(error));
    format!("state_dir {path}: {why}; a restart will lose the statistics: {remedy}")
}

/// Takes the directory for this daemon alone, `wait`ing for another one that has it.
fn lock(dir: Dir, owner: Owner, wait: Wait) -> io::Result<(Dir, DirLock)> {
    let lock = match lock_directory(&dir, LOCK, owner)? {
        None => wait(&dir)?,
        lock => lock,
    };
    let taken = || io::Error::other("another daemon keeps its state there");
    Ok((dir, lock.ok_or_else(taken)?))
}

/// Writes everything. Partial lines come first, so that a reader without room for all
/// entries has them.
fn write(dir: &Dir, store: &Store, now: Now, partials: &[PartialLine]) -> io::Result<()> {
    let fill = |file: &File| {
        let mut writer = StateWriter::new(file)?;
        for partial in partials {
            writer.put_partial(partial)?;
        }
        store.export(now, |saved| writer.put(saved))?;
        writer.finish().map(drop)
    };
    dir.replace(NAME, TEMPORARY, 0o600, fill).map(drop)
}

impl State {
    /// Opens the directory of the settings, if there is to be a state. To be
    /// called before root is given up.
    ///
    /// # Errors
    /// A directory that root does not trust; a signal that ended the waiting.
    pub(super) fn open(
        settings: &Settings,
        owner: Owner,
        wait: Wait,
        log: &mut Log,
    ) -> Result<Option<State>, Fatal> {
        let Some(path) = settings.state_path() else {
            log.info("state_dir is empty: a restart will lose the statistics");
            return Ok(None);
        };
        match Dir::open_or_make(path, 0o700, owner).and_then(|dir| lock(dir, owner, wait)) {
            Ok((dir, lock)) => Ok(Some(State {
                dir,
                lock,
                path: path.to_owned(),
                in_chroot: settings.service.chroot_in(&settings.base_dir).is_some(),
                every: interval(settings),
                written: Mark::default(),
                due: None,
                writer: None,
                is_failing: false,
            })),
            Err(error) if is_refused(&error) || error.kind() == io::ErrorKind::Interrupted => {
                Err(Fatal::Io(format!("state_dir {}", path.display()), error))
            }
            Err(error) => {
                log.warning(&loss(path, &error));
                Ok(None)
            }
        }
    }

    /// What keeps other daemons out.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Tries whether the daemon's user can write a state, and logs if not.
    pub(super) fn probe(&mut self, log: &mut Log) {
        let dir = &self.dir;
        let fill = |mut file: &File| file.write_all(b"written to see whether that works\n");
        let tried = dir
            .check_replaceable(NAME)
            .and_then(|()| dir.replace(PROBE, TEMPORARY, 0o600, fill))
            .and_then(|_| dir.remove(PROBE));
        if let Err(error) = tried {
            log.warning(&loss(&self.path, &error));
            self.is_failing = true;
        }
    }

    /// The store that was saved, and, in its FIFOs, what was read in part.
    pub(super) fn restore(
        &mut self,
        limits: &Limits,
        now: Now,
        fifos: &mut [FifoInput],
        log: &mut Log,
    ) -> Option<Store> {
        let result = self.dir.read(NAME).map_err(StateError::Io);
        let (store, kept) = match result.and_then(|file| read(file, limits, now, fifos)) {
            Ok(restored) => restored,
            Err(StateError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let aside = match self.dir.rename(NAME, SET_ASIDE) {
                    Ok(()) => format!("set aside as {SET_ASIDE}"),
                    Err(error) => format!("left alone ({})", reason(&error)),
                };
                let path = self.path.join(NAME);
                let path = path.display();
                log.warning(&format!("{path}: {error}; {aside}, starting with nothing"));
                return None;
            }
        };
        let path = self.path.display();
        let usage = store.usage();
        let (restored, all) = (
            usage.entries.iter().sum::<usize>() as u64,
            kept.entries.iter().sum(),
        );
        let connected = store.totals_of_everything().connected;
        if restored >= all {
            let [_, sessions, users, ..] = usage.entries;
            log.info(&format!(
                "restored {sessions} sessions and {users} users from {path}"
            ));
            return Some(store);
        }
        let severity = match connected < kept.connected {
            true => Severity::Warning,
            false => Severity::Info,
        };
        let text = format!(
            "restored the totals, {} of {} connected sessions and {} of {} other entries from \
             {path}: stats_memory_limit has room for no more, {} M would hold all",
            grouped(connected),
            grouped(kept.connected),
            grouped(restored.saturating_sub(connected)),
            grouped(all.saturating_sub(kept.connected)),
            kept.used_bytes.div_ceil(1 << 20)
        );
        log.write(severity, &text);
        Some(store)
    }

    /// Sets the mark of what the file contains.
    pub(super) fn begin(&mut self, mark: Mark) {
        self.written = mark;
    }

    /// Takes over what can change.
    pub(super) fn set(&mut self, settings: &Settings) {
        let every = interval(settings);
        // A reload that does not change it does not delay the next write.
        if every != self.every {
            self.every = every;
            self.due = None;
        }
    }

    /// Sets when to write, if there is something new.
    pub(super) fn note(&mut self, mark: Mark, instant: Instant) {
        if let (None, Some(every)) = (self.due, self.every) {
            if mark != self.written {
                self.due = Some(instant + every);
            }
        }
    }

    /// When [`State::serve`] has something to do by itself.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.due.filter(|_| self.writer.is_none())
    }

    /// Readable when a writer is done.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.writer.as_ref().map(SnapshotChild::as_fd)
    }

    /// The directory to write to: the one at the path, if there is one.
    fn dir(&mut self) -> io::Result<&Dir> {
        if !self.in_chroot && matches!(self.dir.is_at(&self.path), Ok(false)) {
            let dir = Dir::open(&self.path, None)?;
            (self.dir, self.lock) = lock(dir, None, &mut |_| Ok(None))?;
        }
        Ok(&self.dir)
    }

    /// Takes the result of a writer that is done, and begins to write if it is time.
    pub(super) fn serve(
        &mut self,
        (store, mark, log): (&Store, Mark, &mut Log),
        (instant, now): (Instant, Now),
        is_done: bool,
    ) {
        if let Some(writer) = self.writer.take_if(|_| is_done) {
            self.log_result(writer.end(), log);
        }
        if self.wakes_at().is_none_or(|due| due > instant) {
            return;
        }
        self.due = None;
        let begun = self.dir().and_then(|dir| {
            SnapshotChild::begin(&[dir.as_fd()], || {
                write(dir, store, now, &[]).map_err(|error| reason(&error))
            })
        });
        match begun {
            Ok(writer) => {
                self.writer = Some(writer);
                self.written = mark;
            }
            Err(error) => self.log_result(Err(reason(&error)), log),
        }
    }

    /// Writes at the end, with the partial lines of FIFOs that the service manager keeps
    /// open.
    pub(super) fn finish(&mut self, store: &Store, now: Now, fifos: &[FifoInput], log: &mut Log) {
        // Its file would be replaced anyway.
        self.writer = None;
        let partials: Vec<_> = fifos.iter().filter_map(FifoInput::partial).collect();
        let result = self.dir().and_then(|dir| write(dir, store, now, &partials));
        self.log_result(result.map_err(|error| reason(&error)), log);
    }

    /// Logs the result of a write, if it is not that of the last.
    fn log_result(&mut self, result: Result<(), String>, log: &mut Log) {
        let path = self.path.join(NAME);
        match &result {
            Err(why) => {
                // It is still to be written.
                self.written = Mark::default();
                if !self.is_failing {
                    let path = path.display();
                    log.error(&format!("{path}: {why}; the state of before stays"));
                }
            }
            Ok(()) if self.is_failing => {
                log.info(&format!("{}: can be written again", path.display()));
            }
            Ok(()) => {}
        }
        self.is_failing = result.is_err();
    }
}

/// Reads a state, or as much of it as there is room for.
fn read(
    file: File,
    limits: &Limits,
    now: Now,
    fifos: &mut [FifoInput],
) -> Result<(Store, Kept), StateError> {
    let mut restoring = Restoring::new(limits, now).map_err(|_| StateError::Damaged)?;
    let mut reader = StateReader::new(file)?;
    let mut partials = Vec::new();
    while !restoring.is_full() {
        let taken = match reader.take()? {
            Some(StateItem::Saved(saved)) => restoring.take(&saved),
            Some(StateItem::Place { listing, number }) => restoring.take_place(listing, number),
            Some(StateItem::Partial(partial)) => {
                if partials.len() <= fifos.len() {
                    partials.push((partial.fifo, partial.bytes.to_vec(), partial.is_too_long));
                }
                Ok(())
            }
            None => break,
        };
        taken.map_err(|_| StateError::Damaged)?;
    }
    let restored = restoring.finish().map_err(|_| StateError::Damaged)?;
    for (fifo, bytes, is_too_long) in &partials {
        let partial = PartialLine {
            fifo: *fifo,
            bytes,
            is_too_long: *is_too_long,
        };
        for input in &mut *fifos {
            input.resume(&partial);
        }
    }
    Ok(restored)
}
