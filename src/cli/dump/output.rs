//! Rows on their last steps: columns chosen, sorted, counted, printed.
//!
//! Owns: the meaning of `--fields`, `--sort` and `--limit`, and how `slow` shows rows.
//!
//! Invariants: a row is printed or dropped at once, unless rows are sorted;
//! of those, with a limit, little more than twice as many are kept, and never more
//! than [`MAX_SORTED_BYTES`].

use crate::cli::args::DumpOptions;
use crate::cli::column::{self, ValueKind};
use crate::cli::format::{Format, Printer};
use crate::cli::number;
use crate::cli::order::sorted;
use crate::cli::server::split;
use crate::cli::width::{fit, visible};
use crate::config::Fatal;
use crate::sys::local_time::LocalTime;
use crate::wire::push_escaped;
use std::borrow::Cow;
use std::io::{BufWriter, StdoutLock};
use std::mem::take;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// Rows that are sorted out at once beyond twice the limit.
const SLACK_ROWS: usize = 1000;

/// The most memory for rows to be sorted: some 2.5 million sessions with all columns.
const MAX_SORTED_BYTES: usize = 1 << 30;

/// What a row takes beside its bytes: its place in a vector that may double, and two
/// pieces of memory.
const ROW_BYTES: usize = 2 * size_of::<Sorted>() + 2 * 24;

/// The columns of `slow`, and what they are called in its table.
const SLOW: [(&str, &str); 11] = [
    ("host", "SERVER"),
    ("last_update", "TIME"),
    ("clock_time", "TOOK"),
    ("cpu", "CPU"),
    ("disk", "DISK"),
    ("io", "I/O"),
    ("user", "USER"),
    ("service", "SERVICE"),
    ("cmd", "COMMAND"),
    ("session", "SESSION"),
    ("args", "ARGUMENTS"),
];

/// How much of arguments is in that table.
const ARGS_COLUMNS: usize = 60;

/// A field of that table as people read it.
fn readable(name: &str, field: &[u8]) -> Vec<u8> {
    let millionths = column::number(field).unwrap_or(0);
    let micros = u64::try_from(millionths).unwrap_or(u64::MAX);
    match name {
        "last_update" => {
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            LocalTime::at(time).to_string().into_bytes()
        }
        "clock_time" | "cpu" => number::duration(micros).into_bytes(),
        "disk" | "io" => number::bytes(micros as f64 / 1e6).into_bytes(),
        "args" => {
            let text = visible(field, true);
            match fit(&text, ARGS_COLUMNS).0 {
                part if part.len() < text.len() => format!("{part}…").into_bytes(),
                // As every other format has it.
                _ => field.to_vec(),
            }
        }
        _ => field.to_vec(),
    }
}

pub(super) struct Output<'a> {
    options: &'a DumpOptions,
    printer: Printer<BufWriter<StdoutLock<'static>>>,
    shown: Vec<Column>,
    /// The rows to be sorted.
    sorter: Option<Sorter>,
    /// Rows that may still be printed.
    left: usize,
    has_header: bool,
    /// Whether values are written as people read them.
    is_for_people: bool,
}

