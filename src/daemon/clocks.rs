//! The clocks, read once in each turn of the loop.

use crate::store::{Now, WallTime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// [`Now::uptime_secs`] when the daemon starts. What it restores is older, by 34 years at
/// most.
const START_SECS: u32 = 1 << 30;

#[derive(Debug)]
pub(super) struct Clocks {
    /// When the daemon started.
    started: Instant,
}

impl Clocks {
    /// Clocks of a daemon that starts now.
    pub(super) fn start() -> Clocks {
        Clocks {
            started: Instant::now(),
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn read(&self) -> (Instant, Now) {
        let instant = Instant::now();
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = Now {
            uptime_secs: START_SECS + (instant - self.started).as_secs() as u32,
            wall: WallTime {
                secs: u32::try_from(wall.as_secs()).unwrap_or(u32::MAX),
                usecs: wall.subsec_micros(),
            },
        };
        (instant, now)
    }

    /// The instant of a [`Now::uptime_secs`]; the start for earlier ones.
    pub(super) fn instant(&self, uptime_secs: u32) -> Instant {
        self.started + Duration::from_secs(uptime_secs.saturating_sub(START_SECS).into())
    }
}
