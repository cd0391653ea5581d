//! The process itself.
//!
//! Owns: the way into the background, the limit of descriptors, the umask, the
//! host name, the kernel's tick and when it was started.
//!
//! Invariants: the starter of a daemon gets its exit code once it is known
//! whether the daemon serves; until then its standard error is the
//! starter's, so that reasons are seen.
//!
//! Must not: fork while other threads run ([`daemonize`]).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process;

use crate::sys::cerr;

/// sysexits(3): internal software error; for a daemon that a signal ended.
const EX_SOFTWARE: i32 = 70;

/// The pipe on which a daemon reports to its starter whether it serves. If the daemon
/// ends without a report, its exit code is the report.
#[derive(Debug)]
pub(crate) struct Readiness {
    /// The starter waits at the other end.
    channel: UnixStream,
    /// /dev/null, opened while it can be.
    null: File,
}

impl Readiness {
    /// Makes the starter exit with `code`. With 0 the daemon replaces its
    /// standard output and error by /dev/null, too.
    pub(crate) fn report(mut self, code: u8) -> io::Result<()> {
        if code == 0 {
            replace(libc::STDOUT_FILENO, &self.null)?;
            replace(libc::STDERR_FILENO, &self.null)?;
        }
        // A starter that was killed meanwhile does not need it any more.
        let _ = self.channel.write_all(&[code]);
        Ok(())
    }
}

/// Goes on in a child process with a session of its own and /dev/null as
/// standard input. The starter does not return: it waits for
/// [`Readiness::report`] and exits with its code, or with that of the child if
/// the child ends before.
///
/// To be called before there are timers or locks of fcntl(2), which a child does not
/// inherit.
///
/// # Errors
/// fork(2)'s, or that there are other threads.
pub(crate) fn daemonize() -> io::Result<Readiness> {
    be_alone()?;
    // SAFETY: there is one thread.
    unsafe { into_background() }
}

/// As [`daemonize`], without looking for other threads.
///
/// # Safety
/// No other thread is in the middle of something.
unsafe fn into_background() -> io::Result<Readiness> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (waiting, channel) = UnixStream::pair()?;
    // What is buffered now would be written by both.
    io::stdout().flush()?;
    // SAFETY: no pointers; the caller's promise.
    let child = cerr(unsafe { libc::fork() })?;
    if child != 0 {
        drop(channel);
        process::exit(await_report(waiting, child));
    }
    drop(waiting);
    // SAFETY: no pointers.
    cerr(unsafe { libc::setsid() })?;
    replace(libc::STDIN_FILENO, &null)?;
    Ok(Readiness { channel, null })
}

/// An error unless this is the only thread of the process, so that a child of fork(2)
/// misses none, nor what one has locked.
#[cfg(target_os = "linux")]
pub(crate) fn be_alone() -> io::Result<()> {
    // Nothing is unshared by a process of one thread; others get EINVAL.
    // SAFETY: no pointers.
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return Ok(());
    }
    // Where that call is filtered out: two links of any directory, and one a thread.
    match std::fs::metadata("/proc/self/task") {
        Ok(threads) if threads.nlink() == 3 => Ok(()),
        _ => Err(io::Error::other("other threads run, or may run")),
    }
}

/// Other systems do not show it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn be_alone() -> io::Result<()> {
    Ok(())
}

/// The exit code of the starter.
fn await_report(mut waiting: UnixStream, child: libc::pid_t) -> i32 {
    let mut code = [0];
    if waiting.read_exact(&mut code).is_ok() {
        return code[0].into();
    }
    wait(child).unwrap_or(EX_SOFTWARE)
}

/// waitpid(2): the exit code of a child, if it has one.
pub(crate) fn wait(pid: libc::pid_t) -> Option<libc::c_int> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to `status`, borrowed for the call.
        match cerr(unsafe { libc::waitpid(pid, &mut status, 0) }) {
            Ok(_) => return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// dup2(2): makes the descriptor `number` another name of `file`.
fn replace(number: RawFd, file: &File) -> io::Result<()> {
    // SAFETY: no pointers; std does not own the standard descriptors, so
    // no owned descriptor is closed.
    cerr(unsafe { libc::dup2(file.as_raw_fd(), number) })?;
    Ok(())
}

/// Sets the umask of the process and gives the one before.
pub(crate) fn set_umask(mask: u32) -> u32 {
    // SAFETY: no pointers; never fails.
    (unsafe { libc::umask(mask as libc::mode_t) }) as u32
}

/// Raises the limit of open descriptors to `wanted`, or as near as it may be,
/// and gives the limit then. Never lowers it. The hard limit is raised if need
/// be and permitted.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to `limit`, borrowed for the call.
    cerr(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(libc::RLIM_INFINITY);
    let mut soft = limit.rlim_cur;
    for (rlim_cur, rlim_max) in [
        (wanted, wanted.max(limit.rlim_max)),
        (wanted.min(limit.rlim_max), limit.rlim_max),
    ] {
        let raised = libc::rlimit { rlim_cur, rlim_max };
        // SAFETY: the pointer is to `raised`, which outlives the call.
        if rlim_cur > soft && cerr(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) }).is_ok()
        {
            soft = rlim_cur;
        }
    }
    #[allow(clippy::unnecessary_cast)] // Not of 64 bits everywhere.
    let got = soft as u64;
    Ok(got)
}

