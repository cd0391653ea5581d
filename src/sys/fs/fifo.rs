//! A FIFO that is read and never at its end.
//!
//! Owns: the read end, a write end of its own, and the path of the FIFO. The
//! write end is never written to; as long as it is open, the last writer
//! leaving is no end of file, and poll(2) does not report a hangup for ever. Only a
//! FIFO that another has replaced is read to its end ([`Fifo::close_writer`]).
//!
//! Invariants: both ends are nonblocking and belong to the very inode at the
//! path when it was created; its mode and owner are as configured. The pipe is
//! as large as the system lets it be, because every writer that finds it full
//! loses a record or blocks a mail process.
//!
//! Must not: interpret bytes. A FIFO that is reused may still contain what its
//! writers wrote for a reader that died: its first line can be a part of one.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{fchown, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::sys::cerr;
use crate::sys::fs::created::{check_takeover, Access, CreateError, CreatedFile};
use crate::sys::fs::dir::{c_name, Dir, Owner};
use crate::sys::fs::lookup::{FileKind, Found};

/// A FIFO of ours, open for reading.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// What records are read from.
    reader: File,
    /// Keeps the FIFO from being at its end; see above. None where the reader
    /// can write as well, or the end is wanted.
    writer: Option<File>,
    /// Where it lies, for its removal; none where that is another's business.
    file: Option<CreatedFile>,
}

impl Fifo {
    /// Creates the FIFO at `path`, or takes over one of ours with its inode, so that
    /// writers which have it open go on. Whether it has a reader does not matter: that
    /// may be any process of a user whom its mode lets read.
    pub(crate) fn create(path: &Path, owner: Owner, access: Access) -> Result<Fifo, CreateError> {
        let during = || CreateError::during("create FIFO");
        let (dir, name) = Dir::of(path, owner).map_err(during())?;
        let is_new = match make_fifo(&dir, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            made => {
                made.map_err(during())?;
                true
            }
        };
        let found = dir
            .look(&name)
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(CreateError::during("look at FIFO"))?;
        check_takeover(&found, FileKind::Fifo, access, || Ok(false))?;
        let fifo = match Fifo::open(&dir, &name, found) {
            Err(CreateError::Io { error, .. })
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                let_owner_in(&dir, &name, access.mode).map_err(CreateError::during("open FIFO"))?;
                Fifo::open(&dir, &name, found)
            }
            result => result,
        };
        let fifo = fifo.and_then(|mut fifo| {
            fifo.mend(access)?;
            let (path, inode) = (path.to_owned(), found.inode);
            fifo.file = Some(CreatedFile { path, owner, inode });
            Ok(fifo)
        });
        if fifo.is_err() && is_new {
            let _ = dir.remove_inode(&name, found.inode);
        }
        fifo
    }

    /// Opens both ends of what was found.
    fn open(dir: &Dir, name: &str, found: Found) -> Result<Fifo, CreateError> {
        // The reader first: without one, a writer cannot be opened.
        let reader = open_end(dir, name, libc::O_RDONLY, found)?;
        let writer = open_end(dir, name, libc::O_WRONLY, found)?;
        enlarge(reader.as_fd());
        Ok(Fifo {
            reader,
            writer: Some(writer),
            file: None,
        })
    }

    /// Takes over one that another process opened, keeps and removes.
    pub(crate) fn adopt(file: File) -> io::Result<Fifo> {
        // SAFETY: no pointers; the descriptor is owned by `file`.
        let flags = cerr(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = File::options();
        options.custom_flags(libc::O_NONBLOCK);
        let (reader, writer) = match flags & libc::O_ACCMODE {
            // Its end can be found where there is a reader that cannot write.
            libc::O_RDWR => match options.read(true).open(path) {
                Ok(reader) => (reader, Some(file)),
                Err(_) => (file, None),
            },
            libc::O_RDONLY => (file, Some(options.write(true).open(path)?)),
            _ => return Err(io::Error::other("a FIFO that is open for writing only")),
        };
        let flags = flags | libc::O_NONBLOCK;
        // SAFETY: no pointers; the descriptor is owned by `reader`.
        cerr(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, flags) })?;
        enlarge(reader.as_fd());
        Ok(Fifo {
            reader,
            writer,
            file: None,
        })
    }

    /// Sets owner and mode, in this order: a change of owner may drop bits of
    /// the mode.
    ///
    /// One that has another name may be there for another purpose: a user who may write
    /// in the directory could have root give it away.
    fn mend(&self, access: Access) -> Result<(), CreateError> {
        let found = self.reader.metadata();
        let found = found.map_err(CreateError::during("look at FIFO"))?;
        if found.nlink() != 1 {
            let error = io::Error::other("it has another name, too");
            return Err(CreateError::during("take over FIFO")(error));
        }
        if access.changes_owner(&found) {
            fchown(&self.reader, access.uid, access.gid)
                .map_err(CreateError::during("set owner"))?;
        }
        self.reader
            .set_permissions(Permissions::from_mode(access.mode))
            .map_err(CreateError::during("set mode"))
    }

    /// Has [`Fifo::read`] come to the end of the file once no other process can write;
    /// false where it cannot, as the reader can write itself.
    pub(crate) fn close_writer(&mut self) -> bool {
        self.writer.take().is_some()
    }

    /// One whose writer was closed by the process that passed it.
    pub(crate) fn ending(reader: File) -> Fifo {
        Fifo {
            reader,
            writer: None,
            file: None,
        }
    }

    /// Reads what is there; `WouldBlock` when nothing is. No end of file unless
    /// [`Fifo::close_writer`] was called.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.reader).read(buffer)
    }

    /// How much fits into the pipe before writers block, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn capacity_bytes(&self) -> usize {
        // SAFETY: no pointers; the descriptor is owned by `reader`.
        let size = cerr(unsafe { libc::fcntl(self.reader.as_raw_fd(), libc::F_GETPIPE_SZ) });
        size.unwrap_or_default() as usize
    }

    /// What pipes of other systems grow to.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn capacity_bytes(&self) -> usize {
        16384
    }

    /// Where it lies, for its removal on a clean shutdown; none for one that was
    /// passed to us.
    pub(crate) fn file(&self) -> Option<&CreatedFile> {
        self.file.as_ref()
    }
}

