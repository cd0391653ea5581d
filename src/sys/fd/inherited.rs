//! Descriptors that the process was started with, by number.
//!
//! Owns: the way from a number to an owned file, and the closing of descriptors that
//! have no owner.
//!
//! Invariants: only descriptors that came through execve(2) are given out, each once:
//! they alone are not close-on-exec, which all are that this process opened, by std or
//! by this room, and those that were given out.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};

use crate::sys::cerr;

/// The number of the first descriptor that a service manager passes
/// (sd_listen_fds(3)).
pub(in crate::sys) const FIRST: RawFd = 3;

/// A descriptor that came through execve(2).
pub(in crate::sys) fn take(number: RawFd) -> io::Result<File> {
    // SAFETY: no pointers; an error when there is no such descriptor.
    let flags = cerr(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: no pointers.
    cerr(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, and was not close-on-exec: nothing in this process
    // opened it or took it before.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// Closes all descriptors in a copy of this process but the standard ones and
/// those to keep.
///
/// # Safety
/// What owns them there is never used or dropped; for the child of fork(2) that ends
/// with _exit(2).
pub(in crate::sys) unsafe fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut first = FIRST;
    let numbers = || keep.iter().map(AsRawFd::as_raw_fd);
    while let Some(number) = numbers().filter(|&number| number >= first).min() {
        if first < number {
            // SAFETY: the caller's promise.
            unsafe { close_range(first, number - 1) };
        }
        first = number + 1;
    }
    // SAFETY: the caller's promise.
    unsafe { close_range(first, RawFd::MAX) };
}

/// Closes all descriptors within a range.
///
/// # Safety
/// What owns them is never used or dropped.
#[cfg(target_os = "linux")]
unsafe fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: no pointers; the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == -1 {
        // A kernel before 5.9, or a filter of system calls.
        // SAFETY: the caller's promise.
        unsafe { close_each(first, last) };
    }
}

#[cfg(not(target_os = "linux"))]
use close_each as close_range;

/// Closes the descriptors of a range one by one, as many as there may be.
///
/// # Safety
/// As of `close_range`.
unsafe fn close_each(first: RawFd, last: RawFd) {
    for number in first..=last.min(last_descriptor()) {
        // SAFETY: no pointers; the caller's promise.
        unsafe { libc::close(number) };
    }
}

/// The highest number that a descriptor may have.
pub(in crate::sys) fn last_descriptor() -> RawFd {
    // SAFETY: no pointers.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    // Where the limit is that high, no program has opened so many.
    RawFd::try_from(most).map_or(65536, |most| most.clamp(FIRST, 65536))
}
