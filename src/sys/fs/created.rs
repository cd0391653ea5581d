//! Files of FIFOs and UNIX sockets that this program creates, or takes over from an
//! earlier run.
//!
//! Owns: who may use such a file, the conditions under which a name may be taken, and
//! the removal of what was created.
//!
//! Invariants: what is neither ours nor dead stays untouched. [`CreatedFile::remove`]
//! removes only the very inode that was created.
//!
//! Must not: open what it finds; how a dead socket differs from a living one is
//! known to [`crate::sys::fs::socket`].
//!
//! UNIX has no call that looks and acts on a name in one step. The moments
//! between are covered by [`crate::sys::fs::lock`] against ourselves, and against others by
//! [`crate::sys::fs::trust`]: only root and the service's user can change names there.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::lookup::{FileKind, Found, Inode};
use crate::sys::proc::user::effective_uid;

/// Who may use a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The permission bits, exactly, whatever the umask.
    pub mode: u32,
    /// The owner; `None`: that of the creator.
    pub uid: Option<u32>,
    /// The group; `None`: that of the creator.
    pub gid: Option<u32>,
}

impl Access {
    /// Whether a file has another owner or group than is configured. If not, nothing is
    /// changed: even that is forbidden where a service may not give files away.
    pub(crate) fn changes_owner(&self, found: &Metadata) -> bool {
        self.uid.is_some_and(|uid| uid != found.uid())
            || self.gid.is_some_and(|gid| gid != found.gid())
    }

    /// Whether something owned by `uid` was left by an earlier run of ours:
    /// it belongs to us or to the configured owner.
    pub(crate) fn is_ours(&self, uid: u32) -> bool {
        uid == effective_uid() || Some(uid) == self.uid
    }
}

/// Why a FIFO or socket cannot be created. Displayed without its path, which the caller
/// puts in front.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// A living process reads or listens there.
    InUse,
    /// Something of another kind lies there. It was not touched.
    WrongKind(FileKind),
    /// What lies there belongs to another user. It was not touched.
    Foreign { kind: FileKind, uid: u32 },
    /// The path does not fit into a socket address.
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
        error: io::Error,
    },
}

impl CreateError {
    /// For `map_err`: a failure while doing `step`.
    pub(crate) fn during(step: &'static str) -> impl FnOnce(io::Error) -> CreateError {
        move |error| CreateError::Io { step, error }
    }
}

/// Fails unless `found` is a `wanted` of this process' user or of the configured owner,
/// and not in use.
pub(super) fn check_takeover(
    found: &Found,
    wanted: FileKind,
    access: Access,
    is_in_use: impl FnOnce() -> io::Result<bool>,
) -> Result<(), CreateError> {
    let (kind, uid) = (found.kind, found.uid);
    if kind != wanted {
        return Err(CreateError::WrongKind(kind));
    }
    match is_in_use() {
        Ok(true) => Err(CreateError::InUse),
        // "Permission denied" would explain less.
        _ if !access.is_ours(uid) => Err(CreateError::Foreign { kind, uid }),
        result => result
            .map(drop)
            .map_err(CreateError::during("probe socket")),
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::InUse => f.write_str("in use by a running process"),
            CreateError::WrongKind(kind) => write!(f, "a {kind} is in the way"),
            CreateError::Foreign { kind, uid } => {
                write!(f, "the {kind} there belongs to another user (uid {uid})")
            }
            CreateError::TooLong {
                len_bytes,
                max_bytes,
            } => {
                write!(
                    f,
                    "path of {len_bytes} bytes is too long for a socket (at most {max_bytes})"
                )
            }
            CreateError::Io { step, error } => write!(f, "{step}: {}", crate::sys::reason(error)),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CreateError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A FIFO, socket or file that this program created.
#[derive(Clone, Debug)]
pub(crate) struct CreatedFile {
    pub path: PathBuf,
    /// User and group that root trusts on the way there.
    pub owner: Owner,
    pub inode: Inode,
}

impl CreatedFile {
    /// Removes it; false when it is gone or something else
    /// lies there by now, which stays.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        let (dir, name) = Dir::of(&self.path, self.owner)?;
        dir.remove_inode(&name, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::fifo::Fifo;
    use crate::sys::fs::lookup::look;
    use crate::sys::fs::socket::bind_unix;
    use crate::sys::proc::user::{drop_privileges, User};
    use crate::sys::scratch::{alone, is_root, Scratch};
    use std::fs;

    #[test]
    fn only_the_same_inode_is_removed() {
        let dir = Scratch::new("place-remove");
        let path = dir.join("here");
        fs::write(&path, "").unwrap();
        let file = CreatedFile {
            path: path.clone(),
            owner: None,
            inode: look(&path).unwrap().unwrap().inode,
        };
        // Renamed, not removed: a freed inode number may come right back.
        fs::rename(&path, dir.join("away")).unwrap();
        assert!(!file.remove().unwrap());
        fs::write(&path, "another").unwrap();
        assert!(!file.remove().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"another");
        fs::rename(dir.join("away"), &path).unwrap();
        assert!(file.remove().unwrap());
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
                        matches!(error, CreateError::Foreign { uid: 0, .. }),
                        "{error}"
                    );
                }
            },
        );
    }
}
