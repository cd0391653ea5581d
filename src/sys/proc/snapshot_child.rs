//! A copy of this process that writes a snapshot and exits.
//!
//! Owns: the child of a fork(2), and its status pipe, a socket pair. The child has all
//! memory as it was at that instant, at the cost of the pages that either side changes
//! while it lives.
//!
//! Invariants: the child keeps no descriptor but the standard ones and those it
//! is given, so it keeps no lock, FIFO or client; it ends with its parent; it
//! never returns into the code of its parent, not even by a panic. A
//! [`SnapshotChild`] that is dropped is killed and reaped.
//!
//! Must not: be made while other threads run, whose locks the child would miss.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::sys::cerr;
use crate::sys::fd::inherited::close_all_but;
use crate::sys::proc::child;
use crate::sys::proc::process::{be_alone, wait};
use crate::sys::proc::signal;

/// The longest error message that is read from the status pipe.
const MAX_STATUS_BYTES: u64 = 200;

/// The child, as its parent sees it.
#[derive(Debug)]
pub(crate) struct SnapshotChild {
    /// `None` once it was reaped.
    pid: Option<libc::pid_t>,
    /// Status pipe: readable when the child is done.
    status: UnixStream,
}

impl SnapshotChild {
    /// Begins `work` in a child that keeps these descriptors; it uses no others.
    ///
    /// # Errors
    /// fork(2)'s, or that there are other threads.
    pub(crate) fn begin(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<SnapshotChild> {
        be_alone()?;
        // SAFETY: there is one thread.
        unsafe { SnapshotChild::fork(keep, work) }
    }

    /// As [`SnapshotChild::begin`], without looking for other threads.
    ///
    /// # Safety
    /// No other thread is in the middle of something.
    unsafe fn fork(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<SnapshotChild> {
        let (status, status_writer) = UnixStream::pair()?;
        let original = std::process::id();
        // SAFETY: no pointers; the caller's promise.
        let pid = cerr(unsafe { libc::fork() })?;
        if pid != 0 {
            return Ok(SnapshotChild {
                pid: Some(pid),
                status,
            });
        }
        signal::forget();
        if child::die_with(original).is_err() {
            // The next daemon may be writing by now.
            exit_with_status(&status_writer, Err("the original is gone".to_owned()));
        }
        let keep = [keep, &[status_writer.as_fd()]].concat();
        // SAFETY: this process does `work`, which uses none of them, and ends with _exit(2).
        unsafe { close_all_but(&keep) };
        // What the original does when it panics is not for the child.
        let status_writer = Arc::new(status_writer);
        let in_panic = Arc::clone(&status_writer);
        std::panic::set_hook(Box::new(move |info| {
            exit_with_status(&in_panic, Err(info.to_string()))
        }));
        exit_with_status(&status_writer, work())
    }

    /// Reaps the child, which ends once its status pipe is readable, and returns its
    /// status.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let mut status = Vec::new();
        let _ = (&self.status)
            .take(MAX_STATUS_BYTES)
            .read_to_end(&mut status);
        match self.pid.take().and_then(wait) {
            Some(0) => Ok(()),
            _ if status.is_empty() => Err("ended by a signal".to_owned()),
            _ => Err(String::from_utf8_lossy(&status).into_owned()),
        }
    }
}

impl AsFd for SnapshotChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

impl Drop for SnapshotChild {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            // SAFETY: no pointers; a child of ours that was not waited for, so
            // the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid);
        }
    }
}

/// Exits, with the error, if any, in the status pipe.
fn exit_with_status(mut status_writer: &UnixStream, result: Result<(), String>) -> ! {
    let code = match result {
        Ok(()) => 0,
        Err(why) => {
            // The parent may be gone.
            let _ = status_writer.write_all(why.as_bytes());
            1
        }
    };
    // SAFETY: no pointers; ends the child without running what belongs to the
    // original.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, Scratch};
    use std::fs::File;

    /// Begins one in the process that runs nothing but the test.
    fn begin(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<SnapshotChild> {
        // SAFETY: the other thread waits for the test.
        unsafe { SnapshotChild::fork(keep, work) }
    }

    #[test]
    fn it_is_not_made_while_other_threads_run() {
        let (near, far) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (&near).read(&mut [0]).unwrap());
            let result = SnapshotChild::begin(&[], || Ok(()));
            (&far).write_all(&[0]).unwrap();
            assert!(result.is_err());
        });
    }

    #[test]
    fn it_has_the_memory_of_its_instant_and_reports_its_status() {
        alone(
            module_path!(),
            "it_has_the_memory_of_its_instant_and_reports_its_status",
            || {
                let scratch = Scratch::new("child");
                let mut file = File::create(scratch.join("file")).unwrap();
                let mut number = 1;
                let child = begin(&[file.try_clone().unwrap().as_fd()], || Ok(()));
                child.unwrap().end().unwrap();
                let fd = file.as_fd();
                let child = begin(&[fd], || {
                    (&file)
                        .write_all(format!("number {number}").as_bytes())
                        .map_err(|error| error.to_string())
                })
                .unwrap();
                number += 1;
                child.end().unwrap();
                file.flush().unwrap();
                let text = std::fs::read_to_string(scratch.join("file")).unwrap();
                assert_eq!((text.as_str(), number), ("number 1", 2));
                let child = begin(&[], || Err("no room".to_owned())).unwrap();
                assert_eq!(child.end(), Err("no room".to_owned()));
                let child = begin(&[], || panic!("a bug")).unwrap();
                let why = child.end().unwrap_err();
                assert!(why.contains("a bug"), "{why}");
            },
        );
    }

    #[test]
    fn it_keeps_no_descriptor_and_is_killed_when_dropped() {
        alone(
            module_path!(),
            "it_keeps_no_descriptor_and_is_killed_when_dropped",
            || {
                let (mut near, far) = UnixStream::pair().unwrap();
                let child = begin(&[], || loop {
                    std::thread::sleep(std::time::Duration::from_secs(1000));
                })
                .unwrap();
                drop(far);
                assert_eq!(near.read(&mut [0]).unwrap(), 0, "the child keeps it");
                drop(child);
                // SAFETY: no pointers; the status is not asked for.
                let error = cerr(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) });
                assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ECHILD));
            },
        );
    }
}
