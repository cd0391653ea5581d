//! Configuration files and `-o` arguments become one flat list of items.
//!
//! It owns all file reading of this room: the main file, what it includes, and
//! values of the form `<file`. Relative names are relative to the file that has
//! them. Whatever the files contain, reading ends: files have a largest size, one
//! load a largest number of them, includes a largest depth, and a file does not
//! include itself. (A named pipe that nobody writes to is waited for.)
//!
//! Invariant: in the list every `Open` has its `Close`, forgotten or not, per file, so that a brace
//! forgotten in one file never changes what another one means. Names are not
//! judged here.

use super::glob;
use super::lines::{self, Line};
use super::mistake::{quoted, Place};
use super::Source;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Largest configuration file.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Most files read by one load, a file read twice counted twice.
const FILES_MAX: usize = 1000;
/// Most includes inside one another.
const INCLUDE_DEPTH_MAX: usize = 16;

/// A piece of configuration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
}

/// The kinds of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A section begins; one that could not be read has an empty kind.
    Open {
        /// Its first word.
        kind: String,
        /// Its second.
        name: Option<String>,
        /// Whether its closing brace was there. Reported where the section begins,
        /// since its end is anybody's guess.
        closed: bool,
    },
    /// The innermost section ends.
    Close,
    /// A setting is given.
    Set {
        /// Its name.
        key: String,
        /// Its value, unquoted.
        value: String,
        /// Whether `$` has no meaning in the value: it was quoted, or is the
        /// content of a file.
        literal: bool,
    },
    /// A mistake.
    Wrong(String),
}

/// Reads the main file and everything it includes.
pub fn read(source: &Source) -> Vec<Item> {
    let (path, may_be_missing) = match source {
        Source::Named(path) => (path, false),
        Source::Default(path) => (path, true),
    };
    let mut reader = Reader::new();
    match reader.bytes(path) {
        Ok(bytes) => reader.file(path, &bytes),
        Err(err) if may_be_missing && err.kind() == ErrorKind::NotFound => {}
        Err(err) => reader.wrong(
            &Place::whole(&path.to_string_lossy()),
            format!("cannot be read: {err}"),
        ),
    }
    reader.items
}

/// The items of one `-o` argument.
///
/// Sections are divided by slashes: `service/stats/user=mail`. Everything between
/// the kind of a listener and the setting is the listener's name, its slashes
/// included: `service/stats/unix_listener//run/mail/stats/mode=0666`.
pub fn overriding(text: &str) -> Vec<Item> {
    let mut reader = Reader::new();
    let place = Place::whole(&format!("-o {text}"));
    let Some((path, value)) = text.split_once('=') else {
        reader.wrong(&place, "expected NAME=VALUE".to_owned());
        return reader.items;
    };
    let mut sections: Vec<&str> = path.trim().split('/').collect();
    let key = sections.pop().unwrap_or_default().to_owned();
    let mut opened = Vec::new();
    if let [kind, rest @ ..] = &sections[..] {
        opened.push((*kind, rest.first().map(|name| (*name).to_owned())));
    }
    if let [_, _, kind, name @ ..] = &sections[..] {
        opened.push((*kind, (!name.is_empty()).then(|| name.join("/"))));
    }
    let depth = opened.len();
    for (kind, name) in opened {
        reader.open_section(&place, kind.to_owned(), name);
    }
    reader.set(&place, Path::new(""), key, value.trim());
    for _ in 0..depth {
        reader.push(&place, What::Close);
    }
    reader.items
}

/// The list under construction.
struct Reader {
    /// What was read so far.
    items: Vec<Item>,
    /// Files that may still be read.
    files_left: usize,
    /// The resolved paths of the files being read, each included by the one before.
    open: Vec<PathBuf>,
}

impl Reader {
    /// Nothing read yet.
    fn new() -> Reader {
        Reader {
            items: Vec::new(),
            files_left: FILES_MAX,
            open: Vec::new(),
        }
    }

    /// Appends an item.
    fn push(&mut self, place: &Place, what: What) {
        let place = place.clone();
        self.items.push(Item { place, what });
    }

    /// Appends a mistake.
    fn wrong(&mut self, place: &Place, message: String) {
        self.push(place, What::Wrong(message));
    }

    /// Appends the beginning of a section.
    fn open_section(&mut self, place: &Place, kind: String, name: Option<String>) {
        let closed = true;
        self.push(place, What::Open { kind, name, closed });
    }

