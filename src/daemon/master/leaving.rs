//! The end under Dovecot's master: at a stop, at a reload, and when the master is gone.
//!
//! From the request on the daemon serves as before, for [`GRACE`]. Then it closes its
//! sockets, as a master that is started anew does not start while one listens there, and
//! ends when no client waits for a reply, and
//! - another process waits for the state, or
//! - the last writer of each FIFO has closed it, which a reload makes visible soon, or
//! - no record came for [`QUIET`]: a stop, where the master keeps the FIFOs open.

use crate::daemon::input::fifo::FifoInput;
use crate::daemon::master::Master;
use crate::daemon::server::Daemon;
use crate::sys::fd::poll::{Interest, PollSet};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The time for clients that connected before the request to send theirs. The master
/// starts the next process after 50 ms as well.
const GRACE: Duration = Duration::from_millis(50);

/// The time without a record that makes the daemon end.
const QUIET: Duration = Duration::from_millis(500);

/// How long is waited for clients to take their replies. At a stop the master is gone
/// after 6 s.
const PATIENCE: Duration = Duration::from_secs(3);

/// The end under way.
#[derive(Debug)]
pub(super) struct Leaving {
    since: Instant,
    /// Lines that were read when it was looked last.
    lines: u64,
    /// When that changed last.
    quiet_since: Instant,
    /// When to look again.
    due: Instant,
    /// The process that waits for the state.
    pub(super) heir: Option<UnixStream>,
}

impl Leaving {
    pub(super) fn wakes_at(&self) -> Instant {
        self.due
    }
}

impl Master {
    /// Adds what is waited for to the poll set.
    pub(crate) fn fill_poll_set(&mut self, poll: &mut PollSet) {
        self.slot = match (&self.leaving, &self.socket) {
            (None, _) => Some(poll.push(self.dead.as_fd(), Interest::default())),
            (Some(Leaving { heir: None, .. }), Some(socket)) => {
                Some(poll.push(socket.as_fd(), Interest::READ))
            }
            _ => None,
        };
    }

    /// The process that waits for the state, if there is one.
    fn heir(&self) -> Option<&UnixStream> {
        self.leaving.as_ref()?.heir.as_ref()
    }

    /// Whether another process goes on with what is in a FIFO.
    pub(crate) fn passes_on(&self, input: &FifoInput) -> bool {
        self.heir().is_some() && input.can_end()
    }
}

impl Daemon {
    /// Handles the request of the master to end. Returns whether the daemon goes on.
    pub(crate) fn serve_master(
        &mut self,
        instant: Instant,
        is_ready: impl Fn(Option<usize>) -> bool,
    ) -> bool {
        let lines = self.line_count();
        let Some(master) = &mut self.master else {
            return true;
        };
        let is_ready = is_ready(master.slot);
        let Some(leaving) = &mut master.leaving else {
            if is_ready {
                for input in &mut self.fifos {
                    input.let_end();
                }
                master.leaving = Some(Leaving {
                    since: instant,
                    lines,
                    quiet_since: instant,
                    due: instant + GRACE,
                    heir: None,
                });
            }
            return true;
        };
        if let (true, None, Some(socket)) = (is_ready, &leaving.heir, &master.socket) {
            leaving.heir = socket.accept().ok().map(|(stream, _)| stream);
        }
        if lines != leaving.lines {
            (leaving.lines, leaving.quiet_since) = (lines, instant);
        }
        let grace_ends = leaving.since + GRACE;
        let patience_ends = leaving.since + PATIENCE;
        let quiet_at = leaving.quiet_since + QUIET;
        if instant < grace_ends {
            leaving.due = grace_ends;
            return true;
        }
        self.listeners.clear();
        if self.clients.are_busy() && instant < patience_ends {
            leaving.due = patience_ends;
            return true;
        }
        leaving.due = quiet_at;
        let have_ended = self.fifos.iter().all(FifoInput::has_ended);
        !(have_ended || leaving.heir.is_some() || instant >= quiet_at)
    }

    /// Passes what the next process needs on to it. To be called when the state is saved.
    pub(crate) fn hand_over(&mut self) {
        let Some(master) = &self.master else { return };
        if let (Some(heir), Some(socket), Some(state)) =
            (master.heir(), &master.socket, &self.state)
        {
            // One that is gone has left it to its successor.
            let _ = super::handover::pass_on(heir, state.lock(), socket, &self.fifos);
        }
    }
}
