//! The daemon: one thread, one poll(2) loop, and what it takes to get there.
//!
//! | module | what it is |
//! |---|---|
//! | `options` | the command line |
//! | `fatal` | what ends the program, as one line and an exit code |
//! | `log` | lines to syslog, standard error or a file, never blocking |
//! | `faults` | what peers do wrong: counted by kind, logged at a limited rate |
//! | `preflight` | users, groups and directories that the settings name and that are missing |
//! | `listing` | the listeners as the log lists them |
//! | `startup` | from settings to open listeners and dropped privileges |
//! | `manager` | what systemd gave and wants to hear |
//! | `memory` | whether the memory limit fits what the system allows |
//! | `opening`, `listener` | FIFOs and sockets opened or taken over; one that clients connect to |
//! | `files` | their files, made anew when they vanish |
//! | `fifo_input`, `records` | bytes of a FIFO to lines, lines to the store |
//! | `context` | what serving a peer needs of the rest |
//! | `client` | a connection: bytes in and out, in bounded memory |
//! | `clients` | all connections: which are kept, which may use memory |
//! | `conversation` | what a protocol makes of them |
//! | `export` | the statistics protocol |
//! | `status` | the reply to STATUS in that protocol |
//! | `http`, `scrape`, `health` | HTTP for Prometheus, the metrics it is given, those about the daemon |
//! | `carbon`, `batch`, `resolve` | reports to a carbon receiver, their bytes, its addresses |
//! | `pidfile` | the number of the process |
//! | `state` | statistics that outlive the daemon |
//! | `waiting` | what is logged while no record comes |
//! | `turn`, `reload` | the loop; settings read again |
//!
//! Must not: end, stall or spin whatever its peers send. Input is theirs;
//! assertions are for bugs of our own.

#![forbid(unsafe_code)]

mod fatal;
mod faults;
mod files;
mod input;
mod log;
mod options;
mod push;
mod reload;
mod serve;
mod server;
mod snapshot;
mod start;

use crate::config::Defaults;
use fatal::Fatal;
use options::{Command, Options};
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the program with the arguments behind its name.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            if let Some(line) = fatal.line("dovestatd") {
                // A failure of that cannot be reported anywhere.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            fatal.code().into()
        }
    }
}

/// Does what the arguments say.
fn run(args: impl Iterator<Item = std::ffi::OsString>) -> Result<(), Fatal> {
    let (command, options) = Options::parse(args)?;
    match command {
        Command::Help => options::print(&options::help()),
        Command::Version => options::print(&options::version()),
        Command::Check => options.check(),
        Command::Print(shown) => {
            let settings = options.load()?.settings;
            options::print(&settings.print(shown, &Defaults::ours()))
        }
        Command::Serve => start::startup::serve(options),
    }
}
