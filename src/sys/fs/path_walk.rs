//! The way to a directory, walked once.
//!
//! Owns: how a [`Dir`] is opened by its path. Root goes only where
//! [`check`] lets it, and trusts itself and the user that
//! it becomes. A sticky directory of root's (/tmp) may be on the way, but is not to be
//! the [`Dir`] itself.
//!
//! Invariants: as root, each directory is opened in the one before it, from `/` on,
//! and checked by its descriptor; the kernel follows no symlink. One is followed
//! only where root alone can put it. What is done in the [`Dir`] that comes of it is
//! done in the directory that was checked, whatever takes its name meanwhile.
//!
//! An ordinary user cannot be led to give away what is root's: the kernel finds its
//! way.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::cerr;
use crate::sys::fs::dir::{open_in, Dir, Owner};
use crate::sys::fs::lookup::look;
use crate::sys::fs::trust::{check, only_these_can_replace, refused};
use crate::sys::proc::user::effective_uid;

/// Root alone, as trusted users.
const ROOT: [u32; 2] = [0; 2];

/// The most symlinks of one way (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// The longest target of a symlink: PATH_MAX of Linux.
const MAX_TARGET_BYTES: usize = 4096;

/// What the last name of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Directory,
    /// Something in a directory.
    File,
    /// As `File`; a symlink there is followed, too.
    FileOrLink,
}

impl Dir {
    /// Opens the directory at `path`.
    pub(crate) fn open(path: &Path, owner: Owner) -> io::Result<Dir> {
        Ok(walk(path, owner, Last::Directory)?.0)
    }

    /// Opens the directory at `path`, or makes it with this mode for `owner`.
    pub(crate) fn open_or_make(path: &Path, mode: u32, owner: Owner) -> io::Result<Dir> {
        match Dir::open(path, owner) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = Dir::of(path, owner)?;
                match parent.make(&name, mode, owner) {
                    // By another daemon that starts.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Dir::open(path, owner)
                    }
                    made => made,
                }
            }
            result => result,
        }
    }

    /// Opens the directory that a file is in; with the file's name there.
    pub(crate) fn of(path: &Path, owner: Owner) -> io::Result<(Dir, String)> {
        walk(path, owner, Last::File)
    }

    /// As [`Dir::of`], of what `path` leads to where that is a symlink.
    pub(crate) fn of_target(path: &Path, owner: Owner) -> io::Result<(Dir, String)> {
        walk(path, owner, Last::FileOrLink)
    }

    /// Fails unless `path` itself, not a symlink there, is this directory, and it belongs
    /// to this process' user or to root, and only its owner can write to it.
    pub(crate) fn check_private(&self, path: &Path) -> io::Result<()> {
        if look(path)?.map(|found| found.inode) != Some(self.inode()?) {
            return Err(refused(&path.to_string_lossy(), "is a symlink; remove it"));
        }
        let trusted = [0, effective_uid()];
        check(&path.to_string_lossy(), &self.metadata()?, trusted, false)
    }

    /// Finds it, by whatever symlinks. An empty path is that of `/`.
    fn at(path: &str) -> io::Result<Dir> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        Ok(Dir {
            file: open_in(None, &format!("{path}/"), flags, 0)?,
            path: path.to_owned(),
            is_fixed: true,
            trusted: [effective_uid(); 2],
        })
    }

    /// Open for reading, if that is permitted: what has O_PATH can neither be
    /// synchronized nor locked.
    fn readable(mut self) -> io::Result<Dir> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        match open_in(Some(&self), ".", flags, 0) {
            Ok(file) => self.file = file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        Ok(self)
    }
}

/// Opens the directory of a path; what the last name is called there, unless that
/// is the directory itself.
fn walk(path: &Path, owner: Owner, last: Last) -> io::Result<(Dir, String)> {
    let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let trusted = [0, owner.map_or(0, |(uid, _)| uid)];
    let (dir, name) = find(path, trusted, last, MAX_SYMLINKS)?;
    if effective_uid() == 0 && !dir.path.is_empty() {
        check(
            &dir.path,
            &dir.metadata()?,
            trusted,
            last != Last::Directory,
        )?;
    }
    Ok((dir.readable()?, name))
}

