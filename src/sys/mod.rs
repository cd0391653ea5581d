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
//! [`signal`], because a handler can reach nothing but statics, [`terminal`],
//! because a panic can, and [`reserve`], because the allocator can.
//!
//! The map:
//!
//! | module         | noun                                                   |
//! |----------------|--------------------------------------------------------|
//! | [`poll`]       | the poll set, rebuilt every turn of the loop           |
//! | [`place`]      | what lies at a path, and whether it may be taken       |
//! | [`fifo`]       | a FIFO that is read and never at its end               |
//! | [`writer`]     | the write end of a FIFO that another process reads        |
//! | [`socket`]     | listeners: UNIX and TCP; connecting without waiting    |
//! | [`dir`]        | a directory, and files in it replaced as a whole       |
//! | [`way`]        | the way to a directory, walked once                    |
//! | [`lock`]       | a directory held by one process                        |
//! | [`signal`]     | signals as something poll(2) can wait for              |
//! | [`sigpipe`]    | writing without being ended by it                      |
//! | [`notify`]     | messages to the service manager                        |
//! | [`inherit`]    | descriptors that the process was started with          |
//! | [`user`]       | users, groups, giving up root                          |
//! | [`privileges`] | capabilities given up                                  |
//! | [`child`]      | children: what became of them                          |
//! | [`answer`]     | what another program prints                            |
//! | [`offshoot`]   | a copy of this process that does one thing             |
//! | [`usage`]      | what the kernel counted of a process                   |
//! | [`process`]    | daemonizing, limits, host name                         |
//! | [`local_time`] | a wall clock instant in local time                     |
//! | [`syslog`]     | a log socket that never blocks                         |
//! | [`bytes`]      | looking for a byte                                     |
//! | [`page`]       | memory straight from the kernel                        |
//! | [`memory`]     | how much memory the process may have                   |
//! | [`reserve`]    | memory for when there is none left                     |
//! | [`resident`]   | memory that was needed to start only                    |
//! | [`terminal`]   | a terminal as a screen, always given back as it was    |
//! | [`output`]     | a line to a terminal, pipe or file that never blocks   |

use std::io;

pub mod answer;
pub mod bytes;
pub mod child;
pub mod dir;
pub mod fifo;
pub mod inherit;
pub mod local_time;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod offshoot;
pub mod output;
pub mod page;
pub mod place;
pub mod poll;
pub mod privileges;
pub mod process;
pub mod reserve;
pub mod resident;
pub mod signal;
pub mod sigpipe;
pub mod socket;
pub mod syslog;
pub mod terminal;
pub mod usage;
pub mod user;
pub mod vector;
pub mod way;
pub mod writer;

#[cfg(test)]
pub(crate) mod counting;
#[cfg(test)]
pub(crate) mod scratch;

/// The text of an error for a person: without the number that std puts behind it.
pub fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if error.raw_os_error().is_some() {
        text.truncate(text.rfind(" (os error ").unwrap_or(text.len()));
    }
    text
}

/// The bridge from libc's -1 to [`io::Error`]: `result` itself unless it is
/// -1, else what errno says.
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
