//! The configuration: Dovecot's syntax, a small table of settings.
//!
//! The way of the text: `text` reads files and `-o` arguments, follows includes and returns
//! a flat list of items (section opened, setting given, section closed, something wrong),
//! each with its location. `build` walks that list once and looks every name up in
//! [`table`], which sets fields of the typed [`Settings`] through the pairs of functions in
//! `value`. Of a file that is Dovecot's own only the statistics are read. `print` goes the
//! other way through the same table. `origin` keeps the location of each setting; `fatal`
//! is what ends a program; `reply` is what Dovecot's master replies.
//!
//! Invariants:
//! - a [`Settings`] that [`read`] returned holds only values inside their ranges,
//!   whatever was in the file;
//! - what [`Settings::print`] wrote, `load` reads back to an equal `Settings`;
//! - one run reports every mistake, in the order in which the text is read.
//!
//! This room reads the configuration files and nothing else: it looks up no
//! users, no host names and no clock, writes nothing, and never logs. Whether a
//! listener can really be bound is found out when it is bound. Where defaults depend
//! on who asks, [`Defaults`] holds them.

#![forbid(unsafe_code)]

mod build;
mod fatal;
mod mistake;
mod origin;
pub(crate) mod own_files;
mod print;
mod reply;
mod settings;
pub mod table;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use fatal::{line as fatal_line, Fatal};
pub use mistake::{Location, Mistake, Mistakes};
pub use print::Shown;
pub(crate) use reply::Reply;
pub use settings::{
    Address, ColumnOrder, FileListener, HostPort, InetListener, ListenerOptions, LogPath, Protocol,
    Service, Settings, StateDir, UnixListener,
};
pub(crate) use table::{Scope, CHROOT_MADE, DEFAULT_USER, MEMORY_LIMIT_MIN_BYTES};
pub(crate) use value::show_size;

use origin::Origins;

use crate::sys::proc::user::effective_uid;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The configuration that is read when none is named. Whatever it contains, it never is
/// Dovecot's own.
pub(crate) const OUR_FILE: &str = "/etc/dovestat/dovestatd.conf";

/// The defaults that depend on who starts the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// `base_dir` when no setting names one; absolute.
    pub base_dir: PathBuf,
}

impl Defaults {
    /// The defaults for the user of this process.
    pub fn ours() -> Defaults {
        match effective_uid() {
            0 => Defaults {
                base_dir: PathBuf::from(table::SYSTEM_BASE_DIR),
            },
            _ => Defaults::private(),
        }
    }

    /// The defaults of a daemon that serves its own user alone.
    pub fn private() -> Defaults {
        let base_dir = match runtime_dir() {
            Some(dir) => dir.join("dovestat"),
            None => PathBuf::from(format!("/tmp/dovestat-{}", effective_uid())),
        };
        Defaults { base_dir }
    }
}

/// The directory that the login session provides for sockets. One of another user, as
/// root has it after su(1), is not ours.
fn runtime_dir() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let found = dir.metadata().ok()?;
    let is_ours = [0, effective_uid()].contains(&found.uid());
    (dir.is_absolute() && found.is_dir() && is_ours).then_some(dir)
}

/// The main configuration file, and whether it has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that was asked for: it must exist. It may be a pipe.
    Named(PathBuf),
    /// A file that is read again while the daemon serves: it must exist, and is never
    /// waited for.
    Again(PathBuf),
    /// The file looked for when none is named: it may be missing.
    Default(PathBuf),
}

impl Source {
    pub fn path(&self) -> &Path {
        let (Source::Named(path) | Source::Again(path) | Source::Default(path)) = self;
        path
    }
}

/// A configuration and what is known of it.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub settings: Settings,
    origins: Origins,
    /// The place of those that were given nowhere: the main file as a whole.
    main: Location,
    /// Whether the main file is Dovecot's own, so that only its statistics were read.
    pub is_dovecots: bool,
    /// What an administrator should know about it, in reading order.
    pub notices: Vec<Mistake>,
}

impl Configuration {
    /// Where a setting was given, else where its section was opened, else the main
    /// file as a whole.
    pub(crate) fn place_of(&self, scope: Scope, name: &str) -> Location {
        self.origins.of(scope, name).unwrap_or(&self.main).clone()
    }
}

/// Reads the configuration, then applies the `NAME=VALUE` texts of Dovecot's master, then
/// those of `overrides`: what can be made of it, and every mistake of the files and of the
/// overrides, in reading order.
pub(crate) fn examine(
    source: &Source,
    dovecots: &[String],
    overrides: &[String],
    defaults: &Defaults,
) -> (Configuration, Vec<Mistake>) {
    let mut items = Vec::new();
    for given in dovecots {
        items.extend(text::overriding("dovecot.conf", given));
    }
    for given in overrides {
        items.extend(text::overriding(&format!("-o {given}"), given));
    }
    let main = Location::whole(&source.path().to_string_lossy());
    build::build(text::read(source), items, defaults, main)
}

/// [`examine`], where each mistake is an error.
///
/// # Errors
/// All of them.
pub(crate) fn read(
    source: &Source,
    dovecots: &[String],
    overrides: &[String],
    defaults: &Defaults,
) -> Result<Configuration, Mistakes> {
    match examine(source, dovecots, overrides, defaults) {
        (configuration, mistakes) if mistakes.is_empty() => Ok(configuration),
        (_, mistakes) => Err(Mistakes(mistakes)),
    }
}

/// The settings of [`read`], and its errors.
#[cfg(any(test, feature = "internals"))]
pub fn load(
    source: &Source,
    overrides: &[String],
    defaults: &Defaults,
) -> Result<Settings, Mistakes> {
    read(source, &[], overrides, defaults).map(|configuration| configuration.settings)
}
