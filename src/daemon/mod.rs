//! The daemon: one thread, one poll(2) loop, and what it takes to get there.
//!
//! | file | what it is |
//! |---|---|
//! | `options` | the command line |
//! | `start/` | from settings to a daemon that serves |
//! | `start/startup` | the steps, in their order |
//! | `start/preflight` | users, groups and directories that the settings name and that are missing |
//! | `start/listen`, `listing` | FIFOs and sockets opened or taken over from the service manager; their lines in the log |
//! | `start/limits` | whether the memory limit fits what the system allows |
//! | `start/identity`, `pidfile`, `sd_notify` | the user that root becomes; the number of the process; the service manager |
//! | `server`, `clocks`, `reload` | the loop; its time; the settings read again |
//! | `input/` | records: `rest` knows when FIFOs are read, `fifo` cuts bytes to lines, `records` applies lines to the store, `waiting` warns when none comes |
//! | `serve/` | clients |
//! | `serve/listener`, `client`, `clients` | what clients connect to; a connection, in bounded memory; which are kept |
//! | `serve/protocol`, `context` | the interface of a protocol to its connection; to the rest of the daemon |
//! | `serve/export`, `status` | the statistics protocol; its reply to STATUS |
//! | `serve/http`, `scrape`, `health` | HTTP for Prometheus; the metrics; those about the daemon |
//! | `push/` | reports to a receiver of `carbon`: their bytes (`batch`), its addresses (`resolve`) |
//! | `level_walk` | the rows of levels in slices, for `export`, `scrape` and `batch` |
//! | `master/` | Dovecot's own master as the starter |
//! | `files` | files of FIFOs and sockets, made anew when they vanish |
//! | `snapshot` | statistics saved for the next start |
//! | `faults`, `log` | what peers do wrong, counted and logged at a limited rate; lines to syslog, standard error, a file or Dovecot |
//!
//! Must not: end, stall or spin, whatever its peers send. Assertions are for bugs, never
//! for input.

#![forbid(unsafe_code)]

mod clocks;
mod faults;
mod files;
mod input;
mod level_walk;
mod log;
mod master;
mod options;
mod push;
mod reload;
mod serve;
mod server;
mod snapshot;
mod start;

use crate::config::{Defaults, Fatal};
pub(crate) use input::rest::Rest;
use options::{Command, Options};
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the program with the arguments behind its name.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            if master::is_starter() {
                master::log_fatal(&fatal);
            } else if let Some(line) = fatal.line("dovestatd") {
                // A failure of that cannot be reported anywhere.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            fatal.code().into()
        }
    }
}

/// Runs the command of the arguments.
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
