//! The service manager: what it gave us at the start, what it wants to hear.
//!
//! The protocol is that of sd_notify(3), sd_watchdog_enabled(3) and
//! sd_listen_fds(3), which systemd and others speak. Every message is sent
//! when something happens that a message is owed for; only a watchdog, if the
//! manager asks for one, wakes the loop by itself, at half its time.
//!
//! Invariants: the variables are taken out of the environment, so that no child
//! of ours believes that it is meant; those of another process are not believed.
//!
//! Must not: fail. A manager that is not there is not told.

use crate::daemon::log::Log;
use crate::sys::fd::notify::{monotonic_usecs, Notify};
use crate::sys::fs::passed::{take_descriptors, PassedFd};
use std::env;
use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

/// The most descriptors that a manager passes: more is a mistake of the
/// environment, not a configuration.
const MAX_PASSED: usize = 1000;

/// A descriptor that the manager passed.
#[derive(Debug)]
pub struct Gift {
    /// What the manager calls it.
    pub name: String,
    /// What it is, or what is wrong with it.
    pub what: io::Result<PassedFd>,
}

/// Who started us and looks after us, if anybody.
#[derive(Debug)]
pub struct Manager {
    /// The way to it.
    notify: Option<Notify>,
    /// How often it wants to hear of us.
    watchdog: Option<Duration>,
    /// When it is to hear of us next.
    next_sign: Option<Instant>,
}

/// Takes a variable out of the environment.
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
    /// Takes what is meant for this process. To be called before anything is
    /// opened: every descriptor that was not passed is closed.
    pub fn meet() -> (Manager, Vec<Gift>) {
        let own = u64::from(std::process::id());
        let is_meant = take_number("LISTEN_PID") == Some(own);
        let count = take_number("LISTEN_FDS").filter(|_| is_meant);
        let names = take("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy();
        let mut names = names.split(':');
        let count = count.map_or(0, |count| count.min(MAX_PASSED as u64) as usize);
        let gifts = take_descriptors(count).into_iter().map(|what| Gift {
            name: names.next().unwrap_or_default().to_owned(),
            what,
        });
        let gifts = gifts.collect();
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
        (manager, gifts)
    }

    /// We serve, or serve again after a reload.
    pub fn ready(&mut self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// We read the settings again; [`Manager::ready`] follows.
    pub fn reloading(&mut self) {
        let usecs = monotonic_usecs().unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usecs}"));
    }

    /// We are about to end.
    pub fn stopping(&mut self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Something about us changed.
    pub fn status(&mut self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// Gives a sign of life if it is time, with what `status` says.
    pub fn watch(&mut self, instant: Instant, status: impl FnOnce() -> String) {
        if let (Some(every), Some(at)) = (self.watchdog, self.next_sign) {
            if at <= instant {
                self.next_sign = Some(instant + every);
                self.send(&format!("WATCHDOG=1\nSTATUS={}", status()));
            }
        }
    }

    /// When [`Manager::watch`] wants to be called.
    pub fn wakes_at(&self) -> Option<Instant> {
        self.next_sign
    }

    /// Sends a message. One that does not go through is outlived by the next.
    fn send(&self, message: &str) {
        if let Some(notify) = &self.notify {
            let _ = notify.send(message);
        }
    }
}

impl Gift {
    /// What the log is told about one that no setting names.
    pub fn log_unnamed(name: &str, what: &str, log: &mut Log) {
        log.info(&format!(
            "{what} passed by the service manager as {name:?} is in no section of the settings; \
             serving it with the defaults; a section with its path or port sets its options"
        ));
    }
}
