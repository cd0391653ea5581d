//! The client: what people and scripts look at the statistics with.
//!
//! It speaks to this daemon and to Dovecot's own service alike, and stands in
//! for `doveadm stats` and `doveadm oldstats` in scripts.
//!
//! | module | what it is |
//! |---|---|
//! | `args` | the command line: options, commands, filters; help and completions |
//! | [`server`] | addresses, connections, replies taken apart |
//! | `column` | what is known of a column by its name |
//! | `format` | rows as text: doveadm's formats, CSV, a JSON object a line |
//! | `number` | numbers as people read them |
//! | `width` | what text looks like on a terminal |
//! | `dump` | rows from servers or files, chosen, sorted, compared, printed |
//! | `check` | why nothing arrives |
//! | `reset` | the global totals cleared |
//! | `top` | the live view |
//! | `run` | a program run and reported as a session |
//! | `bridge` | Dovecot 2.4's events, connections and processes, reported as 2.3's were |
//! | `demo` | a system of its own to look at |
//!
//! The way of the data: [`server::ReplyParser`] makes rows of what a server
//! sends, `dump` keeps, changes or drops them one by one, `format` prints them.
//! Nothing but sorting and comparing holds more than one row.
//!
//! Must not: let a control character of a peer reach a terminal, or take a
//! closed standard output for an error.

#![forbid(unsafe_code)]

mod args;
#[cfg(feature = "internals")]
pub mod bridge;
#[cfg(not(feature = "internals"))]
mod bridge;
mod check;
mod column;
mod demo;
mod dump;
mod format;
mod number;
mod order;
mod reset;
mod run;
pub mod server;
mod top;
mod width;

use crate::config::{fatal_line, Fatal};
use args::{help, Task};
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The name in front of each report.
const PROGRAM: &str = "dovestat";

/// Runs the program with its arguments, the first of which is the name that it
/// was called by.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let name = args.next().unwrap_or_default();
    let result = match demo::Role::named(&name) {
        Some(role) => role.play(args).map(|()| ExitCode::SUCCESS),
        None => run(args),
    };
    result.unwrap_or_else(end)
}

/// Runs the program of `dovestat bridge`, with the arguments of dovestat. It is one of its
/// own: what runs with privileges beside Dovecot has no other code, and servers without
/// Dovecot 2.4 need not have it.
pub fn bridge_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let result = match args::parse(args.skip(1)) {
        Ok(Task::Bridge(options)) => bridge::run(&options),
        Ok(_) => Err(Fatal::Usage(
            "this is the program of \"dovestat bridge\": run that".to_owned(),
        )),
        Err(fatal) => Err(fatal),
    };
    result.map_or_else(end, |()| ExitCode::SUCCESS)
}

/// Becomes the program of `dovestat bridge`.
fn execute_bridge(args: &[OsString]) -> Fatal {
    let program = env::current_exe().unwrap_or_default();
    let dir = program.parent().unwrap_or(Path::new("/usr/bin"));
    // Where it is installed, and where it is built.
    let installed = dir.join("../libexec/dovestat/dovestat-bridge");
    for path in [&installed, &dir.join("dovestat-bridge")] {
        let error = Command::new(path).args(args).exec();
        if error.kind() != io::ErrorKind::NotFound {
            return Fatal::Io(path.display().to_string(), error);
        }
    }
    Fatal::Unavailable(format!("{} is not installed", installed.display()))
}

/// Reports what ends the program; gives its exit code.
fn end(fatal: Fatal) -> ExitCode {
    match &fatal {
        Fatal::Bare => print_error(help::SHORT),
        fatal => print_error(&fatal.line(PROGRAM).unwrap_or_default()),
    }
    ExitCode::from(exit_code(&fatal))
}

/// doveadm has one code for all failures of input and output.
fn exit_code(fatal: &Fatal) -> u8 {
    match fatal.code() {
        77 => 74,
        code => code,
    }
}

/// Reports on standard error.
fn warn(text: &str) {
    print_error(&fatal_line(PROGRAM, text));
}

/// Writes to standard error; a failure of that cannot be reported anywhere.
fn print_error(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Executes the command line.
fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, Fatal> {
    let args: Vec<OsString> = args.collect();
    match args::parse(args.iter().cloned())? {
        Task::Print(text) => io::stdout()
            .write_all(text.as_bytes())
            .map_err(Fatal::output),
        Task::Dump(options) => dump::run(&options),
        Task::Top(options) => top::run(options),
        Task::Reset(servers) => reset::run(&servers),
        Task::Run(options) => return run::run(&options),
        Task::Check(options) => return check::run(&options),
        Task::Demo(options) => demo::run(options),
        Task::Bridge(_) => Err(execute_bridge(&args)),
    }
    .map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_a_failure_of_input_and_output() {
        let failed = |kind: io::ErrorKind| Fatal::Io("x".to_owned(), kind.into());
        assert_eq!(exit_code(&failed(io::ErrorKind::PermissionDenied)), 74);
        assert_eq!(exit_code(&failed(io::ErrorKind::NotFound)), 74);
        assert_eq!(exit_code(&Fatal::Reported), 75);
    }
}
