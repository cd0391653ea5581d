//! What ends the program: one enum, one line each, one place for exit codes.

use crate::config::Mistakes;
use crate::sys::reason;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A reason to end. Exit codes are those of sysexits(3).
#[derive(Debug)]
pub enum Fatal {
    /// The command line is wrong: 64.
    Usage(String),
    /// Another daemon serves there: 69.
    Unavailable(String),
    /// A system call failed: 74, or 77 where permission was missing. The text
    /// says what was being done.
    Io(String, io::Error),
    /// Something may not be done or is not ours: 77.
    Permission(String),
    /// The configuration is wrong: 78.
    Configuration(Mistakes),
    /// A setting names something that does not exist here: 78.
    Setting(String),
}

impl Fatal {
    /// For `map_err`: the failure of `what`.
    pub fn io(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Fatal {
        move |error| Fatal::failure(&what, error)
    }

    /// The failure of `what`.
    #[cold]
    fn failure(what: &dyn fmt::Display, error: io::Error) -> Fatal {
        Fatal::Io(what.to_string(), error)
    }

    /// The exit code as a number.
    pub fn code(&self) -> u8 {
        match self {
            Fatal::Usage(_) => 64,
            Fatal::Unavailable(_) => 69,
            Fatal::Io(_, error) if error.kind() == io::ErrorKind::PermissionDenied => 77,
            Fatal::Io(..) => 74,
            Fatal::Permission(_) => 77,
            Fatal::Configuration(_) | Fatal::Setting(_) => 78,
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        self.code().into()
    }

    /// Tells it on standard error. Mistakes of the configuration have their
    /// file and line in front, the others the program's name.
    pub fn print(&self) {
        let line = match self {
            Fatal::Configuration(_) => format!("{self}\n"),
            _ => format!("dovestatd: {self}\n"),
        };
        // There is nowhere else to tell that this failed.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Usage(text)
            | Fatal::Unavailable(text)
            | Fatal::Permission(text)
            | Fatal::Setting(text) => f.write_str(text),
            Fatal::Io(what, error) => write!(f, "{what}: {}", reason(error)),
            Fatal::Configuration(mistakes) => mistakes.fmt(f),
        }
    }
}
