//! Signals as something poll(2) can wait for.
//!
//! Owns: the handlers of TERM, INT, HUP and USR1, for a program with a screen
//! also of QUIT, TSTP, CONT and WINCH, the set of those that came, and a socket
//! pair: the handler writes a byte to one end, the loop polls the other.
//!
//! Invariants: a signal that came before a [`Signals::take`] is in its result
//! or in that of a later one; however often it came, once. The set is kept
//! beside the pair, not in it, so that a flood of one signal never crowds out
//! another. A broken pipe and a file grown too large are errors of write(2), not
//! signals. Installed
//! once per process and for its whole life, because a handler reaches nothing
//! but statics.
//!
//! Must not: act on a signal.

use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use super::cerr;

/// Whether [`Signals::install`] was called.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// The signals that came, bit N for signal N; ours are all below 32.
static PENDING: AtomicU32 = AtomicU32::new(0);
/// The end of the pair that the handler writes to.
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);

/// The signals that came since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// SIGTERM.
    pub term: bool,
    /// SIGINT.
    pub int: bool,
    /// SIGHUP.
    pub hup: bool,
    /// SIGUSR1.
    pub usr1: bool,
    /// SIGQUIT; to a screen only, as all below.
    pub quit: bool,
    /// SIGTSTP: asked to stop. [`Signals::stop`] does it.
    pub tstp: bool,
    /// SIGCONT: going on after having been stopped.
    pub cont: bool,
    /// SIGWINCH: the terminal has another size.
    pub winch: bool,
}

/// The installed handlers.
#[derive(Debug)]
pub struct Signals {
    /// Readable while signals are pending.
    wake: UnixStream,
}

