//! Configuration files and `-o` arguments become one flat list of items.
//!
//! It owns all file reading of this room: the main file, what it includes, and,
//! for `build`, values of the form `<file`. Relative names are relative to the
//! file that has them. Whatever the files contain, reading ends: files have a
//! largest size, one load a largest number of them and of names that patterns look
//! at, includes a largest depth, and a file does not include itself. Only regular
//! files are opened, so nothing is waited for; the main file alone may be a pipe,
//! as a shell passes one, when it is read for the first time.
//!
//! Invariants: in the list every `Open` has its `Close`, forgotten or not, per file,
//! so that a brace forgotten in one file never changes what another one means.
//! Names and values are not judged here, and no message repeats the text of a line:
//! the file may be another one than was meant, a key for example.

mod glob;
pub(super) mod lines;

use super::mistake::{quoted, Location};
use super::{Source, OUR_FILE};
use crate::sys::fs::dir::open_regular;
use crate::sys::reason;
use lines::Line;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const FILE_MAX_BYTES: u64 = 1 << 20;
/// Most files read by one load, a file read twice counted twice.
const FILES_MAX: usize = 1000;
/// Most includes inside one another.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Most names in directories that the patterns of one load look at.
const NAMES_MAX: usize = 10_000;

/// A piece of configuration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub place: Location,
    /// The file by its index in [`Text::files`]; none for an override.
    pub file: Option<usize>,
    pub what: What,
}

#[derive(Debug, Default)]
pub(super) struct Text {
    /// The pieces in reading order.
    pub items: Vec<Item>,
    /// The files they came from, the main file first.
    pub files: Vec<FileRead>,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct FileRead {
    /// The directory that relative names in it start from.
    pub dir: Rc<Path>,
    pub is_ours: bool,
    /// The include that names it; none: the main file.
    pub included: Option<Included>,
}

/// An include by which a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Included {
    /// The file that has the line.
    pub by: usize,
    /// The number of the line among all includes.
    pub include: usize,
    /// Whether the line names files by a pattern.
    pub is_pattern: bool,
    /// Whether that is relative to its own file.
    pub is_relative: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A section begins; one that could not be read has an empty kind.
    Open {
        kind: String,
        name: Option<String>,
        /// Whether its closing brace was there. Reported where the section begins,
        /// since its end is not known.
        closed: bool,
    },
    Close,
    Set {
        key: String,
        /// Its value as it stands there, quotes and all.
        value: String,
    },
    /// A line that breaks a rule of the syntax.
    Broken(String),
    /// Another mistake: something may be missing from the list.
    Wrong(String),
}

/// Reads the main file and everything it includes.
pub(super) fn read(source: &Source) -> Text {
    let path = source.path();
    let mut reader = Reader::new();
    let opened = match source {
        Source::Named(_) => File::open(path),
        Source::Again(_) | Source::Default(_) => open_regular(path),
    };
    match opened.and_then(|file| reader.bytes(file)) {
        Ok(bytes) => reader.file(path, &bytes, None),
        Err(error)
            if matches!(source, Source::Default(_)) && error.kind() == ErrorKind::NotFound => {}
        Err(error) => reader.wrong(
            &Location::whole(&path.to_string_lossy()),
            format!("cannot be read: {}", reason(&error)),
        ),
    }
    reader.text
}

/// The content of a file as a value, without the line end after it. No message
/// shows any of it.
///
/// # Errors
/// Why there is none.
pub(super) fn content(path: &Path, max_bytes: usize) -> Result<String, String> {
    let shown = quoted(&path.to_string_lossy());
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{shown} cannot be read: {}", reason(&error)))?;
    match String::from_utf8(bytes) {
        Ok(text) if text.len() <= max_bytes => Ok(text.trim_end().to_owned()),
        Ok(_) => Err(format!("{shown} is longer than {max_bytes} bytes")),
        Err(_) => Err(format!("{shown} is not UTF-8 text")),
    }
}

