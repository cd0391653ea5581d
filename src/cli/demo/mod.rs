//! A system of its own to look at: a private daemon, processes that really work
//! and report themselves, and `top` in front of it.
//!
//! All of it is this very program, started again under other names ([`Role`]), so
//! that nothing has to be installed and nothing else can be found by mistake:
//!
//! | role | what it is |
//! |---|---|
//! | (this process) | `top`, which knows of nothing else |
//! | stage | makes the directory, starts the others, and clears everything away |
//! | daemon | `dovestatd` in that directory |
//! | worker | one of the mail processes; several |
//!
//! Invariants: the stage lives as long as the other end of its standard input is
//! open, which is as long as this process does, whatever ends it. Daemon and
//! workers are killed by the kernel if the stage is.

mod stage;
mod worker;

use super::fatal::{warn, Fatal};
use super::options::TopOptions;
use super::server::Address;
use super::top;
use crate::daemon;
use crate::sys::child::die_with;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// What this program can be when it is started under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// See [`stage`].
    Stage,
    /// The daemon.
    Daemon,
    /// See [`worker`].
    Worker,
}

impl Role {
    /// All roles by name.
    const ALL: [(Role, &'static str); 3] = [
        (Role::Stage, "dovestat-demo-stage"),
        (Role::Daemon, "dovestat-demo-daemon"),
        (Role::Worker, "dovestat-demo-worker"),
    ];

    /// The role that goes by a name.
    pub fn named(name: &OsStr) -> Option<Role> {
        let found = Role::ALL.into_iter().find(|(_, known)| name == *known);
        found.map(|(role, _)| role)
    }

    /// Its name.
    fn name(self) -> &'static str {
        Role::ALL[self as usize].1
    }

    /// A command that starts this program in the role, as a child that dies with
    /// us.
    fn command(self) -> Result<Command, Fatal> {
        let program = env::current_exe().map_err(Fatal::io("find this program"))?;
        let mut command = Command::new(program);
        command
            .arg0(self.name())
            .arg(std::process::id().to_string());
        Ok(command)
    }

    /// Plays it; the first argument is the process that it belongs to.
    pub fn play(self, mut args: impl Iterator<Item = OsString>) -> ExitCode {
        let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok());
        let Some(parent) = parent else {
            warn(&format!("{}: a part of dovestat demo", self.name()));
            return ExitCode::from(64);
        };
        // The stage is told by its standard input, and has to tidy up.
        if self != Role::Stage && die_with(parent).is_err() {
            return ExitCode::FAILURE;
        }
        let result = match self {
            Role::Stage => stage::run(),
            Role::Daemon => return daemon::main(args),
            Role::Worker => worker::run(args),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(fatal) => {
                fatal.print();
                fatal.exit_code()
            }
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
        // It tells itself what goes wrong.
        let _ = self.child.wait();
    }
}

/// Shows the demonstration until its user has seen enough.
pub fn run(mut options: TopOptions) -> Result<(), Fatal> {
    let mut command = Role::Stage.command()?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // What the terminal's keys send is for top.
    let child = command.process_group(0).spawn();
    let mut stage = Stage {
        child: child.map_err(Fatal::io("start the demonstration"))?,
    };
    let stdout = stage.child.stdout.take();
    let mut socket = String::new();
    let told = stdout.map_or(Ok(0), |stdout| {
        BufReader::new(stdout).read_line(&mut socket)
    });
    told.map_err(Fatal::io("start the demonstration"))?;
    let Some(socket) = socket.strip_suffix('\n') else {
        return Err(Fatal::Told);
    };
    options.servers = vec![Address::Unix(socket.into())];
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