impl<'a> Output<'a> {
    /// Prints to `stdout` in the format of the options.
    pub(super) fn new(
        options: &'a DumpOptions,
        stdout: BufWriter<StdoutLock<'static>>,
        is_terminal: bool,
    ) -> Output<'a> {
        Output {
            options,
            printer: Printer::new(stdout, options.format, options.dialect, is_terminal),
            shown: Vec::new(),
            sorter: None,
            left: options.limit.unwrap_or(usize::MAX),
            has_header: false,
            is_for_people: options.is_slow
                && options.fields.is_none()
                && options.format == Format::Table,
        }
    }

    /// Takes the names of the columns, once and before any row.
    ///
    /// # Errors
    /// [`Fatal::Usage`] when a column was asked for that is not there.
    pub(super) fn header(&mut self, names: &[String]) -> Result<(), Fatal> {
        self.has_header = true;
        self.shown = match &self.options.fields {
            // A server may not have all of them.
            None if self.options.is_slow => SLOW
                .iter()
                .filter_map(|(name, _)| Column::named(name, names).ok())
                .collect(),
            None => names.iter().enumerate().map(Column::at).collect(),
            Some(fields) => fields
                .iter()
                .map(|field| Column::named(field, names))
                .collect::<Result<_, _>>()?,
        };
        if let Some(sort) = &self.options.sort {
            self.sorter = Some(Sorter::new(sort, names, self.options.limit)?);
        }
        let shown: Vec<String> = self
            .shown
            .iter()
            .map(|column| {
                let title = SLOW.iter().find(|(name, _)| *name == column.name);
                let title = title.filter(|_| self.is_for_people);
                title.map_or_else(|| column.name.clone(), |(_, title)| (*title).to_owned())
            })
            .collect();
        self.printer.header(&shown).map_err(Fatal::output)
    }

    /// Takes a row, as long as the header; false when no more are wanted.
    ///
    /// # Errors
    /// [`Fatal::Data`] when there is more to sort than fits.
    pub(super) fn row(&mut self, fields: &[&[u8]]) -> Result<bool, Fatal> {
        let shown: Vec<Cow<'_, [u8]>> = self
            .shown
            .iter()
            .map(|column| column.field(fields))
            .collect();
        let shown: Vec<&[u8]> = shown.iter().map(|field| &**field).collect();
        match &mut self.sorter {
            Some(sorter) => match sorter.push(fields, &shown) {
                true => Ok(true),
                false => Err(Fatal::Data(
                    "the rows to sort take more than 1 GiB: choose fewer by a filter, --limit \
                         or --fields, or have sort(1) sort them"
                        .to_owned(),
                )),
            },
            None => {
                if self.left > 0 {
                    self.left -= 1;
                    self.print(&shown)?;
                }
                Ok(self.left > 0)
            }
        }
    }

    /// Prints the fields of a row.
    fn print(&mut self, fields: &[&[u8]]) -> Result<(), Fatal> {
        let texts: Vec<Vec<u8>>;
        let mut shown = fields.to_vec();
        if self.is_for_people {
            let columns = self.shown.iter().zip(fields);
            texts = columns
                .map(|(column, field)| readable(&column.name, field))
                .collect();
            shown = texts.iter().map(Vec::as_slice).collect();
        }
        self.printer.row(&shown).map_err(Fatal::output)
    }

    /// Prints what is left; if no header came, what stands for that when
    /// `or_nothing`. Gives whether one came.
    pub(super) fn end(&mut self, or_nothing: bool) -> Result<bool, Fatal> {
        if let Some(mut sorter) = self.sorter.take() {
            sorter.cut();
            let mut spans = Vec::new();
            for mut row in sorter.rows {
                let fields: Vec<&[u8]> = split(&mut row.line, &mut spans).fields().collect();
                self.print(&fields)?;
            }
        }
        if !self.has_header {
            if !or_nothing {
                return Ok(false);
            }
            self.printer.header(&[]).map_err(Fatal::output)?;
        }
        self.printer.end().map_err(Fatal::output)?;
        Ok(self.has_header)
    }
}

/// A column, or the sum of several.
struct Column {
    name: String,
    /// Where it is in a row; of a sum, where its parts are.
    places: Vec<usize>,
    kind: ValueKind,
}

impl Column {
    /// The column of that name at that place.
    fn at((place, name): (usize, &String)) -> Column {
        Column {
            name: name.clone(),
            places: vec![place],
            kind: ValueKind::of(name),
        }
    }

    /// The column or sum that `text` means, see [`column::named`].
    ///
    /// # Errors
    /// [`Fatal::Usage`] when it is not among the columns there are.
    fn named(text: &str, names: &[String]) -> Result<Column, Fatal> {
        let place = |name: &str| {
            names
                .iter()
                .position(|other| other.eq_ignore_ascii_case(name))
        };
        let name = column::named(text);
        if let Some(at) = place(&name) {
            return Ok(Column::at((at, &names[at])));
        }
        let sum = column::SUMS.iter().find(|(sum, _)| *sum == name);
        let places = sum.and_then(|(_, parts)| parts.iter().map(|part| place(part)).collect());
        match (places, sum) {
            (Some(places), Some((_, parts))) => Ok(Column {
                name,
                places,
                kind: ValueKind::of(parts[0]),
            }),
            _ => {
                let has_parts =
                    |(_, parts): &&(&str, &[&str])| parts.iter().all(|part| place(part).is_some());
                let sums = column::SUMS.iter().filter(has_parts).map(|(sum, _)| *sum);
                let all: Vec<&str> = names.iter().map(String::as_str).chain(sums).collect();
                let all = all.join(" ");
                Err(Fatal::Usage(format!(
                    "no column {text:?}; there are: {all}"
                )))
            }
        }
    }

