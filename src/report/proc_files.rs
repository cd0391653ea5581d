//! What /proc has about a process, on Linux; elsewhere nothing is found.
//!
//! Must not: fail. A process may end at any moment, and its files with it; what
//! cannot be read counts as nothing.

use crate::stats::{place, Stats};
use crate::sys::proc::process::ticks_per_sec;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

/// Bytes of a block as getrusage(2) counts them (Linux: `ru_inblock`).
pub(super) const BLOCK_BYTES: u64 = 512;

/// Counts of reading and writing: /proc/PID/io.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Io {
    /// System calls that read.
    pub read_count: u64,
    /// Bytes that they gave.
    pub read_bytes: u64,
    /// System calls that wrote.
    pub write_count: u64,
    /// Bytes that they took.
    pub write_bytes: u64,
    /// Bytes read from disks.
    pub disk_input_bytes: u64,
    /// Bytes written to disks.
    pub disk_output_bytes: u64,
}

/// More than such a file has.
const ROOM_BYTES: usize = 1024;

impl Io {
    /// Reads it from the text of such a file.
    fn parse(text: &str) -> Io {
        let mut io = Io::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            let place = match name {
                "syscr" => &mut io.read_count,
                "rchar" => &mut io.read_bytes,
                "syscw" => &mut io.write_count,
                "wchar" => &mut io.write_bytes,
                "read_bytes" => &mut io.disk_input_bytes,
                "write_bytes" => &mut io.disk_output_bytes,
                _ => continue,
            };
            *place = value.parse().unwrap_or(0);
        }
        io
    }

    /// Adds `other`, or takes it away.
    fn combine(&mut self, other: &Io, with: fn(u64, u64) -> u64) {
        for (own, others) in [
            (&mut self.read_count, other.read_count),
            (&mut self.read_bytes, other.read_bytes),
            (&mut self.write_count, other.write_count),
            (&mut self.write_bytes, other.write_bytes),
            (&mut self.disk_input_bytes, other.disk_input_bytes),
            (&mut self.disk_output_bytes, other.disk_output_bytes),
        ] {
            *own = with(*own, others);
        }
    }

    /// What is more in it than in `other`.
    pub(super) fn since(mut self, other: &Io) -> Io {
        self.combine(other, u64::saturating_sub);
        self
    }
}

/// The io file of a process, kept open.
#[derive(Debug)]
pub(super) struct ProcIo {
    /// The file, if there is one.
    file: Option<File>,
    /// Whose it is: a copy of this process has a file of its own.
    pid: u32,
}

impl ProcIo {
    pub(super) fn of_this_process() -> ProcIo {
        ProcIo {
            file: File::open("/proc/self/io").ok(),
            pid: std::process::id(),
        }
    }

    pub(super) fn read(&mut self) -> Option<Io> {
        if self.pid != std::process::id() {
            *self = ProcIo::of_this_process();
        }
        let mut bytes = [0; ROOM_BYTES];
        let count = self.file.as_ref()?.read_at(&mut bytes, 0).ok()?;
        Some(Io::parse(&String::from_utf8_lossy(&bytes[..count])))
    }
}

/// What the children that this process has waited for read and wrote, with all
/// that they waited for: the kernel adds that to the process, not to its threads.
/// To be called by the only thread there ever was.
pub(super) fn waited_io() -> Io {
    let (Some((all, length_bytes)), Some((mut own, _))) =
        (one_read("/proc/self/io"), one_read("/proc/thread-self/io"))
    else {
        return Io::default();
    };
    // The first read was counted when the second was made.
    own.read_count = own.read_count.saturating_sub(1);
    own.read_bytes = own.read_bytes.saturating_sub(length_bytes);
    all.since(&own)
}

/// An io file by one system call, and its length.
pub(super) fn one_read(path: &str) -> Option<(Io, u64)> {
    let mut bytes = [0; ROOM_BYTES];
    let count = File::open(path).ok()?.read(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes[..count]);
    Some((Io::parse(&text), count as u64))
}

