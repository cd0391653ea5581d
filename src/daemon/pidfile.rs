//! The pidfile: the number of the daemon's process, for those who have no other
//! way to find it.
//!
//! It is written as a whole once nothing can keep the daemon from serving, by who
//! starts it: a file of root's in a directory of root's is what the tools that
//! read it trust. In the end it is removed, or, where a daemon that gave up root
//! no longer may, emptied. One that a killed daemon left is replaced.

use super::fatal::Fatal;
use crate::sys::dir::Dir;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The pidfile, removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    /// Its directory.
    dir: Dir,
    /// Its name there.
    name: String,
    /// The file.
    file: File,
}

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    pub fn write(path: &Path) -> Result<PidFile, Fatal> {
        let failed = || Fatal::io(format!("pidfile {}", path.display()));
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(name), Some(parent)) = (name, path.parent()) else {
            let path = path.display();
            return Err(Fatal::Setting(format!("pidfile {path}: no name of a file")));
        };
        let dir = Dir::open(parent).map_err(failed())?;
        let fill = |mut file: &File| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            writeln!(file, "{}", std::process::id())
        };
        let file = dir
            .replace(name, &format!(".{name}.new"), 0o644, fill)
            .map_err(failed())?;
        Ok(PidFile {
            dir,
            name: name.to_owned(),
            file,
        })
    }

    /// Whether it can be removed with the rights that the daemon has now.
    pub fn is_removable(&self) -> bool {
        self.dir.is_writable()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Nobody is left to be told.
        if self.dir.remove(&self.name).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}
