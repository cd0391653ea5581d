//! A directory that was opened, and files in it by name.
//!
//! Owns: the descriptor of a directory, opened by [`crate::sys::fs::path_walk`]. What is done
//! through it is done in the directory that was found, whatever takes its name
//! meanwhile, and works when the path to it is out of reach, as it is from inside a
//! chroot.
//!
//! Invariants: names are of files in the directory itself; root follows no symlink
//! there. What is neither a regular file nor a symlink, a FIFO or a device, is
//! neither renamed nor replaced. So root can work in a directory of the service's
//! user. [`Dir::replace`] shows either the old content or the new, never a part, even
//! if the system crashes in the middle.
//!
//! Must not: leave a temporary file behind when writing failed.

use std::ffi::CString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::{fchown, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::sys::cerr;
use crate::sys::fs::lookup::{FileKind, Found, Inode};
use crate::sys::proc::user::effective_uid;

/// The user and group that a daemon of root's becomes; none: it is another user's.
pub(crate) type Owner = Option<(u32, u32)>;

#[derive(Debug)]
pub(crate) struct Dir {
    /// Open for reading, else O_PATH.
    pub(super) file: File,
    /// Where it was found, without the slash behind.
    pub(super) path: String,
    /// Root alone can put another in its place.
    pub(super) is_fixed: bool,
    /// Whose files are trusted in it.
    pub(super) trusted: [u32; 2],
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// openat(2).
pub(super) fn open_in(
    dir: Option<&Dir>,
    path: &str,
    flags: libc::c_int,
    mode: u32,
) -> io::Result<File> {
    let path = CString::new(path)?;
    let fd = dir.map_or(libc::AT_FDCWD, |dir| dir.file.as_raw_fd());
    let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    let file = cerr(unsafe { libc::openat(fd, path.as_ptr(), flags, mode as libc::c_uint) })?;
    // SAFETY: the descriptor is new and owned by nothing else.
    Ok(unsafe { File::from_raw_fd(file) })
}

/// A name in a directory, as libc takes it.
pub(super) fn c_name(name: &str) -> io::Result<CString> {
    match name {
        "" | "." | ".." => Err(io::ErrorKind::InvalidInput.into()),
        name if name.contains('/') => Err(io::ErrorKind::InvalidInput.into()),
        name => Ok(CString::new(name)?),
    }
}

/// Opens a regular file for reading, by whatever symlinks. A FIFO or a device is an
/// error, and neither waited for nor opened: to open some devices does something.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
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

impl Dir {
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Whether it is one of those where the kernel shows processes.
    pub(super) fn is_proc(&self) -> bool {
        self.path.starts_with("/proc/")
    }

    /// A path to something in it, for calls that take no descriptor.
    pub(super) fn path_to(&self, name: &str, max_bytes: usize) -> PathBuf {
        let path = format!("{}/{name}", self.path);
        match self.is_fixed && path.len() <= max_bytes {
            true => path.into(),
            false => format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd()).into(),
        }
    }

    /// Whether `path` leads to this directory, by whatever symlinks, and not to another
    /// one that was made there since.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(Found::from(&std::fs::metadata(path)?).inode == self.inode()?)
    }

    pub(super) fn inode(&self) -> io::Result<Inode> {
        Ok(Found::from(&self.metadata()?).inode)
    }

    /// Makes the directory `name`, where nothing is yet, with this mode whatever
    /// the umask, and gives it to the user and group `owner`. Those above it have to
    /// be there: a slip in a path would make a chain of them.
    pub(crate) fn make(&self, name: &str, mode: u32, owner: Owner) -> io::Result<Dir> {
        const MADE_MODE: u32 = 0o700;
        let c_name = c_name(name)?;
        let fd = self.file.as_raw_fd();
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        cerr(unsafe { libc::mkdirat(fd, c_name.as_ptr(), MADE_MODE as libc::mode_t) })?;
        let file = self.open_at(name, libc::O_DIRECTORY, 0)?;
        let made = file.metadata()?;
        // A user who may write above it could have put something else in its place.
        if made.uid() != effective_uid() || made.mode() & 0o777 & !MADE_MODE != 0 {
            return Err(io::Error::other("replaced while being made"));
        }
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(Dir {
            file,
            path: format!("{}/{name}", self.path),
            is_fixed: false,
            trusted: self.trusted,
        })
    }

    /// Whether this process may make and remove files there.
    pub(crate) fn is_writable(&self) -> bool {
        let (fd, mode) = (self.file.as_raw_fd(), libc::W_OK | libc::X_OK);
        // SAFETY: the name is a NUL-terminated constant.
        let result = unsafe { libc::faccessat(fd, c".".as_ptr(), mode, libc::AT_EACCESS) };
        cerr(result).is_ok()
    }

    /// openat(2), not following a symlink.
    pub(crate) fn open_at(&self, name: &str, flags: libc::c_int, mode: u32) -> io::Result<File> {
        self.open_anything(name, flags | libc::O_NOFOLLOW, mode)
    }

    /// openat(2); not inlined, as it has many callers.
    #[inline(never)]
    fn open_anything(&self, name: &str, flags: libc::c_int, mode: u32) -> io::Result<File> {
        c_name(name)?;
        open_in(Some(self), name, flags, mode)
    }

    /// What has a name there, if anything does.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Found>> {
        match self.open_at(name, libc::O_PATH, 0) {
            Ok(file) => Ok(Some(Found::from(&file.metadata()?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file for reading. One that is no regular file is an error, not
    /// waited for.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        let file = self.open_at(name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Opens a file for appending, or makes it, and returns whether it was made. A FIFO
    /// without a reader is an error, not waited for, and writing to one that is full later
    /// does not wait either.
    ///
    /// Root follows no symlink, and where others can put files it appends neither to
    /// one of a third user's nor to one that has another name.
    pub(crate) fn append(&self, name: &str, mode: u32) -> io::Result<(File, bool)> {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK;
        let follows = effective_uid() != 0 || self.is_proc();
        match self.open_at(name, flags | libc::O_CREAT | libc::O_EXCL, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return Ok((result?, true)),
        }
        if follows {
            let file = self.open_anything(name, flags | libc::O_CREAT, mode)?;
            return Ok((file, false));
        }
        let file = self.open_at(name, flags, 0)?;
        let (dir, metadata) = (self.metadata()?, file.metadata()?);
        if dir.uid() == 0 && dir.mode() & 0o022 == 0 {
            return Ok((file, false));
        }
        let text = match metadata.is_file() && metadata.nlink() != 1 {
            true => "a file that has another name, too",
            false if !self.trusted.contains(&metadata.uid()) => "another user's file",
            false => return Ok((file, false)),
        };
        Err(io::Error::other(text))
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
    pub(crate) fn replace(
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
        let _ = self.file.sync_all();
        Ok(file)
    }

    /// Fails where a name is that of something else than a regular file or a symlink.
    pub(crate) fn check_replaceable(&self, name: &str) -> io::Result<()> {
        match self.look(name)?.map(|found| found.kind) {
            None | Some(FileKind::File | FileKind::Symlink) => Ok(()),
            Some(_) => Err(io::Error::other(format!("{name} is not a regular file"))),
        }
    }

    /// Renames a file within the directory, over one that has the name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_replaceable(from)?;
        self.check_replaceable(to)?;
        let (from, to) = (c_name(from)?, c_name(to)?);
        let fd = self.file.as_raw_fd();
        // SAFETY: the names are NUL-terminated strings that outlive the call.
        cerr(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) })?;
        Ok(())
    }

    /// Gives a file another name, which nothing has yet.
    pub(super) fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (c_name(from)?, c_name(to)?);
        let fd = self.file.as_raw_fd();
        // SAFETY: the names are NUL-terminated strings that outlive the call.
        cerr(unsafe { libc::linkat(fd, from.as_ptr(), fd, to.as_ptr(), 0) })?;
        Ok(())
    }

    /// Removes a file if it is the one of `inode`; false when it is gone or another is
    /// there, which stays.
    pub(super) fn remove_inode(&self, name: &str, inode: Inode) -> io::Result<bool> {
        let is_there = self.look(name)?.is_some_and(|found| found.inode == inode);
        if is_there {
            self.remove(name)?;
        }
        Ok(is_there)
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let name = c_name(name)?;
        // SAFETY: the name is a NUL-terminated string that outlives the call.
        cerr(unsafe { libc::unlinkat(self.file.as_raw_fd(), name.as_ptr(), 0) })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::{is_root, Scratch};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::{chown, symlink};

    fn content(dir: &Dir, name: &str) -> String {
        let mut text = String::new();
        dir.read(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_are_replaced_as_a_whole_or_not_at_all() {
        let scratch = Scratch::new("dir-replace");
        let dir = Dir::open(scratch.path(), None).unwrap();
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
        let dir = Dir::open(scratch.path(), None).unwrap();
        let access = Access {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        let _fifo = Fifo::create(&scratch.join("fifo"), None, access).unwrap();
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
        symlink("file", scratch.join("link")).unwrap();
        dir.replace("link", "new", 0o600, fill).unwrap();
        assert_eq!(content(&dir, "link"), "new", "the symlink itself");
        assert_eq!(content(&dir, "file"), "text");
    }

    #[test]
    fn a_directory_is_made_for_its_owner_and_none_above_it() {
        let scratch = Scratch::new("dir-make");
        let mode = |name: &str| fs::metadata(scratch.join(name)).unwrap().mode() & 0o7777;
        let make = |name: &str, mode| Dir::open_or_make(&scratch.join(name), mode, None);
        let error = make("a/b/", 0o700).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!scratch.join("a").exists());
        make("a", 0o755).unwrap();
        make("a/b/", 0o700).unwrap();
        assert_eq!([mode("a"), mode("a/b")], [0o755, 0o700]);
        make("a", 0o700).unwrap();
        assert_eq!(mode("a"), 0o755, "opened");
        let dir = Dir::open(scratch.path(), None).unwrap();
        let error = dir.make("a", 0o700, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        symlink("elsewhere", scratch.join("link")).unwrap();
        for name in ["link", "link/"] {
            assert!(make(name, 0o700).is_err(), "{name}");
        }
        assert!(!scratch.join("elsewhere").exists());
        if is_root() {
            let owner = Some((12345, 12346));
            Dir::open_or_make(&scratch.join("d"), 0o750, owner).unwrap();
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
        let owner = Some((12345, 12345));
        Dir::open_or_make(&path, 0o755, owner).unwrap();
        let dir = Dir::open(&path, owner).unwrap();
        let secret = scratch.join("secret");
        fs::write(&secret, "root's").unwrap();
        symlink(&secret, path.join("symlink")).unwrap();
        symlink(scratch.join("new"), path.join("dangling")).unwrap();
        fs::hard_link(&secret, path.join("hardlink")).unwrap();
        fs::write(path.join("third"), "").unwrap();
        chown(path.join("third"), Some(12347), None).unwrap();
        for name in ["symlink", "dangling", "hardlink", "third"] {
            assert!(dir.append(name, 0o640).is_err(), "{name}");
        }
        assert!(!scratch.join("new").exists());
        let (_, is_new) = dir.append("log", 0o640).unwrap();
        assert!(is_new);
        let (_, is_new) = dir.append("log", 0o640).unwrap();
        assert!(!is_new);
        // Where root alone could put them, but not through a symlink.
        let roots = scratch.join("roots");
        let dir = Dir::open_or_make(&roots, 0o755, None).unwrap();
        fs::write(roots.join("third"), "").unwrap();
        chown(roots.join("third"), Some(12347), None).unwrap();
        fs::hard_link(&secret, roots.join("hardlink")).unwrap();
        symlink(&secret, roots.join("symlink")).unwrap();
        for (name, may) in [("third", true), ("hardlink", true), ("symlink", false)] {
            assert_eq!(dir.append(name, 0o640).is_ok(), may, "{name}");
        }
        // That is followed where the directory is opened by its path.
        let (dir, name) = Dir::of_target(&roots.join("symlink"), None).unwrap();
        assert_eq!((Path::new(&dir.path), &*name), (scratch.path(), "secret"));
    }

    #[test]
    fn a_path_to_something_is_one_that_leads_there() {
        let scratch = Scratch::new("dir-path");
        fs::write(scratch.join("file"), "").unwrap();
        let mut dir = Dir::open(scratch.path(), None).unwrap();
        let path = scratch.join("file");
        let len = path.as_os_str().len();
        assert_eq!(dir.path_to("file", len), path);
        for is_fixed in [true, false] {
            dir.is_fixed = is_fixed;
            let other = dir.path_to("file", len - 1);
            assert!(other.starts_with("/proc/self/fd"), "{other:?}");
            assert!(fs::metadata(other).unwrap().is_file());
        }
    }

    #[test]
    fn only_regular_files_of_its_own_are_read() {
        let scratch = Scratch::new("dir-read");
        let dir = Dir::open(scratch.path(), None).unwrap();
        fs::write(scratch.join("file"), "text").unwrap();
        fs::create_dir(scratch.join("directory")).unwrap();
        symlink("file", scratch.join("link")).unwrap();
        assert_eq!(content(&dir, "file"), "text");
        for name in ["directory", "link", "missing", "..", ".", "", "a/b", "a\0b"] {
            assert!(dir.read(name).is_err(), "{name:?}");
        }
    }
}