    /// The content of a file.
    fn bytes(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        if self.files_left == 0 {
            return Err(io::Error::other(format!(
                "more than {FILES_MAX} files in one configuration"
            )));
        }
        self.files_left -= 1;
        let mut bytes = Vec::new();
        File::open(path)?
            .take(FILE_MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(io::Error::other("larger than 1 M"));
        }
        Ok(bytes)
    }

    /// Appends the items of the file `path` with the content `bytes`.
    fn file(&mut self, path: &Path, bytes: &[u8]) {
        let whole = Place::whole(&path.to_string_lossy());
        let dir = path.parent().unwrap_or(Path::new(""));
        // A path that cannot be resolved (a pipe's) can hardly include itself.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        self.open.push(resolved);
        // Sections that are open: where their items stand.
        let mut sections = Vec::new();
        for logical in lines::logical(bytes) {
            let place = whole.at(logical.line);
            if logical.replaced {
                self.wrong(&place, "not UTF-8 text".to_owned());
            }
            let (line, wrong) = lines::split(&logical.text);
            if let Some(wrong) = wrong {
                let message = format!("{wrong}: {}", quoted(logical.text.trim()));
                self.wrong(&place, message);
            }
            match line {
                Line::Nothing => {}
                Line::Open { kind, name } => {
                    sections.push(self.items.len());
                    self.open_section(&place, kind, name);
                }
                Line::Close if sections.pop().is_some() => self.push(&place, What::Close),
                Line::Close => self.wrong(&place, "this } closes no section".to_owned()),
                Line::Set { key, value } => self.set(&place, dir, key, &value),
                Line::Include {
                    pattern,
                    may_be_missing,
                } => self.include(&place, dir, &pattern, may_be_missing),
            }
        }
        for &index in sections.iter().rev() {
            self.push(&whole, What::Close);
            if let What::Open { closed, .. } = &mut self.items[index].what {
                *closed = false;
            }
        }
        self.open.pop();
    }

    /// Appends a setting whose value stands as `text` in a file of `dir`.
    fn set(&mut self, place: &Place, dir: &Path, key: String, text: &str) {
        let value = match lines::unquote(text) {
            Ok((value, true)) => Ok((value, true)),
            Ok((value, false)) => match value.strip_prefix('<') {
                Some(name) => self
                    .content(&dir.join(name.trim()))
                    .map(|value| (value, true)),
                None => Ok((value, false)),
            },
            Err(wrong) => Err(wrong.to_owned()),
        };
        let what = match value {
            Ok((value, literal)) => What::Set {
                key,
                value,
                literal,
            },
            Err(wrong) => What::Wrong(format!("{key}: {wrong}")),
        };
        self.push(place, what);
    }

    /// The content of a file as a value, without the line end after it.
    fn content(&mut self, path: &Path) -> Result<String, String> {
        let shown = quoted(&path.to_string_lossy());
        let bytes = self
            .bytes(path)
            .map_err(|err| format!("{shown} cannot be read: {err}"))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(_) => Err(format!("{shown} is not UTF-8 text")),
        }
    }

    /// Appends the items of the files that `pattern` means in a file of `dir`.
    fn include(&mut self, place: &Place, dir: &Path, pattern: &str, may_be_missing: bool) {
        let paths = if glob::is_pattern(pattern) {
            glob::expand(dir, pattern)
        } else {
            vec![dir.join(pattern)]
        };
        if paths.is_empty() && !may_be_missing {
            self.wrong(place, format!("no file matches {}", quoted(pattern)));
        }
        for path in paths {
            if path.is_dir() {
                continue;
            }
            let shown = quoted(&path.to_string_lossy());
            let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
            if self.open.contains(&resolved) {
                self.wrong(place, format!("{shown} includes itself"));
            } else if self.open.len() > INCLUDE_DEPTH_MAX {
                let message =
                    format!("{shown} is the end of more than {INCLUDE_DEPTH_MAX} nested includes");
                self.wrong(place, message);
            } else {
                match self.bytes(&path) {
                    Ok(bytes) => self.file(&path, &bytes),
                    // Dovecot 2.3: what !include_try may not read is skipped, too.
                    Err(err)
                        if may_be_missing
                            && matches!(
                                err.kind(),
                                ErrorKind::NotFound | ErrorKind::PermissionDenied
                            ) => {}
                    Err(err) => self.wrong(place, format!("{shown} cannot be read: {err}")),
                }
            }
        }
    }
}
