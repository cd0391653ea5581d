//! The log: lines to syslog, standard error, a file, or the log process of Dovecot.
//!
//! Writing a line never blocks the daemon: a line that would have to wait is dropped, and
//! the next one that is written contains the number of dropped lines. Bytes of peers pass
//! through [`visible`] before they get here.
//!
//! The directory of a file is opened once, so that the file can be opened anew
//! from inside a chroot.

use crate::config::LogPath;
use crate::sys::fd::output::{nonblocking_twin, try_write_line, MAX_LINE_BYTES};
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::local_time::LocalTime;
use crate::sys::syslog::{Syslog, LOG_PATH};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) use crate::sys::syslog::Severity;

/// The mode of a log file.
const LOG_MODE: u32 = 0o640;

/// The most bytes of something a peer sent that are logged.
const MAX_VISIBLE_BYTES: usize = 200;

#[derive(Debug)]
enum Target {
    Syslog(Syslog),
    Stderr(OwnedFd),
    /// The pipe to Dovecot's log process.
    Dovecot(OwnedFd),
    File(LogFile),
}

/// A log file, and what it takes to open it anew.
#[derive(Debug)]
struct LogFile {
    dir: Dir,
    name: String,
    /// Its path, for messages.
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens or makes it.
    fn open(path: &Path, owner: Owner) -> io::Result<LogFile> {
        let (dir, name) = Dir::of_target(path, owner)?;
        let (file, is_new) = dir.append(&name, LOG_MODE)?;
        // The daemon's user opens it anew after a rotation. The owner of an existing
        // file stays.
        if let (true, Some((uid, gid))) = (is_new, owner) {
            fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(LogFile {
            file,
            dir,
            name,
            path: path.to_owned(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Log {
    target: Target,
    /// Lines dropped since the last one that went through.
    dropped: u64,
}

impl Log {
    /// Opens the log. A file that is made for it is for the user and group `owner`.
    ///
    /// # Errors
    /// A file that cannot be appended to.
    pub(super) fn open(path: &LogPath, owner: Owner) -> io::Result<Log> {
        let target = match path {
            LogPath::Syslog => Target::Syslog(Syslog::open(Path::new(LOG_PATH))?),
            LogPath::Stderr => Target::Stderr(nonblocking_twin(io::stderr().as_fd())?),
            LogPath::Dovecot => Target::Dovecot(nonblocking_twin(io::stderr().as_fd())?),
            LogPath::File(path) => Target::File(LogFile::open(path, owner)?),
        };
        Ok(Log { target, dropped: 0 })
    }

    /// Opens a log file anew, after it was rotated. When that fails, lines go on
    /// to the old one.
    ///
    /// # Errors
    /// The path that cannot be opened, and why.
    pub(super) fn reopen(&mut self) -> Result<(), (PathBuf, io::Error)> {
        if let Target::File(log) = &mut self.target {
            let opened = log.dir.append(&log.name, LOG_MODE);
            (log.file, _) = opened.map_err(|error| (log.path.clone(), error))?;
        }
        Ok(())
    }

    /// Whether a file of the log can be made anew with the rights that the daemon has
    /// now.
    pub(super) fn can_be_rotated(&self) -> bool {
        match &self.target {
            Target::File(log) => log.dir.is_writable(),
            Target::Syslog(_) | Target::Stderr(_) | Target::Dovecot(_) => true,
        }
    }

    /// Whether lines are logged: not while there is no system log.
    pub(super) fn is_connected(&self) -> bool {
        match &self.target {
            Target::Syslog(syslog) => syslog.is_connected(),
            Target::Stderr(_) | Target::Dovecot(_) | Target::File(_) => true,
        }
    }

    pub(super) fn info(&mut self, message: &str) {
        self.write(Severity::Info, message);
    }

    pub(super) fn warning(&mut self, message: &str) {
        self.write(Severity::Warning, message);
    }

    pub(super) fn error(&mut self, message: &str) {
        self.write(Severity::Error, message);
    }

    /// Writes a line of any severity.
    pub(super) fn write(&mut self, severity: Severity, message: &str) {
        let dropped = match self.dropped {
            0 => String::new(),
            count => format!(" ({count} lines before this one could not be logged)"),
        };
        // Types of lib/failures.h: at the beginning of a line, behind a byte 1.
        let (label, dovecots_type) = match severity {
            Severity::Fatal => ("error: ", '\u{5}'),
            Severity::Error => ("error: ", '\u{4}'),
            Severity::Warning => ("warning: ", '\u{3}'),
            Severity::Info => ("", '\u{2}'),
        };
        let now = SystemTime::now();
        let written = match &mut self.target {
            Target::Syslog(syslog) => {
                let before = syslog.dropped();
                syslog.send(severity, now, &format!("{label}{message}{dropped}"));
                syslog.dropped() == before
            }
            Target::Stderr(fd) => {
                write_line(fd.as_fd(), format!("dovestatd: {label}{message}{dropped}"))
            }
            Target::Dovecot(fd) => {
                let pid = std::process::id();
                write_line(
                    fd.as_fd(),
                    format!("\u{1}{dovecots_type}{pid} {message}{dropped}"),
                )
            }
            Target::File(log) => {
                let (time, pid) = (LocalTime::at(now), std::process::id());
                write_line(
                    log.file.as_fd(),
                    format!("{time} dovestatd[{pid}]: {label}{message}{dropped}"),
                )
            }
        };
        self.dropped = if written { 0 } else { self.dropped + 1 };
    }
}

/// Writes one line, cut where it is too long; false when it did not go through.
fn write_line(fd: std::os::fd::BorrowedFd, mut line: String) -> bool {
    if line.len() >= MAX_LINE_BYTES {
        let mut end = MAX_LINE_BYTES - 1;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
    }
    line.push('\n');
    matches!(try_write_line(fd, line.as_bytes()), Ok(true))
}

/// The value of log_path, for messages.
pub(crate) fn shown(path: &LogPath) -> String {
    match path {
        LogPath::Syslog => "syslog".to_owned(),
        LogPath::Stderr | LogPath::Dovecot => "stderr".to_owned(),
        LogPath::File(path) => path.display().to_string(),
    }
}

/// Bytes that a peer sent, in a form that is safe to show: printable ASCII, the
/// rest escaped, cut where it gets long.
pub(super) fn visible(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_VISIBLE_BYTES)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}

/// A number with its digits in groups of three: `12,431`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

/// A size as a person reads it: `16 M`, `773 K`.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = ("B", 1);
    for larger in [
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ] {
        // Two digits at least, unless one is exact.
        if bytes >= larger.1 * 10 || (bytes >= larger.1 && bytes % larger.1 == 0) {
            unit = larger;
        }
    }
    format!("{} {}", bytes / unit.1, unit.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups_of_three() {
        let shown = [0, 999, 1000, 12_431, 1_000_000, u64::MAX].map(grouped);
        assert_eq!(
            shown,
            [
                "0",
                "999",
                "1,000",
                "12,431",
                "1,000,000",
                "18,446,744,073,709,551,615"
            ]
        );
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 K"),
            (791_616, "773 K"),
            (16 << 20, "16 M"),
            (17 << 20, "17 M"),
            ((17 << 20) + 5, "17 M"),
            (16_544, "16 K"),
            (300 << 20, "300 M"),
            ((9 << 30) + 1, "9216 M"),
            (u64::MAX, "16777215 T"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn what_peers_sent_is_one_harmless_line() {
        let hostile = b"a\nb\r\x1b[2J\x00\xff\"";
        assert_eq!(visible(hostile), r#""a\nb\r\x1b[2J\x00\xff\"""#);
        let long = visible(&[b'x'; 5000]);
        assert_eq!(long.len(), MAX_VISIBLE_BYTES + 5);
    }
}
