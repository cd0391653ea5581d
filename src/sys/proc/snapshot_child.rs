//! A copy of this process that does one thing beside it and ends.
//!
//! Owns: the child of a fork(2), and a socket pair by which it says how it
//! went. The copy has all memory as it was at that instant, at the cost of the
//! pages that either side changes while it lives.
//!
//! Invariants: the copy keeps no descriptor but the standard ones and those it
//! is given, so it holds no lock, FIFO or client; it ends with its parent; it
//! never returns into the code of its parent, not even by a panic. One that is
//! dropped is killed, and none is left a zombie.
//!
//! Must not: be made while other threads run, whose locks the copy would miss.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::sys::cerr;
use crate::sys::fd::inherited::close_all_but;
use crate::sys::proc::child;
use crate::sys::proc::process::{be_alone, wait};
use crate::sys::proc::signal;

/// The longest word of how it went.
const MAX_WORD_BYTES: u64 = 200;

/// The copy, as its parent sees it.
#[derive(Debug)]
pub(crate) struct Offshoot {
    /// Its number; `None` once it was waited for.
    pid: Option<libc::pid_t>,
    /// Readable when it is done.
    word: UnixStream,
}

impl Offshoot {
    /// Begins `work` in a copy that keeps these descriptors; it uses no others.
    ///
    /// # Errors
    /// fork(2)'s, or that there are other threads.
    pub(crate) fn begin(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<Offshoot> {
        be_alone()?;
        // SAFETY: there is one thread.
        unsafe { Offshoot::fork(keep, work) }
    }

    /// The same.
    ///
    /// # Safety
    /// No other thread is in the middle of something.
    unsafe fn fork(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce() -> Result<(), String>,
    ) -> io::Result<Offshoot> {
        let (word, said) = UnixStream::pair()?;
        let original = std::process::id();
        // SAFETY: no pointers; the caller's promise.
        let pid = cerr(unsafe { libc::fork() })?;
        if pid != 0 {
            return Ok(Offshoot {
                pid: Some(pid),
                word,
            });
        }
        signal::forget();
        if child::die_with(original).is_err() {
            // Who comes after the original may be writing by now.
            end_saying(&said, Err("the original is gone".to_owned()));
        }
        let keep = [keep, &[said.as_fd()]].concat();
        // SAFETY: this process does `work`, which uses none of them, and ends with _exit(2).
        unsafe { close_all_but(&keep) };
        // What the original does when it panics is not for the copy.
        let said = Arc::new(said);
        let in_panic = Arc::clone(&said);
        std::panic::set_hook(Box::new(move |info| {
            end_saying(&in_panic, Err(info.to_string()))
        }));
        end_saying(&said, work())
    }

    /// Waits for its end, which is near once it is readable, and tells how it
    /// went.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let mut word = Vec::new();
        let _ = (&self.word).take(MAX_WORD_BYTES).read_to_end(&mut word);
        match self.pid.take().and_then(wait) {
            Some(0) => Ok(()),
            _ if word.is_empty() => Err("ended by a signal".to_owned()),
            _ => Err(String::from_utf8_lossy(&word).into_owned()),
        }
    }
}

impl AsFd for Offshoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }
}

impl Drop for Offshoot {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            // SAFETY: no pointers; a child of ours that was not waited for, so
            // the number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid);
        }
    }
}

/// Ends the copy with a word of how it went.
fn end_saying(mut said: &UnixStream, result: Result<(), String>) -> ! {
    let code = match result {
        Ok(()) => 0,
        Err(why) => {
            // A parent that is gone needs no answer.
            let _ = said.write_all(why.as_bytes());
            1
        }
    };
    // SAFETY: no pointers; ends the copy without running what belongs to the
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
    ) -> io::Result<Offshoot> {
        // SAFETY: the other thread waits for the test.
        unsafe { Offshoot::fork(keep, work) }
    }

    #[test]
    fn it_is_not_made_while_other_threads_run() {
        let (near, far) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (&near).read(&mut [0]).unwrap());
            let result = Offshoot::begin(&[], || Ok(()));
            (&far).write_all(&[0]).unwrap();
            assert!(result.is_err());
        });
    }

    #[test]
    fn it_has_the_memory_of_its_instant_and_says_how_it_went() {
        alone(
            module_path!(),
            "it_has_the_memory_of_its_instant_and_says_how_it_went",
            || {
                let scratch = Scratch::new("offshoot");
                let mut file = File::create(scratch.join("file")).unwrap();
                let mut number = 1;
                let offshoot = begin(&[file.try_clone().unwrap().as_fd()], || Ok(()));
                offshoot.unwrap().end().unwrap();
                let fd = file.as_fd();
                let offshoot = begin(&[fd], || {
                    (&file)
                        .write_all(format!("number {number}").as_bytes())
                        .map_err(|error| error.to_string())
                })
                .unwrap();
                number += 1;
                offshoot.end().unwrap();
                file.flush().unwrap();
                let text = std::fs::read_to_string(scratch.join("file")).unwrap();
                assert_eq!((text.as_str(), number), ("number 1", 2));
                let offshoot = begin(&[], || Err("no room".to_owned())).unwrap();
                assert_eq!(offshoot.end(), Err("no room".to_owned()));
                let offshoot = begin(&[], || panic!("a bug")).unwrap();
                let why = offshoot.end().unwrap_err();
                assert!(why.contains("a bug"), "{why}");
            },
        );
    }

    #[test]
    fn it_holds_nothing_and_is_killed_when_dropped() {
        alone(
            module_path!(),
            "it_holds_nothing_and_is_killed_when_dropped",
            || {
                let (mut near, far) = UnixStream::pair().unwrap();
                let offshoot = begin(&[], || loop {
                    std::thread::sleep(std::time::Duration::from_secs(1000));
                })
                .unwrap();
                drop(far);
                assert_eq!(near.read(&mut [0]).unwrap(), 0, "nobody else has it");
                drop(offshoot);
                // SAFETY: no pointers; the status is not asked for.
                let error = cerr(unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) });
                assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ECHILD));
            },
        );
    }
}