    /// Its field of a row.
    fn field<'a>(&self, fields: &[&'a [u8]]) -> Cow<'a, [u8]> {
        match self.places[..] {
            [place] => Cow::Borrowed(fields[place]),
            _ => self.number(fields).map_or(Cow::Borrowed(b""), |sum| {
                Cow::Owned(column::written(self.kind, sum).into_bytes())
            }),
        }
    }

    /// Its number in a row, in millionths; `None` for anything else.
    fn number(&self, fields: &[&[u8]]) -> Option<u128> {
        self.places
            .iter()
            .map(|&at| column::number(fields[at]))
            .sum()
    }

    /// What a row is sorted by.
    fn key(&self, fields: &[&[u8]]) -> Box<[u8]> {
        let field = fields[self.places[0]];
        match self.kind {
            ValueKind::Text if self.name == "ip" => address_key(field),
            ValueKind::Text => field.into(),
            _ => match self.number(fields) {
                Some(number) => Box::new(number.to_be_bytes()),
                None => Box::default(),
            },
        }
    }
}

/// What addresses are sorted by: IPv4 before IPv6, each by its bytes. What is none
/// comes first.
fn address_key(field: &[u8]) -> Box<[u8]> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    match text.parse() {
        Ok(IpAddr::V4(ip)) => [&[4][..], &ip.octets()].concat().into(),
        Ok(IpAddr::V6(ip)) => [&[6][..], &ip.octets()].concat().into(),
        Err(_) => Box::default(),
    }
}

/// A row to be sorted.
struct Sorted {
    /// What it is sorted by, so that bytes compare: a text, an address, or a number (16
    /// bytes); what is no number is empty, and less than all.
    key: Box<[u8]>,
    /// The fields to print as a line of the protocol: that takes the least memory.
    line: Box<[u8]>,
}

impl Sorted {
    /// Memory of the row.
    fn bytes(&self) -> usize {
        ROW_BYTES + self.key.len() + self.line.len()
    }
}

struct Sorter {
    column: Column,
    /// Whether the largest comes first.
    is_descending: bool,
    /// The most rows to keep.
    limit: usize,
    rows: Vec<Sorted>,
    /// Memory of the rows.
    bytes: usize,
    /// The most memory for them.
    max_bytes: usize,
}

impl Sorter {
    /// Reads what is to be sorted by: numbers the largest first, texts the
    /// smallest, a `-` turns that.
    fn new(sort: &str, names: &[String], limit: Option<usize>) -> Result<Sorter, Fatal> {
        let turned = sort.strip_prefix('-').or_else(|| sort.strip_suffix('-'));
        let column = Column::named(turned.unwrap_or(sort), names)?;
        let is_text = column.kind == ValueKind::Text;
        Ok(Sorter {
            column,
            is_descending: is_text == turned.is_some(),
            limit: limit.unwrap_or(usize::MAX),
            rows: Vec::new(),
            bytes: 0,
            max_bytes: MAX_SORTED_BYTES,
        })
    }

    /// Takes a row: all its fields, and those to print; false when there is no room
    /// for it.
    fn push(&mut self, fields: &[&[u8]], shown: &[&[u8]]) -> bool {
        let key = self.column.key(fields);
        let mut line = Vec::new();
        for (n, field) in shown.iter().enumerate() {
            if n > 0 {
                line.push(b'\t');
            }
            push_escaped(&mut line, field);
        }
        let row = Sorted {
            key,
            line: line.into(),
        };
        self.bytes += row.bytes();
        self.rows.push(row);
        let most = self.limit.saturating_mul(2).saturating_add(SLACK_ROWS);
        if self.rows.len() >= most {
            self.cut();
        }
        if self.bytes <= self.max_bytes {
            return true;
        }
        self.cut();
        // With less to gain, every few rows would have all of them sorted.
        self.bytes <= self.max_bytes / 2
    }

