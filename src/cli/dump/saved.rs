//! A dump read from a file: what `dump` printed in the format `tab`.
//!
//! That format does not escape, so a name with a TAB or a line end in it makes
//! lines of a wrong number of fields; they are skipped and counted.

use crate::cli::warn;
use crate::config::Fatal;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

pub(super) struct Saved {
    path: PathBuf,
    /// The names of the columns; none in a dump of no statistics.
    pub names: Vec<String>,
    /// What is still to be read.
    lines: BufReader<File>,
    skipped: u64,
}

impl Saved {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<Saved, Fatal> {
        let file = File::open(path).map_err(Fatal::io(path.display()))?;
        let mut saved = Saved {
            path: path.to_owned(),
            names: Vec::new(),
            lines: BufReader::new(file),
            skipped: 0,
        };
        let header = saved.line()?.unwrap_or_default();
        if !header.is_empty() {
            let names = header.split(|&byte| byte == b'\t');
            let text = |name| String::from_utf8_lossy(name).into_owned();
            saved.names = names.map(text).collect();
        }
        Ok(saved)
    }

    /// The fields of the next row, as many as there are names.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, Fatal> {
        while let Some(line) = self.line()? {
            let fields = line.split(|&byte| byte == b'\t').map(<[u8]>::to_vec);
            let fields: Vec<Vec<u8>> = fields.collect();
            if fields.len() == self.names.len() {
                return Ok(Some(fields));
            }
            // An empty line ends a reply that was saved as it came.
            self.skipped += u64::from(!line.is_empty());
        }
        if self.skipped > 0 {
            let (path, skipped) = (self.path.display(), self.skipped);
            let count = self.names.len();
            warn(&format!(
                "{path}: {skipped} lines that have not {count} fields"
            ));
        }
        Ok(None)
    }

    /// What to call it in a message.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The next line without its LF.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        let mut line = Vec::new();
        let result = self.lines.read_until(b'\n', &mut line);
        let count = result.map_err(Fatal::io(self.path.display()))?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok((count > 0).then_some(line))
    }
}
