//! What another process used, looked at again and again, by /proc.
//!
//! Owns: the last figures of a process, and the time it started, by which a process
//! that got the number of one that ended is recognised.
//!
//! Invariants: figures never shrink. `user_cpu` and `sys_cpu` together are what
//! schedstat counts in nanoseconds, rounded down once; how that is divided between them
//! comes from the ticks of stat. A process that used no processor since the last look
//! costs one file: it has changed nothing else either.
//!
//! Children of the process are not counted, nor threads beside its first.

use super::proc_files::{add_io, one_read};
use crate::stats::{place, Stats};
use crate::sys::proc::process::ticks_per_sec;
use std::fs::File;
use std::io::Read;

/// More than any of the files has.
const ROOM_BYTES: usize = 4096;

/// The figures of a process at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// What it used since it started.
    pub stats: Stats,
    /// When it started, in ticks of the kernel since the system did.
    pub start_ticks: u64,
    /// Whether its reads and writes could be seen.
    pub has_io: bool,
    cpu_nanos: u64,
}

/// What another look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Same,
    Changed,
    /// The process is gone; another one may have its number.
    Gone,
}

impl Sample {
    #[cfg(test)]
    /// The figures of a process; `None` if there is none of that number.
    pub(crate) fn of(pid: u32) -> Option<Sample> {
        let mut sample = Sample::default();
        (sample.look(pid) != Look::Gone).then_some(sample)
    }

    /// Looks at the process again.
    pub(crate) fn look(&mut self, pid: u32) -> Look {
        let mut room = [0; ROOM_BYTES];
        // Missing in some kernels; then ticks must do.
        let text = read(pid, "schedstat", &mut room);
        let cpu_nanos = text.and_then(|text| number(text.split_whitespace().next()?));
        if self.start_ticks != 0 && cpu_nanos == Some(self.cpu_nanos) {
            return Look::Same;
        }
        let Some((start_ticks, ticks)) = self.look_at_stat(pid, &mut room) else {
            return Look::Gone;
        };
        let tick_nanos = 1_000_000_000 / ticks_per_sec();
        let cpu_nanos = cpu_nanos.unwrap_or((ticks[0] + ticks[1]) * tick_nanos);
        if self.start_ticks == start_ticks && cpu_nanos == self.cpu_nanos {
            return Look::Same;
        }
        (self.start_ticks, self.cpu_nanos) = (start_ticks, cpu_nanos.max(self.cpu_nanos));
        divide_cpu(&mut self.stats, self.cpu_nanos / 1000, ticks);
        for line in read(pid, "status", &mut room).unwrap_or_default().lines() {
            let place = match line.split_once(":\t") {
                Some(("voluntary_ctxt_switches", count)) => (place::vol_cs, count),
                Some(("nonvoluntary_ctxt_switches", count)) => (place::invol_cs, count),
                _ => continue,
            };
            self.raise(place.0, number(place.1).unwrap_or(0));
        }
        if let Some((io, _)) = one_read(&format!("/proc/{pid}/io")) {
            self.has_io = true;
            let mut seen = Stats::default();
            add_io(&mut seen, &io);
            seen.values[place::disk_input] = io.disk_input_bytes;
            seen.values[place::disk_output] = io.disk_output_bytes;
            for (place, value) in seen.values.into_iter().enumerate() {
                self.raise(place, value);
            }
        }
        Look::Changed
    }

    /// Takes the page faults; returns when the process started, and its ticks in user
    /// mode and in the kernel. `None` if it is gone, or is another one.
    fn look_at_stat(&mut self, pid: u32, room: &mut [u8]) -> Option<(u64, [u64; 2])> {
        let stat = read(pid, "stat", room)?;
        // The name, in parentheses, may contain anything. Behind it: proc(5), from the
        // third field on.
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?;
        let mut field = |skip: usize| number(fields.nth(skip)?);
        let min_faults = field(6)?;
        let maj_faults = field(1)?;
        let ticks = [field(1)?, field(0)?];
        let start_ticks = field(6)?;
        if state == "Z" || ![0, start_ticks].contains(&self.start_ticks) {
            return None;
        }
        self.raise(place::min_faults, min_faults);
        self.raise(place::maj_faults, maj_faults);
        Some((start_ticks, ticks))
    }

    fn raise(&mut self, place: usize, value: u64) {
        let known = &mut self.stats.values[place];
        *known = value.max(*known);
    }
}

/// Divides processor time in proportion to ticks, so that neither part shrinks.
pub(super) fn divide_cpu(stats: &mut Stats, cpu_usecs: u64, [user, sys]: [u64; 2]) {
    let [user_usecs, sys_usecs] = [place::user_cpu, place::sys_cpu].map(|at| stats.values[at]);
    let cpu_usecs = cpu_usecs.max(user_usecs + sys_usecs);
    let ideal = match user + sys {
        0 => cpu_usecs,
        ticks => (u128::from(cpu_usecs) * u128::from(user) / u128::from(ticks)) as u64,
    };
    let user_usecs = ideal.clamp(user_usecs, cpu_usecs - sys_usecs);
    stats.values[place::user_cpu] = user_usecs;
    stats.values[place::sys_cpu] = cpu_usecs - user_usecs;
}

fn read<'a>(pid: u32, name: &str, room: &'a mut [u8]) -> Option<&'a str> {
    let mut file = File::open(format!("/proc/{pid}/{name}")).ok()?;
    let count = file.read(room).ok()?;
    // A name of other bytes than ASCII may have been cut by the kernel.
    let bytes = &room[..count];
    let begin = bytes.iter().rposition(|&byte| byte == b')').unwrap_or(0);
    std::str::from_utf8(&bytes[begin..]).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn processor_time_is_divided_and_neither_part_shrinks() {
        let mut stats = Stats::default();
        let mut divide = |cpu_usecs, ticks| {
            divide_cpu(&mut stats, cpu_usecs, ticks);
            [place::user_cpu, place::sys_cpu].map(|at| stats.values[at])
        };
        assert_eq!(divide(100, [0, 0]), [100, 0]);
        assert_eq!(divide(1000, [1, 3]), [250, 750]);
        assert_eq!(divide(1100, [3, 1]), [350, 750], "the kernel's part stays");
        assert_eq!(divide(900, [3, 1]), [350, 750], "so does the sum");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_followed_to_its_end_and_not_beyond() {
        let mut child = Command::new("sh")
            .args(["-c", "read x; head -c 3000000 /dev/zero >/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read x"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let mut sample = Sample::of(pid).unwrap();
        let first = sample.clone();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"go\n").unwrap();
        let moved = |sample: &Sample| {
            let more = sample.stats.since(&first.stats).values;
            more[place::user_cpu] + more[place::sys_cpu]
        };
        while moved(&sample) < 1000 {
            assert_ne!(sample.look(pid), Look::Gone);
            std::thread::yield_now();
        }
        assert!(sample.stats.values[place::min_faults] > 0);
        assert!(sample.stats.values[place::vol_cs] > 0);
        let cpu = sample.stats.values[place::user_cpu] + sample.stats.values[place::sys_cpu];
        assert_eq!(cpu, sample.cpu_nanos / 1000);
        // Another process that got the number has started at another time.
        let mut other = sample.clone();
        other.start_ticks += 1;
        other.cpu_nanos -= 1;
        assert_eq!(other.look(pid), Look::Gone);
        drop(stdin);
        child.wait().unwrap();
        assert_eq!(sample.look(pid), Look::Gone);
        assert!(Sample::of(pid).is_none());
    }
}
