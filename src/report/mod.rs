//! The other end of the FIFO: what a program of yours needs to report itself, as
//! Dovecot's processes do through their plugin.
//!
//! ```no_run
//! use dovestat::report::{place, FifoWriter, Login, Meter, Session};
//! use std::sync::Arc;
//!
//! let fifo = Arc::new(FifoWriter::new("/run/dovestat/stats-mail"));
//! // For each client that has logged in:
//! let mut meter = Meter::start();
//! let mut session = Session::connect(
//!     &fifo,
//!     Login {
//!         user: b"alice@example.org",
//!         service: b"imap",
//!         pid: std::process::id(),
//!         ip: "192.0.2.1".parse().ok(),
//!     },
//! );
//! let command = session.begin_command(b"FETCH", b"1:* (FLAGS)");
//! // ... the work ...
//! let mut total = meter.read();
//! total.values[place::mail_read_count] = 7;
//! session.end_command(command, &total);
//! session.update(&total);
//! // Dropping the session disconnects it.
//! ```
//!
//! What is sent are totals, never differences: a report that is lost is made
//! good by the next one. So a host calls [`Session::update`] whenever it likes,
//! after each command or every half a minute, but at least every five minutes,
//! for a session that is silent for fifteen counts as gone.
//!
//! # What it costs the host
//!
//! Nothing here ever waits, and nothing fails: a daemon that is absent, slow or
//! restarted costs its reports, not its host. A record is one write(2) of at most
//! PIPE_BUF bytes to a nonblocking FIFO, without SIGPIPE. A full FIFO drops the
//! record; a daemon that went away is looked for at each report, and one that
//! came back gets the session, its running commands and its totals again.
//!
//! # The fields
//!
//! A [`Stats`] has one number for each of [`FIELDS`], found by [`place`]:
//!
//! | field | what it is | unit | from |
//! |---|---|---|---|
//! | user_cpu, sys_cpu | processor time in user mode and in the kernel | microseconds | getrusage(2) |
//! | clock_time | time that was not spent waiting for something to do | microseconds | see [`Meter::waited`] |
//! | min_faults, maj_faults | page faults without and with reading from a disk | faults | getrusage(2) |
//! | vol_cs, invol_cs | context switches: to wait, and because others had to run | switches | getrusage(2) |
//! | disk_input, disk_output | read from and written to disks | bytes | getrusage(2), blocks of 512 |
//! | read_count, write_count | system calls that read and wrote | calls | /proc/PID/io |
//! | read_bytes, write_bytes | what those moved, from caches, pipes and sockets, too | bytes | /proc/PID/io |
//! | mail_lookup_path, mail_lookup_attr | open(2) and stat(2) of mail files | calls | the host |
//! | mail_read_count, mail_read_bytes | mails that were read, and their size | mails, bytes | the host |
//! | mail_cache_hits | lookups that a cache answered | lookups | the host |
//!
//! The fields of the auth process that follow these are not sent.
//!
//! | module | what it is |
//! |---|---|
//! | `fifo_writer` | a FIFO that may come and go |
//! | `session` | what the daemon is to know of a session, and whether it does |
//! | `session_id` | ids that no other session has |
//! | `meter` | what this process uses |
//! | `proc_files` | what /proc has about any process |
//! | `children` | what the children of this process use |
//! | `sample` | what another process used, looked at again and again |
//!
//! Must not: wait, log, end its host, or keep more than a bounded memory of what
//! could not be delivered.

#![forbid(unsafe_code)]

mod children;
mod fifo_writer;
mod meter;
mod proc_files;
mod sample;
mod session;
mod session_id;

pub(crate) use children::Children;
pub use fifo_writer::FifoWriter;
pub use meter::Meter;
pub(crate) use sample::{Look, Sample};
pub(crate) use session::add_user;
pub use session::{CommandId, Login, Session};
pub use session_id::SessionId;

pub use crate::stats::{place, Field, Item, Stats, FIELDS};