/// The name of this host as the kernel has it; without its domain or with, as
/// the administrator set it.
pub(crate) fn host_name() -> io::Result<String> {
    // POSIX: at most 255 bytes and a NUL.
    let mut name = [0u8; 256];
    // SAFETY: pointer and length are those of `name`, the last byte left out,
    // so that a cut name ends with a NUL, too.
    cerr(unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) })?;
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// How many ticks of the kernel, in which /proc counts time, are in a second.
pub(crate) fn ticks_per_sec() -> u64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // What every Linux has; POSIX lets the call fail.
    u64::try_from(ticks)
        .ok()
        .filter(|&ticks| ticks > 0)
        .unwrap_or(100)
}

/// How long ago the system was started, with the time that it slept, in microseconds:
/// the starts of processes in /proc count from then. /proc/uptime may be hidden.
pub(crate) fn uptime_usecs() -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to `time`, borrowed for the call.
    cerr(unsafe { libc::clock_gettime(CLOCK, time.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it in.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, rerun};

    /// The exit code of a starter whose daemon does `body`, and what the
    /// starter's standard error got.
    fn start(name: &str, body: impl FnOnce(Readiness)) -> (Option<i32>, String) {
        let Some(output) = rerun(module_path!(), name) else {
            // SAFETY: the other thread waits for the test.
            body(unsafe { into_background() }.unwrap());
            process::exit(99);
        };
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_was_started_when_proc_says() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let secs: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let usecs = uptime_usecs().unwrap();
        let since = usecs as f64 / 1e6 - secs;
        assert!((-0.02..10.0).contains(&since), "{text} {usecs}");
    }

    #[test]
    fn a_daemon_that_serves_is_0() {
        let (code, stderr) = start("a_daemon_that_serves_is_0", |readiness| {
            // SAFETY: no pointers.
            let session = unsafe { libc::getsid(0) };
            assert_eq!(u32::try_from(session).unwrap(), process::id());
            assert_eq!(io::stdin().read(&mut [0]).unwrap(), 0);
            readiness.report(0).unwrap();
            eprintln!("let go of");
        });
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stderr.contains("let go of"));
    }

    #[test]
    fn a_daemon_that_fails_says_why() {
        let (code, stderr) = start("a_daemon_that_fails_says_why", |readiness| {
            eprintln!("for a reason");
            readiness.report(69).unwrap();
        });
        assert_eq!(code, Some(69));
        assert!(stderr.contains("for a reason"));
    }

    #[test]
    fn a_daemon_that_ends_gives_its_own_code() {
        let (code, _) = start("a_daemon_that_ends_gives_its_own_code", |_| {
            process::exit(78)
        });
        assert_eq!(code, Some(78));
    }

    #[test]
    fn a_daemon_that_is_killed_is_an_internal_error() {
        let (code, _) = start("a_daemon_that_is_killed_is_an_internal_error", |_| {
            // SAFETY: no pointers.
            cerr(unsafe { libc::raise(libc::SIGKILL) }).unwrap();
        });
        assert_eq!(code, Some(EX_SOFTWARE));
    }

    #[test]
    fn the_descriptor_limit_only_rises() {
        alone(module_path!(), "the_descriptor_limit_only_rises", || {
            let limit = libc::rlimit {
                rlim_cur: 50,
                rlim_max: 100,
            };
            // SAFETY: the pointer is to `limit`, which outlives the call.
            cerr(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).unwrap();
            for (wanted, got) in [(1, 50), (50, 50), (51, 51), (100, 100), (99, 100)] {
                assert_eq!(raise_descriptor_limit(wanted).unwrap(), got);
            }
            // Past the hard limit it depends on who we are.
            let got = raise_descriptor_limit(101).unwrap();
            assert!(got == 100 || got == 101, "{got}");
            assert!(raise_descriptor_limit(u64::MAX).unwrap() >= got);
        });
    }

    #[test]
    fn the_host_has_a_name() {
        let name = host_name().unwrap();
        if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
            assert_eq!(name, kernel.trim_end());
        }
    }
}
