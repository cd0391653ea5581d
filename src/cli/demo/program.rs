//! Where the daemon's program is.
//!
//! The daemon is a program of its own, so that the client stays small. It is searched
//! in this order:
//!
//! 1. beside this program, as both are built;
//! 2. in `../sbin` from there, as both are installed;
//! 3. where cargo runs this program, which then is the only one that it built,
//!    cargo builds the other like it. The environment shows that, but may belong to another
//!    package; so this program must also lie where cargo builds, in a directory of
//!    this user;
//! 4. in a directory of `$PATH`.
//!
//! Must not: start it.

use crate::cli::warn;
use crate::config::Fatal;
use crate::sys::proc::user::effective_uid;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAME: &str = "dovestatd";

/// A file in each directory that cargo builds in, and in that of each triple there.
const CARGO_MARK: &str = "CACHEDIR.TAG";

/// Finds it, or has it built.
pub(super) fn find() -> Result<PathBuf, Fatal> {
    let own = env::current_exe().map_err(Fatal::io("find this program"))?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let installed = dir.parent().map(|prefix| prefix.join("sbin"));
    let near = [Some(dir.to_path_buf()), installed];
    let near = near.into_iter().flatten().map(|place| place.join(NAME));
    if let Some(found) = first_program(near) {
        return Ok(found);
    }
    if let Some(cargo) = Cargo::runs_us(dir) {
        return cargo.build(dir);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // A relative path means another file in each directory.
    let in_path = env::split_paths(&path).filter(|dir| dir.is_absolute());
    first_program(in_path.map(|place| place.join(NAME)))
        .ok_or_else(|| missing(dir, "install it there"))
}

/// The first of the paths that is a program.
fn first_program(mut paths: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    paths.find(|path| is_program(path))
}

/// Whether a file's mode lets it be run.
fn is_program(path: &Path) -> bool {
    let metadata = path.metadata();
    metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The error that lists the places searched.
fn missing(dir: &Path, advice: &str) -> Fatal {
    let dir = dir.display();
    Fatal::Unavailable(format!(
        "the daemon's program {NAME} is not in {dir}, {dir}/../sbin or $PATH; {advice}"
    ))
}

/// The cargo that runs us, `cargo run`.
struct Cargo {
    program: OsString,
    /// The directory of our package.
    package: PathBuf,
}

impl Cargo {
    /// Whether one does, as its variables say, this program lying in `dir`; tests of
    /// other packages may run it, too. Cargo becomes the program that it runs, so the
    /// parent process proves nothing.
    fn runs_us(dir: &Path) -> Option<Cargo> {
        let mark = dir.parent()?.join(CARGO_MARK).metadata().ok()?;
        let is_ours = mark.uid() == effective_uid()
            && env::var_os("CARGO_PKG_NAME")? == env!("CARGO_PKG_NAME");
        Some(Cargo {
            program: env::var_os("CARGO").filter(|_| is_ours)?,
            package: env::var_os("CARGO_MANIFEST_DIR")?.into(),
        })
    }

    /// Builds the daemon's program beside this one, which is in `dir`; cargo's
    /// output goes to standard error.
    fn build(&self, dir: &Path) -> Result<PathBuf, Fatal> {
        let what = || format!("run {}", self.program.to_string_lossy());
        let mut command = Command::new(&self.program);
        command.args(["build", "--bin", NAME, "--manifest-path"]);
        command.arg(self.package.join("Cargo.toml"));
        command.args(like(dir)).stdin(Stdio::null());
        // Standard output is for frames.
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        command.stdout(stderr.map_err(Fatal::io(what()))?);
        let status = command.status().map_err(Fatal::io(what()))?;
        let program = dir.join(NAME);
        if status.success() && is_program(&program) {
            return Ok(program);
        }
        warn(&format!("{}: {status}", what()));
        Err(missing(dir, "cargo build would make it"))
    }
}

/// The options by which cargo builds into `dir`: `TARGET_DIR/PROFILE` or
/// `TARGET_DIR/TRIPLE/PROFILE`.
fn like(dir: &Path) -> Vec<OsString> {
    let profile = match dir.file_name() {
        // A name that is not that of its directory.
        Some(name) if name == "debug" => OsStr::new("dev"),
        name => name.unwrap_or_default(),
    };
    let mut options = vec!["--profile".into(), profile.into()];
    let mut target_dir = dir.parent().unwrap_or(dir);
    if let (Some(above), Some(triple)) = (target_dir.parent(), target_dir.file_name()) {
        if above.join(CARGO_MARK).exists() {
            options.extend(["--target".into(), triple.into()]);
            target_dir = above;
        }
    }
    options.extend(["--target-dir".into(), target_dir.into()]);
    options
}
