//! What ends the client: one enum, one line each, one place for exit codes.

use super::args::help;
use crate::sys::reason;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A reason to end. Exit codes are doveadm's, which are those of sysexits(3).
#[derive(Debug)]
pub(crate) enum Fatal {
    /// The command line is wrong: 64.
    Usage(String),
    /// There is no command: 64, and the short help.
    Bare,
    /// A server could not be reached, refused or disconnected, which was told
    /// of already: 75, and no line.
    Told,
    /// Something that is needed is not there: 69. The text says what, where it was
    /// looked for, and what to do.
    Unavailable(String),
    /// A system call failed: 74. The text says what was being done.
    Io(String, io::Error),
    /// What is read is not what it should be: 65.
    Data(String),
    /// Standard output was closed: whoever reads has seen enough. 0.
    Closed,
}

impl Fatal {
    /// For `map_err`: the failure of `what`.
    pub(crate) fn io(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Fatal {
        move |error| Fatal::failure(&what, error)
    }

    #[cold]
    fn failure(what: &dyn fmt::Display, error: io::Error) -> Fatal {
        Fatal::Io(what.to_string(), error)
    }

    /// For `map_err`: the failure of writing to standard output.
    pub(crate) fn output(error: io::Error) -> Fatal {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Fatal::Closed,
            _ => Fatal::Io("standard output".to_owned(), error),
        }
    }

    /// The exit code as a number.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Fatal::Usage(_) | Fatal::Bare => 64,
            Fatal::Data(_) => 65,
            Fatal::Unavailable(_) => 69,
            Fatal::Told => 75,
            Fatal::Io(..) => 74,
            Fatal::Closed => 0,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        self.code().into()
    }

    /// Tells it on standard error.
    pub(crate) fn print(&self) {
        match self {
            Fatal::Told | Fatal::Closed => {}
            // There is nowhere else to report that this failed.
            Fatal::Bare => drop(io::stderr().write_all(help::SHORT.as_bytes())),
            fatal => warn(&fatal.to_string()),
        }
    }
}

/// Tells something on standard error, with control characters made visible.
pub(super) fn warn(text: &str) {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    // There is nowhere else to tell that this failed.
    let _ = io::stderr().write_all(format!("dovestat: {text}\n").as_bytes());
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Usage(text) | Fatal::Data(text) | Fatal::Unavailable(text) => f.write_str(text),
            Fatal::Io(what, error) => write!(f, "{what}: {}", reason(error)),
            Fatal::Bare | Fatal::Told | Fatal::Closed => Ok(()),
        }
    }
}
