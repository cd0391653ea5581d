//! The configuration: Dovecot's syntax, a small table of settings.
//!
//! The way of the text: `parse` reads files and `-o` arguments, follows includes
//! and hands out a flat list of items (section opened, setting given, section
//! closed, something wrong), each with the place it came from; `lines` below it
//! knows what one line may look like and `glob` which files an include means.
//! `build` walks that list once and looks every name up in [`table`], which sets
//! fields of the typed [`Settings`] through the pairs of functions in `value`; a
//! name that is not there gets a guess from `hint`. `print` goes the other way
//! through the same table.
//!
//! Invariants:
//! - a [`Settings`] that [`load`] returned holds only values inside their ranges,
//!   whatever was in the file;
//! - what [`Settings::print`] wrote, `load` reads back to an equal `Settings`;
//! - one run reports every mistake, in the order in which the text is read.
//!
//! This room reads the configuration files and nothing else: it looks up no
//! users, no host names and no clock, writes nothing, and never logs. Whether a
//! listener can really be bound is found out by who binds it. Where defaults depend
//! on who asks, [`Defaults`] holds them.

mod build;
mod glob;
mod hint;
mod lines;
mod mistake;
pub mod own_files;
mod parse;
mod print;
mod settings;
pub mod table;
mod value;

#[cfg(test)]
mod tests;

pub use mistake::{Mistake, Mistakes, Place};
pub use print::Shown;
pub use settings::{
    Address, ColumnOrder, FileListener, HostPort, InetListener, Level, ListenerOptions, LogPath,
    Protocol, Service, Settings, StateDir, UnixListener,
};
pub use table::MEMORY_LIMIT_MIN_BYTES;
pub use value::show_size;

use crate::sys::user::effective_uid;
use std::path::PathBuf;

/// The defaults that depend on who starts the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// `base_dir` when no setting names one; absolute.
    pub base_dir: PathBuf,
}

impl Defaults {
    /// Those of whoever runs this process.
    pub fn ours() -> Defaults {
        let base_dir = match (effective_uid(), runtime_dir()) {
            (0, _) => PathBuf::from(table::SYSTEM_BASE_DIR),
            (_, Some(dir)) => dir.join("dovestat"),
            (uid, None) => PathBuf::from(format!("/tmp/dovestat-{uid}")),
        };
        Defaults { base_dir }
    }
}

/// The directory that the login session provides for sockets.
fn runtime_dir() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    (dir.is_absolute() && dir.is_dir()).then_some(dir)
}

/// The main configuration file, and whether it has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file somebody asked for: it must exist.
    Named(PathBuf),
    /// The file looked for when nobody named one: it may be missing.
    Default(PathBuf),
}

/// Reads the configuration, then applies the `NAME=VALUE` texts of `overrides`.
///
/// # Errors
/// Every mistake of the files and of the overrides, in reading order.
pub fn load(
    source: &Source,
    overrides: &[String],
    defaults: &Defaults,
) -> Result<Settings, Mistakes> {
    let mut items = parse::read(source);
    for text in overrides {
        items.extend(parse::overriding(text));
    }
    build::build(items, defaults)
}