impl Signals {
    /// Installs the handlers and ignores SIGPIPE and SIGXFSZ. An error when that was done
    /// in this process before.
    pub fn install() -> io::Result<Signals> {
        Signals::install_for(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1])
    }

    /// As [`Signals::install`], for a program that fills a terminal's screen:
    /// it has to tidy up before it ends or stops, and to know the size.
    pub fn install_for_screen() -> io::Result<Signals> {
        Signals::install_for(&[
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGTSTP,
            libc::SIGCONT,
            libc::SIGWINCH,
        ])
    }

    /// Installs the handlers of the given signals.
    fn install_for(signals: &[libc::c_int]) -> io::Result<Signals> {
        if INSTALLED.swap(true, Ordering::SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "signal handlers are installed already",
            ));
        }
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        // Never closed: the handler may run until the process ends.
        WAKE_FD.store(waker.into_raw_fd(), Ordering::SeqCst);
        set_action(libc::SIGPIPE, libc::SIG_IGN)?;
        set_action(libc::SIGXFSZ, libc::SIG_IGN)?;
        for &signal in signals {
            set_action(signal, handler())?;
        }
        Ok(Signals { wake })
    }

    /// Stops this process as SIGTSTP does by default; gives control back when
    /// it goes on.
    pub fn stop(&self) -> io::Result<()> {
        set_action(libc::SIGTSTP, libc::SIG_DFL)?;
        // SAFETY: no pointers.
        cerr(unsafe { libc::raise(libc::SIGTSTP) })?;
        set_action(libc::SIGTSTP, handler())
    }

    /// The signals that came since the last call.
    pub fn take(&self) -> Pending {
        // Emptied first: what comes in between is taken now and wakes the loop
        // once for nothing, instead of being pending without waking it.
        while matches!((&self.wake).read(&mut [0; 16]), Ok(count) if count > 0) {}
        let bits = PENDING.swap(0, Ordering::SeqCst);
        let came = |signal: libc::c_int| bits & (1 << signal) != 0;
        Pending {
            term: came(libc::SIGTERM),
            int: came(libc::SIGINT),
            hup: came(libc::SIGHUP),
            usr1: came(libc::SIGUSR1),
            quit: came(libc::SIGQUIT),
            tstp: came(libc::SIGTSTP),
            cont: came(libc::SIGCONT),
            winch: came(libc::SIGWINCH),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The handler as sigaction(2) wants it.
fn handler() -> libc::sighandler_t {
    note as extern "C" fn(libc::c_int) as *const () as libc::sighandler_t
}

/// The handler: atomics, write(2) and errno only, all safe in a handler.
extern "C" fn note(signal: libc::c_int) {
    // If the set was not empty, its byte is still on the way: see `take`.
    if PENDING.fetch_or(1 << signal, Ordering::SeqCst) != 0 {
        return;
    }
    let errno = errno_place();
    // SAFETY: errno of this thread, valid while the thread lives.
    let saved = unsafe { *errno };
    let byte = [0u8];
    let fd = WAKE_FD.load(Ordering::SeqCst);
    // SAFETY: pointer and length are those of `byte`; the descriptor is
    // never closed. A failed write has nobody to be told to.
    let _ = unsafe { libc::write(fd, byte.as_ptr().cast(), byte.len()) };
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Makes the child of a fork(2) end by TERM and INT and ignore the others: what
/// its handlers would tell is for the parent.
pub(super) fn forget() {
    for (signal, action) in [
        (libc::SIGTERM, libc::SIG_DFL),
        (libc::SIGINT, libc::SIG_DFL),
        (libc::SIGHUP, libc::SIG_IGN),
        (libc::SIGUSR1, libc::SIG_IGN),
    ] {
        // These signals can be set; where not, the handler writes to a
        // descriptor that is closed.
        let _ = set_action(signal, action);
    }
}

/// Where the errno of this thread is.
fn errno_place() -> *mut libc::c_int {
    // SAFETY: no arguments; gives a valid pointer in every thread.
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    return unsafe { libc::__errno_location() };
    // SAFETY: as above.
    #[cfg(any(target_os = "freebsd", target_vendor = "apple"))]
    return unsafe { libc::__error() };
    // SAFETY: as above.
    #[cfg(any(target_os = "netbsd", target_os = "openbsd", target_os = "android"))]
    return unsafe { libc::__errno() };
}

/// sigaction(2); interrupted system calls are restarted.
fn set_action(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: integers, bit sets and nullable pointers, for which zero is a
    // value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the set is a field of `action`, borrowed for the call.
    cerr(unsafe { libc::sigemptyset(&mut action.sa_mask) })?;
    // SAFETY: `action` outlives the call; the old action is not asked for. The
    // handler is SIG_IGN or `note`, which does only what a handler may.
    cerr(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Interest, PollSet};
    use crate::sys::scratch::alone;
    use std::time::Duration;

    fn raise(signal: libc::c_int) {
        // SAFETY: no pointers.
        cerr(unsafe { libc::raise(signal) }).unwrap();
    }

    fn is_readable(signals: &Signals) -> bool {
        let mut set = PollSet::new();
        let slot = set.push(signals.as_fd(), Interest::READ);
        set.wait(Some(Duration::ZERO)).unwrap();
        set.ready(slot).readable
    }

    #[test]
    fn signals_coalesce_and_wake() {
        alone(module_path!(), "signals_coalesce_and_wake", || {
            let signals = Signals::install().unwrap();
            assert_eq!(
                Signals::install().unwrap_err().kind(),
                io::ErrorKind::AlreadyExists
            );
            assert!(!is_readable(&signals));
            assert_eq!(signals.take(), Pending::default());

            // More than a socket holds: none gets lost for that.
            for _ in 0..300_000 {
                raise(libc::SIGHUP);
            }
            raise(libc::SIGTERM);
            assert!(is_readable(&signals));
            assert_eq!(
                signals.take(),
                Pending {
                    term: true,
                    hup: true,
                    ..Pending::default()
                }
            );
            assert!(!is_readable(&signals));
            assert_eq!(signals.take(), Pending::default());

            raise(libc::SIGINT);
            raise(libc::SIGUSR1);
            raise(libc::SIGPIPE);
            assert!(is_readable(&signals));
            assert_eq!(
                signals.take(),
                Pending {
                    int: true,
                    usr1: true,
                    ..Pending::default()
                }
            );

            // SAFETY: no pointers.
            let error = cerr(unsafe { libc::close(-1) }).unwrap_err();
            raise(libc::SIGHUP);
            assert_eq!(
                io::Error::last_os_error().raw_os_error(),
                error.raw_os_error()
            );
        });
    }
}
