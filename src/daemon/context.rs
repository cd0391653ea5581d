//! What serving a peer needs of the rest of the daemon, and may change there.

use super::faults::{Fault, Faults};
use super::log::Log;
use crate::store::{Now, Store};

/// The daemon as its clients and its sender to carbon see it, for a turn.
pub struct Context<'a> {
    /// The statistics.
    pub store: &'a mut Store,
    /// What peers do wrong.
    pub faults: &'a mut Faults,
    /// Where it is told.
    pub log: &'a mut Log,
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
