//! What this process uses.

use super::proc_files::{add_io, ProcIo, BLOCK_BYTES};
use crate::stats::{place, Stats};
use crate::sys::proc::usage::ProcessUsage;
use std::time::{Duration, Instant};

/// Counts what this process uses from a moment on.
///
/// All of the process is counted, whatever thread does it, and what its children
/// read and wrote once they have been waited for, as in Dovecot. A process that
/// serves several sessions at once adds up for each what the meter moved on by
/// while it worked for it.
#[derive(Debug)]
pub struct Meter {
    started: Instant,
    /// How long the host was waiting since.
    waited: Duration,
    /// What had been used by then.
    base: Stats,
    /// The file with the counts of reading and writing, kept open: it cannot be
    /// opened any more by a process that has changed its user.
    io: ProcIo,
}

impl Meter {
    /// Begins to count. What the system does not report stays 0.
    pub fn start() -> Meter {
        let mut meter = Meter {
            started: Instant::now(),
            waited: Duration::ZERO,
            base: Stats::default(),
            io: ProcIo::of_this_process(),
        };
        meter.base = meter.used();
        meter
    }

    /// The host was waiting for something to do for so long: in poll(2), for its
    /// client. `clock_time` is the time since the start without that.
    pub fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }

    /// What was used since the start. What the kernel does not count, about mails
    /// and caches, is 0: the host adds it.
    pub fn read(&mut self) -> Stats {
        let mut stats = self.used().since(&self.base);
        let worked = self.started.elapsed().saturating_sub(self.waited);
        stats.values[place::clock_time] = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
        stats
    }

    /// What was used since the process began.
    fn used(&mut self) -> Stats {
        let mut stats = Stats::default();
        if let Ok(usage) = ProcessUsage::of_this_process() {
            add_usage(&mut stats, &usage);
        }
        if let Some(io) = self.io.read() {
            add_io(&mut stats, &io);
        }
        stats
    }
}

pub(super) fn add_usage(stats: &mut Stats, usage: &ProcessUsage) {
    for (place, value) in [
        (place::user_cpu, usage.user_cpu_usecs),
        (place::sys_cpu, usage.sys_cpu_usecs),
        (place::min_faults, usage.min_faults),
        (place::maj_faults, usage.maj_faults),
        (place::vol_cs, usage.vol_cs),
        (place::invol_cs, usage.invol_cs),
        (
            place::disk_input,
            usage.blocks_in.saturating_mul(BLOCK_BYTES),
        ),
        (
            place::disk_output,
            usage.blocks_out.saturating_mul(BLOCK_BYTES),
        ),
    ] {
        stats.values[place] += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;
    use std::fs;

    #[test]
    fn a_meter_counts_from_its_start() {
        let dir = Scratch::new("meter");
        let mut meter = Meter::start();
        let before = meter.read();
        fs::write(dir.join("file"), vec![7; 1 << 20]).unwrap();
        assert_eq!(fs::read(dir.join("file")).unwrap().len(), 1 << 20);
        meter.waited(Duration::from_secs(3600));
        let after = meter.read();
        let moved = |place: usize| after.since(&before).values[place];
        if cfg!(target_os = "linux") {
            // Other tests read and write at the same time.
            assert!(moved(place::read_bytes) >= 1 << 20);
            assert!(moved(place::write_bytes) >= 1 << 20);
            assert!(moved(place::read_count) > 0 && moved(place::write_count) > 0);
        }
        assert_eq!(after.values[place::clock_time], 0, "all of it waited");
        assert_eq!(after.values[place::mail_read_count], 0);
    }
}
