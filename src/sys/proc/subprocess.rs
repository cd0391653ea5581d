//! A program started for its output, which poll(2) can wait for.
//!
//! Owns: the child process, and the pipe that it prints to. The child has /dev/null as
//! its other standard streams, of our environment only PATH, and the default action
//! for SIGPIPE.
//!
//! Invariants: reading does not wait for the program's end. A [`Subprocess`] that is
//! dropped is killed and reaped.
//!
//! It uses posix_spawn(3), which copies none of our memory. std uses it too, in a
//! type that can do much more and costs more code.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use crate::sys::cerr;
use crate::sys::proc::process::wait;
use crate::sys::proc::signal::one_signal;

/// A program that runs, or has ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Subprocess {
    pid: libc::pid_t,
    pipe: File,
}

impl Subprocess {
    /// Starts the program that $PATH finds for the first of `words`, its name, with
    /// all of them as arguments.
    pub(crate) fn of<const N: usize>(words: [&CStr; N]) -> io::Result<Subprocess> {
        let (ours, its) = pipe()?;
        let mut memory = MaybeUninit::uninit();
        let mut actions = Actions::new(&mut memory)?;
        actions.null(libc::STDIN_FILENO)?;
        actions.null(libc::STDERR_FILENO)?;
        actions.take(&its, libc::STDOUT_FILENO)?;
        let mut memory = MaybeUninit::uninit();
        let mut attributes = Attributes::new(&mut memory)?;
        attributes.default_sigpipe()?;
        let mut arguments: Vec<*mut libc::c_char> =
            words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        arguments.push(ptr::null_mut());
        // What else is in our environment is none of its business.
        let path = path_variable()?;
        let environment = [path.as_ptr().cast_mut(), ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: the names, the arguments and the environment, which a null ends
        // each, and the two objects, which were initialized, outlive the call.
        done(unsafe {
            libc::posix_spawnp(
                &mut pid,
                arguments[0],
                actions.0,
                attributes.0,
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        })?;
        let pipe = File::from(ours);
        Ok(Subprocess { pid, pipe })
    }
}

impl Read for Subprocess {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.pipe.read(bytes)
    }
}

impl AsFd for Subprocess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Subprocess {
    fn drop(&mut self) {
        // It is ending by itself or not wanted any more; once killed it takes no
        // time to wait for.
        // SAFETY: no pointers; a child of ours that was not waited for, so the
        // number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        wait(self.pid);
    }
}

/// Where programs are looked for, as a variable of the environment.
fn path_variable() -> io::Result<CString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(CString::new([b"PATH=", path.as_bytes()].concat())?)
}

/// The ends of a new pipe: for reading, for writing.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two ints, borrowed for the call.
    cerr(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new and owned by nothing else.
    let own = |end| unsafe { OwnedFd::from_raw_fd(end) };
    Ok((own(ends[0]), own(ends[1])))
}

/// What posix_spawn(3) and its like return, an error number or 0.
fn done(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// What the child does with descriptors before it becomes the program.
struct Actions<'a>(&'a mut libc::posix_spawn_file_actions_t);

impl Actions<'_> {
    fn new(memory: &mut MaybeUninit<libc::posix_spawn_file_actions_t>) -> io::Result<Actions<'_>> {
        // SAFETY: the pointer is to memory for the object.
        done(unsafe { libc::posix_spawn_file_actions_init(memory.as_mut_ptr()) })?;
        // SAFETY: it was initialized.
        Ok(Actions(unsafe { memory.assume_init_mut() }))
    }

    /// Makes `fd` there /dev/null.
    fn null(&mut self, fd: libc::c_int) -> io::Result<()> {
        let path = c"/dev/null".as_ptr();
        // SAFETY: the object is borrowed for the call, which copies the name.
        done(unsafe { libc::posix_spawn_file_actions_addopen(self.0, fd, path, libc::O_RDWR, 0) })
    }

    /// Makes `fd` there what `from` is here.
    fn take(&mut self, from: &OwnedFd, fd: libc::c_int) -> io::Result<()> {
        // SAFETY: the object is borrowed for the call.
        done(unsafe { libc::posix_spawn_file_actions_adddup2(self.0, from.as_raw_fd(), fd) })
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        // SAFETY: the object was initialized, and is not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0) };
    }
}

/// What else is not as it is here.
struct Attributes<'a>(&'a mut libc::posix_spawnattr_t);

impl Attributes<'_> {
    fn new(memory: &mut MaybeUninit<libc::posix_spawnattr_t>) -> io::Result<Attributes<'_>> {
        // SAFETY: the pointer is to memory for the object.
        done(unsafe { libc::posix_spawnattr_init(memory.as_mut_ptr()) })?;
        // SAFETY: it was initialized.
        Ok(Attributes(unsafe { memory.assume_init_mut() }))
    }

    /// SIGPIPE, which is ignored here.
    fn default_sigpipe(&mut self) -> io::Result<()> {
        let signals = one_signal(libc::SIGPIPE)?;
        // SAFETY: the object and the set are borrowed for the call.
        done(unsafe { libc::posix_spawnattr_setsigdefault(self.0, &signals) })?;
        let flags = libc::POSIX_SPAWN_SETSIGDEF as libc::c_short;
        // SAFETY: the object is borrowed for the call.
        done(unsafe { libc::posix_spawnattr_setflags(self.0, flags) })
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        // SAFETY: the object was initialized, and is not used after this.
        unsafe { libc::posix_spawnattr_destroy(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::alone;

    #[test]
    fn it_is_what_the_program_prints() {
        alone(module_path!(), "it_is_what_the_program_prints", || {
            std::env::set_var("DOVESTAT_WORD", "told");
            let script =
                c"echo ${DOVESTAT_WORD-not} $1; echo noise >&2; cat; trap - PIPE; kill -PIPE $$; echo no";
            let mut subprocess = Subprocess::of([c"sh", c"-c", script, c"sh", c"said"]).unwrap();
            let mut text = String::new();
            subprocess.read_to_string(&mut text).unwrap();
            assert_eq!(text, "not said\n");
            let error = Subprocess::of([c"/nowhere/at all"]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn nobody_is_left() {
        alone(module_path!(), "nobody_is_left", || {
            let subprocess = Subprocess::of([c"sleep", c"1000"]).unwrap();
            let pid = subprocess.pid;
            drop(subprocess);
            // SAFETY: no pointers; the status is not asked for.
            let error = cerr(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) });
            assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ECHILD));
        });
    }
}
