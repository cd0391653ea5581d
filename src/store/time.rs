//! Instants, as the owner of the clocks read them.

/// A moment of the wall clock, for showing. Lasts until 2106.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// Seconds since 1970.
    pub secs: u32,
    /// Microseconds within the second.
    pub usecs: u32,
}

/// The instant at which something is applied, as the owner of the clocks read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds by a monotonic clock, from any start: what ages are made of.
    pub uptime_secs: u32,
    /// The wall clock: what is shown.
    pub wall: WallTime,
}
