//! Replies to EXPORT: bytes in, headers and rows out.

use crate::store::Level;
use crate::sys::mem::bytes::find;
use crate::wire::unescape;
use std::io::{self, Read};

/// The longest line of a reply. The daemon keeps texts of at most a FIFO's
/// record (8 KiB, doubled by escapes), the original's are no longer.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The most columns of a reply: many more than any server has.
const MAX_COLUMNS: usize = 1000;

/// The most rows of a reply: one with more has no end.
const MAX_ROWS: u64 = 100_000_000;

/// How much one [`ReplyParser::fill`] reads at most.
const READ_BYTES: usize = 64 << 10;

const ESCAPE: u8 = 1;

/// How much of an answer that is no reply is shown.
const SHOWN_CHARS: usize = 40;

/// What comes next in the replies to EXPORT.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// A reply begins: the names of its columns.
    Header(Vec<String>),
    Row(R),
    /// The reply that had a header has ended.
    End,
    /// A whole reply: an empty first line, there are no such statistics.
    Nothing,
}

impl<R> Event<R> {
    /// Converts the row, if there is one.
    fn map_row<S>(self, map: impl FnOnce(R) -> S) -> Event<S> {
        match self {
            Event::Header(names) => Event::Header(names),
            Event::Row(row) => Event::Row(map(row)),
            Event::End => Event::End,
            Event::Nothing => Event::Nothing,
        }
    }
}

/// The fields of one row, unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The line they lie in.
    line: &'a [u8],
    /// Where each begins and ends there.
    spans: &'a [(usize, usize)],
}

impl<'a> Row<'a> {
    /// A field; empty if the row is too short to have it.
    pub fn get(&self, column: usize) -> &'a [u8] {
        self.spans
            .get(column)
            .map_or(&[], |&(start, end)| &self.line[start..end])
    }

    pub fn fields(self) -> impl Iterator<Item = &'a [u8]> {
        self.spans
            .iter()
            .map(move |&(start, end)| &self.line[start..end])
    }
}

/// Replies from pieces of them. Several may follow each other.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// What was read: lines that were returned, up to `done`, then others.
    buffer: Vec<u8>,
    /// The end of the last line returned.
    done: usize,
    /// Up to here there is no LF behind `done`.
    searched: usize,
    /// Whether the header of the reply was returned.
    in_rows: bool,
    /// The rows of the reply so far.
    rows: u64,
    /// The fields of the last row.
    spans: Vec<(usize, usize)>,
}

impl ReplyParser {
    /// Takes bytes as they came.
    #[cfg(any(test, feature = "internals"))]
    pub fn feed(&mut self, bytes: &[u8]) {
        self.discard_read();
        self.buffer.extend_from_slice(bytes);
    }

