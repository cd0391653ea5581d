//! Default paths of a daemon: in the system's directory, or the user's own.
//!
//! The user's own may lie in /tmp, where anyone can put a directory of that name and
//! listen there. So each use of a path in them is preceded by [`believe`]: what passes
//! once stays as it is, because no other user can replace it.

use crate::config::{table, Defaults};
use crate::sys::proc::user::{access, effective_uid};
use std::fs::{self, Metadata};
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
    let why = if !found.is_dir() {
        "it is no directory"
    } else if is_open(&found) {
        "others may write in it"
    } else if is_open(&above) && above.mode() & 0o1000 == 0 || !is_ours(&above) {
        "others can put another in its place"
    } else if is_open(&above) && !is_ours(&found) {
        "another user has made it"
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!(
        "not used: {} ({}): {why}; remove it, or name the path if you trust it",
        dir.display(),
        access(&found)
    )))
}

/// Whether others than its owner may write in a directory.
fn is_open(dir: &Metadata) -> bool {
    dir.mode() & 0o022 != 0
}

/// Whether it is this user's, or root's.
fn is_ours(dir: &Metadata) -> bool {
    [0, effective_uid()].contains(&dir.uid())
}
