//! A directory that was opened, and files in it by name.
//!
//! Owns: the descriptor of a directory. What is done through it works when the
//! path to it is out of reach, as it is from inside a chroot.
//!
//! Invariants: names are of files in the directory itself; a symlink there is
//! not followed, but for one that nobody else could have put there
//! ([`Dir::append`]). What is neither a regular file nor a symlink, a FIFO or a
//! device, is neither renamed nor replaced. So root can work in a directory of the
//! service's user.
//! [`Dir::replace`] shows either the old content or the new, never a part, even
//! if the system crashes in the middle.
//!
//! Must not: leave a temporary file behind when writing failed.

use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{fchown, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::cerr;
use super::place::Found;
use super::user::effective_uid;

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

/// Opens a regular file for reading, by whatever symlinks. A FIFO or a device is an
/// error, and neither waited for nor opened: to open some devices does something.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let refused = || io::Error::other("neither a file nor a link to one");
    if !std::fs::metadata(path)?.is_file() {
        return Err(refused());
    }
    let mut options = OpenOptions::new();
    // It may have been replaced since.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = options.read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused()),
    }
}

/// Whether what was opened is known under one name only. FIFOs and devices may
/// be where they like: nothing of them can be lost.
fn is_one_file(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(!metadata.is_file() || metadata.nlink() == 1)
}

