//! Mistakes of a configuration and the places they were made.
//!
//! Each mistake prints as one line, whatever control characters the text around
//! it contained; nothing here decides what a mistake is.

use std::fmt;
use std::rc::Rc;

/// Where a piece of configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named, or `-o NAME=VALUE`.
    pub source: Rc<str>,
    /// The line, counted from 1; none for an override or a file as a whole.
    pub line: Option<u32>,
}

impl Location {
    /// The place that is `source` as a whole.
    pub(crate) fn whole(source: &str) -> Location {
        Location {
            source: visible(source).into(),
            line: None,
        }
    }

    /// Line `line` of the same source.
    pub(super) fn at(&self, line: u32) -> Location {
        Location {
            source: Rc::clone(&self.source),
            line: Some(line),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub place: Location,
    /// What it is, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, visible(&self.message))
    }
}

/// All mistakes of one configuration, in reading order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// One mistake per line, without a line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// `text` in quotes for a message: escaped, and cut when it is long.
pub(super) fn quoted(text: &str) -> String {
    /// Most characters of the text that a message repeats.
    const SHOWN_CHARS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A name in quotes for a message. One that does not look like any is not shown:
/// the file may be another one than was meant, a key for example.
pub(super) fn named(name: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-./".contains(&b);
    match name.bytes().all(is_plain) {
        true => quoted(name),
        false => "whose name has other characters than a-z, 0-9, - and _".to_owned(),
    }
}

/// `text` with its control characters escaped.
pub(super) fn visible(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each() {
        let file = Location::whole("a\nb.conf");
        let mistakes = Mistakes(vec![
            Mistake {
                place: file.at(7),
                message: format!("unknown setting {}", quoted("x\ny")),
            },
            Mistake {
                place: file,
                message: "name\u{1b}\n: wrong".into(),
            },
        ]);
        assert_eq!(
            mistakes.to_string(),
            "a\\nb.conf:7: unknown setting \"x\\ny\"\na\\nb.conf: name\\u{1b}\\n: wrong"
        );
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(quoted(&"é".repeat(60)), format!("\"{}\"", "é".repeat(60)));
        let cut = format!("\"{}\"...", "é".repeat(60));
        assert_eq!(quoted(&"é".repeat(61)), cut);
    }
}
