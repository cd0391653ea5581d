//! The log: lines to syslog, standard error or a file.
//!
//! Writing a line never blocks the daemon: what would have to wait is dropped
//! and counted, and the count is told by the next line that goes through.
//! Everything a peer sent is passed through [`visible`] before it gets here.

use crate::config::LogPath;
use crate::sys::local_time::LocalTime;
use crate::sys::output::{nonblocking_twin, try_write_line, MAX_LINE_BYTES};
use crate::sys::syslog::{Syslog, LOG_PATH};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use crate::sys::syslog::Severity;

/// The most bytes of something a peer sent that are logged.
const MAX_VISIBLE_BYTES: usize = 200;

/// Where lines go.
#[derive(Debug)]
enum Target {
    /// The system's log.
    Syslog(Syslog),
    /// Standard error.
    Stderr(OwnedFd),
    /// A file, by its path for opening it anew.
    File(PathBuf, File),
}

/// The log.
#[derive(Debug)]
pub struct Log {
    /// Where lines go.
    target: Target,
    /// Lines dropped since the last one that went through.
    dropped: u64,
}

impl Log {
    /// Opens the log.
    ///
    /// # Errors
    /// A file that cannot be appended to.
    pub fn open(path: &LogPath) -> io::Result<Log> {
        let target = match path {
            LogPath::Syslog => Target::Syslog(Syslog::open(Path::new(LOG_PATH))?),
            LogPath::Stderr => Target::Stderr(nonblocking_twin(io::stderr().as_fd())?),
            LogPath::File(path) => Target::File(path.clone(), open_file(path)?),
        };
        Ok(Log { target, dropped: 0 })
    }

    /// Opens a log file anew, after it was rotated. When that fails, lines go on
    /// to the old one.
    ///
    /// # Errors
    /// The path that cannot be opened, and why.
    pub fn reopen(&mut self) -> Result<(), (PathBuf, io::Error)> {
        if let Target::File(path, file) = &mut self.target {
            *file = open_file(path).map_err(|error| (path.clone(), error))?;
        }
        Ok(())
    }

    /// The file that is written to, if it is one.
    pub fn file(&self) -> Option<&File> {
        match &self.target {
            Target::File(_, file) => Some(file),
            Target::Syslog(_) | Target::Stderr(_) => None,
        }
    }

    /// What is worth knowing.
    pub fn info(&mut self, message: &str) {
        self.write(Severity::Info, message);
    }

    /// What may be wrong.
    pub fn warning(&mut self, message: &str) {
        self.write(Severity::Warning, message);
    }

    /// What is wrong.
    pub fn error(&mut self, message: &str) {
        self.write(Severity::Error, message);
    }

    /// Writes a line of any severity.
    pub fn write(&mut self, severity: Severity, message: &str) {
        let dropped = match self.dropped {
            0 => String::new(),
            count => format!(" ({count} lines before this one could not be logged)"),
        };
        let label = match severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
            Severity::Info | Severity::Debug => "",
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
            Target::File(_, file) => {
                let (time, pid) = (LocalTime::at(now), std::process::id());
                write_line(
                    file.as_fd(),
                    format!("{time} dovestatd[{pid}]: {label}{message}{dropped}"),
                )
            }
        };
        self.dropped = if written { 0 } else { self.dropped + 1 };
    }
}

/// Opens a log file for appending. A FIFO that nobody reads is an error, not
/// waited for, and one that is full later makes nobody wait either.
fn open_file(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
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

/// Bytes that a peer sent, in a form that is safe to show: printable ASCII, the
/// rest escaped, cut where it gets long.
pub fn visible(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MAX_VISIBLE_BYTES)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_sent_is_one_harmless_line() {
        let hostile = b"a\nb\r\x1b[2J\x00\xff\"";
        assert_eq!(visible(hostile), r#""a\nb\r\x1b[2J\x00\xff\"""#);
        let long = visible(&[b'x'; 5000]);
        assert_eq!(long.len(), MAX_VISIBLE_BYTES + 5);
    }
}
