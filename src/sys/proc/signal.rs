//! Signals as something poll(2) can wait for.
//!
//! Owns: the handlers of TERM, INT, HUP and USR1, under Dovecot's master also of QUIT,
//! for a program with a screen of that, TSTP, CONT and WINCH, for one that passes signals
//! on to a child of all of these and a few more, the set of those that came, and a socket
//! pair: the handler writes a byte to one end, the loop polls the other. Beside
//! them: sending signals, and dying of one.
//!
//! Invariants: a signal that came before a [`Signals::take`] is in its result
//! or in that of a later one; however often it came, once. The set is kept
//! beside the pair, not in it, so that a flood of one signal never crowds out
//! another. A broken pipe and a file grown too large are errors of write(2), not
//! signals. Installed once per process and for its whole life, because a handler reaches
//! nothing but statics.
//!
//! Must not: act on a signal that came.

use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use crate::sys::cerr;

/// Whether [`Signals::install`] was called.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// The signals that came, bit N for signal N; ours are all below 32.
static PENDING: AtomicU32 = AtomicU32::new(0);
/// The end of the pair that the handler writes to.
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);

/// The signals that came since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingSignals {
    pub term: bool,
    pub int: bool,
    pub hup: bool,
    pub usr1: bool,
    /// SIGQUIT, where its handler is installed.
    pub quit: bool,
    /// SIGTSTP; to a screen only, as all below: asked to stop. [`Signals::stop`] does it.
    pub tstp: bool,
    /// SIGCONT: going on after having been stopped.
    pub cont: bool,
    /// SIGWINCH: the terminal has another size.
    pub winch: bool,
}