    /// Sorts, and drops what is past the limit. Rows with equal keys stay in the
    /// order they came.
    fn cut(&mut self) {
        let is_descending = self.is_descending;
        self.rows = sorted(take(&mut self.rows), &|a, b| {
            let keys = a.key.cmp(&b.key);
            if is_descending {
                keys.reverse()
            } else {
                keys
            }
        });
        let cut = self.rows.iter().skip(self.limit).map(Sorted::bytes);
        self.bytes -= cut.sum::<usize>();
        self.rows.truncate(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first fields of rows in sorted order.
    fn sorted(sort: &str, limit: Option<usize>, rows: &[[&str; 3]]) -> Vec<String> {
        let names = ["user", "user_cpu", "sys_cpu"].map(str::to_owned);
        let mut sorter = Sorter::new(sort, &names, limit).unwrap();
        for row in rows {
            let fields = row.map(str::as_bytes);
            sorter.push(&fields, &fields[..1]);
        }
        sorter.cut();
        let lines = sorter.rows.into_iter().map(|row| row.line.to_vec());
        lines.map(|line| String::from_utf8(line).unwrap()).collect()
    }

    const ROWS: [[&str; 3]; 4] = [
        ["b", "9.0", "0"],
        ["c", "10.0", "0.5"],
        ["a", "10.0", "0.000006"],
        ["d", "?", "1"],
    ];

    #[test]
    fn numbers_descend_and_texts_ascend_unless_turned() {
        for (sort, expected) in [
            ("user", "a b c d"),
            ("-user", "d c b a"),
            ("user-", "d c b a"),
            ("user_cpu", "c a b d"),
            ("user_cpu-", "d b c a"),
            ("cpu", "a c b d"),
            ("CPU%", "a c b d"),
            ("User", "a b c d"),
            ("USER%", "c a b d"),
        ] {
            assert_eq!(sorted(sort, None, &ROWS).join(" "), expected, "{sort}");
        }
    }

    #[test]
    fn a_limit_keeps_the_first_of_all() {
        let names = ["n".to_owned()];
        let mut sorter = Sorter::new("n", &names, Some(3)).unwrap();
        for n in 0..10_000u64 {
            let field = (n * 7919 % 10_007).to_string();
            assert!(sorter.push(&[field.as_bytes()], &[field.as_bytes()]));
            assert!(sorter.rows.len() < 3 * 2 + SLACK_ROWS);
        }
        sorter.cut();
        let lines: Vec<_> = sorter.rows.iter().map(|row| &*row.line).collect();
        let mut all: Vec<u64> = (0..10_000).map(|n| n * 7919 % 10_007).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let expected: Vec<String> = all[..3].iter().map(u64::to_string).collect();
        assert_eq!(
            lines,
            expected.iter().map(|n| n.as_bytes()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn rows_that_take_too_much_are_refused() {
        let names = ["n".to_owned()];
        // The number as its key takes 16 bytes.
        let row_bytes = ROW_BYTES + 16 + 3;
        for (limit, max_bytes, fitting) in [
            (None, 4 * row_bytes - 1, 3),
            (None, 4 * row_bytes, 4),
            (None, 4 * row_bytes + 1, 4),
            (Some(3), 4 * row_bytes, 4),
            (Some(2), 4 * row_bytes - 1, 3),
            (Some(2), 4 * row_bytes, 10),
            (Some(2), 4 * row_bytes + 1, 10),
        ] {
            let mut sorter = Sorter::new("n", &names, limit).unwrap();
            sorter.max_bytes = max_bytes;
            let rows = ["100", "101", "102", "103", "104"].repeat(2);
            let fits = |row: &&&str| sorter.push(&[row.as_bytes()], &[row.as_bytes()]);
            assert_eq!(rows.iter().take_while(fits).count(), fitting, "{max_bytes}");
            let kept: usize = sorter.rows.iter().map(Sorted::bytes).sum();
            assert_eq!(sorter.bytes, kept);
        }
    }

    #[test]
    fn addresses_sort_as_addresses() {
        let names = ["ip".to_owned()];
        let mut sorter = Sorter::new("ip", &names, None).unwrap();
        let ips = [
            "10.0.0.9",
            "2001:db8::1",
            "",
            "10.0.0.10",
            "9.255.0.1",
            "::2",
        ];
        for ip in ips {
            sorter.push(&[ip.as_bytes()], &[ip.as_bytes()]);
        }
        sorter.cut();
        let lines: Vec<_> = sorter
            .rows
            .iter()
            .map(|row| row.line.escape_ascii().to_string())
            .collect();
        let expected = [
            "",
            "9.255.0.1",
            "10.0.0.9",
            "10.0.0.10",
            "::2",
            "2001:db8::1",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_column_that_is_not_there_is_a_wrong_command_line() {
        let names = ["user".to_owned()];
        for sort in ["ip", "cpu", "DISK", "", "-"] {
            assert_eq!(Sorter::new(sort, &names, None).err().unwrap().code(), 64);
        }
    }
}
