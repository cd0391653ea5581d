//! Children: how they ended, and ties beyond those that std knows.
//!
//! Owns: waitid(2) and wait4(2) for all children alike, the adoption of orphans,
//! and the tie that ends a child with its parent. Starting a program is std's, or
//! that of [`crate::sys::proc::subprocess`].
//!
//! Invariants: nothing here waits. A child that was only looked at stays to be
//! taken; its files in /proc stay as long.
//!
//! Must not: be used beside [`std::process::Child::wait`] for the same child,
//! which would find it gone.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use crate::sys::cerr;
use crate::sys::proc::usage::ProcessUsage;

/// A child that ended or stopped, not reaped yet; `None` when there is none, or no
/// child at all.
pub(crate) fn look() -> io::Result<Option<u32>> {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to memory for a siginfo_t, borrowed for the call.
    match cerr(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
    }
    // SAFETY: integers and pointers, for which zero is a value.
    let info = unsafe { info.assume_init() };
    // SAFETY: the call filled in the members for SIGCHLD, or left zeros.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|&pid| pid != 0))
}

/// Reaps a child, or reports its stop: how it ended, with what it and the children that
/// it waited for used, or that it was stopped. `None` when there is none.
pub(crate) fn take(pid: u32) -> io::Result<Option<(ExitStatus, ProcessUsage)>> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let options = libc::WNOHANG | libc::WUNTRACED;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointers are to `status` and to memory for a rusage, borrowed
    // for the call.
    let taken = cerr(unsafe { wait4(pid, &mut status, options, usage.as_mut_ptr()) })?;
    // SAFETY: integers only, for which zero is a value.
    let usage = unsafe { usage.assume_init() };
    Ok((taken == pid).then(|| (ExitStatus::from_raw(status), ProcessUsage::from(&usage))))
}

#[cfg(not(all(target_env = "musl", any(target_arch = "x86", target_arch = "arm"))))]
use libc::wait4;

/// wait4(2). That of musl for times of 32 bits, which the crate libc declares, leaves
/// the usage as it was (musl 1.2: it is copied only where there was no child to take).
///
/// # Safety
/// The pointers are to a status and to memory for a rusage, for the call.
#[cfg(all(target_env = "musl", any(target_arch = "x86", target_arch = "arm")))]
unsafe fn wait4(
    pid: libc::pid_t,
    status: *mut libc::c_int,
    options: libc::c_int,
    usage: *mut libc::rusage,
) -> libc::pid_t {
    match size_of::<libc::timeval>() {
        // SAFETY: the caller's promises; the kernel fills in less than a rusage.
        8 => (unsafe { libc::syscall(libc::SYS_wait4, pid, status, options, usage) }) as _,
        // SAFETY: the caller's promises.
        _ => unsafe { libc::wait4(pid, status, options, usage) },
    }
}

/// Makes this process the parent of all its descendants whose own parent ends.
/// Elsewhere than on Linux nothing changes.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers.
    cerr(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong) })?;
    Ok(())
}

/// Has the program that `command` starts killed when this process ends, or rather
/// the thread that starts it; unless it becomes another user, or this is not Linux.
pub(crate) fn tie(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: beside the fork(2) that it follows, it makes two system calls, and
    // allocates nothing.
    unsafe { command.pre_exec(move || die_with(parent)) }
}

/// Has this process killed when its parent ends, if that is still `parent`; an
/// error if not.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers.
    cerr(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) })?;
    // It may have ended before that.
    match std::os::unix::process::parent_id() == parent {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

#[cfg(test)]
#[allow(clippy::zombie_processes)] // Waiting is what is tested.
mod tests {
    use super::*;
    use crate::sys::proc::signal::send;
    use crate::sys::scratch::alone;
    use std::io::Read;
    use std::process::{id, Stdio};

    /// Looks until there is something to see.
    fn news() -> u32 {
        loop {
            match look().unwrap() {
                Some(pid) => return pid,
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn children_are_looked_at_and_taken() {
        alone(module_path!(), "children_are_looked_at_and_taken", || {
            assert_eq!(look().unwrap(), None, "no children");
            let mut sleeper = Command::new("cat");
            let mut sleeper = sleeper.stdin(Stdio::piped()).spawn().unwrap();
            let pid = sleeper.id();
            assert_eq!(look().unwrap(), None);
            send(pid, libc::SIGSTOP).unwrap();
            assert_eq!(news(), pid);
            let (status, _) = take(pid).unwrap().unwrap();
            assert_eq!(status.stopped_signal(), Some(libc::SIGSTOP));
            assert!(take(pid).unwrap().is_none(), "reported once");
            send(pid, libc::SIGCONT).unwrap();
            drop(sleeper.stdin.take());
            assert_eq!((news(), news()), (pid, pid), "looking takes nothing");
            let (status, usage) = take(pid).unwrap().unwrap();
            assert_eq!(status.code(), Some(0));
            assert!(usage.min_faults > 0);
            assert!(take(pid).is_err());
            assert_eq!(look().unwrap(), None);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn orphans_are_adopted() {
        alone(module_path!(), "orphans_are_adopted", || {
            adopt_orphans().unwrap();
            let script = "sh -c 'kill -9 $$' & exit 3";
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let mut ended = Vec::new();
            while ended.len() < 2 {
                let pid = news();
                ended.push((pid, take(pid).unwrap().unwrap().0));
            }
            let of = |own: bool| ended.iter().find(|(pid, _)| (*pid == child.id()) == own);
            assert_eq!(of(true).unwrap().1.code(), Some(3));
            assert_eq!(of(false).unwrap().1.signal(), Some(9));
        });
    }

    #[test]
    fn a_parent_that_is_gone_is_noticed() {
        alone(module_path!(), "a_parent_that_is_gone_is_noticed", || {
            assert!(die_with(id()).is_err());
            die_with(std::os::unix::process::parent_id()).unwrap();
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_ends_with_who_started_it() {
        alone(module_path!(), "a_program_ends_with_who_started_it", || {
            let mut tied = Command::new("cat");
            tied.stdin(Stdio::piped()).stdout(Stdio::piped());
            let starter = std::thread::spawn(move || tie(&mut tied).spawn().unwrap());
            let mut child = starter.join().unwrap();
            let mut output = Vec::new();
            // Its standard input is still open.
            child
                .stdout
                .take()
                .unwrap()
                .read_to_end(&mut output)
                .unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        });
    }
}
