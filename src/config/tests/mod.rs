//! Tests of the room as a whole, through `load` and `print`.
//!
//! Each test has its own directory, removed at its end.

mod copied;
mod dovecots;
mod files;
mod mistakes;
mod print;
mod secrets;
mod sections;
mod syntax;
mod values;

use super::*;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that vanishes with its value.
struct TempDir(PathBuf);

impl TempDir {
    /// An empty one with a name of its own.
    fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dovestat-config-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        TempDir(dir)
    }

    /// Writes `name` in it, directories included.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Loads the file `main.conf` in it, its path cut out of mistakes.
    fn load(&self, overrides: &[&str]) -> Result<Settings, String> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        load(
            &Source::Named(self.0.join("main.conf")),
            &overrides,
            &defaults(),
        )
        .map_err(|mistakes| {
            let prefix = format!("{}/", self.0.display());
            mistakes.to_string().replace(&prefix, "")
        })
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The defaults of a service started by root.
fn defaults() -> Defaults {
    Defaults {
        base_dir: "/run/dovestat".into(),
    }
}

/// The settings of nothing at all.
fn untouched() -> Settings {
    Settings::new(&defaults())
}

/// Loads a file with this content.
fn read(content: impl AsRef<[u8]>) -> Result<Settings, String> {
    let dir = TempDir::new();
    dir.write("main.conf", content);
    dir.load(&[])
}

/// Loads a file with this content, which must be right.
#[track_caller]
fn good(content: impl AsRef<[u8]>) -> Settings {
    read(content).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Loads a file with this content, which must be wrong: the mistakes.
#[track_caller]
fn wrong(content: impl AsRef<[u8]>) -> String {
    read(content).expect_err("no mistake was found")
}

/// The settings of an override without file.
fn set(text: &str) -> Result<Settings, String> {
    load(
        &Source::Default("/nonexistent/main.conf".into()),
        &[text.to_owned()],
        &defaults(),
    )
    .map_err(|mistakes| {
        let text = mistakes.to_string();
        let (place, message) = text.split_once(": ").unwrap();
        assert!(place.starts_with("-o "), "{place}");
        message.to_owned()
    })
}
