//! What the children of this process use: exactly, by wait4(2), when they have
//! ended, and from /proc while they run.
//!
//! Owns: waiting for all children of this process that were started after it was
//! made, and for descendants whose own parent has ended. So it must be the only
//! one that waits, in a process of one thread.
//!
//! Invariants: a total never shrinks. What is running is looked at from the top
//! down: a process that is waited for meanwhile has been missed, but is never
//! counted twice. What was there before is waited for and not counted.
//!
//! Counts of reading and writing of ended children are taken from what the kernel
//! adds to this process when it waits: that needs no permission, while the files
//! of a program that changes its user or group are closed to others.

use super::meter::add_usage;
use super::proc_files::{add_io, children_of, delay_usecs, used_by, waited_io};
use crate::stats::{place, Stats};
use crate::sys::proc::child;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The most processes that are looked at for one total.
const MAX_PROCESSES: usize = 10_000;

/// The children of this process.
#[derive(Debug)]
pub(crate) struct Children {
    /// Children that are not ours to count.
    foreign: Vec<u32>,
    /// What those used that have ended.
    ended: Stats,
    last: Stats,
}

/// What became of a child: it ended or was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The child.
    pub pid: u32,
    /// As wait4(2) reports it.
    pub status: ExitStatus,
}

impl Children {
    /// Of those that are started from now on.
    pub(crate) fn new() -> Children {
        // Without it, descendants that outlive their parent are not counted.
        let _ = child::adopt_orphans();
        Children {
            foreign: children_of(std::process::id()),
            ended: Stats::default(),
            last: Stats::default(),
        }
    }

    /// The next thing that became of a child, without waiting.
    pub(crate) fn next_change(&mut self) -> io::Result<Option<Change>> {
        let Some(pid) = child::look()? else {
            return Ok(None);
        };
        let delay = delay_usecs(&format!("/proc/{pid}"));
        let before = waited_io();
        let Some((status, usage)) = child::take(pid)? else {
            return Ok(None);
        };
        let has_ended = status.code().is_some() || status.signal().is_some();
        if has_ended {
            match self
                .foreign
                .iter()
                .position(|&foreign_pid| foreign_pid == pid)
            {
                Some(at) => drop(self.foreign.swap_remove(at)),
                None => {
                    add_usage(&mut self.ended, &usage);
                    add_io(&mut self.ended, &waited_io().since(&before));
                    let cpu_usecs = usage.user_cpu_usecs + usage.sys_cpu_usecs;
                    self.ended.values[place::clock_time] += cpu_usecs + delay;
                }
            }
        }
        Ok(Some(Change { pid, status }))
    }

    /// What all of them used so far.
    pub(crate) fn total(&mut self) -> Stats {
        let mut total = self.ended;
        let mut seen = 0;
        let mut waiting = children_of(std::process::id());
        waiting.retain(|pid| !self.foreign.contains(pid));
        while let Some(pid) = waiting.pop() {
            seen += 1;
            if let Some(stats) = used_by(pid).filter(|_| seen <= MAX_PROCESSES) {
                total.add(&stats);
                waiting.extend(children_of(pid));
            }
        }
        for (last, now) in self.last.values.iter_mut().zip(total.values) {
            *last = now.max(*last);
        }
        self.last
    }
}

#[cfg(test)]
#[allow(clippy::zombie_processes)] // Waiting is what is tested.
mod tests {
    use super::*;
    use crate::sys::scratch::alone;
    use std::fs;
    use std::process::Command;

    /// Takes all changes until there is no child any more.
    fn end(children: &mut Children) -> Vec<Change> {
        let mut changes = Vec::new();
        while !children_of(std::process::id()).is_empty() {
            match children.next_change().unwrap() {
                Some(change) => changes.push(change),
                None => std::thread::yield_now(),
            }
        }
        changes
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_ended_is_exact_and_foreign_are_not_counted() {
        let name = "what_ended_is_exact_and_foreign_are_not_counted";
        alone(module_path!(), name, || {
            let read = |count: u32| format!("head -c {count} /dev/zero >/dev/null");
            let foreign_pid = Command::new("sh").args(["-c", &read(7_000_000)]).spawn();
            let foreign_pid = foreign_pid.unwrap().id();
            let mut children = Children::new();
            assert_eq!(children.total(), Stats::default());
            // A child of its own, one that it waits for, and an orphan.
            let script = format!("{}; {{ {}; }} & sleep 0", read(3_000_000), read(1_000_000));
            let child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
            let changes = end(&mut children);
            assert!(changes.iter().all(|change| change.status.success()));
            let ours = |pid| changes.iter().any(|change| change.pid == pid);
            assert!(ours(foreign_pid) && ours(child.id()));
            let total = children.total();
            let bytes = total.values[place::read_bytes];
            assert!((4_000_000..4_200_000).contains(&bytes), "{bytes}");
            assert_eq!(children.total(), total, "nothing more to come");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_runs_is_seen_with_its_descendants_and_never_shrinks() {
        let name = "what_runs_is_seen_with_its_descendants_and_never_shrinks";
        alone(module_path!(), name, || {
            let mut children = Children::new();
            let script = "sh -c 'head -c 2000000 /dev/zero >/dev/null; read x; exit 4'; exit 5";
            let mut command = Command::new("sh");
            command
                .args(["-c", script])
                .stdin(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            while children.total().values[place::read_bytes] < 2_000_000 {
                assert_eq!(children.next_change().unwrap(), None);
                std::thread::yield_now();
            }
            let before = children.total();
            drop(child.stdin.take());
            let changes = end(&mut children);
            assert_eq!(changes[0].status.code(), Some(5));
            let after = children.total();
            for (after, before) in after.values.iter().zip(before.values) {
                assert!(*after >= before, "{after} {before}");
            }
            assert!(after.values[place::read_bytes] < 2_200_000);
            assert!(fs::metadata(format!("/proc/{}", child.id())).is_err());
        });
    }
}
