//! The pidfile: the number of the daemon's process.
//!
//! It is written as a whole and closed before root is given up: the daemon's user cannot
//! change what root wrote. In the end it is removed, or stays where a daemon that gave up
//! root may not remove it. One that a killed daemon left is replaced.

use crate::config::Fatal;
use crate::sys::fs::created::CreatedFile;
use crate::sys::fs::dir::{Dir, Owner};
use crate::sys::fs::lookup::Found;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The pidfile, removed when dropped.
#[derive(Debug)]
pub(crate) struct PidFile(CreatedFile);

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    pub(crate) fn write(path: &Path, owner: Owner) -> Result<PidFile, Fatal> {
        let failed = || Fatal::io(format!("pidfile {}", path.display()));
        let (dir, name) = Dir::of(path, owner).map_err(failed())?;
        let fill = |mut file: &File| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            writeln!(file, "{}", std::process::id())
        };
        let written = dir
            .replace(&name, &format!(".{name}.new"), 0o644, fill)
            .and_then(|file| file.metadata())
            .map_err(failed())?;
        Ok(PidFile(CreatedFile {
            path: path.to_owned(),
            owner,
            inode: Found::from(&written).inode,
        }))
    }

    /// Whether it can be removed with the rights that the daemon has now.
    pub(crate) fn is_removable(&self) -> bool {
        Dir::of(&self.0.path, None).is_ok_and(|(dir, _)| dir.is_writable())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // There is no one left to report a failure to.
        let _ = self.0.remove();
    }
}
