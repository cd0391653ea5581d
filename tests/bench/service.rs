//! The two services that are compared: our daemon and Dovecot 2.3's old-stats,
//! each a process with a FIFO and a socket, in a directory of its own.

use crate::dovecot::Dovecot;
use crate::harness::{wait_until, Daemon, Setup};
use crate::link::{Client, Writer};
use std::fs;

/// A running service.
pub struct Service {
    /// Its process.
    pub pid: u32,
    /// Where records are written to.
    pub fifo: String,
    /// Where it answers.
    pub socket: String,
    /// Ends it when dropped.
    _owner: Owner,
}

/// Who ends a service.
enum Owner {
    /// Our daemon does not need more.
    Ours { _daemon: Daemon },
    /// The original runs below Dovecot's master.
    Original { _dovecot: Dovecot },
}

impl Service {
    /// Our daemon with a memory limit.
    pub fn ours(limit: &str) -> Service {
        let setup = Setup::new().option(&format!("stats_memory_limit={limit}"));
        let daemon = Daemon::with("bench", &setup);
        Service {
            pid: daemon.pid(),
            fifo: daemon.fifo(),
            socket: daemon.socket(),
            _owner: Owner::Ours { _daemon: daemon },
        }
    }

    /// Dovecot's service with a memory limit.
    pub fn original(limit: &str) -> Service {
        let dovecot = Dovecot::original_limited("bench", limit);
        Service {
            pid: stats_process(&dovecot),
            fifo: dovecot.stats_fifo(),
            socket: dovecot.stats_socket(),
            _owner: Owner::Original { _dovecot: dovecot },
        }
    }

    /// A writer of its FIFO.
    pub fn writer(&self) -> Writer {
        Writer::open(&self.fifo)
    }

    /// A client of its socket.
    pub fn client(&self) -> Client {
        Client::unix(&self.socket)
    }

    /// Waits until it has taken everything that was written.
    pub fn settle(&self, writer: &Writer) {
        wait_until("the FIFO drained", || writer.unread() == 0);
        // Asked after the last bytes were read, answered after they were applied.
        self.client().export("global");
    }
}

/// The process of the original's service.
fn stats_process(dovecot: &Dovecot) -> u32 {
    let home = dovecot.dir.path();
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "old-stats"
                && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at.starts_with(home))
        })
        .expect("the original's process")
}
