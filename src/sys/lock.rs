//! A directory held by one process.
//!
//! Owns: a descriptor of the directory with flock(2) on it. The lock needs no
//! file of its own, so nothing stays behind when its holder is killed.
//!
//! Invariants: the lock ends with the last copy of the descriptor. It survives
//! fork(2), which shares it, and is not inherited over execve(2).
//!
//! Must not: wait for another holder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::cerr;

/// Holds a directory until dropped.
#[derive(Debug)]
pub struct DirLock {
    /// The directory, locked.
    _dir: File,
}

/// Takes the directory `path`; `None` when another process, or another
/// `DirLock` of this one, holds it.
pub fn lock_directory(path: &Path) -> io::Result<Option<DirLock>> {
    let dir = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path)?;
    // SAFETY: no pointers; the descriptor is owned by `dir`.
    match cerr(unsafe { libc::flock(dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(Some(DirLock { _dir: dir })),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    #[test]
    fn the_second_is_refused_while_the_first_lives() {
        let dir = Scratch::new("lock");
        let first = lock_directory(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(lock_directory(dir.path()).unwrap().is_none());
        drop(first);
        assert!(lock_directory(dir.path()).unwrap().is_some());
    }

    #[test]
    fn only_directories_are_locked() {
        let dir = Scratch::new("lock-file");
        std::fs::write(dir.join("file"), "").unwrap();
        assert!(lock_directory(&dir.join("file")).is_err());
        assert_eq!(
            lock_directory(&dir.join("missing")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
