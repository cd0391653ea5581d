//! The service manager: the descriptors that it passed, and messages to it.
//!
//! The protocol is that of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3),
//! which systemd and others speak. Messages are sent when something happens; only a
//! watchdog, if the manager asks for one, wakes the loop by itself, at half its time.
//!
//! Invariants: the variables are removed from the environment, so that no child process
//! believes that they are for it; those for another process are ignored.
//!
//! Must not: fail. Without NOTIFY_SOCKET nothing is sent.

use crate::daemon::log::Log;
use crate::sys::fd::notify::{monotonic_usecs, Notify};
use crate::sys::fs::passed::{take_descriptors, Passed};
use std::env;
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

/// The most descriptors that a manager passes: more is a mistake of the
/// environment, not a configuration.
const MAX_PASSED: usize = 1000;

/// A descriptor that the manager passed.
#[derive(Debug)]
pub(crate) struct PassedFd {
    /// Its name in LISTEN_FDNAMES.
    pub name: String,
    /// The error of one that cannot be served.
    pub what: io::Result<Passed>,
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Manager {
    /// `None` without NOTIFY_SOCKET.
    notify: Option<Notify>,
    /// The time between two messages for the watchdog.
    watchdog: Option<Duration>,
    /// When the next of them is due.
    next_sign: Option<Instant>,
}

/// Takes a variable out of the environment; not inlined, for its size.
#[inline(never)]
fn take(name: &str) -> Option<OsString> {
    let value = env::var_os(name);
    env::remove_var(name);
    value
}

/// Takes a number out of the environment.
fn take_number(name: &str) -> Option<u64> {
    take(name)?.to_str()?.parse().ok()
}

impl Manager {
    /// Reads and removes the variables. To be called before anything is opened: every
    /// descriptor that was not passed is closed.
    pub(crate) fn from_env() -> (Manager, Vec<PassedFd>) {
        let own = u64::from(std::process::id());
        let is_meant = take_number("LISTEN_PID") == Some(own);
        let count = take_number("LISTEN_FDS").filter(|_| is_meant);
        let names = take("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy();
        let mut names = names.split(':');
        let count = count.map_or(0, |count| count.min(MAX_PASSED as u64) as usize);
        let passed = take_descriptors(count).into_iter().map(|what| PassedFd {
            name: names.next().unwrap_or_default().to_owned(),
            what,
        });
        let passed = passed.collect();
        // The descriptors first: the one of this socket is not among them.
        let notify = take("NOTIFY_SOCKET").and_then(|address| Notify::open(&address).ok());
        let is_watched = take_number("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let watchdog = take_number("WATCHDOG_USEC")
            .filter(|&usecs| is_watched && usecs > 0 && notify.is_some())
            .map(|usecs| Duration::from_micros(usecs.div_ceil(2)));
        let manager = Manager {
            notify,
            watchdog,
            next_sign: watchdog.map(|_| Instant::now()),
        };
        (manager, passed)
    }

    /// None: the variables, which are removed, are for another process.
    pub(crate) fn none() -> Manager {
        for name in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS"] {
            take(name);
        }
        Manager {
            notify: None,
            watchdog: None,
            next_sign: None,
        }
    }

    /// The daemon serves, or serves again after a reload.
    pub(crate) fn ready(&mut self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The settings are read again; [`Manager::ready`] follows.
    pub(crate) fn reloading(&mut self) {
        let usecs = monotonic_usecs().unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usecs}"));
    }

    pub(crate) fn stopping(&mut self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    pub(crate) fn status(&mut self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// Sends a message for the watchdog if it is time.
    pub(crate) fn watch(&mut self, instant: Instant, status: impl FnOnce() -> String) {
        if let (Some(every), Some(at)) = (self.watchdog, self.next_sign) {
            if at <= instant {
                self.next_sign = Some(instant + every);
                self.send(&format!("WATCHDOG=1\nSTATUS={}", status()));
            }
        }
    }

    /// When [`Manager::watch`] is to be called.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.next_sign
    }

    /// Sends a message. One that does not go through is outdated by the next.
    fn send(&self, message: &str) {
        if let Some(notify) = &self.notify {
            let _ = notify.send(message);
        }
    }
}

impl PassedFd {
    /// Logs one that no setting names.
    pub(crate) fn log_unnamed(name: &str, what: &str, log: &mut Log) {
        log.info(&format!(
            "{what} passed by the service manager as {name:?} is in no section of the settings; \
             serving it with the defaults; a section with its path or port sets its options"
        ));
    }
}
