//! Default paths of a daemon: in the system's directory, or the user's own.
//!
//! The user's own may lie in /tmp, where anyone can put a directory of that name and
//! listen there. So each use of a path in them is preceded by [`believe`]: what passes
//! once stays as it is, because no other user can replace it. The owner of the directory
//! does not matter, as it does to the daemon ([`crate::sys::fs::trust`]): root may have
//! given it to any user.

use crate::config::{table, Defaults};
use crate::sys::fs::trust::{is_sticky, only_these_can_replace, others_can_write};
use crate::sys::proc::user::{access, effective_uid};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories, the system's first.
pub(crate) fn dirs() -> [PathBuf; 2] {
    [table::SYSTEM_BASE_DIR.into(), Defaults::private().base_dir]
}

/// The file of that name in the first of them that has it, or else the system's.
pub(crate) fn file(name: &str) -> PathBuf {
    let [system, own] = dirs().map(|dir| dir.join(name));
    match own.exists() && !system.exists() {
        true => own,
        false => system,
    }
}

/// Whether a file lies in a directory in which only this user, root, or the user to
/// whom root gave the directory can have put it.
///
/// # Errors
/// Why not, and what to do; `NotFound` where there is no directory.
pub(crate) fn believe(file: &Path) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    let above = dir.parent().unwrap_or(Path::new("/"));
    let (found, above) = (fs::symlink_metadata(dir)?, fs::metadata(above)?);
    let trusted = [0, effective_uid()];
    let why = if !found.is_dir() {
        "it is no directory"
    } else if others_can_write(&found) {
        "others may write in it"
    } else if only_these_can_replace(trusted, &above, &found) {
        return Ok(());
    } else if is_sticky(&above) && trusted.contains(&above.uid()) {
        "another user has made it"
    } else {
        "others can put another in its place"
    };
    Err(io::Error::other(format!(
        "not used: {} ({}): {why}; remove it, or name the path if you trust it",
        dir.display(),
        access(&found)
    )))
}
