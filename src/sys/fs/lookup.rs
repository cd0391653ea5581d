//! What lies at a path: kind, inode and owner.
//!
//! Invariants: nothing follows a symlink in the last component of a path.
//!
//! Must not: open what it finds.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The kinds of things that lie at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Fifo,
    Socket,
    Directory,
    /// A symlink, wherever it points.
    Symlink,
    File,
    /// A device, or what a system has beyond these.
    Other,
}

impl From<FileType> for FileKind {
    fn from(file_type: FileType) -> FileKind {
        if file_type.is_fifo() {
            FileKind::Fifo
        } else if file_type.is_socket() {
            FileKind::Socket
        } else if file_type.is_dir() {
            FileKind::Directory
        } else if file_type.is_symlink() {
            FileKind::Symlink
        } else if file_type.is_file() {
            FileKind::File
        } else {
            FileKind::Other
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Fifo => "FIFO",
            FileKind::Socket => "socket",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::File => "regular file",
            FileKind::Other => "device or other special file",
        })
    }
}

/// The identity of a file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The device, st_dev.
    pub dev: u64,
    /// The number on that device, st_ino.
    pub ino: u64,
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub kind: FileKind,
    pub inode: Inode,
    pub uid: u32,
}

impl From<&Metadata> for Found {
    fn from(metadata: &Metadata) -> Found {
        Found {
            kind: metadata.file_type().into(),
            inode: Inode {
                dev: metadata.dev(),
                ino: metadata.ino(),
            },
            uid: metadata.uid(),
        }
    }
}

/// Looks what lies at `path`, not following a symlink there; `None` when
/// nothing does.
pub(crate) fn look(path: &Path) -> io::Result<Option<Found>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Found::from(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path as libc takes it; an error when it contains a NUL.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    #[test]
    fn every_kind_is_recognized() {
        let dir = Scratch::new("place-kinds");
        let kind = |path: &Path| look(path).unwrap().map(|found| found.kind);
        fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("missing", dir.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        assert_eq!(kind(&dir.join("missing")), None);
        assert_eq!(kind(&dir.join("file")), Some(FileKind::File));
        assert_eq!(kind(&dir.join("link")), Some(FileKind::Symlink));
        assert_eq!(kind(&dir.join("socket")), Some(FileKind::Socket));
        assert_eq!(kind(dir.path()), Some(FileKind::Directory));
        assert_eq!(kind(Path::new("/dev/null")), Some(FileKind::Other));
        assert!(look(&dir.join("file/below")).is_err());
    }

    #[test]
    fn a_path_with_a_nul_is_an_error() {
        let path = Path::new("a\0b");
        assert_eq!(
            c_path(path).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
