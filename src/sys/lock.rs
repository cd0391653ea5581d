//! A directory held by one process.
//!
//! Owns: a file in the directory that only its owner can open, with flock(2) on
//! it. Nobody else can hold it, as anybody who may read the directory could hold
//! the directory itself. That is locked only where no file can be made in it.
//!
//! Invariants: the lock ends with the last copy of the descriptor, so nothing
//! that its holder left behind when it was killed is in the way; the file stays.
//! The lock survives fork(2), which shares it, and is not inherited over
//! execve(2).
//!
//! Must not: wait for another holder.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{fchown, PermissionsExt};
use std::path::Path;

use super::cerr;
use super::dir::Dir;

/// The file.
const NAME: &str = ".lock";

/// Holds a directory until dropped.
#[derive(Debug)]
pub struct DirLock {
    /// The directory.
    _dir: Dir,
    /// The file in it; none where the directory itself is locked.
    _file: Option<File>,
}

/// Takes the directory `path`; `None` when another process, or another
/// `DirLock` of this one, holds it. A file that is made for that is for the user
/// and group `owner`, else for who makes it.
pub fn lock_directory(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Option<DirLock>> {
    let dir = Dir::open(path)?;
    let file = match open_file(&dir, owner) {
        Ok(file) => Some(file),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => None,
            _ => return Err(error),
        },
    };
    let held = file.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    match cerr(unsafe { libc::flock(held.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(DirLock {
        _dir: dir,
        _file: file,
    }))
}

/// Opens the file, or makes it.
fn open_file(dir: &Dir, owner: Option<(u32, u32)>) -> io::Result<File> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK;
    match dir.open_at(NAME, flags | libc::O_CREAT | libc::O_EXCL, 0o600) {
        Ok(file) => {
            // Only of one just made: what lies there may be another file's name.
            if let Some((uid, gid)) = owner {
                fchown(&file, Some(uid), Some(gid))?;
            }
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dir.open_at(NAME, flags, 0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{alone, is_root, Scratch};
    use crate::sys::user::{drop_privileges, User};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_second_is_refused_while_the_first_lives() {
        let dir = Scratch::new("lock");
        let first = lock_directory(dir.path(), None).unwrap();
        assert!(first.is_some());
        assert!(lock_directory(dir.path(), None).unwrap().is_none());
        drop(first);
        assert!(lock_directory(dir.path(), None).unwrap().is_some());
    }

    #[test]
    fn only_directories_are_locked() {
        let dir = Scratch::new("lock-file");
        fs::write(dir.join("file"), "").unwrap();
        assert!(lock_directory(&dir.join("file"), None).is_err());
        assert_eq!(
            lock_directory(&dir.join("missing"), None)
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn nobody_else_can_hold_it() {
        let dir = Scratch::new("lock-private");
        // What anybody can do who may read the directory.
        let stranger = File::open(dir.path()).unwrap();
        // SAFETY: no pointers; the descriptor is owned by `stranger`.
        cerr(unsafe { libc::flock(stranger.as_raw_fd(), libc::LOCK_EX) }).unwrap();
        assert!(lock_directory(dir.path(), None).unwrap().is_some());
        let metadata = fs::metadata(dir.join(NAME)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        std::os::unix::fs::symlink("elsewhere", dir.join("link")).unwrap();
        fs::rename(dir.join("link"), dir.join(NAME)).unwrap();
        assert!(lock_directory(dir.path(), None).is_err());
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
            let user = User {
                name: None,
                uid: 12345,
                gid: None,
            };
            drop_privileges(&user, 12345, None).unwrap();
            let first = lock_directory(dir.path(), None).unwrap();
            assert!(first.is_some());
            assert!(lock_directory(dir.path(), None).unwrap().is_none());
            assert!(!dir.join(NAME).exists());
        });
    }
}
