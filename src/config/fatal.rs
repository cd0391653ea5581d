//! What ends a program: one enum for both, one line each, one place for exit codes.
//!
//! Prints nothing: the two `main` functions write [`Fatal::line`] to standard error.

use super::Mistakes;
use crate::sys::reason;
use std::fmt;
use std::io;

/// A reason to end. Exit codes are those of sysexits(3).
#[derive(Debug)]
pub(crate) enum Fatal {
    /// The command line is wrong: 64.
    Usage(String),
    /// The command line has no command: 64. The client prints its short help.
    Bare,
    /// Input is not what it should be: 65.
    Data(String),
    /// Another daemon serves there, or something needed is missing: 69.
    Unavailable(String),
    /// A system call failed: 74, or 77 where permission was missing. The text names
    /// what was being done.
    Io(String, io::Error),
    /// A server failed, and the client has reported that: 75.
    Reported,
    /// An operation is not permitted, or a file is not the daemon's: 77.
    Permission(String),
    /// The configuration is wrong: 78.
    Configuration(Mistakes),
    /// A setting names something that does not exist here: 78.
    Setting(String),
    /// The reader of standard output has closed it: 0.
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

    pub(crate) fn code(&self) -> u8 {
        match self {
            Fatal::Closed => 0,
            Fatal::Usage(_) | Fatal::Bare => 64,
            Fatal::Data(_) => 65,
            Fatal::Unavailable(_) => 69,
            Fatal::Io(_, error) if error.kind() == io::ErrorKind::PermissionDenied => 77,
            Fatal::Io(..) => 74,
            Fatal::Reported => 75,
            Fatal::Permission(_) => 77,
            Fatal::Configuration(_) | Fatal::Setting(_) => 78,
        }
    }

    /// The text for standard error, `None` if there is nothing to report. Mistakes of the
    /// configuration begin with their file and line, other lines with the program's name.
    pub(crate) fn line(&self, program: &str) -> Option<String> {
        match self {
            Fatal::Bare | Fatal::Reported | Fatal::Closed => None,
            Fatal::Configuration(mistakes) => Some(format!("{mistakes}\n")),
            fatal => Some(line(program, &fatal.to_string())),
        }
    }
}

/// A line for standard error: control characters of `text` become `?`.
pub(crate) fn line(program: &str, text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    let text: String = text.chars().map(visible).collect();
    format!("{program}: {text}\n")
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Usage(text)
            | Fatal::Data(text)
            | Fatal::Unavailable(text)
            | Fatal::Permission(text)
            | Fatal::Setting(text) => f.write_str(text),
            Fatal::Io(what, error) => write!(f, "{what}: {}", reason(error)),
            Fatal::Configuration(mistakes) => mistakes.fmt(f),
            Fatal::Bare | Fatal::Reported | Fatal::Closed => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mistake::{Location, Mistake};

    #[test]
    fn each_reason_has_its_code_and_one_line() {
        let text = || "a\u{1b}\nb".to_owned();
        let failed = |kind: io::ErrorKind| Fatal::Io("x".to_owned(), kind.into());
        let shown = "p: a??b\n";
        for (fatal, code, line) in [
            (Fatal::Usage(text()), 64, Some(shown)),
            (Fatal::Bare, 64, None),
            (Fatal::Data(text()), 65, Some(shown)),
            (Fatal::Unavailable(text()), 69, Some(shown)),
            (
                failed(io::ErrorKind::NotFound),
                74,
                Some("p: x: entity not found\n"),
            ),
            (
                failed(io::ErrorKind::PermissionDenied),
                77,
                Some("p: x: permission denied\n"),
            ),
            (Fatal::Reported, 75, None),
            (Fatal::Permission(text()), 77, Some(shown)),
            (Fatal::Setting(text()), 78, Some(shown)),
            (Fatal::Closed, 0, None),
            (
                Fatal::Configuration(Mistakes(vec![Mistake {
                    place: Location::whole("c").at(7),
                    message: "wrong".to_owned(),
                }])),
                78,
                Some("c:7: wrong\n"),
            ),
        ] {
            assert_eq!((fatal.code(), fatal.line("p").as_deref()), (code, line));
        }
        assert!(matches!(
            Fatal::output(io::ErrorKind::BrokenPipe.into()),
            Fatal::Closed
        ));
    }
}
