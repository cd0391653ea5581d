//! Which directories are trusted, by owner and mode.
//!
//! Owns: two rules. [`check`], that of sshd's StrictModes, is for directories that this
//! process writes to: each belongs to one of the trusted users, and only its owner may
//! write to it; a sticky directory of root's (/tmp) is good enough where the caller
//! allows it. [`only_these_can_replace`] is for names: who can put something else in the place
//! of a file. A client follows the second rule alone: root may have given the daemon's
//! directory to a user whom the client does not know.
//!
//! Must not: look at paths. Where others can rename, the metadata must be those of an
//! open descriptor.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::sys::proc::user::shown_user;

/// Whether others than its owner may write in a directory.
pub(crate) fn others_can_write(dir: &Metadata) -> bool {
    dir.mode() & 0o022 != 0
}

pub(crate) fn is_sticky(dir: &Metadata) -> bool {
    dir.mode() & libc::S_ISVTX != 0
}

/// Whether only these users, root being one of them, can put something else in the
/// place of what was found in a directory.
pub(crate) fn only_these_can_replace(users: [u32; 2], dir: &Metadata, found: &Metadata) -> bool {
    users.contains(&dir.uid())
        && (!others_can_write(dir) || is_sticky(dir) && users.contains(&found.uid()))
}

/// Fails unless a directory belongs to one of the users and only its owner can write
/// to it, or, where that is enough, it is a sticky one of root's.
pub(crate) fn check(
    path: &str,
    dir: &Metadata,
    trusted: [u32; 2],
    may_be_sticky: bool,
) -> io::Result<()> {
    let (uid, mode) = (dir.uid(), dir.mode() & 0o7777);
    if !trusted.contains(&uid) {
        let [first, second] = trusted.map(shown_user);
        let or = match first == second {
            true => String::new(),
            false => format!(" or {second}"),
        };
        let whose = shown_user(uid);
        let why = format!("belongs to user {whose} (uid {uid}), not to {first}{or}; chown it");
        return Err(refused(path, &why));
    }
    if others_can_write(dir) && !(may_be_sticky && uid == 0 && is_sticky(dir)) {
        let why = format!("can be changed by others (mode {mode:04o}); chmod go-w it");
        return Err(refused(path, &why));
    }
    Ok(())
}

/// What is not to be trusted, and what to do.
#[cold]
pub(crate) fn refused(path: &str, why: &str) -> io::Error {
    let text = format!("{path} {why} or set another path");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Whether an error is one of [`check`] or [`refused`].
pub(crate) fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