    /// Reads once from `source`, at most 64 KiB; 0: it is at its end.
    pub(crate) fn fill(&mut self, mut source: impl Read) -> io::Result<usize> {
        self.discard_read();
        let end = self.buffer.len();
        self.buffer.resize(end + READ_BYTES, 0);
        let result = loop {
            match source.read(&mut self.buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(end + result.as_ref().unwrap_or(&0));
        result
    }

    /// The next event that is complete, `None` when more bytes are needed.
    ///
    /// # Errors
    /// `InvalidData` for a line of more than `MAX_LINE_BYTES`, a header of more than
    /// `MAX_COLUMNS`, and more than `MAX_ROWS`: the rest cannot be read.
    #[allow(clippy::should_implement_trait, reason = "rows borrow the parser")]
    pub fn next(&mut self) -> io::Result<Option<Event<Row<'_>>>> {
        let event = self.next_span()?;
        Ok(event.map(|event| {
            event.map_row(|(start, end)| split(&mut self.buffer[start..end], &mut self.spans))
        }))
    }

    /// The next event, with a row as its line, to be taken apart by [`split`] if at all.
    ///
    /// # Errors
    /// See [`ReplyParser::next`].
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Event<&mut [u8]>>> {
        let event = self.next_span()?;
        Ok(event.map(|event| event.map_row(|(start, end)| &mut self.buffer[start..end])))
    }

    /// The next event, with a row as its place in the buffer.
    fn next_span(&mut self) -> io::Result<Option<Event<(usize, usize)>>> {
        let fresh = &self.buffer[self.searched..];
        let found = find(b'\n', fresh);
        let end = self.searched + found.unwrap_or(fresh.len());
        if end - self.done > MAX_LINE_BYTES {
            return Err(too_much("line of a reply is longer than 1 MiB"));
        }
        self.searched = end + usize::from(found.is_some());
        if found.is_none() {
            return Ok(None);
        }
        let start = std::mem::replace(&mut self.done, self.searched);
        let was_in_rows = self.in_rows;
        self.in_rows = start < end;
        Ok(Some(match (was_in_rows, self.in_rows) {
            (true, true) => {
                self.rows += 1;
                if self.rows > MAX_ROWS {
                    return Err(too_much("reply has more than 100 million rows, so no end"));
                }
                Event::Row((start, end))
            }
            (true, false) => Event::End,
            (false, false) => Event::Nothing,
            (false, true) => {
                self.rows = 0;
                let row = split(&mut self.buffer[start..end], &mut self.spans);
                if row.spans.len() > MAX_COLUMNS {
                    return Err(too_much("reply has more than 1000 columns"));
                }
                let name = |name| String::from_utf8_lossy(name).into_owned();
                Event::Header(row.fields().map(name).collect())
            }
        }))
    }

    /// Whether the bytes so far end between two replies.
    pub fn is_between_replies(&self) -> bool {
        !self.in_rows && self.done == self.buffer.len()
    }

    /// Drops the lines that were returned.
    fn discard_read(&mut self) {
        self.buffer.drain(..self.done);
        self.searched -= self.done;
        self.done = 0;
    }
}

/// The error for more than is kept.
fn too_much(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Cuts a line without its LF into unescaped fields; `spans` is overwritten.
pub(crate) fn split<'a>(line: &'a mut [u8], spans: &'a mut Vec<(usize, usize)>) -> Row<'a> {
    spans.clear();
    let mut start = 0;
    for (at, _) in line.iter().enumerate().filter(|(_, &byte)| byte == b'\t') {
        spans.push((start, at));
        start = at + 1;
    }
    spans.push((start, line.len()));
    // Hardly any line has one.
    if find(ESCAPE, line).is_some() {
        for (start, end) in &mut *spans {
            *end = *start + unescape(&mut line[*start..*end]).len();
        }
    }
    Row { line, spans }
}

/// What kind of server answers, by the first line of its answer; `None` if that is a
/// header of the level.
pub(crate) fn foreign(level: Level, names: &[String]) -> Option<String> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let key = match level {
        Level::Command => "cmd",
        Level::Global => "reset_timestamp",
        level => level.name(),
    };
    let first = names.first().map_or("", String::as_str);
    let ends_in_cr = names.last().is_some_and(|name| name.ends_with('\r'));
    match (first, names.get(1)) {
        ("VERSION", Some(protocol)) => Some(format!(
            "this is a socket of Dovecot's protocol {protocol}, not of the statistics that \
             doveadm oldstats prints: those have a socket old-stats, or stats in Dovecot 2.2"
        )),
        _ if first.starts_with("HTTP/") => {
            Some("this is an HTTP server, not a statistics service".to_owned())
        }
        _ if has(key) && ends_in_cr => {
            Some("its lines end in CR LF, so its reply has no end that is one".to_owned())
        }
        _ if has(key) => None,
        _ => {
            let shown: String = names.join("\t").chars().take(SHOWN_CHARS).collect();
            Some(format!(
                "not a statistics service: its answer begins with {shown:?}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as text, from pieces of `step` bytes.
    fn events(bytes: &[u8], step: usize) -> Vec<String> {
        let mut parser = ReplyParser::default();
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            parser.feed(piece);
            while let Some(event) = parser.next().unwrap() {
                out.push(match event {
                    Event::Header(names) => format!("header {}", names.join(",")),
                    Event::Row(row) => {
                        let texts = row.fields().map(|field| field.escape_ascii().to_string());
                        format!("row {}", texts.collect::<Vec<_>>().join(","))
                    }
                    Event::End => "end".to_owned(),
                    Event::Nothing => "nothing".to_owned(),
                });
            }
        }
        assert!(parser.is_between_replies());
        out
    }

    #[test]
    fn replies_may_be_cut_anywhere() {
        let bytes = b"\na\tb\nx\x01ty\t\n\x01\x01n\n1\t2\t3\n\nc\n\n\n";
        for step in 1..=bytes.len() {
            assert_eq!(
                events(bytes, step),
                [
                    "nothing",
                    "header a,b",
                    "row x\\ty,",
                    "row \\x01n",
                    "row 1,2,3",
                    "end",
                    "header c",
                    "end",
                    "nothing",
                ],
                "{step}"
            );
        }
    }

    #[test]
    fn fields_that_are_not_there_are_empty() {
        let mut parser = ReplyParser::default();
        parser.feed(b"a\tb\n1\n");
        assert!(matches!(parser.next(), Ok(Some(Event::Header(_)))));
        let Ok(Some(Event::Row(row))) = parser.next() else {
            panic!("no row");
        };
        assert_eq!(
            (row.spans.len(), row.get(0), row.get(1)),
            (1, &b"1"[..], &b""[..])
        );
        assert!(!parser.is_between_replies());
    }

    #[test]
    fn the_longest_line_is_known() {
        for (len, fits) in [
            (MAX_LINE_BYTES - 1, true),
            (MAX_LINE_BYTES, true),
            (MAX_LINE_BYTES + 1, false),
        ] {
            for end in ["", "\n"] {
                let mut parser = ReplyParser::default();
                parser.feed("x".repeat(len).as_bytes());
                parser.feed(end.as_bytes());
                assert_eq!(parser.next().is_ok(), fits, "{len}");
            }
        }
    }

    #[test]
    fn the_most_rows_are_known() {
        for (before, fits) in [
            (MAX_ROWS - 2, true),
            (MAX_ROWS - 1, true),
            (MAX_ROWS, false),
        ] {
            let mut parser = ReplyParser::default();
            parser.feed(b"a\n1\n\na\n1\n");
            for _ in 0..2 {
                assert!(matches!(parser.next(), Ok(Some(Event::Header(_)))));
                assert_eq!(parser.rows, 0);
                parser.rows = before;
                assert_eq!(parser.next().is_ok(), fits, "{before}");
                let _ = parser.next();
            }
        }
    }

    #[test]
    fn the_most_columns_are_known() {
        for (columns, fits) in [
            (MAX_COLUMNS - 1, true),
            (MAX_COLUMNS, true),
            (MAX_COLUMNS + 1, false),
        ] {
            let mut parser = ReplyParser::default();
            parser.feed(vec!["c"; columns].join("\t").as_bytes());
            parser.feed(b"\n");
            assert_eq!(parser.next().is_ok(), fits, "{columns}");
        }
    }

    #[test]
    fn what_is_no_service_of_ours_is_named() {
        let header = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        for (level, line, expected) in [
            (Level::User, "user\tnum_cmds", None),
            (Level::Global, "reset_timestamp\tlast_update", None),
            (Level::Command, "cmd\targs", None),
            (
                Level::User,
                "VERSION\tstats-reader-server\t2\t0",
                Some("protocol stats-reader-server,"),
            ),
            (
                Level::User,
                "HTTP/1.1 400 Bad Request\r",
                Some("an HTTP server"),
            ),
            (Level::User, "user\tnum_cmds\r", Some("CR LF")),
            (Level::User, "OK", Some("begins with \"OK\"")),
            (Level::User, "session\tip", Some("\"session\\tip\"")),
            (Level::User, "SSH-2.0-OpenSSH\x1b[2J", Some("\\u{1b}[2J")),
        ] {
            let found = foreign(level, &header(line));
            match expected {
                None => assert_eq!(found, None, "{line}"),
                Some(expected) => {
                    assert!(found.is_some_and(|text| text.contains(expected)), "{line}")
                }
            }
        }
    }
}