impl AsFd for Fifo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// mkfifo(3), usable by its owner only for now.
fn make_fifo(dir: &Dir, name: &str) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    cerr(unsafe { libc::mkfifoat(dir.as_fd().as_raw_fd(), name.as_ptr(), 0o600) })?;
    Ok(())
}

/// Whether a process has the FIFO open for reading, as far as opening it for writing
/// shows: that fails without a reader.
pub(crate) fn is_read(dir: &Dir, name: &str) -> bool {
    let flags = libc::O_WRONLY | libc::O_NONBLOCK;
    dir.open_at(name, flags, 0).is_ok()
}

/// Lets the owner of a FIFO open both ends, for now: its mode may be for
/// writers alone, and we may have no right but the owner's. Others get none but those
/// of `mode`, which it is to have.
#[cold]
fn let_owner_in(dir: &Dir, name: &str, mode: u32) -> io::Result<()> {
    let name = c_name(name)?;
    let (mode, flags) = ((mode | 0o600) as libc::mode_t, libc::AT_SYMLINK_NOFOLLOW);
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    cerr(unsafe { libc::fchmodat(fd, name.as_ptr(), mode, flags) })?;
    Ok(())
}

/// Opens one end and makes sure that it is the FIFO that was found.
fn open_end(dir: &Dir, name: &str, flags: i32, found: Found) -> Result<File, CreateError> {
    let during = || CreateError::during("open FIFO");
    let end = dir.open_at(name, flags | libc::O_NONBLOCK, 0);
    let end = end.map_err(during())?;
    let opened = Found::from(&end.metadata().map_err(during())?);
    if opened != found {
        return Err(during()(io::Error::other("replaced while being opened")));
    }
    Ok(end)
}

/// Makes a pipe as large as an ordinary user may, never smaller.
#[cfg(target_os = "linux")]
fn enlarge(pipe: BorrowedFd<'_>) {
    // The kernel's own default, pipe(7), for when /proc is not there.
    const DEFAULT_MAX_BYTES: libc::c_int = 1 << 20;
    let mut wanted_bytes = fs::read_to_string("/proc/sys/fs/pipe-max-size")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MAX_BYTES);
    let fd = pipe.as_raw_fd();
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    let had_bytes = cerr(unsafe { libc::fcntl(fd, libc::F_GETPIPE_SZ) });
    // Refused where the system's or the user's share of pipes is used up.
    while had_bytes.as_ref().is_ok_and(|&had| wanted_bytes > had) {
        // SAFETY: no pointers; the descriptor is borrowed for the call.
        if cerr(unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, wanted_bytes) }).is_ok() {
            return;
        }
        wanted_bytes /= 2;
    }
}

