//! Writing to a pipe that may have no reader, in a process that is not ours to
//! change: SIGPIPE would end it, unless it ignores the signal or handles it.
//!
//! Invariants: what the process does about SIGPIPE, which signals its threads
//! have blocked, and one that was pending before, are as they were.

use std::io;
use std::ptr;

use crate::sys::cerr;
use crate::sys::proc::signal::{is_ignored, one_signal};

/// Runs `write`, which may write to a pipe without a reader, in this thread
/// without SIGPIPE ending the process, whatever the process does about it.
pub(crate) fn without_sigpipe<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if is_ignored(libc::SIGPIPE)? {
        return write();
    }
    let pipe = one_signal(libc::SIGPIPE)?;
    if is_pending(libc::SIGPIPE)? {
        // Blocked by the host, and it has one to wait for already.
        return write();
    }
    let mut before = pipe;
    // SAFETY: both pointers are to sets that outlive the call.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before) } {
        0 => {}
        code => return Err(io::Error::from_raw_os_error(code)),
    }
    let result = write();
    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe)
        && is_pending(libc::SIGPIPE)?
    {
        let mut taken = 0;
        // SAFETY: both pointers are to locals that outlive the call, which does
        // not wait: the signal is there.
        unsafe { libc::sigwait(&pipe, &mut taken) };
    }
    // SAFETY: the pointer is to a set that outlives the call; the old one is not
    // asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) } {
        0 => result,
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Whether a signal waits for this thread to unblock it.
fn is_pending(signal: libc::c_int) -> io::Result<bool> {
    let mut set = one_signal(signal)?;
    // SAFETY: the pointer is to a set borrowed for the call.
    cerr(unsafe { libc::sigpending(&mut set) })?;
    // SAFETY: the pointer is to a set that outlives the call.
    Ok(cerr(unsafe { libc::sigismember(&set, signal) })? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::{alone, Scratch};

    fn set_action(signal: libc::c_int, action: libc::sighandler_t) {
        // SAFETY: no pointers but those that mean a default.
        unsafe { libc::signal(signal, action) };
    }

    #[test]
    fn writing_to_a_broken_pipe_is_an_error_only() {
        let name = "writing_to_a_broken_pipe_is_an_error_only";
        alone(module_path!(), name, || {
            let dir = Scratch::new("signal-pipe");
            let access = Access {
                mode: 0o600,
                uid: None,
                gid: None,
            };
            let reader = Fifo::create(&dir.join("pipe"), None, access).unwrap();
            let path = reader.file().expect("a FIFO of ours").path.clone();
            let mut writer = std::fs::File::options().write(true).open(path).unwrap();
            drop(reader);
            let mut write = || io::Write::write(&mut writer, b"x");
            for action in [libc::SIG_IGN, libc::SIG_DFL] {
                set_action(libc::SIGPIPE, action);
                let error = without_sigpipe(&mut write).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                assert!(!is_pending(libc::SIGPIPE).unwrap());
            }
            // A host that has blocked it and one pending keeps both.
            let pipe = one_signal(libc::SIGPIPE).unwrap();
            // SAFETY: the pointer is to a set that outlives the call.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, ptr::null_mut()) };
            // SAFETY: no pointers.
            cerr(unsafe { libc::raise(libc::SIGPIPE) }).unwrap();
            assert!(without_sigpipe(&mut write).is_err());
            assert!(is_pending(libc::SIGPIPE).unwrap());
        });
    }
}
