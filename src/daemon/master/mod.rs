//! Dovecot 2.2's and 2.3's master as the starter: `service old-stats { executable =
//! /usr/sbin/dovestatd }`.
//!
//! | file | what it is |
//! |---|---|
//! | `environment` | what the master says in the environment, as a plain struct |
//! | `settings` | the settings of Dovecot, and what the master decides of ours |
//! | `listeners` | the FIFOs and sockets that it passes |
//! | `handover` | the state and the FIFOs of a process for the one that follows it |
//! | `leaving` | the end: when, and what is done before |
//!
//! The order of the start matters. What a mistake in the settings makes fail comes before
//! the status: a master starts such a process 2, 4, 8... seconds later again, but at once
//! one that fails behind it. The waiting for another process comes behind the status, which
//! the master waits 30 s for. The process never reports that it has no room, as the master
//! would drop connections.
//!
//! A reload makes all FIFOs and sockets anew, closes the pipe of descriptor 6, and starts
//! the next process beside this one. Writers that have the old FIFO open go on writing
//! there. So this process saves its state, and passes the lock of the state and the old
//! FIFOs to the next one ([`handover`]), which reads them until their last writer closes
//! them. No record is lost between the two, and none is counted twice, as the state was
//! saved after the last read.
//!
//! Must not: exit with 0 unless asked to end; report to the service manager that
//! NOTIFY_SOCKET names, which is Dovecot's.

pub(super) mod environment;
pub(super) mod handover;
mod leaving;
pub(super) mod listeners;
pub(super) mod settings;

use crate::config::{Fatal, LogPath};
use crate::daemon::log::{Log, Severity};
use crate::sys::fs::passed::{take_from_master, FromMaster, Passed};
use environment::Environment;
use leaving::Leaving;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// In the order of their names.
type PassedListeners = Vec<io::Result<Passed>>;

/// The master that started this process.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) environment: Environment,
    status: File,
    /// An error of poll(2) is the request to end.
    dead: File,
    /// Where the next process connects; `None` without a state.
    pub(super) socket: Option<UnixListener>,
    /// `None` until the master asks for the end.
    leaving: Option<Leaving>,
    /// The slot in the poll set of `dead`, then of `socket`.
    slot: Option<usize>,
}

/// Whether a master of Dovecot started this process.
pub(super) fn is_starter() -> bool {
    std::env::var_os("DOVECOT_CHILD_PROCESS").is_some()
}

impl Master {
    /// Takes over what the master passed; `None`: there is no master. To be called before
    /// anything is opened.
    ///
    /// # Errors
    /// A master of another version, or one that lacks something.
    #[cold]
    #[inline(never)]
    pub(super) fn from_env() -> Result<Option<(Master, PassedListeners)>, Fatal> {
        let found = Environment::of(&|name| std::env::var(name).ok());
        let Some(environment) = found.map_err(Fatal::Unavailable)? else {
            return Ok(None);
        };
        let taken = take_from_master(environment.listeners.len());
        let FromMaster {
            status,
            dead,
            listeners,
        } = taken.map_err(Fatal::io("descriptors of Dovecot's master"))?;
        let master = Master {
            environment,
            status,
            dead,
            socket: None,
            leaving: None,
            slot: None,
        };
        Ok(Some((master, listeners)))
    }

    /// Reports that all clients are welcome.
    pub(super) fn report_status(&self) {
        // struct master_status of lib-master/master-interface.h.
        let mut message = [0; 12];
        message[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        message[4..8].copy_from_slice(&self.environment.generation.to_ne_bytes());
        message[8..].copy_from_slice(&self.environment.client_limit.to_ne_bytes());
        // EAGAIN: the master is busy, and knows of us. EPIPE: it is gone, as the other
        // pipe shows.
        let _ = (&self.status).write(&message);
    }

    /// When there is something to do without input.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.leaving.as_ref().map(Leaving::wakes_at)
    }
}

/// The time between two processes that fail.
const PAUSE: Duration = Duration::from_secs(2);

/// Logs what ends this process to Dovecot's log. Not at once: what comes while Dovecot
/// itself starts does not get into its log (seen with 2.3.19).
#[cold]
#[inline(never)]
pub(super) fn log_fatal(fatal: &Fatal) {
    std::thread::sleep(PAUSE);
    if let Ok(mut log) = Log::open(&LogPath::Dovecot, None) {
        for line in fatal.to_string().lines() {
            log.write(Severity::Fatal, line);
        }
    }
}
