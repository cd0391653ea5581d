//! The write end of a FIFO that another process reads.
//!
//! Invariants: nothing but a FIFO is ever opened, whatever is put in its place
//! meanwhile; opening never waits.

use super::cerr;
use super::place::c_path;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens the FIFO at `path`, or where a symlink there leads, for writing.
///
/// # Errors
/// `InvalidInput` for what is no FIFO, ENXIO for one that no process reads.
pub fn open(path: &Path) -> io::Result<File> {
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
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// An error for what is no FIFO.
fn check(file: &File) -> io::Result<()> {
    match file.metadata()?.file_type().is_fifo() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO")),
    }
}
