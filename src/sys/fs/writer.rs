//! The write end of a FIFO that another process reads.
//!
//! Invariants: nothing but a FIFO is ever opened, whatever is put in its place
//! meanwhile; opening never waits.

use crate::sys::cerr;
use crate::sys::fs::lookup::c_path;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens the FIFO at `path`, or where a symlink there leads, for writing.
///
/// # Errors
/// `InvalidInput` for what is no FIFO, ENXIO for one that no process reads.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let found = look(path)?;
    check(&found)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let open = |path: &Path, flags| File::options().write(true).custom_flags(flags).open(path);
    let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
    match open(itself.as_ref(), flags) {
        // Without /proc it is opened by its name, and must be no symlink.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = open(path, flags | libc::O_NOFOLLOW)?;
            check(&file)?;
            Ok(file)
        }
        result => result,
    }
}

/// What lies at a path, open for nothing but looking at it.
fn look(path: &Path) -> io::Result<File> {
    let path = c_path(path)?;
    // With musl, std's own open leaves O_PATH out.
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    let fd = cerr(unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the descriptor is new and owned by nothing else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// An error for what is no FIFO.
fn check(file: &File) -> io::Result<()> {
    match file.metadata()?.file_type().is_fifo() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::created::Access;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::scratch::Scratch;
    use std::fs;
    use std::os::unix::fs::{symlink, MetadataExt};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn fifo(path: &Path) -> Fifo {
        let access = Access {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        Fifo::create(path, None, access).unwrap()
    }

    #[test]
    fn only_a_fifo_is_opened() {
        let dir = Scratch::new("writer-kinds");
        let path = dir.join("fifo");
        let read = fifo(&path);
        symlink("fifo", dir.join("link")).unwrap();
        for name in ["fifo", "link"] {
            assert!(open(&dir.join(name)).is_ok(), "{name}");
        }
        drop(read);
        assert_eq!(open(&path).unwrap_err().raw_os_error(), Some(libc::ENXIO));
        fs::write(dir.join("file"), "content").unwrap();
        symlink("file", dir.join("to-file")).unwrap();
        symlink("/dev/ptmx", dir.join("device")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        for name in ["file", "to-file", "device", "socket", "."] {
            let error = open(&dir.join(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"content");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_put_in_its_place_is_not_opened() {
        let dir = Scratch::new("writer-swapped");
        let _read = fifo(&dir.join("fifo"));
        fs::write(dir.join("file"), "content").unwrap();
        // A lease on a file ends when it is opened for writing.
        let file = File::open(dir.join("file")).unwrap();
        // SAFETY: no pointers; what the lease would send is ignored.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        // SAFETY: no pointers; the descriptor is owned by `file`.
        let lease = || cerr(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) });
        // SAFETY: likewise.
        let begun = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        cerr(begun).unwrap();
        let path = dir.join("here");
        let (fifo, is_over) = (
            fs::metadata(dir.join("fifo")).unwrap().ino(),
            AtomicBool::new(false),
        );
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let new = dir.join("new");
                while !is_over.load(Ordering::Relaxed) {
                    for target in ["fifo", "file", "fifo", "/dev/null"] {
                        symlink(target, &new).unwrap();
                        fs::rename(&new, &path).unwrap();
                    }
                }
            });
            let mut opened = 0;
            for _ in 0..20_000 {
                if let Ok(file) = open(&path) {
                    assert_eq!(file.metadata().unwrap().ino(), fifo);
                    opened += 1;
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(opened > 0);
        });
        assert_eq!(lease().unwrap(), libc::F_RDLCK, "the file was opened");
    }
}
