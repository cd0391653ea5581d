//! A log socket that never blocks.
//!
//! Owns: a datagram socket to the system's logger, and the count of lines that
//! did not get there.
//!
//! Invariants: nothing waits: a logger that is full, slow or missing costs the
//! line, not the daemon's time. One descriptor is kept from the beginning to
//! the end, so root directory and identity may change; a logger that is
//! restarted is found again if its path still leads to it.
//!
//! Must not: choose what is logged, or make it harmless; messages come as one
//! line without control characters.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::local_time::LocalTime;

/// Where the system's logger listens.
pub(crate) const LOG_PATH: &str = "/dev/log";

/// RFC 3164: the mail system.
const FACILITY_MAIL: u8 = 2 << 3;

/// The name lines are logged under.
const TAG: &str = "dovestatd";

/// How grave a line is, with the numbers of RFC 3164.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The program ends by it.
    Fatal = 2,
    /// Something does not work.
    Error = 3,
    /// Something may not work as intended.
    Warning = 4,
    /// What an administrator may want to know.
    Info = 6,
}

/// The connection to the logger.
#[derive(Debug)]
pub(crate) struct Syslog {
    /// Nonblocking; connected while the logger lives.
    socket: UnixDatagram,
    /// Where the logger listens.
    path: PathBuf,
    /// How many lines were lost.
    dropped: u64,
    /// The line being sent, kept for its memory.
    line: Vec<u8>,
}

impl Syslog {
    /// Connects to the logger at `path`, [`LOG_PATH`] but in tests. A logger
    /// that is not there yet is no error.
    pub(crate) fn open(path: &Path) -> io::Result<Syslog> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(path);
        Ok(Syslog {
            socket,
            path: path.into(),
            dropped: 0,
            line: Vec::new(),
        })
    }

    /// Sends a line, or drops and counts it; so one that fits into no datagram
    /// (Linux: some 200 KB).
    pub(crate) fn send(&mut self, severity: Severity, now: SystemTime, message: &str) {
        self.line.clear();
        let priority = FACILITY_MAIL | severity as u8;
        let (stamp, pid) = (stamp(LocalTime::at(now)), std::process::id());
        // Writing to memory does not fail.
        let _ = write!(self.line, "<{priority}>{stamp} {TAG}[{pid}]: {message}");
        if self.try_send().is_err() {
            self.dropped += 1;
        }
    }

    /// Whether the logger was there when it was last looked for.
    pub(crate) fn is_connected(&self) -> bool {
        self.socket.peer_addr().is_ok()
    }

    /// How many lines were dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends the line, after connecting anew if the logger went away.
    fn try_send(&self) -> io::Result<usize> {
        match self.socket.send(&self.line) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ECONNREFUSED | libc::ENOTCONN | libc::ECONNRESET)
                ) =>
            {
                self.socket.connect(&self.path)?;
                self.socket.send(&self.line)
            }
            result => result,
        }
    }
}

/// The stamp of RFC 3164: `Jan  2 03:04:05`.
fn stamp(time: LocalTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let LocalTime {
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let month = MONTHS[(usize::from(month) + 11) % 12];
    format!("{month} {day:2} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;
    use std::time::UNIX_EPOCH;

    fn receive(logger: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let len = logger.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn lines_have_the_usual_form() {
        let dir = Scratch::new("syslog-form");
        let logger = UnixDatagram::bind(dir.join("log")).unwrap();
        let mut syslog = Syslog::open(&dir.join("log")).unwrap();
        syslog.send(Severity::Warning, UNIX_EPOCH, "a message");
        let stamp = stamp(LocalTime::at(UNIX_EPOCH));
        let pid = std::process::id();
        assert_eq!(
            receive(&logger),
            format!("<20>{stamp} dovestatd[{pid}]: a message")
        );
        for (severity, priority) in [(Severity::Error, "<19>"), (Severity::Info, "<22>")] {
            syslog.send(severity, UNIX_EPOCH, "");
            assert!(receive(&logger).starts_with(priority));
        }
        assert_eq!(syslog.dropped(), 0);
    }

    #[test]
    fn the_day_is_padded_with_a_space() {
        let mut time = LocalTime {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
        };
        assert_eq!(stamp(time), "Jan  2 03:04:05");
        (time.month, time.day) = (12, 31);
        assert_eq!(stamp(time), "Dec 31 03:04:05");
    }

    #[test]
    fn a_missing_logger_costs_lines_until_it_is_there() {
        let dir = Scratch::new("syslog-missing");
        let path = dir.join("log");
        let mut syslog = Syslog::open(&path).unwrap();
        syslog.send(Severity::Info, UNIX_EPOCH, "lost");
        assert_eq!(syslog.dropped(), 1);
        let logger = UnixDatagram::bind(&path).unwrap();
        syslog.send(Severity::Info, UNIX_EPOCH, "first");
        assert!(receive(&logger).ends_with(": first"));
        drop(logger);
        syslog.send(Severity::Info, UNIX_EPOCH, "lost");
        std::fs::remove_file(&path).unwrap();
        syslog.send(Severity::Info, UNIX_EPOCH, "lost");
        assert_eq!(syslog.dropped(), 3);
        let logger = UnixDatagram::bind(&path).unwrap();
        syslog.send(Severity::Info, UNIX_EPOCH, "second");
        assert!(receive(&logger).ends_with(": second"));
        assert_eq!(syslog.dropped(), 3);
    }

    #[test]
    fn a_full_logger_costs_lines_not_time() {
        let dir = Scratch::new("syslog-full");
        let logger = UnixDatagram::bind(dir.join("log")).unwrap();
        let mut syslog = Syslog::open(&dir.join("log")).unwrap();
        let mut sent = 0;
        while syslog.dropped() == 0 {
            syslog.send(Severity::Info, UNIX_EPOCH, "again");
            sent += 1;
        }
        for _ in 1..sent {
            receive(&logger);
        }
        syslog.send(Severity::Info, UNIX_EPOCH, "once more");
        assert!(receive(&logger).ends_with(": once more"));
        assert_eq!(syslog.dropped(), 1);
    }
}