/// Pipes of other systems grow by themselves.
#[cfg(not(target_os = "linux"))]
fn enlarge(_pipe: BorrowedFd<'_>) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::lookup::look;
    use crate::sys::proc::process::set_umask;
    use crate::sys::proc::user::{drop_privileges, User};
    use crate::sys::scratch::{alone, is_root, Scratch};
    use std::io::Write;

    const PRIVATE: Access = Access {
        mode: 0o600,
        uid: None,
        gid: None,
    };

    fn open_writer(path: &Path) -> io::Result<File> {
        File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    }

    fn mkfifo(path: &Path) -> io::Result<()> {
        let (dir, name) = Dir::of(path, None)?;
        make_fifo(&dir, &name)
    }

    fn is_fifo_read(path: &Path) -> bool {
        let (dir, name) = Dir::of(path, None).unwrap();
        is_read(&dir, &name)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_last_writer_leaving_is_no_end() {
        let dir = Scratch::new("fifo-end");
        let path = dir.join("fifo");
        let fifo = Fifo::create(&path, None, PRIVATE).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(
            fifo.read(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let mut writer = open_writer(&path).unwrap();
        writer.write_all(b"line\n").unwrap();
        drop(writer);
        assert_eq!(fifo.read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"line\n");
        assert_eq!(
            fifo.read(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(fifo.file().unwrap().remove().unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn one_that_was_passed_is_read_and_left_to_its_owner() {
        let dir = Scratch::new("fifo-passed");
        let path = dir.join("fifo");
        mkfifo(&path).unwrap();
        for for_writing in [true, false] {
            let mut options = File::options();
            options.read(true).write(for_writing);
            options.custom_flags(libc::O_NONBLOCK);
            let fifo = Fifo::adopt(options.open(&path).unwrap()).unwrap();
            let mut writer = open_writer(&path).unwrap();
            writer.write_all(b"line\n").unwrap();
            drop(writer);
            let mut buffer = [0; 16];
            assert_eq!(fifo.read(&mut buffer).unwrap(), 5);
            let error = fifo.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "not at its end");
            assert!(fifo.file().is_none());
        }
        let _reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        assert!(Fifo::adopt(open_writer(&path).unwrap()).is_err());
    }

    #[test]
    fn one_with_another_name_is_not_taken_over() {
        let dir = Scratch::new("fifo-names");
        let (path, other) = (dir.join("fifo"), dir.join("other"));
        mkfifo(&other).unwrap();
        fs::hard_link(&other, &path).unwrap();
        let access = Access {
            mode: 0o666,
            ..PRIVATE
        };
        let error = Fifo::create(&path, None, access).unwrap_err();
        assert!(error.to_string().contains("another name"), "{error}");
        assert_eq!(mode(&other), 0o600);
        fs::remove_file(&other).unwrap();
        Fifo::create(&path, None, access).unwrap();
        assert_eq!(mode(&path), 0o666);
    }

    #[test]
    fn one_that_is_there_is_reused_whatever_process_has_it_open() {
        let dir = Scratch::new("fifo-alive");
        let path = dir.join("fifo");
        assert!(!is_fifo_read(&path));
        let first = Fifo::create(&path, None, PRIVATE).unwrap();
        assert!(is_fifo_read(&path));
        let inode = first.file().unwrap().inode;
        let writer = open_writer(&path).unwrap();
        for first in [Some(first), None] {
            let access = Access {
                mode: 0o620,
                ..PRIVATE
            };
            let second = Fifo::create(&path, None, access).unwrap();
            assert_eq!(second.file().unwrap().inode, inode);
            assert_eq!(mode(&path), 0o620);
            (&writer).write_all(b"x").unwrap();
            assert_eq!(second.read(&mut [0; 2]).unwrap(), 1);
            drop((first, second));
            assert!(!is_fifo_read(&path));
        }
    }

    #[test]
    fn one_for_writers_alone_is_taken_over_by_its_owner() {
        if !is_root() {
            return;
        }
        let name = "one_for_writers_alone_is_taken_over_by_its_owner";
        alone(module_path!(), name, || {
            let dir = Scratch::new("fifo-writers");
            let path = dir.join("fifo");
            std::os::unix::fs::chown(dir.path(), Some(12345), Some(12345)).unwrap();
            let user = User {
                name: None,
                uid: 12345,
                gid: None,
            };
            drop_privileges(&user, 12345, None).unwrap();
            let mut inode = None;
            for before in [0o200, 0o220, 0o020, 0, 0o422] {
                for after in [0o200, 0o220] {
                    let access = Access {
                        mode: after,
                        ..PRIVATE
                    };
                    let fifo = Fifo::create(&path, None, access).unwrap();
                    assert_eq!(mode(&path), after, "after {before:o}");
                    let reused = inode.replace(fifo.file().unwrap().inode);
                    assert!(reused.is_none_or(|reused| inode == Some(reused)));
                    let denied = File::options().read(true).open(&path).unwrap_err();
                    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
                    open_writer(&path).unwrap().write_all(b"x").unwrap();
                    assert_eq!(fifo.read(&mut [0; 2]).unwrap(), 1);
                    drop(fifo);
                    fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
                }
            }
        });
    }

    #[test]
    fn what_else_lies_there_stays() {
        let dir = Scratch::new("fifo-others");
        let other = dir.join("other");
        mkfifo(&other).unwrap();
        fs::write(dir.join("file"), "content").unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
        std::os::unix::fs::symlink(&other, dir.join("link")).unwrap();
        std::os::unix::fs::symlink("missing", dir.join("dangling")).unwrap();
        for (name, kind) in [
            ("file", FileKind::File),
            ("directory", FileKind::Directory),
            ("link", FileKind::Symlink),
            ("dangling", FileKind::Symlink),
        ] {
            match Fifo::create(&dir.join(name), None, PRIVATE) {
                Err(CreateError::WrongKind(found)) => assert_eq!(found, kind),
                result => panic!("{name}: {result:?}"),
            }
            assert_eq!(look(&dir.join(name)).unwrap().unwrap().kind, kind);
        }
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"content");
        assert!(!dir.join("missing").exists());
        assert!(matches!(
            Fifo::create(&dir.join("nowhere/fifo"), None, PRIVATE),
            Err(CreateError::Io {
                step: "create FIFO",
                ..
            })
        ));
    }

    #[test]
    fn owners_are_set_kept_and_told_apart() {
        if !is_root() {
            return;
        }
        let dir = Scratch::new("fifo-owner");
        let path = dir.join("fifo");
        let access = Access {
            mode: 0o660,
            uid: Some(12345),
            gid: Some(12346),
        };
        drop(Fifo::create(&path, None, access).unwrap());
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346));
        assert!(matches!(
            Fifo::create(&path, None, PRIVATE),
            Err(CreateError::Foreign {
                kind: FileKind::Fifo,
                uid: 12345
            })
        ));
        assert_eq!(mode(&path), 0o660);
        drop(Fifo::create(&path, None, access).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_pipe_is_enlarged() {
        let dir = Scratch::new("fifo-size");
        let fifo = Fifo::create(&dir.join("fifo"), None, PRIVATE).unwrap();
        let max = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap();
        if is_root() {
            assert_eq!(fifo.capacity_bytes(), max.trim().parse().unwrap());
        }
    }

    #[test]
    fn modes_are_exact() {
        alone(module_path!(), "modes_are_exact", || {
            let dir = Scratch::new("fifo-mode");
            for umask in [0, 0o022, 0o077] {
                set_umask(umask);
                for wanted in [0o600, 0o622, 0o666, 0o222, 0o200, 0o220] {
                    let fifo = Fifo::create(
                        &dir.join("fifo"),
                        None,
                        Access {
                            mode: wanted,
                            ..PRIVATE
                        },
                    )
                    .unwrap();
                    assert_eq!(mode(&dir.join("fifo")), wanted, "umask {umask:o}");
                    fifo.file().unwrap().remove().unwrap();
                }
            }
        });
    }
}
