//! What `top` remembers from one time to the next: level, sort, columns.
//!
//! Owns: the file, `dovestat/top` in $XDG_STATE_HOME, else in ~/.local/state. What
//! cannot be read or written is left alone, without a word: nothing depends on it. So
//! is a file on the way to which a directory or symlink is another user's: with HOME
//! kept by su(1), root would follow that user anywhere.

use super::view::View;
use crate::sys::proc::user::effective_uid;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Much more than there is to remember.
const MAX_BYTES: u64 = 64 << 10;

fn path() -> Option<PathBuf> {
    let dir = |name: &str| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    let path = state?.join("dovestat/top");
    let is_ours = |found: fs::Metadata| [0, effective_uid()].contains(&found.uid());
    // What is not there yet is made.
    let mut way = path.ancestors().map(fs::symlink_metadata);
    way.all(|found| found.map_or(true, is_ours)).then_some(path)
}

/// Restores the view. `given`: whether level and sort are on the command line, which
/// takes precedence.
pub(super) fn load(view: &mut View, given: (bool, bool)) {
    let Some(file) = path().and_then(|path| File::open(path).ok()) else {
        return;
    };
    let mut text = String::new();
    if file.take(MAX_BYTES).read_to_string(&mut text).is_ok() {
        view.recall(&text, given);
    }
}

/// Writes down how the view looks.
pub(super) fn save(view: &View) {
    let write = |path: PathBuf| -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        // Whole or not at all.
        let new = path.with_extension(format!("new{}", std::process::id()));
        fs::write(&new, view.remembered())?;
        fs::rename(&new, &path).inspect_err(|_| drop(fs::remove_file(&new)))
    };
    if let Some(path) = path() {
        let _ = write(path);
    }
}
