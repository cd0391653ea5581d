//! A directory that was opened, and files in it by name.
//!
//! Owns: the descriptor of a directory. What is done through it works when the
//! path to it is out of reach, as it is from inside a chroot.
//!
//! Invariants: names are of files in the directory itself; a symlink there is
//! not followed. [`Dir::replace`] shows either the old content or the new, never
//! a part, even if the system crashes in the middle.
//!
//! Must not: leave a temporary file behind when writing failed.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::cerr;

/// A directory.
#[derive(Debug)]
pub struct Dir(File);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A name in a directory, as libc takes it.
fn c_name(name: &str) -> io::Result<CString> {
    match name {
        "" | "." | ".." => Err(io::ErrorKind::InvalidInput.into()),
        name if name.contains('/') => Err(io::ErrorKind::InvalidInput.into()),
        name => Ok(CString::new(name)?),
    }
}

impl Dir {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open(path).map(Dir)
    }

    /// openat(2).
    pub(super) fn open_at(&self, name: &str, flags: libc::c_int, mode: u32) -> io::Result<File> {
        let name = c_name(name)?;
        let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NOCTTY;
        let fd = self.0.as_raw_fd();
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        let file = cerr(unsafe { libc::openat(fd, name.as_ptr(), flags, mode as libc::c_uint) })?;
        // SAFETY: the descriptor is new and owned by nobody else.
        Ok(unsafe { File::from_raw_fd(file) })
    }

    /// Opens a file for reading. One that is no regular file is an error, not
    /// waited for.
    pub fn read(&self, name: &str) -> io::Result<File> {
        let file = self.open_at(name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Creates a file for writing, in place of one that has the name.
    fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        match self.open_at(name, flags, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.open_at(name, flags, mode)
            }
            result => result,
        }
    }

    /// Replaces the file `name` by one that `write` fills, by way of the name
    /// `temporary`, and gives it.
    pub fn replace(
        &self,
        name: &str,
        temporary: &str,
        mode: u32,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<File> {
        let file = self.create(temporary, mode)?;
        let done = write(&file)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.rename(temporary, name));
        if let Err(error) = done {
            let _ = self.remove(temporary);
            return Err(error);
        }
        // The content is in place; that its name is, too, is for the next
        // crash of the system, and not every file system can do it.
        let _ = self.0.sync_all();
        Ok(file)
    }

    /// Renames a file within the directory, over one that has the name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (c_name(from)?, c_name(to)?);
        let fd = self.0.as_raw_fd();
        // SAFETY: the names are NUL-terminated strings that outlive the call.
        cerr(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) })?;
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = c_name(name)?;
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        cerr(unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    fn content(dir: &Dir, name: &str) -> String {
        let mut text = String::new();
        dir.read(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_are_replaced_as_a_whole_or_not_at_all() {
        let scratch = Scratch::new("dir-replace");
        let dir = Dir::open(scratch.path()).unwrap();
        // What a crash left is no obstacle.
        fs::write(scratch.join("new"), "half").unwrap();
        for text in ["first", "second"] {
            dir.replace("file", "new", 0o600, |mut file| {
                file.write_all(text.as_bytes())
            })
            .unwrap();
            assert_eq!(content(&dir, "file"), text);
            assert!(!scratch.join("new").exists());
        }
        let mode = fs::metadata(scratch.join("file")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600);
        let error = dir
            .replace("file", "new", 0o600, |mut file| {
                file.write_all(b"thi")?;
                Err(io::ErrorKind::StorageFull.into())
            })
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(content(&dir, "file"), "second");
        assert!(!scratch.join("new").exists());
        dir.rename("file", "other").unwrap();
        dir.remove("other").unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_regular_files_of_its_own_are_read() {
        let scratch = Scratch::new("dir-read");
        let dir = Dir::open(scratch.path()).unwrap();
        fs::write(scratch.join("file"), "text").unwrap();
        fs::create_dir(scratch.join("directory")).unwrap();
        std::os::unix::fs::symlink("file", scratch.join("link")).unwrap();
        assert_eq!(content(&dir, "file"), "text");
        for name in ["directory", "link", "missing", "..", ".", "", "a/b", "a\0b"] {
            assert!(dir.read(name).is_err(), "{name:?}");
        }
    }
}
