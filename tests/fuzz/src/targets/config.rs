//! The text of a configuration file; behind a zero byte, that of a second one,
//! `other`, and behind another, an `-o` argument a line.

use dovestat::config::{load, Defaults, Mistakes, Settings, Shown, Source};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that goes with its files.
struct Dir(PathBuf);

impl Dir {
    /// One of this process alone: the targets of a process run one after the other.
    fn new() -> Dir {
        let name = format!("dovestat-fuzz-{}", std::process::id());
        let dir = Dir(std::env::temp_dir().join(name));
        fs::create_dir_all(&dir.0).expect("a directory for the files");
        dir
    }

    /// Writes a file.
    fn write(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file is written");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads a file.
fn settings(path: &Path, overrides: &[String]) -> Result<Settings, Mistakes> {
    load(&Source::Named(path.to_owned()), overrides, &defaults())
}

/// The defaults of all.
fn defaults() -> Defaults {
    Defaults {
        base_dir: "/run/dovestat".into(),
    }
}

/// Whether a line would read files of this machine.
fn leads_away(line: &[u8]) -> bool {
    let reads = line.contains(&b'<') || line.trim_ascii_start().starts_with(b"!");
    reads && line.contains(&b'/')
}

/// Files and arguments.
pub fn run(bytes: &[u8]) {
    let mut texts = bytes.splitn(3, |&byte| byte == 0).map(|text| {
        let lines = text.split(|&byte| byte == b'\n');
        let lines: Vec<&[u8]> = lines.filter(|line| !leads_away(line)).collect();
        lines.join(&b'\n')
    });
    let mut next = || texts.next().unwrap_or_default();
    let dir = Dir::new();
    let path = dir.write("config", &next());
    dir.write("other", &next());
    let overrides = String::from_utf8_lossy(&next()).into_owned();
    let overrides: Vec<String> = overrides.lines().map(str::to_owned).collect();
    match settings(&path, &overrides) {
        Err(mistakes) => {
            let text = mistakes.to_string();
            assert!(!text.is_empty());
            let is_harmless = |c: char| !c.is_control() || c == '\n';
            assert!(text.chars().all(is_harmless), "{text:?}");
        }
        Ok(found) => {
            for shown in [Shown::All, Shown::Changed] {
                let text = found.print(shown, &defaults());
                let path = dir.write("printed", text.as_bytes());
                let again = settings(&path, &[]);
                assert!(again.as_ref().ok() == Some(&found), "{text}\n{again:?}");
            }
        }
    }
}