/// The items of one `-o` argument, with its place for messages.
///
/// Sections are divided by slashes: `service/stats/user=mail`. Everything between
/// the kind of a listener and the setting is the listener's name, its slashes
/// included: `service/stats/unix_listener//run/mail/stats/mode=0666`.
#[cold]
#[inline(never)]
pub(super) fn overriding(place: &str, text: &str) -> Vec<Item> {
    let mut reader = Reader::new();
    let place = Location::whole(place);
    let Some((path, value)) = text.split_once('=') else {
        reader.wrong(&place, "expected NAME=VALUE".to_owned());
        return reader.text.items;
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
    let value = value.trim().to_owned();
    reader.push(&place, What::Set { key, value });
    for _ in 0..depth {
        reader.push(&place, What::Close);
    }
    reader.text.items
}

struct Reader {
    /// What was read so far.
    text: Text,
    /// Files that may still be read.
    files_left: usize,
    /// Names that patterns may still look at.
    names_left: usize,
    includes: usize,
    /// The files being read, each included by the one before: their resolved paths
    /// and their indexes.
    open: Vec<(PathBuf, usize)>,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            text: Text::default(),
            files_left: FILES_MAX,
            names_left: NAMES_MAX,
            includes: 0,
            open: Vec::new(),
        }
    }

    #[inline(never)]
    fn push(&mut self, place: &Location, what: What) {
        let place = place.clone();
        let file = self.open.last().map(|(_, file)| *file);
        self.text.items.push(Item { place, file, what });
    }

    fn wrong(&mut self, place: &Location, message: String) {
        self.push(place, What::Wrong(message));
    }

    /// Appends the beginning of a section.
    fn open_section(&mut self, place: &Location, kind: String, name: Option<String>) {
        let closed = true;
        self.push(place, What::Open { kind, name, closed });
    }

    /// The content of a configuration file.
    fn bytes(&mut self, file: File) -> io::Result<Vec<u8>> {
        if self.files_left == 0 {
            return Err(io::Error::other(format!(
                "more than {FILES_MAX} files in one configuration"
            )));
        }
        self.files_left -= 1;
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(io::Error::other("larger than 1 M"));
        }
        Ok(bytes)
    }

    /// Appends the items of the file `path` with the content `bytes`.
    fn file(&mut self, path: &Path, bytes: &[u8], included: Option<Included>) {
        let whole = Location::whole(&path.to_string_lossy());
        let dir: Rc<Path> = path.parent().unwrap_or(Path::new("")).into();
        self.text.files.push(FileRead {
            dir: Rc::clone(&dir),
            is_ours: path == Path::new(OUR_FILE),
            included,
        });
        // A path that cannot be resolved (a pipe's) can hardly include itself.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        self.open.push((resolved, self.text.files.len() - 1));
        // Sections that are open: where their items stand.
        let mut sections = Vec::new();
        for logical in lines::logical(bytes) {
            let place = whole.at(logical.line);
            if logical.replaced {
                self.push(&place, What::Broken("not UTF-8 text".to_owned()));
            }
            let (line, wrong) = lines::split(&logical.text);
            if let Some(wrong) = wrong {
                self.push(&place, What::Broken(wrong.to_owned()));
            }
            match line {
                Line::Nothing => {}
                Line::Open { kind, name } => {
                    sections.push(self.text.items.len());
                    self.open_section(&place, kind, name);
                }
                Line::Close if sections.pop().is_some() => self.push(&place, What::Close),
                Line::Close => self.wrong(&place, "this } closes no section".to_owned()),
                Line::Set { key, value } => self.push(&place, What::Set { key, value }),
                Line::Include {
                    pattern,
                    may_be_missing,
                } => self.include(&place, &dir, &pattern, may_be_missing),
            }
        }
        for &index in sections.iter().rev() {
            self.push(&whole, What::Close);
            if let What::Open { closed, .. } = &mut self.text.items[index].what {
                *closed = false;
            }
        }
        self.open.pop();
    }

    /// Appends the items of the files that `pattern` means in a file of `dir`.
    fn include(&mut self, place: &Location, dir: &Path, pattern: &str, may_be_missing: bool) {
        let is_pattern = glob::is_pattern(pattern);
        let paths = if is_pattern {
            glob::expand(dir, pattern, &mut self.names_left)
        } else {
            Some(vec![dir.join(pattern)])
        };
        let Some(paths) = paths else {
            let message = format!(
                "{} is not searched any further: the patterns of one configuration may look at \
                 {NAMES_MAX} names",
                quoted(pattern)
            );
            return self.wrong(place, message);
        };
        if paths.is_empty() && !may_be_missing {
            self.wrong(place, format!("no file matches {}", quoted(pattern)));
        }
        self.includes += 1;
        let included = self.open.last().map(|(_, by)| Included {
            by: *by,
            include: self.includes,
            is_pattern,
            is_relative: Path::new(pattern).is_relative(),
        });
        for path in paths {
            if path.is_dir() {
                continue;
            }
            let shown = quoted(&path.to_string_lossy());
            let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
            if self.open.iter().any(|(open, _)| *open == resolved) {
                self.wrong(place, format!("{shown} includes itself"));
            } else if self.open.len() > INCLUDE_DEPTH_MAX {
                let message =
                    format!("{shown} is the end of more than {INCLUDE_DEPTH_MAX} nested includes");
                self.wrong(place, message);
            } else {
                match open_regular(&path).and_then(|file| self.bytes(file)) {
                    Ok(bytes) => self.file(&path, &bytes, included),
                    // Dovecot 2.3: what !include_try may not read is skipped, too.
                    Err(error)
                        if may_be_missing
                            && matches!(
                                error.kind(),
                                ErrorKind::NotFound | ErrorKind::PermissionDenied
                            ) => {}
                    Err(error) => {
                        let why = reason(&error);
                        self.wrong(place, format!("{shown} cannot be read: {why}"));
                    }
                }
            }
        }
    }
}