impl Dir {
    /// Opens the directory at `path`.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open(path).map(Dir)
    }

    /// Whether `path` leads to this directory, by whatever symlinks, and not to another
    /// one that was made there since.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let [there, here] = [std::fs::metadata(path)?, self.0.metadata()?];
        Ok(Found::from(&there).inode == Found::from(&here).inode)
    }

    /// Makes the directory at `path`, where nothing is yet, with this mode whatever
    /// the umask, and gives it to the user and group `owner`. Those above it have to
    /// be there: a slip in a path would make a chain of them.
    pub fn make(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<Dir> {
        // A slash at the end would have a symlink followed.
        let path: PathBuf = path.components().collect();
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        cerr(unsafe { libc::mkdir(name.as_ptr(), 0o700) })?;
        let mut options = OpenOptions::new();
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = options.read(true).custom_flags(flags).open(&path)?;
        // Who may write above it could have put something else in its place.
        if dir.metadata()?.uid() != effective_uid() {
            return Err(io::Error::other("replaced while being made"));
        }
        if let Some((uid, gid)) = owner {
            fchown(&dir, Some(uid), Some(gid))?;
        }
        dir.set_permissions(Permissions::from_mode(mode))?;
        Ok(Dir(dir))
    }

    /// Whether this process may make and remove files there.
    pub fn is_writable(&self) -> bool {
        let (fd, mode) = (self.0.as_raw_fd(), libc::W_OK | libc::X_OK);
        // SAFETY: the name is a NUL-terminated constant.
        let result = unsafe { libc::faccessat(fd, c".".as_ptr(), mode, libc::AT_EACCESS) };
        cerr(result).is_ok()
    }

    /// openat(2), not following a symlink.
    pub(super) fn open_at(&self, name: &str, flags: libc::c_int, mode: u32) -> io::Result<File> {
        self.open_anything(name, flags | libc::O_NOFOLLOW, mode)
    }

    /// openat(2).
    fn open_anything(&self, name: &str, flags: libc::c_int, mode: u32) -> io::Result<File> {
        let name = c_name(name)?;
        let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY;
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

    /// Opens a file for appending, or makes it. A FIFO that nobody reads is an
    /// error, not waited for, and one that is full later makes nobody wait either.
    ///
    /// Root follows a symlink, and appends to a file that has another name too,
    /// only where nobody else can have put them.
    pub fn append(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NONBLOCK;
        if effective_uid() != 0 || self.is_roots_alone()? {
            return self.open_anything(name, flags, mode);
        }
        let file = match self.open_at(name, flags, mode) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let text = "a symlink in a directory that others may write to";
                return Err(io::Error::other(text));
            }
            result => result?,
        };
        match is_one_file(&file)? {
            true => Ok(file),
            false => Err(io::Error::other("a file that has another name, too")),
        }
    }

    /// Gives the regular file `name`, open as `file`, to a user and group; not one
    /// that lies elsewhere or has other names.
    pub fn give(&self, name: &str, file: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Ok(());
        }
        let here = match self.open_at(name, libc::O_RDONLY | libc::O_NONBLOCK, 0) {
            Ok(here) => here.metadata()?,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(()),
            Err(error) => return Err(error),
        };
        if (here.dev(), here.ino()) == (metadata.dev(), metadata.ino()) {
            fchown(file, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Whether nobody but root can put something there.
    fn is_roots_alone(&self) -> io::Result<bool> {
        let metadata = self.0.metadata()?;
        Ok(metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
    }

    /// Creates a file for writing, in place of one that has the name.
    fn create(&self, name: &str, mode: u32) -> io::Result<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        match self.open_at(name, flags, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_replaceable(name)?;
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

    /// Fails where a name is that of something else than a regular file or a symlink.
    pub fn check_replaceable(&self, name: &str) -> io::Result<()> {
        let found = match self.open_at(name, libc::O_PATH, 0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?.metadata()?.file_type(),
        };
        match found.is_file() || found.is_symlink() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{name} is not a regular file"))),
        }
    }

    /// Renames a file within the directory, over one that has the name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_replaceable(from)?;
        self.check_replaceable(to)?;
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
    use crate::sys::fifo::Fifo;
    use crate::sys::place::Access;
    use crate::sys::scratch::{is_root, Scratch};
    use std::fs;
    use std::io::{Read, Write};

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
    fn only_files_are_replaced() {
        let scratch = Scratch::new("dir-special");
        let dir = Dir::open(scratch.path()).unwrap();
        let access = Access {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        let _fifo = Fifo::create(&scratch.join("fifo"), access).unwrap();
        fs::create_dir(scratch.join("directory")).unwrap();
        fs::write(scratch.join("file"), "text").unwrap();
        let fill = |mut file: &File| file.write_all(b"new");
        for name in ["fifo", "directory"] {
            for error in [
                dir.replace(name, "new", 0o600, fill).unwrap_err(),
                dir.replace("file", name, 0o600, fill).unwrap_err(),
                dir.rename(name, "file").unwrap_err(),
            ] {
                let expected = format!("{name} is not a regular file");
                assert_eq!(error.to_string(), expected);
            }
            assert!(scratch.join(name).exists() && !scratch.join("new").exists());
        }
        assert_eq!(content(&dir, "file"), "text");
        std::os::unix::fs::symlink("file", scratch.join("link")).unwrap();
        dir.replace("link", "new", 0o600, fill).unwrap();
        assert_eq!(content(&dir, "link"), "new", "the symlink itself");
        assert_eq!(content(&dir, "file"), "text");
    }

    #[test]
    fn a_directory_is_made_for_its_owner_and_none_above_it() {
        let scratch = Scratch::new("dir-make");
        let mode = |name: &str| fs::metadata(scratch.join(name)).unwrap().mode() & 0o7777;
        let error = Dir::make(&scratch.join("a/b/"), 0o700, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!scratch.join("a").exists());
        Dir::make(&scratch.join("a"), 0o755, None).unwrap();
        Dir::make(&scratch.join("a/b/"), 0o700, None).unwrap();
        assert_eq!([mode("a"), mode("a/b")], [0o755, 0o700]);
        let error = Dir::make(&scratch.join("a"), 0o700, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink("elsewhere", scratch.join("link")).unwrap();
        for name in ["link", "link/"] {
            assert!(
                Dir::make(&scratch.join(name), 0o700, None).is_err(),
                "{name}"
            );
        }
        assert!(!scratch.join("elsewhere").exists());
        if is_root() {
            Dir::make(&scratch.join("d"), 0o750, Some((12345, 12346))).unwrap();
            let made = fs::metadata(scratch.join("d")).unwrap();
            assert_eq!((made.uid(), made.gid(), mode("d")), (12345, 12346, 0o750));
        }
    }

    #[test]
    fn root_appends_to_nothing_that_others_put_there() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new("dir-append");
        let path = scratch.join("theirs");
        let dir = Dir::make(&path, 0o755, Some((12345, 12345))).unwrap();
        let secret = scratch.join("secret");
        fs::write(&secret, "root's").unwrap();
        std::os::unix::fs::symlink(&secret, path.join("symlink")).unwrap();
        std::os::unix::fs::symlink(scratch.join("new"), path.join("dangling")).unwrap();
        fs::hard_link(&secret, path.join("hardlink")).unwrap();
        for name in ["symlink", "dangling", "hardlink"] {
            assert!(dir.append(name, 0o640).is_err(), "{name}");
        }
        assert!(!scratch.join("new").exists());
        let file = dir.append("log", 0o640).unwrap();
        dir.give("log", &file, (12345, 12345)).unwrap();
        assert_eq!(file.metadata().unwrap().uid(), 12345);
        // Where root alone could put them they are followed, and not given away.
        let path = scratch.join("roots");
        let dir = Dir::make(&path, 0o755, None).unwrap();
        std::os::unix::fs::symlink(&secret, path.join("symlink")).unwrap();
        let file = dir.append("symlink", 0o640).unwrap();
        dir.give("symlink", &file, (12345, 12345)).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
        fs::hard_link(&secret, path.join("hardlink")).unwrap();
        let file = dir.append("hardlink", 0o640).unwrap();
        dir.give("hardlink", &file, (12345, 12345)).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
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
