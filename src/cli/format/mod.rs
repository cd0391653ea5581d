//! Rows as text.
//!
//! `tab`, `flow`, `pager` and `json` are, byte for byte, what doveadm 2.3 prints
//! with its `-f`; its quirks are kept, each where it is: fields end at a NUL, `json`
//! has no line end and every value a string, `tab` prints its header line even when
//! there are no statistics. So is `table` for a command that doveadm could have been
//! given, see [`Dialect`]. `csv` is RFC 4180, `ndjson` one object a line, with numbers.
//!
//! For a terminal it is different: what must not reach one is made visible, and columns
//! are as wide as they look.
//!
//! Invariant: no row is kept but the one being printed, and the first hundred for the
//! widths of `table`.

mod json;
mod table;

use super::width::visible;
use std::borrow::Cow;
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Header and rows, separated by TAB.
    #[default]
    Tab,
    /// Aligned columns.
    Table,
    /// One line of `name=value` for each row.
    Flow,
    /// One line of `name: value` for each field, a form feed between rows.
    Pager,
    /// One array of objects.
    Json,
    /// RFC 4180.
    Csv,
    /// One object a line.
    Ndjson,
}

impl Format {
    /// All formats and what they are called.
    pub(super) const ALL: [(Format, &'static str); 7] = [
        (Format::Tab, "tab"),
        (Format::Table, "table"),
        (Format::Flow, "flow"),
        (Format::Pager, "pager"),
        (Format::Json, "json"),
        (Format::Csv, "csv"),
        (Format::Ndjson, "ndjson"),
    ];

    /// The format of that name.
    pub(super) fn named(name: &str) -> Option<Format> {
        let found = Format::ALL.iter().find(|(_, own)| *own == name)?;
        Some(found.0)
    }

    /// What stands between dumps that follow each other.
    pub(super) fn between(self) -> &'static [u8] {
        match self {
            Format::Ndjson => b"",
            _ => b"\n",
        }
    }

    /// Whether values are written as JSON.
    fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson)
    }
}

/// What a format leaves to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A script made for doveadm: `table` is its own.
    Doveadm,
    /// All others: in `table` numbers stand at the right.
    Usual,
    /// A reader of frames, which doveadm never printed: `json` has numbers, too.
    Frames,
}

/// Prints one header and its rows.
pub(super) struct Printer<W: Write> {
    out: W,
    format: Format,
    dialect: Dialect,
    /// Whether that is a terminal.
    is_terminal: bool,
    /// The names of the columns.
    names: Vec<String>,
    /// Whether a row was printed.
    has_rows: bool,
    table: table::Widths,
}

impl<W: Write> Printer<W> {
    /// A printer for one header with its rows.
    pub(super) fn new(out: W, format: Format, dialect: Dialect, is_terminal: bool) -> Printer<W> {
        Printer {
            out,
            format,
            dialect,
            is_terminal,
            names: Vec::new(),
            has_rows: false,
            table: table::Widths::new(dialect == Dialect::Doveadm && !is_terminal),
        }
    }

