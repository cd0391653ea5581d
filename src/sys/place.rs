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
//! living one is known to [`super::fifo`] and [`super::socket`].
//!
//! UNIX has no call that looks and acts on a path in one step. The moments
//! between are covered by [`super::lock`] against ourselves, and by the modes
//! of the directories against others.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The kinds of things that lie at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
pub struct Found {
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
pub fn look(path: &Path) -> io::Result<Option<Found>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Found::from(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first symlink on the way to `path`, its end included, that belongs to
/// somebody else than root, and to whom: who may write on that way leads root to
/// wherever it likes.
pub fn strange_symlink(path: &Path) -> io::Result<Option<(PathBuf, u32)>> {
    // A slash at the end would have the last symlink followed.
    let path: PathBuf = std::path::absolute(path)?.components().collect();
    let parts: Vec<&Path> = path.ancestors().collect();
    for part in parts.into_iter().rev() {
        // What is not there, or cannot be reached, is for who opens it to tell.
        match look(part) {
            Ok(Some(found)) if found.kind == Kind::Symlink && found.uid != 0 => {
                return Ok(Some((part.to_owned(), found.uid)));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    Ok(None)
}

/// Who may use a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
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
    pub(super) fn has_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    /// Whether something owned by `uid` was left by an earlier run of ours:
    /// it belongs to us or to the configured owner.
    pub(super) fn is_ours(&self, uid: u32) -> bool {
        uid == super::user::effective_uid() || Some(uid) == self.uid
    }
}

/// Why a place cannot be taken. Displayed without its path, which the caller
/// puts in front.
#[derive(Debug)]
pub enum PlaceError {
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
    pub(super) fn during(step: &'static str) -> impl FnOnce(io::Error) -> PlaceError {
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
            PlaceError::Io { step, error } => write!(f, "{step}: {}", super::reason(error)),
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
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// What was put there.
    pub inode: Inode,
}

impl Place {
    /// Removes what was put there; false when it is gone or something else
    /// lies there by now, which stays.
    pub fn remove(&self) -> io::Result<bool> {
        match look(&self.path)? {
            Some(found) if found.inode == self.inode => {
                fs::remove_file(&self.path)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Gives the socket that was just made at `path` its owner and mode.
///
/// Root makes sockets in directories that are the service user's, who could put
/// something else in place meanwhile. So it is opened first, without using it,
/// and only what is a socket, ours, and has no other name is changed.
#[cfg(target_os = "linux")]
pub(super) fn give(path: &Path, access: Access) -> Result<(), PlaceError> {
    use std::os::fd::{AsRawFd, FromRawFd};
    let name = c_path(path).map_err(PlaceError::during("look at socket"))?;
    // With musl, std's own open leaves O_PATH out.
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    let fd = super::cerr(unsafe { libc::open(name.as_ptr(), flags) })
        .map_err(PlaceError::during("look at socket"))?;
    // SAFETY: the descriptor is new and owned by nobody else.
    let file = unsafe { fs::File::from_raw_fd(fd) };
    let metadata = file
        .metadata()
        .map_err(PlaceError::during("look at socket"))?;
    let found = Found::from(&metadata);
    if found.kind != Kind::Socket {
        return Err(PlaceError::WrongKind(found.kind));
    }
    if found.uid != super::user::effective_uid() || metadata.nlink() != 1 {
        return Err(PlaceError::Foreign {
            kind: found.kind,
            uid: found.uid,
        });
    }
    let same = |id: Option<u32>| id.unwrap_or(libc::uid_t::MAX);
    let (fd, uid, gid) = (file.as_raw_fd(), same(access.uid), same(access.gid));
    // The owner first: a change of it may drop bits of the mode.
    if access.has_owner() {
        // SAFETY: the empty path is a NUL-terminated constant; the descriptor is
        // owned by `file`.
        super::cerr(unsafe { libc::fchownat(fd, c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) })
            .map_err(PlaceError::during("set owner"))?;
    }
    // The only way to a descriptor that is not open for anything.
    let itself = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let mode = fs::Permissions::from_mode(access.mode);
    match fs::set_permissions(itself, mode.clone()) {
        // No /proc here; the directory is then the administrator's to guard.
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::set_permissions(path, mode),
        result => result,
    }
    .map_err(PlaceError::during("set mode"))
}

/// Gives the socket that was just made at `path` its owner and mode.
#[cfg(not(target_os = "linux"))]
pub(super) fn give(path: &Path, access: Access) -> Result<(), PlaceError> {
    // The owner first: a change of it may drop bits of the mode.
    std::os::unix::fs::lchown(path, access.uid, access.gid)
        .map_err(PlaceError::during("set owner"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode))
        .map_err(PlaceError::during("set mode"))
}

/// A path as libc takes it; an error when it contains a NUL.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fifo::Fifo;
    use crate::sys::scratch::{alone, is_root, Scratch};
    use crate::sys::socket::bind_unix;
    use crate::sys::user::{drop_privileges, User};

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
    fn symlinks_of_others_are_found_on_the_way() {
        let dir = Scratch::new("place-way");
        let (roots, theirs) = (dir.join("roots"), dir.join("theirs"));
        fs::create_dir(dir.join("target")).unwrap();
        std::os::unix::fs::symlink("target", &roots).unwrap();
        std::os::unix::fs::symlink("target", &theirs).unwrap();
        assert_eq!(
            strange_symlink(&dir.join("target/new/newer")).unwrap(),
            None
        );
        if !is_root() {
            return;
        }
        std::os::unix::fs::lchown(&theirs, Some(12345), None).unwrap();
        for (path, found) in [
            ("roots", false),
            ("roots/new", false),
            ("theirs", true),
            ("theirs/", true),
            ("theirs/new/newer", true),
            ("target/../theirs/../new", true),
            ("missing/../theirs", false),
        ] {
            let expected = found.then_some(12345);
            let found = strange_symlink(&dir.join(path)).unwrap();
            assert_eq!(found.map(|(_, uid)| uid), expected, "{path}");
        }
    }

    #[test]
    fn only_the_same_inode_is_removed() {
        let dir = Scratch::new("place-remove");
        let path = dir.join("here");
        fs::write(&path, "").unwrap();
        let place = Place {
            path: path.clone(),
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
                drop(Fifo::create(&fifo, access).unwrap());
                drop(bind_unix(&socket, access).unwrap());
                std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
                let user = User {
                    name: None,
                    uid: 12345,
                    gid: None,
                };
                drop_privileges(&user, 12346, None).unwrap();
                for error in [
                    Fifo::create(&fifo, access).unwrap_err(),
                    bind_unix(&socket, access).unwrap_err(),
                ] {
                    assert!(
                        matches!(error, PlaceError::Foreign { uid: 0, .. }),
                        "{error}"
                    );
                }
            },
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_socket_of_ours_under_one_name_is_given_away() {
        let dir = Scratch::new("place-give");
        let access = Access {
            mode: 0o640,
            uid: None,
            gid: None,
        };
        let mode = |name| fs::metadata(dir.join(name)).unwrap().mode() & 0o7777;
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        give(&dir.join("socket"), access).unwrap();
        assert_eq!(mode("socket"), 0o640);
        fs::write(dir.join("file"), "").unwrap();
        let before = mode("file");
        std::os::unix::fs::symlink("socket", dir.join("link")).unwrap();
        for name in ["file", "link"] {
            let error = give(&dir.join(name), access).unwrap_err();
            assert!(matches!(error, PlaceError::WrongKind(_)), "{name}: {error}");
        }
        assert_eq!(mode("file"), before);
        fs::hard_link(dir.join("socket"), dir.join("other")).unwrap();
        let error = give(&dir.join("other"), access).unwrap_err();
        assert!(matches!(error, PlaceError::Foreign { .. }), "{error}");
        assert!(give(&dir.join("missing"), access).is_err());
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
