//! What the kernel counted of a process: getrusage(2).
//!
//! Owns: `struct rusage` as numbers with units. Must not: know what they are
//! for.

use std::io;
use std::mem::MaybeUninit;

use crate::sys::cerr;

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// Processor time in user mode, in microseconds.
    pub user_cpu_usecs: u64,
    /// Processor time in the kernel, in microseconds.
    pub sys_cpu_usecs: u64,
    /// Page faults served without input or output.
    pub min_faults: u64,
    /// Page faults that had to read.
    pub maj_faults: u64,
    /// Context switches because it waited.
    pub vol_cs: u64,
    /// Context switches because others were to run.
    pub invol_cs: u64,
    /// Blocks of 512 bytes read from disks.
    pub blocks_in: u64,
    /// Blocks of 512 bytes written to disks.
    pub blocks_out: u64,
}

impl ProcessUsage {
    /// What this process, without its children, used so far.
    pub(crate) fn of_this_process() -> io::Result<ProcessUsage> {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to memory for a rusage, borrowed for the call.
        cerr(unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) })?;
        // SAFETY: integers only, for which zero is a value.
        Ok(ProcessUsage::from(&unsafe { usage.assume_init() }))
    }
}

impl From<&libc::rusage> for ProcessUsage {
    fn from(usage: &libc::rusage) -> ProcessUsage {
        ProcessUsage {
            user_cpu_usecs: usecs(usage.ru_utime),
            sys_cpu_usecs: usecs(usage.ru_stime),
            min_faults: count(usage.ru_minflt),
            maj_faults: count(usage.ru_majflt),
            vol_cs: count(usage.ru_nvcsw),
            invol_cs: count(usage.ru_nivcsw),
            blocks_in: count(usage.ru_inblock),
            blocks_out: count(usage.ru_oublock),
        }
    }
}

/// A counter, which the kernel has as a signed number.
fn count(number: libc::c_long) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A time in microseconds.
fn usecs(time: libc::timeval) -> u64 {
    #[allow(clippy::unnecessary_cast)] // Not of 64 bits everywhere.
    let (secs, usecs) = (time.tv_sec as i64, time.tv_usec as i64);
    u64::try_from(secs * 1_000_000 + usecs).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_grows() {
        let before = ProcessUsage::of_this_process().unwrap();
        // So large that it is not memory that was in use before.
        let mut touched = vec![0u8; 64 << 20];
        touched.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::hint::black_box(&touched);
        let after = ProcessUsage::of_this_process().unwrap();
        assert!(after.min_faults > before.min_faults);
        assert!(after.user_cpu_usecs >= before.user_cpu_usecs);
    }
}