    /// Prints what stands before the rows. Without names there are no
    /// statistics, and no row may follow.
    pub(super) fn header(&mut self, names: &[String]) -> io::Result<()> {
        self.names = names.to_vec();
        if self.is_terminal {
            for name in &mut self.names {
                *name = visible(name.as_bytes(), true);
            }
        }
        match self.format {
            Format::Tab => {
                let line = self.names.join("\t");
                self.out.write_all(format!("{line}\n").as_bytes())
            }
            Format::Csv if !names.is_empty() => {
                write_csv(&mut self.out, self.names.iter().map(String::as_bytes))
            }
            Format::Json => self.out.write_all(b"["),
            Format::Table => {
                self.table.start(&self.names);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Prints a row, which has as many fields as there are names.
    pub(super) fn row(&mut self, fields: &[&[u8]]) -> io::Result<()> {
        let shown: Vec<Cow<'_, [u8]>>;
        let borrowed: Vec<&[u8]>;
        let fields = if self.is_terminal && !self.format.is_json() {
            shown = fields
                .iter()
                .map(|field| Cow::Owned(visible(field, true).into_bytes()))
                .collect();
            borrowed = shown.iter().map(|field| &**field).collect();
            &borrowed[..]
        } else if !matches!(self.format, Format::Csv | Format::Ndjson) {
            borrowed = fields.iter().map(|field| until_nul(field)).collect();
            &borrowed[..]
        } else {
            fields
        };
        let is_first = !std::mem::replace(&mut self.has_rows, true);
        let (out, names) = (&mut self.out, &self.names);
        match self.format {
            Format::Tab => write_joined(out, fields),
            Format::Table => self.table.row(out, names, fields),
            Format::Flow => {
                for (n, (name, field)) in names.iter().zip(fields).enumerate() {
                    let before = if n > 0 { " " } else { "" };
                    write!(out, "{before}{name}=")?;
                    out.write_all(field)?;
                }
                out.write_all(b"\n")
            }
            Format::Pager => {
                if !is_first {
                    let before: &[u8] = if self.is_terminal { b"\n" } else { b"\x0c\n" };
                    out.write_all(before)?;
                }
                for (name, field) in names.iter().zip(fields) {
                    write!(out, "{name}: ")?;
                    out.write_all(field)?;
                    out.write_all(b"\n")?;
                }
                Ok(())
            }
            Format::Json => {
                if !is_first {
                    out.write_all(b",")?;
                }
                let numbers = self.dialect == Dialect::Frames;
                json::write_object(out, names, fields, (numbers, self.is_terminal))
            }
            Format::Csv => write_csv(out, fields.iter().copied()),
            Format::Ndjson => {
                json::write_object(out, names, fields, (true, self.is_terminal))?;
                out.write_all(b"\n")
            }
        }
    }

    /// Prints what stands behind the rows, and flushes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.format {
            Format::Table => self.table.flush(&mut self.out, &self.names)?,
            Format::Json => self.out.write_all(b"]")?,
            _ => {}
        }
        // doveadm leaves the line open, which on a terminal is a nuisance.
        if self.format == Format::Json && self.is_terminal {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

/// doveadm's fields are strings of C.
fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Writes fields as they are, TABs between.
fn write_joined(out: &mut impl Write, fields: &[&[u8]]) -> io::Result<()> {
    for (n, field) in fields.iter().enumerate() {
        if n > 0 {
            out.write_all(b"\t")?;
        }
        out.write_all(field)?;
    }
    out.write_all(b"\n")
}

/// Writes a line of CSV.
fn write_csv<'a>(out: &mut impl Write, fields: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    for (n, field) in fields.enumerate() {
        if n > 0 {
            out.write_all(b",")?;
        }
        if !field.iter().any(|byte| b",\"\r\n".contains(byte)) {
            out.write_all(field)?;
            continue;
        }
        out.write_all(b"\"")?;
        for (n, piece) in field.split(|&byte| byte == b'"').enumerate() {
            if n > 0 {
                out.write_all(b"\"\"")?;
            }
            out.write_all(piece)?;
        }
        out.write_all(b"\"")?;
    }
    out.write_all(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, is_terminal: bool, names: &str, rows: &[&[&[u8]]]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format, Dialect::Usual, is_terminal);
        let names = names.split_whitespace().map(str::to_owned);
        printer.header(&names.collect::<Vec<_>>()).unwrap();
        for row in rows {
            printer.row(row).unwrap();
        }
        printer.end().unwrap();
        out.escape_ascii().to_string()
    }

    #[test]
    fn formats_are_as_doveadm_prints_them() {
        let rows: [&[&[u8]]; 2] = [&[b"bob", b"1"], &[b"a\tb\0c", b"\x02\x7f\""]];
        for (format, expected) in [
            (Format::Tab, r#"u\tn\nbob\t1\na\tb\t\x02\x7f\"\n"#),
            (Format::Flow, r#"u=bob n=1\nu=a\tb n=\x02\x7f\"\n"#),
            (
                Format::Pager,
                r#"u: bob\nn: 1\n\x0c\nu: a\tb\nn: \x02\x7f\"\n"#,
            ),
            (
                Format::Json,
                r#"[{\"u\":\"bob\",\"n\":\"1\"},{\"u\":\"a\\tb\",\"n\":\"\\u0002\x7f\\\"\"}]"#,
            ),
            (
                Format::Csv,
                r#"u,n\r\nbob,1\r\na\tb\x00c,\"\x02\x7f\"\"\"\r\n"#,
            ),
            (
                Format::Ndjson,
                r#"{\"u\":\"bob\",\"n\":1}\n{\"u\":\"a\\tb\\u0000c\",\"n\":\"\\u0002\x7f\\\"\"}\n"#,
            ),
        ] {
            assert_eq!(printed(format, false, "u n", &rows), expected, "{format:?}");
        }
    }

    #[test]
    fn without_rows_and_without_statistics() {
        for (format, no_rows, nothing) in [
            (Format::Tab, "u\\tn\\n", "\\n"),
            (Format::Flow, "", ""),
            (Format::Pager, "", ""),
            (Format::Json, "[]", "[]"),
            (Format::Csv, "u,n\\r\\n", ""),
            (Format::Ndjson, "", ""),
        ] {
            assert_eq!(printed(format, false, "u n", &[]), no_rows, "{format:?}");
            assert_eq!(printed(format, false, "", &[]), nothing, "{format:?}");
        }
    }

    #[test]
    fn terminals_get_no_control_characters() {
        let all: Vec<u8> = (0..=255).collect();
        for (format, name) in Format::ALL {
            let row: [&[u8]; 2] = [&all, "\u{9b}2J\u{7f}".as_bytes()];
            let mut out = Vec::new();
            let mut printer = Printer::new(&mut out, format, Dialect::Usual, true);
            printer
                .header(&["a\x1b".to_owned(), "b".to_owned()])
                .unwrap();
            printer.row(&row).unwrap();
            printer.end().unwrap();
            let text = String::from_utf8(out).unwrap();
            let ends = ['\n', '\t', '\r'];
            let bad = text.chars().find(|c| c.is_control() && !ends.contains(c));
            assert_eq!(bad, None, "{name}: {text:?}");
        }
    }

    #[test]
    fn every_format_is_named() {
        for (format, name) in Format::ALL {
            assert_eq!(Format::named(name), Some(format));
        }
        assert_eq!(Format::named("TAB"), None);
    }
}
