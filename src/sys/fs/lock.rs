//! A directory locked by one process.
//!
//! Owns: a file in the directory that only its owner can open, with flock(2) on
//! it. Of the directory itself, every user who may read it could take the lock; so that is
//! locked only where no file can be made in it.
//!
//! Invariants: the lock ends with the last copy of the descriptor, so nothing
//! that its owner left behind when it was killed is in the way; the file stays.
//! The lock survives fork(2), which shares it, and is not inherited over
//! execve(2).
//!
//! Must not: wait for another process.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{fchown, PermissionsExt};

use crate::sys::cerr;
use crate::sys::fs::dir::{Dir, Owner};

/// A directory is locked until this is dropped, and every copy that was passed to another
/// process.
#[derive(Debug)]
pub(crate) struct DirLock(OwnedFd);

impl DirLock {
    /// One that the process which had the lock has passed.
    pub(crate) fn passed(fd: OwnedFd) -> DirLock {
        DirLock(fd)
    }
}

impl AsFd for DirLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Locks the directory by the file `name` in it; `None` when another process, or
/// another `DirLock` of this one, has it. A file that is made for that is for
/// the user and group `owner`, else for the user that makes it.
pub(crate) fn lock_directory(dir: &Dir, name: &str, owner: Owner) -> io::Result<Option<DirLock>> {
    let locked: OwnedFd = match open_file(dir, name, owner) {
        Ok(file) => file.into(),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                dir.as_fd().try_clone_to_owned()?
            }
            _ => return Err(error),
        },
    };
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    match cerr(unsafe { libc::flock(locked.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(Some(DirLock(locked))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether another process has locked the directory by the file `name`, or another
/// `DirLock` of this one.
pub(crate) fn is_held(dir: &Dir, name: &str) -> bool {
    let file = dir.open_at(name, libc::O_RDONLY | libc::O_NONBLOCK, 0);
    file.is_ok_and(|file| {
        let operation = libc::LOCK_SH | libc::LOCK_NB;
        // SAFETY: no pointers; the descriptor is owned by `file`.
        cerr(unsafe { libc::flock(file.as_raw_fd(), operation) })
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    })
}

/// Opens the file, or makes it.
fn open_file(dir: &Dir, name: &str, owner: Owner) -> io::Result<File> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK;
    match dir.open_at(name, flags | libc::O_CREAT | libc::O_EXCL, 0o600) {
        Ok(file) => {
            // Only of one just made: what lies there may be another file's name.
            if let Some((uid, gid)) = owner {
                fchown(&file, Some(uid), Some(gid))?;
            }
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dir.open_at(name, flags, 0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::user::{drop_privileges, User};
    use crate::sys::scratch::{alone, is_root, Scratch};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const NAME: &str = ".lock";

    fn lock(dir: &Scratch) -> io::Result<Option<DirLock>> {
        lock_directory(&Dir::open(dir.path(), None)?, NAME, None)
    }

    #[test]
    fn the_second_is_refused_while_the_first_lives() {
        let dir = Scratch::new("lock");
        let opened = Dir::open(dir.path(), None).unwrap();
        assert!(!is_held(&opened, NAME));
        let first = lock(&dir).unwrap();
        assert!(first.is_some());
        assert!(lock(&dir).unwrap().is_none());
        assert!(is_held(&opened, NAME));
        drop(first);
        assert!(!is_held(&opened, NAME));
        assert!(lock(&dir).unwrap().is_some());
    }

    #[test]
    fn nobody_else_can_hold_it() {
        let dir = Scratch::new("lock-private");
        // What every user can do who may read the directory.
        let stranger = File::open(dir.path()).unwrap();
        // SAFETY: no pointers; the descriptor is owned by `stranger`.
        cerr(unsafe { libc::flock(stranger.as_raw_fd(), libc::LOCK_EX) }).unwrap();
        assert!(lock(&dir).unwrap().is_some());
        let metadata = fs::metadata(dir.join(NAME)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        std::os::unix::fs::symlink("elsewhere", dir.join("link")).unwrap();
        fs::rename(dir.join("link"), dir.join(NAME)).unwrap();
        assert!(lock(&dir).is_err());
        assert!(!dir.join("elsewhere").exists());
    }

    #[test]
    fn where_no_file_can_be_made_the_directory_is_locked() {
        if !is_root() {
            return;
        }
        let name = "where_no_file_can_be_made_the_directory_is_locked";
        alone(module_path!(), name, || {
            let dir = Scratch::new("lock-closed");
            // Its own, so that it can take it away in the end.
            std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
            let user = User {
                name: None,
                uid: 12345,
                gid: None,
            };
            drop_privileges(&user, 12345, None).unwrap();
            let first = lock(&dir).unwrap();
            assert!(first.is_some());
            assert!(lock(&dir).unwrap().is_none());
            assert!(!dir.join(NAME).exists());
        });
    }
}