/// As [`walk`], by so many symlinks at most; the directory itself is not checked yet.
fn find(path: &str, trusted: [u32; 2], last: Last, symlinks: usize) -> io::Result<(Dir, String)> {
    let path = path.trim_end_matches('/');
    let is_root = effective_uid() == 0;
    let is_directory = last == Last::Directory;
    let (parent, name) = match path.rsplit_once('/') {
        Some(names) if is_root || !is_directory => names,
        _ if is_directory => return Ok((Dir::at(path)?, String::new())),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let (at, _) = find(parent, trusted, Last::Directory, symlinks)?;
    let name = name.to_owned();
    // Symlinks of /proc lead where their text does not.
    let may_follow = is_root && last == Last::FileOrLink && !at.is_proc();
    if !is_directory && !may_follow || name == "." {
        return Ok((at, name));
    }
    let found = match open_in(Some(&at), &name, libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Err(error) if may_follow && error.kind() == io::ErrorKind::NotFound => {
            return Ok((at, name));
        }
        found => found?,
    };
    let metadata = found.metadata()?;
    if metadata.is_symlink() {
        let (target, symlinks) = target(&at, &name, &found, symlinks)?;
        return find(&target, trusted, last, symlinks);
    }
    if may_follow {
        return Ok((at, name));
    }
    if !metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    let path = format!("{}/{name}", at.path);
    check(&path, &metadata, trusted, true)?;
    let dir = Dir {
        is_fixed: at.is_fixed && only_these_can_replace(ROOT, &at.metadata()?, &metadata),
        file: found,
        path,
        trusted,
    };
    Ok((dir, name))
}

/// Where a symlink leads; with how many more there may be.
fn target(at: &Dir, name: &str, symlink: &File, symlinks: usize) -> io::Result<(String, usize)> {
    let metadata = symlink.metadata()?;
    if metadata.uid() != 0 || !only_these_can_replace(ROOT, &at.metadata()?, &metadata) {
        let why = "is a symlink that others can change; remove it";
        return Err(refused(&format!("{}/{name}", at.path), why));
    }
    let symlinks = symlinks.checked_sub(1);
    let symlinks = symlinks.ok_or_else(|| io::Error::from_raw_os_error(libc::ELOOP))?;
    let mut text = vec![0; MAX_TARGET_BYTES];
    let (fd, start, len) = (symlink.as_raw_fd(), text.as_mut_ptr().cast(), text.len());
    // SAFETY: the empty name is a NUL-terminated constant; pointer and length are
    // those of `text`, borrowed for the call.
    let len_bytes = cerr(unsafe { libc::readlinkat(fd, c"".as_ptr(), start, len) })?;
    text.truncate(len_bytes.unsigned_abs());
    let text = String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
    match text.starts_with('/') {
        true => Ok((text, symlinks)),
        false => Ok((format!("{}/{text}", at.path), symlinks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::trust::is_refused;
    use crate::sys::scratch::{is_root, Scratch};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{chown, lchown, symlink, PermissionsExt};

    /// The user that root becomes.
    const USER: u32 = 12345;
    const OTHER: u32 = 12347;

    fn open(path: &Path) -> Result<String, String> {
        match walk(path, Some((USER, USER)), Last::Directory) {
            Ok((dir, _)) => Ok(dir.path),
            Err(error) => Err(error.to_string()),
        }
    }

    fn make(path: &Path, uid: u32, mode: u32) {
        fs::create_dir(path).unwrap();
        chown(path, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_are_roots_or_its_users_and_for_no_other_to_write() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new("way-modes");
        for (uid, mode, way, end) in [
            (0, 0o755, true, true),
            (0, 0o700, true, true),
            (0, 0o1755, true, true),
            (USER, 0o755, true, true),
            (USER, 0o2750, true, true),
            (0, 0o775, false, false),
            (0, 0o757, false, false),
            (USER, 0o770, false, false),
            (USER, 0o1777, false, false),
            (0, 0o1777, true, false),
            (0, 0o1770, true, false),
            (OTHER, 0o755, false, false),
            (OTHER, 0o700, false, false),
            (OTHER, 0o1777, false, false),
        ] {
            let (dir, below) = (scratch.join("d"), scratch.join("d/below"));
            make(&dir, uid, mode);
            fs::create_dir(&below).unwrap();
            for (path, may) in [(&dir, end), (&below, way)] {
                let result = open(path);
                assert_eq!(result.is_ok(), may, "{uid} {mode:o} {path:?}: {result:?}");
                if let Err(text) = result {
                    let why = match uid {
                        OTHER => {
                            "belongs to user 12347 (uid 12347), not to root or 12345; chown it"
                        }
                        _ => &format!("can be changed by others (mode {mode:04o}); chmod go-w it"),
                    };
                    let expected = format!("{} {why} or set another path", dir.display());
                    assert_eq!(text, expected);
                }
            }
            let file = walk(&dir.join("file"), Some((USER, USER)), Last::File);
            assert_eq!(file.is_ok(), way, "{uid} {mode:o}: a file in it");
            fs::remove_dir_all(&dir).unwrap();
        }
        // Without a user to become, root trusts itself alone.
        make(&scratch.join("d"), USER, 0o755);
        let error = walk(&scratch.join("d"), None, Last::Directory).unwrap_err();
        assert!(is_refused(&error), "{error}");
        assert!(
            error.to_string().contains("not to root; chown it"),
            "{error}"
        );
    }

    #[test]
    fn symlinks_are_followed_where_root_alone_can_put_them() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new("way-links");
        let target = scratch.join("target");
        make(&target, USER, 0o755);
        for (uid, mode, link_uid, may) in [
            (0, 0o755, 0, true),
            (0, 0o1777, 0, true),
            (0, 0o755, USER, false),
            (0, 0o1777, USER, false),
            (0, 0o1777, OTHER, false),
            (USER, 0o755, 0, false),
            (USER, 0o755, USER, false),
        ] {
            let dir = scratch.join("d");
            make(&dir, uid, mode);
            for (name, to) in [
                ("absolute", target.as_path()),
                ("relative", Path::new("../target")),
                ("again", Path::new("./relative")),
            ] {
                let link = dir.join(name);
                symlink(to, &link).unwrap();
                lchown(&link, Some(link_uid), None).unwrap();
                let result = open(&link);
                match may {
                    true => assert!(result.unwrap().ends_with("/target")),
                    false => {
                        let text = result.unwrap_err();
                        assert!(
                            text.contains("is a symlink that others can change; remove it or set"),
                            "{text}"
                        );
                    }
                }
            }
            let file = walk(&dir.join("absolute"), Some((USER, USER)), Last::File);
            let (dir, name) = file.unwrap();
            assert!(
                dir.path.ends_with("d") && name == "absolute",
                "not followed"
            );
            fs::remove_dir_all(scratch.join("d")).unwrap();
        }
        symlink("loop", scratch.join("loop")).unwrap();
        let error = walk(&scratch.join("loop"), None, Last::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        fs::write(scratch.join("file"), "").unwrap();
        let error = walk(&scratch.join("file/x"), None, Last::Directory).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn a_way_that_others_can_swap_is_known() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new("way-fixed");
        make(&scratch.join("theirs"), USER, 0o755);
        fs::create_dir(scratch.join("theirs/roots")).unwrap();
        for (path, is_fixed) in [
            ("", true),
            ("theirs", true),
            ("theirs/roots", false),
            ("theirs/../theirs", false),
        ] {
            let (dir, _) = walk(&scratch.join(path), Some((USER, USER)), Last::Directory).unwrap();
            assert_eq!(dir.is_fixed, is_fixed, "{path}");
        }
    }

    #[test]
    fn of_many_that_make_it_at_once_each_has_it() {
        let scratch = Scratch::new("walk-many");
        for round in 0..100 {
            let path = scratch.join(&round.to_string());
            let made = std::thread::scope(|scope| {
                let make = || Dir::open_or_make(&path, 0o755, None).map(drop);
                let makers = [(); 4].map(|()| scope.spawn(make));
                makers.map(|maker| maker.join().unwrap())
            });
            assert!(made.iter().all(Result::is_ok), "round {round}: {made:?}");
        }
    }
}
