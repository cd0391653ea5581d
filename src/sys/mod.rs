//! The room of the operating system: the only home of unsafe code.
//!
//! Owns: every call to libc, and the small safe types around descriptors,
//! paths, signals and identities that come of them. Where std already has the
//! call, std is used and there is no wrapper here.
//!
//! Invariants: one system call per unsafe block, each with its reason; every
//! descriptor is close-on-exec, and nonblocking where it takes part in the
//! loop; -1 becomes an [`io::Error`] in one place, `cerr`.
//!
//! Must not: decide anything (sizes, retries over time, exit codes, what to
//! log), log, or keep state that its caller cannot see. The exceptions are
//! [`proc::signal`], because a handler can reach nothing but statics, [`terminal`],
//! because a panic can, and [`mem::reserve`], because the allocator can.
//!
//! The folders, lowest first; each imports only those above it in this table:
//!
//! | folder | what it is about |
//! |--------|------------------|
//! | `fd`   | open descriptors, whatever they lead to |
//! | `proc` | this process, its user, its children, signals |
//! | `fs`   | what has a name: files, directories, FIFOs, sockets |
//! | `mem`  | memory and its limits; imports none of them |
//!
//! The files:
//!
//! | module                   | what it is                                           |
//! |--------------------------|------------------------------------------------------|
//! | [`fd::poll`]             | the poll set, rebuilt every turn of the loop         |
//! | [`fd::output`]           | a line to a terminal, pipe or file that never blocks |
//! | [`fd::notify`]           | messages to the service manager                      |
//! | [`fd::inherited`]        | descriptors that the process was started with        |
//! | [`proc::signal`]         | signals as something poll(2) can wait for            |
//! | [`proc::sigpipe`]        | writing to a pipe without SIGPIPE ending the process |
//! | [`proc::user`]           | users, groups, giving up root                        |
//! | [`proc::privileges`]     | capabilities given up                                |
//! | [`proc::process`]        | daemonizing, limits, host name                       |
//! | [`proc::child`]          | children: how they ended                             |
//! | [`proc::subprocess`]     | what another program prints                          |
//! | [`proc::snapshot_child`] | a copy of this process that does one thing           |
//! | [`proc::usage`]          | what the kernel counted of a process                 |
//! | [`fs::lookup`]           | what lies at a path: kind, inode, owner              |
//! | [`fs::dir`]              | a directory, and files in it replaced as a whole     |
//! | [`fs::trust`]            | which directories are trusted, by owner and mode     |
//! | [`fs::path_walk`]        | the way to a directory, walked once                  |
//! | [`fs::lock`]             | a directory locked by one process                    |
//! | [`fs::created`]          | files of FIFOs and sockets: taken over, removed      |
//! | [`fs::fifo`]             | a FIFO that is read and never at its end             |
//! | [`fs::socket`]           | listeners: UNIX and TCP; connecting without waiting  |
//! | [`fs::passed`]           | FIFOs and listeners that a service manager passed    |
//! | [`fs::writer`]           | the write end of a FIFO that another process reads   |
//! | [`mem::bytes`]           | byte search; prefetch                                |
//! | [`mem::vector`]          | base64 by vector instructions                        |
//! | [`mem::page`]            | memory straight from the kernel                      |
//! | [`mem::limits`]          | how much memory the process may have                 |
//! | [`mem::reserve`]         | memory for when there is none left                   |
//! | [`mem::resident`]        | memory that a process need not have while it sleeps  |
//! | [`local_time`]           | a wall clock instant in local time                   |
//! | [`syslog`]               | a log socket that never blocks                       |
//! | [`terminal`]             | a terminal as a screen, always given back as it was  |

use std::io;

pub(crate) mod fd;
pub(crate) mod fs;
pub(crate) mod local_time;
pub(crate) mod mem;
pub(crate) mod proc;
pub(crate) mod syslog;
pub(crate) mod terminal;

#[cfg(test)]
pub(crate) mod counting;
#[cfg(test)]
pub(crate) mod scratch;

/// The text of an error for a person: without the number that std puts behind it.
pub(crate) fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if error.raw_os_error().is_some() {
        text.truncate(text.rfind(" (os error ").unwrap_or(text.len()));
    }
    text
}

/// The bridge from libc's -1 to [`io::Error`]: `result` itself unless it is
/// -1, else the error of errno.
pub(crate) fn cerr<T: From<i8> + PartialEq>(result: T) -> io::Result<T> {
    if result == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

// Nothing unwinds, as panics end the process: the tables for it go where debuggers look
// for them and strip(1) takes them away.
#[cfg(all(not(debug_assertions), target_os = "linux"))]
std::arch::global_asm!(".cfi_sections .debug_frame");
