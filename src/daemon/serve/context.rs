//! The parts of the daemon that serving a peer reads and changes.

use crate::config::Settings;
use crate::daemon::faults::{Fault, Faults};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::log::Log;
use crate::store::{Now, Store};

/// The daemon as its clients and its sender to carbon see it, for a turn.
pub(crate) struct Context<'a> {
    pub store: &'a mut Store,
    pub faults: &'a mut Faults,
    pub log: &'a mut Log,
    /// The settings in force.
    pub settings: &'a Settings,
    pub fifos: &'a [FifoInput],
    pub client_count: usize,
    /// When the daemon started, in seconds since 1970.
    pub start_secs: u32,
    /// The instant of this turn.
    pub now: Now,
}

impl Context<'_> {
    /// See [`Faults::report`].
    pub(crate) fn report(&mut self, fault: Fault, detail: impl FnOnce() -> String) {
        self.faults
            .report(self.log, fault, self.now.uptime_secs, detail);
    }
}
