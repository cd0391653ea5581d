//! A place: a path, and what lies there.
//!
//! Owns: the question what lies at a path, the conditions under which a
//! listener may not be put there, and the removal of what was put.
//!
//! Invariants: nothing follows a symlink in the last component of a path.
//! What is neither ours nor dead stays untouched. [`Place::remove`] removes
//! only the very inode that was put there.
//!
//! Must not: open what it finds; how to tell a dead FIFO or socket from a
//! living one is known to [`crate::sys::fs::fifo`] and [`crate::sys::fs::socket`].
//!
//! UNIX has no call that looks and acts on a name in one step. The moments
//! between are covered by [`crate::sys::fs::lock`] against ourselves, and against others by
//! [`crate::sys::fs::way`]: only root and the service's user can change names there.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys::fs::dir::{Dir, Owner};

/// The kinds of things that lie at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A named pipe.
    Fifo,
    /// A UNIX socket.
    Socket,
    /// A directory.
    Directory,
    /// A symlink, wherever it points.
    Symlink,
    /// A regular file.
    File,
    /// A device, or what a system has beyond these.
    Other,
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Kind {
        if file_type.is_fifo() {
            Kind::Fifo
        } else if file_type.is_socket() {
            Kind::Socket
        } else if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Symlink
        } else if file_type.is_file() {
            Kind::File
        } else {
            Kind::Other
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Fifo => "FIFO",
            Kind::Socket => "socket",
            Kind::Directory => "directory",
            Kind::Symlink => "symlink",
            Kind::File => "regular file",
            Kind::Other => "device or other special file",
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
    /// Its kind.
    pub kind: Kind,
    /// Its identity.
    pub inode: Inode,
    /// Its owner.
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

/// Who may use a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The permission bits, exactly, whatever the umask.
    pub mode: u32,
    /// The owner; `None` leaves it to who creates it.
    pub uid: Option<u32>,
    /// The group; `None` leaves it to who creates it.
    pub gid: Option<u32>,
}

impl Access {
    /// Whether it is to be anybody's in particular. If not, nothing is changed:
    /// even that is forbidden where a service may not give files away.
    pub(crate) fn has_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    /// Whether something owned by `uid` was left by an earlier run of ours:
    /// it belongs to us or to the configured owner.
    pub(crate) fn is_ours(&self, uid: u32) -> bool {
        uid == crate::sys::proc::user::effective_uid() || Some(uid) == self.uid
    }
}

/// Why a place cannot be taken. Displayed without its path, which the caller
/// puts in front.
#[derive(Debug)]
pub(crate) enum PlaceError {
    /// A living process reads or listens there.
    InUse,
    /// Something of another kind lies there. It was not touched.
    WrongKind(Kind),
    /// What lies there belongs to somebody else. It was not touched.
    Foreign {
        /// What it is.
        kind: Kind,
        /// Whose it is.
        uid: u32,
    },
    /// A socket address does not hold the path.
    TooLong {
        /// The length of the path.
        len_bytes: usize,
        /// The length it may have.
        max_bytes: usize,
    },
    /// A system call failed.
    Io {
        /// What was being done, as in "set mode".
        step: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

impl PlaceError {
    /// For `map_err`: a failure while doing `step`.
    pub(crate) fn during(step: &'static str) -> impl FnOnce(io::Error) -> PlaceError {
        move |error| PlaceError::Io { step, error }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::InUse => f.write_str("in use by a running process"),
            PlaceError::WrongKind(kind) => write!(f, "a {kind} is in the way"),
            PlaceError::Foreign { kind, uid } => {
                write!(f, "the {kind} there belongs to another user (uid {uid})")
            }
            PlaceError::TooLong {
                len_bytes,
                max_bytes,
            } => {
                write!(
                    f,
                    "path of {len_bytes} bytes is too long for a socket (at most {max_bytes})"
                )
            }
            PlaceError::Io { step, error } => write!(f, "{step}: {}", crate::sys::reason(error)),
        }
    }
}

impl std::error::Error for PlaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PlaceError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A path where something of ours was put.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// Whom root trusts on the way there.
    pub owner: Owner,
    /// What was put there.
    pub inode: Inode,
}

impl Place {
    /// Removes what was put there; false when it is gone or something else
    /// lies there by now, which stays.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        let (dir, name) = Dir::of(&self.path, self.owner)?;
        dir.remove_inode(&name, self.inode)
    }
}

/// A path as libc takes it; an error when it contains a NUL.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::fs::socket::bind_unix;
    use crate::sys::proc::user::{drop_privileges, User};
    use crate::sys::scratch::{alone, is_root, Scratch};

    #[test]
    fn every_kind_is_told_apart() {
        let dir = Scratch::new("place-kinds");
        let kind = |path: &Path| look(path).unwrap().map(|found| found.kind);
        fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("missing", dir.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        assert_eq!(kind(&dir.join("missing")), None);
        assert_eq!(kind(&dir.join("file")), Some(Kind::File));
        assert_eq!(kind(&dir.join("link")), Some(Kind::Symlink));
        assert_eq!(kind(&dir.join("socket")), Some(Kind::Socket));
        assert_eq!(kind(dir.path()), Some(Kind::Directory));
        assert_eq!(kind(Path::new("/dev/null")), Some(Kind::Other));
        assert!(look(&dir.join("file/below")).is_err());
    }

    #[test]
    fn only_the_same_inode_is_removed() {
        let dir = Scratch::new("place-remove");
        let path = dir.join("here");
        fs::write(&path, "").unwrap();
        let place = Place {
            path: path.clone(),
            owner: None,
            inode: look(&path).unwrap().unwrap().inode,
        };
        // Renamed, not removed: a freed inode number may come right back.
        fs::rename(&path, dir.join("away")).unwrap();
        assert!(!place.remove().unwrap());
        fs::write(&path, "another").unwrap();
        assert!(!place.remove().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"another");
        fs::rename(dir.join("away"), &path).unwrap();
        assert!(place.remove().unwrap());
        assert_eq!(look(&path).unwrap(), None);
    }

    #[test]
    fn ordinary_users_hear_whose_it_is_too() {
        if !is_root() {
            return;
        }
        alone(
            module_path!(),
            "ordinary_users_hear_whose_it_is_too",
            || {
                let dir = Scratch::new("place-foreign");
                let (fifo, socket) = (dir.join("fifo"), dir.join("socket"));
                let access = Access {
                    mode: 0o600,
                    uid: None,
                    gid: None,
                };
                drop(Fifo::create(&fifo, None, access).unwrap());
                drop(bind_unix(&socket, None, access).unwrap());
                std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
                let user = User {
                    name: None,
                    uid: 12345,
                    gid: None,
                };
                drop_privileges(&user, 12346, None).unwrap();
                for error in [
                    Fifo::create(&fifo, None, access).unwrap_err(),
                    bind_unix(&socket, None, access).unwrap_err(),
                ] {
                    assert!(
                        matches!(error, PlaceError::Foreign { uid: 0, .. }),
                        "{error}"
                    );
                }
            },
        );
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
