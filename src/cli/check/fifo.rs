//! A FIFO: whether it is there, whether it is read, and which users can open it for
//! writing.

use super::Findings;
use crate::sys::fs::writer;
use crate::sys::proc::user::access;
use crate::sys::reason;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Notes how a FIFO is.
pub(super) fn look(path: &Path, is_served: bool, findings: &mut Findings) {
    let shown = path.display();
    let again = "\"systemctl restart dovestatd\", or its HUP, makes it anew";
    match fs::metadata(path) {
        // A daemon that does not run has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_served => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.wrong(format!("{shown} is not there"), again);
        }
        Err(error) => findings.unknown(format!("{shown}: {}", reason(&error))),
        Ok(found) if !found.file_type().is_fifo() => {
            findings.wrong(
                format!("{shown} is not a FIFO"),
                format!("remove it; {again}"),
            );
        }
        Ok(found) => match is_read(path) {
            Some(false) => findings.wrong(
                format!("{shown} ({}) is read by no process", access(&found)),
                "restart dovestatd, which reads the FIFO of that name",
            ),
            _ => findings.good(format!("{shown} ({})", access(&found))),
        },
    }
}

/// Whether a process reads a FIFO; `None` if permission is missing to find out.
fn is_read(path: &Path) -> Option<bool> {
    match writer::open(path) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Some(false),
        Err(_) => None,
    }
}

/// A user that writes to FIFOs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    /// For messages: `vmail`.
    pub name: String,
    pub uid: u32,
    /// All groups.
    pub gids: Vec<u32>,
}

impl Writer {
    /// What keeps it from writing to a file: the file, or a directory above it that it
    /// cannot pass. Access lists are not looked at.
    pub(super) fn obstacle(&self, path: &Path) -> Option<PathBuf> {
        let path = fs::canonicalize(path).ok()?;
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|found| !self.may(&found, 0o1));
        if let Some(dir) = above.into_iter().rev().find(closed) {
            return Some(dir.to_owned());
        }
        let found = fs::metadata(&path).ok()?;
        (!self.may(&found, 0o2)).then_some(path)
    }

    /// Whether it has a permission (of 4, 2, 1: read, write, pass).
    fn may(&self, found: &Metadata, wanted: u32) -> bool {
        may(
            self,
            (found.uid(), found.gid(), found.permissions().mode()),
            wanted,
        )
    }
}

/// The rule of the kernel: the owner has the owner's bits and no others, and so on.
fn may(writer: &Writer, (uid, gid, mode): (u32, u32, u32), wanted: u32) -> bool {
    let bits = match writer.uid {
        0 => return true,
        own if own == uid => mode >> 6,
        _ if writer.gids.contains(&gid) => mode >> 3,
        _ => mode,
    };
    bits & wanted == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_the_kernels() {
        let writer = Writer {
            name: "vmail".into(),
            uid: 5000,
            gids: vec![5000, 108],
        };
        for (uid, gid, mode, may_write) in [
            (5000, 1, 0o600, true),
            (5000, 108, 0o060, false),
            (1, 108, 0o620, true),
            (1, 108, 0o602, false),
            (1, 1, 0o622, true),
            (1, 1, 0o660, false),
        ] {
            let found = may(&writer, (uid, gid, mode), 0o2);
            assert_eq!(found, may_write, "{uid} {gid} {mode:o}");
        }
        let root = Writer { uid: 0, ..writer };
        assert!(may(&root, (1, 1, 0), 0o2));
    }
}
