//! A system of its own to look at: a private daemon, processes that really work
//! and report themselves, and `top` in front of it.
//!
//! All of it but the daemon is this very program, started again under other names
//! ([`Role`]):
//!
//! | role | what it is |
//! |---|---|
//! | (this process) | finds the daemon's [`program`]; then `top`, which knows of nothing else |
//! | stage | makes the directory, starts the others, and clears everything away |
//! | worker | one of the mail processes; several |
//! | (`dovestatd`) | the daemon in that directory |
//!
//! Invariants: the stage lives as long as the other end of its standard input is
//! open, which is as long as this process does, whatever ends it. Daemon and
//! workers are killed by the kernel if the stage is.

mod program;
mod stage;
mod worker;

use super::args::TopOptions;
use super::server::Address;
use super::top;
use crate::config::Fatal;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// What this program can be when it is started under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// See [`stage`].
    Stage,
    /// See [`worker`].
    Worker,
}

impl Role {
    const ALL: [(Role, &'static str); 2] = [
        (Role::Stage, "dovestat-demo-stage"),
        (Role::Worker, "dovestat-demo-worker"),
    ];

    /// The role that goes by a name.
    pub(super) fn named(name: &OsStr) -> Option<Role> {
        let found = Role::ALL.into_iter().find(|(_, known)| name == *known);
        found.map(|(role, _)| role)
    }

    fn name(self) -> &'static str {
        Role::ALL[self as usize].1
    }

    /// A command that starts this program in the role.
    fn command(self) -> Result<Command, Fatal> {
        let program = env::current_exe().map_err(Fatal::io("find this program"))?;
        let mut command = Command::new(program);
        command.arg0(self.name());
        Ok(command)
    }

    pub(super) fn play(self, args: impl Iterator<Item = OsString>) -> Result<(), Fatal> {
        match self {
            Role::Stage => stage::run(args),
            Role::Worker => worker::run(args),
        }
    }
}

/// The stage, seen from in front of it. It is cleared when this is dropped.
struct Stage {
    /// The process, and the pipe that keeps it.
    child: Child,
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // The stage reports its own failures.
        let _ = self.child.wait();
    }
}

/// Shows the demonstration until its user has seen enough.
pub(super) fn run(mut options: TopOptions) -> Result<(), Fatal> {
    let program = program::find()?;
    let mut command = Role::Stage.command()?;
    command.arg(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // What the terminal's keys send is for top.
    let child = command.process_group(0).spawn();
    let mut stage = Stage {
        child: child.map_err(Fatal::io("start the demonstration"))?,
    };
    let stdout = stage.child.stdout.take();
    let mut socket = String::new();
    let read = stdout.map_or(Ok(0), |stdout| {
        BufReader::new(stdout).read_line(&mut socket)
    });
    read.map_err(Fatal::io("start the demonstration"))?;
    let Some(socket) = socket.strip_suffix('\n') else {
        return Err(Fatal::Reported);
    };
    options.servers = vec![Address::Unix(socket.into())];
    options.remembers = false;
    if options.sort.is_none() {
        // What is written to a directory in memory is no disk output.
        options.sort = Some("cpu".to_owned());
    }
    top::run(options)
}

/// For `map_err`: the failure of something in a directory.
fn failed(what: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Fatal {
    Fatal::io(format!("{what} {}", path.display()))
}