/// What a process used, as far as it and its files are there, with the children
/// that it waited for. Time comes in ticks of the kernel, rounded down; context
/// switches are those of its living threads only.
pub(super) fn used_by(pid: u32) -> Option<Stats> {
    let mut stats = Stats::default();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything. Behind it: proc(5), from
    // the third field on.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |field: usize| -> u64 {
        let text = fields.get(field - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let usecs = |ticks: u64| ticks.saturating_mul(1_000_000) / ticks_per_sec();
    stats.values[place::min_faults] = number(10) + number(11);
    stats.values[place::maj_faults] = number(12) + number(13);
    stats.values[place::user_cpu] = usecs(number(14)) + usecs(number(16));
    stats.values[place::sys_cpu] = usecs(number(15)) + usecs(number(17));
    let cpu_usecs = stats.values[place::user_cpu] + stats.values[place::sys_cpu];
    stats.values[place::clock_time] = cpu_usecs + usecs(number(42));
    for thread in threads(pid) {
        let path = format!("/proc/{pid}/task/{thread}");
        let status = fs::read_to_string(format!("{path}/status")).unwrap_or_default();
        for line in status.lines() {
            match line.split_once(":\t") {
                Some(("voluntary_ctxt_switches", count)) => {
                    stats.values[place::vol_cs] += count.parse().unwrap_or(0);
                }
                Some(("nonvoluntary_ctxt_switches", count)) => {
                    stats.values[place::invol_cs] += count.parse().unwrap_or(0);
                }
                _ => {}
            }
        }
        stats.values[place::clock_time] += delay_usecs(&path);
    }
    if let Some((io, _)) = one_read(&format!("/proc/{pid}/io")) {
        add_io(&mut stats, &io);
        stats.values[place::disk_input] = whole_blocks(io.disk_input_bytes);
        stats.values[place::disk_output] = whole_blocks(io.disk_output_bytes);
    }
    Some(stats)
}

/// How long a process, or a thread, at this path in /proc was ready to run and
/// had to wait for a processor: the second number of schedstat, in nanoseconds.
pub(super) fn delay_usecs(path: &str) -> u64 {
    let text = fs::read_to_string(format!("{path}/schedstat")).unwrap_or_default();
    let delay = text.split_whitespace().nth(1);
    delay.and_then(|nanos| nanos.parse().ok()).unwrap_or(0) / 1000
}

/// The threads of a process.
fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The children of a process.
pub(super) fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for thread in threads(pid) {
        let path = format!("/proc/{pid}/task/{thread}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    children
}

/// Adds the system calls of /proc/PID/io.
pub(super) fn add_io(stats: &mut Stats, io: &Io) {
    for (place, value) in [
        (place::read_count, io.read_count),
        (place::read_bytes, io.read_bytes),
        (place::write_count, io.write_count),
        (place::write_bytes, io.write_bytes),
    ] {
        stats.values[place] += value;
    }
}

/// Rounds bytes down to blocks, as getrusage(2) will have them.
fn whole_blocks(bytes: u64) -> u64 {
    bytes / BLOCK_BYTES * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_parsed_whatever_else_is_there() {
        let text = "rchar: 5\nwchar: 6\nsyscr: 1\nsyscw: 2\nread_bytes: 1024\n\
                    write_bytes: 2048\ncancelled_write_bytes: 9\nnew: 1\nodd\n";
        let io = Io::parse(text);
        assert_eq!((io.read_bytes, io.write_bytes), (5, 6));
        assert_eq!((io.read_count, io.write_count), (1, 2));
        assert_eq!((io.disk_input_bytes, io.disk_output_bytes), (1024, 2048));
        let more = Io::parse("rchar: 7\nsyscr: 0\n");
        assert_eq!(more.since(&io).read_bytes, 2);
        assert_eq!(more.since(&io).read_count, 0, "never below nothing");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_and_no_other() {
        let stats = used_by(std::process::id()).unwrap();
        assert!(stats.values[place::min_faults] > 0);
        assert!(stats.values[place::read_bytes] > 0);
        assert!(stats.values[place::vol_cs] + stats.values[place::invol_cs] > 0);
        assert_eq!(used_by(u32::MAX), None);
        assert!(children_of(u32::MAX).is_empty());
    }
}
