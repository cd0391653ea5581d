//! What serving a peer needs of the rest of the daemon, and may change there.

use crate::config::Settings;
use crate::daemon::faults::{Fault, Faults};
use crate::daemon::input::fifo::FifoInput;
use crate::daemon::log::Log;
use crate::store::{Now, Store};

/// The daemon as its clients and its sender to carbon see it, for a turn.
pub struct Context<'a> {
    /// The statistics.
    pub store: &'a mut Store,
    /// What peers do wrong.
    pub faults: &'a mut Faults,
    /// Where it is told.
    pub log: &'a mut Log,
    /// The settings as they are now.
    pub settings: &'a Settings,
    /// Where records come from.
    pub fifos: &'a [FifoInput],
    /// How many clients are connected.
    pub client_count: usize,
    /// When the daemon started, in seconds since 1970.
    pub start_secs: u32,
    /// The instant of this turn.
    pub now: Now,
}

impl Context<'_> {
    /// Counts a fault, and logs it with what `detail` says if that is not too
    /// much by now.
    pub fn report(&mut self, fault: Fault, detail: impl FnOnce() -> String) {
        self.faults
            .report(self.log, fault, self.now.uptime_secs, detail);
    }
}