/// The signals that are passed on to a child.
const PASSED: [libc::c_int; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

#[derive(Debug)]
pub(crate) struct Signals {
    /// Readable while signals are pending.
    wake: UnixStream,
}

impl Signals {
    /// Installs the handlers and ignores SIGPIPE and SIGXFSZ. An error when that was done
    /// in this process before.
    pub(crate) fn install() -> io::Result<Signals> {
        Signals::install_for(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1])
    }

    /// As [`Signals::install`], and for QUIT.
    pub(crate) fn install_with_quit() -> io::Result<Signals> {
        let signals = Signals::install()?;
        set_action(libc::SIGQUIT, handler())?;
        Ok(signals)
    }

    /// As [`Signals::install`], for a program that fills a terminal's screen:
    /// it has to tidy up before it ends or stops, and to know the size.
    pub(crate) fn install_for_screen() -> io::Result<Signals> {
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

    /// As [`Signals::install`], for a program that passes signals on to a child
    /// in its own process group: [`Signals::take_passed`]. A signal that a
    /// terminal sends reaches the child by itself and is not noted here; one that
    /// is ignored stays so, here and in the child. SIGCHLD wakes, too.
    pub(crate) fn install_to_pass_on() -> io::Result<Signals> {
        let signals = Signals::install_for(&[libc::SIGCHLD])?;
        for signal in PASSED {
            if !is_ignored(signal)? {
                set_action(signal, handler_of_sent())?;
            }
        }
        Ok(signals)
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
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.stop_by(libc::SIGTSTP)
    }

    /// As [`Signals::stop`], by any of the signals that can be handled and stop a process.
    pub(crate) fn stop_by(&self, signal: libc::c_int) -> io::Result<()> {
        let before = action_of(signal)?;
        if before.sa_sigaction != libc::SIG_IGN {
            set_action(signal, libc::SIG_DFL)?;
        }
        raise(signal)?;
        // SAFETY: `before` outlives the call, and was in force until a moment ago;
        // the old action is not asked for.
        cerr(unsafe { libc::sigaction(signal, &before, ptr::null_mut()) })?;
        Ok(())
    }

    /// Lets SIGCHLD wake us even if the process that started us has blocked it. For when
    /// the child is there, which keeps what was blocked.
    pub(crate) fn unblock_child(&self) -> io::Result<()> {
        let child = one_signal(libc::SIGCHLD)?;
        // SAFETY: the pointer is to a set that outlives the call; the old one is
        // not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &child, ptr::null_mut()) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// The signals to be passed on that came since the last call.
    pub(crate) fn take_passed(&self) -> impl Iterator<Item = libc::c_int> {
        let bits = self.take_bits();
        let came = move |signal: &libc::c_int| bits & (1 << signal) != 0;
        PASSED.into_iter().filter(came)
    }

    /// The signals that came since the last call.
    pub(crate) fn take(&self) -> PendingSignals {
        let bits = self.take_bits();
        let came = |signal: libc::c_int| bits & (1 << signal) != 0;
        PendingSignals {
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

    /// As [`Signals::take`], bit N for signal N.
    fn take_bits(&self) -> u32 {
        // Emptied first: what comes in between is taken now and wakes the loop
        // once for nothing, instead of being pending without waking it.
        while matches!((&self.wake).read(&mut [0; 16]), Ok(count) if count > 0) {}
        PENDING.swap(0, Ordering::SeqCst)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Makes up for what the starter of a daemon did with signals: none is blocked,
/// and a child that ended stays to be reaped.
pub(crate) fn reset_inherited() -> io::Result<()> {
    set_action(libc::SIGCHLD, libc::SIG_DFL)?;
    let mut none = mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to memory for a set, borrowed for the call.
    cerr(unsafe { libc::sigemptyset(none.as_mut_ptr()) })?;
    // SAFETY: the call before filled it in.
    let none = unsafe { none.assume_init() };
    // SAFETY: the pointer is to a set that outlives the call; the old one is not
    // asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Sends a signal to a process.
pub(crate) fn send(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: no pointers.
    cerr(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Ends this process by a signal, as far as that is possible, without leaving an
/// image of its memory.
pub(crate) fn die_of(signal: libc::c_int) -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to `none`, which outlives the call.
    cerr(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) })?;
    if signal != libc::SIGKILL {
        set_action(signal, libc::SIG_DFL)?;
    }
    raise(signal)
}

fn raise(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    cerr(unsafe { libc::raise(signal) })?;
    Ok(())
}

/// A set of one signal.
pub(crate) fn one_signal(signal: libc::c_int) -> io::Result<libc::sigset_t> {
    let mut set = mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to memory for a set, borrowed for the call.
    cerr(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: the call before filled it in.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the pointer is to a set borrowed for the call.
    cerr(unsafe { libc::sigaddset(&mut set, signal) })?;
    Ok(set)
}

/// Whether this process ignores a signal.
pub(crate) fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    Ok(action_of(signal)?.sa_sigaction == libc::SIG_IGN)
}

/// What this process does about a signal.
fn action_of(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: integers, bit sets and nullable pointers, for which zero is a
    // value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: `action` outlives the call; nothing new is set.
    cerr(unsafe { libc::sigaction(signal, ptr::null(), &mut action) })?;
    Ok(action)
}

/// The handler for signals that are passed on, as sigaction(2) wants it.
fn handler_of_sent() -> libc::sighandler_t {
    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    note_sent as Handler as *const () as libc::sighandler_t
}

/// Notes a signal unless the kernel sent it, as it does for a terminal.
extern "C" fn note_sent(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
    let code = unsafe { (*info).si_code };
    // sigaction(2), on Linux: what processes send has none above zero.
    if !cfg!(target_os = "linux") || code <= 0 {
        note(signal);
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
    // never closed. A failed write cannot be reported.
    let _ = unsafe { libc::write(fd, byte.as_ptr().cast(), byte.len()) };
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Makes the child of a fork(2) end by TERM and INT and ignore the others: what
/// its handlers would note is for the parent.
pub(crate) fn forget() {
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
    if handler == handler_of_sent() {
        action.sa_flags |= libc::SA_SIGINFO;
    }
    // SAFETY: the set is a field of `action`, borrowed for the call.
    cerr(unsafe { libc::sigemptyset(&mut action.sa_mask) })?;
    // SAFETY: `action` outlives the call; the old action is not asked for. The
    // handler is SIG_IGN, SIG_DFL, `note` or `note_sent`, which do only what a
    // handler may; the last comes with SA_SIGINFO.
    cerr(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::poll::{Interest, PollSet};
    use crate::sys::scratch::alone;
    use std::time::Duration;

    fn raise(signal: libc::c_int) {
        super::raise(signal).unwrap();
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
            assert_eq!(signals.take(), PendingSignals::default());

            // More than fits into a socket: none gets lost for that.
            for _ in 0..300_000 {
                raise(libc::SIGHUP);
            }
            raise(libc::SIGTERM);
            assert!(is_readable(&signals));
            assert_eq!(
                signals.take(),
                PendingSignals {
                    term: true,
                    hup: true,
                    ..PendingSignals::default()
                }
            );
            assert!(!is_readable(&signals));
            assert_eq!(signals.take(), PendingSignals::default());

            raise(libc::SIGINT);
            raise(libc::SIGUSR1);
            raise(libc::SIGPIPE);
            assert!(is_readable(&signals));
            assert_eq!(
                signals.take(),
                PendingSignals {
                    int: true,
                    usr1: true,
                    ..PendingSignals::default()
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

    #[test]
    fn what_processes_send_is_passed_on() {
        let name = "what_processes_send_is_passed_on";
        alone(module_path!(), name, || {
            // The starter of the tests may ignore some, as a shell's background does.
            for signal in PASSED {
                set_action(signal, libc::SIG_DFL).unwrap();
            }
            set_action(libc::SIGHUP, libc::SIG_IGN).unwrap();
            let signals = Signals::install_to_pass_on().unwrap();
            for signal in PASSED {
                send(std::process::id(), signal).unwrap();
                // Another thread may be the one that handles it.
                while signal != libc::SIGHUP && !is_readable(&signals) {
                    std::thread::yield_now();
                }
                let passed: Vec<_> = signals.take_passed().collect();
                let expected = if signal == libc::SIGHUP {
                    vec![]
                } else {
                    vec![signal]
                };
                assert_eq!(passed, expected);
            }
            assert!(is_ignored(libc::SIGHUP).unwrap());
        });
    }
}
