//! Rows on their last steps: columns chosen, sorted, counted, printed.
//!
//! Owns: the meaning of `--fields`, `--sort` and `--limit`.
//!
//! Invariants: a row is printed or forgotten at once, unless rows are sorted;
//! of those, with a limit, little more than twice as many are kept.

use crate::cli::column::{self, Kind};
use crate::cli::fatal::Fatal;
use crate::cli::format::Printer;
use crate::cli::options::DumpOptions;
use crate::cli::server::split;
use crate::wire::push_escaped;
use std::io::{BufWriter, StdoutLock};

/// Rows that are sorted out at once beyond twice the limit.
const SLACK_ROWS: usize = 1000;

/// Where rows end.
pub struct Output<'a> {
    /// What was asked for.
    options: &'a DumpOptions,
    /// How rows are printed.
    printer: Printer<BufWriter<StdoutLock<'static>>>,
    /// The places of the columns to print.
    shown: Vec<usize>,
    /// The rows to be sorted.
    sorter: Option<Sorter>,
    /// How many rows may still be printed.
    left: u64,
    /// Whether a header came.
    has_header: bool,
}

impl<'a> Output<'a> {
    /// Prints to `stdout` as the options say.
    pub fn new(
        options: &'a DumpOptions,
        stdout: BufWriter<StdoutLock<'static>>,
        is_terminal: bool,
    ) -> Output<'a> {
        Output {
            options,
            printer: Printer::new(stdout, options.format, is_terminal),
            shown: Vec::new(),
            sorter: None,
            left: options.limit.unwrap_or(u64::MAX),
            has_header: false,
        }
    }

    /// Takes the names of the columns, once and before any row.
    ///
    /// # Errors
    /// [`Fatal::Usage`] when a column was asked for that is not there.
    pub fn header(&mut self, names: &[String]) -> Result<(), Fatal> {
        self.has_header = true;
        self.shown = match &self.options.fields {
            None => (0..names.len()).collect(),
            Some(fields) => fields
                .iter()
                .map(|name| place(names, name))
                .collect::<Result<_, _>>()?,
        };
        if let Some(sort) = &self.options.sort {
            self.sorter = Some(Sorter::new(sort, names, self.options.limit)?);
        }
        let shown: Vec<String> = self.shown.iter().map(|&at| names[at].clone()).collect();
        self.printer.header(&shown).map_err(Fatal::output)
    }

    /// Takes a row, as long as the header; false when no more are wanted.
    pub fn row(&mut self, fields: &[&[u8]]) -> Result<bool, Fatal> {
        let shown: Vec<&[u8]> = self.shown.iter().map(|&at| fields[at]).collect();
        match &mut self.sorter {
            Some(sorter) => {
                sorter.push(fields, &shown);
                Ok(true)
            }
            None => {
                if self.left > 0 {
                    self.left -= 1;
                    self.printer.row(&shown).map_err(Fatal::output)?;
                }
                Ok(self.left > 0)
            }
        }
    }

    /// Prints what is left; if no header came, what stands for that when
    /// `or_nothing`. Gives whether one came.
    pub fn end(&mut self, or_nothing: bool) -> Result<bool, Fatal> {
        if let Some(mut sorter) = self.sorter.take() {
            sorter.cut();
            let mut spans = Vec::new();
            for mut row in sorter.rows {
                let fields: Vec<&[u8]> = split(&mut row.line, &mut spans).fields().collect();
                self.printer.row(&fields).map_err(Fatal::output)?;
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

/// Where a column is.
fn place(names: &[String], name: &str) -> Result<usize, Fatal> {
    let found = names.iter().position(|other| other == name);
    found.ok_or_else(|| {
        let all = names.join(" ");
        Fatal::Usage(format!("no column {name:?}; there are: {all}"))
    })
}

/// A row to be sorted.
struct Sorted {
    /// What it is sorted by, so that bytes compare: a text, or a number (16 bytes)
    /// or the sum of several; what is no number is empty, and less than all.
    key: Box<[u8]>,
    /// How many rows came before it.
    number: u64,
    /// The fields to print as a line of the protocol: that takes the least memory.
    line: Box<[u8]>,
}

/// Rows being sorted.
struct Sorter {
    /// The places of the columns to sort by, which are summed.
    places: Vec<usize>,
    /// Whether they hold text.
    is_text: bool,
    /// Whether the largest comes first.
    is_descending: bool,
    /// How many rows are wanted.
    limit: usize,
    /// How many rows came.
    count: u64,
    /// Those that are kept.
    rows: Vec<Sorted>,
}

impl Sorter {
    /// Reads what is to be sorted by: numbers the largest first, texts the
    /// smallest, a `-` turns that.
    fn new(sort: &str, names: &[String], limit: Option<u64>) -> Result<Sorter, Fatal> {
        let turned = sort.strip_prefix('-').or_else(|| sort.strip_suffix('-'));
        let name = turned.unwrap_or(sort);
        let sum = column::SUMS.iter().find(|(sum, _)| *sum == name);
        let columns = sum.map_or(vec![name], |(_, columns)| columns.to_vec());
        let places = columns.into_iter().map(|name| place(names, name));
        let is_text = sum.is_none() && Kind::of(name) == Kind::Text;
        Ok(Sorter {
            places: places.collect::<Result<_, _>>()?,
            is_text,
            is_descending: is_text == turned.is_some(),
            limit: limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX)
            }),
            count: 0,
            rows: Vec::new(),
        })
    }

    /// Takes a row: all its fields, and those to print.
    fn push(&mut self, fields: &[&[u8]], shown: &[&[u8]]) {
        let numbers = || self.places.iter().map(|&at| column::number(fields[at]));
        let key: Box<[u8]> = match self.is_text {
            true => fields[self.places[0]].into(),
            false => match numbers().sum::<Option<u128>>() {
                Some(sum) => Box::new(sum.to_be_bytes()),
                None => Box::default(),
            },
        };
        let mut line = Vec::new();
        for (n, field) in shown.iter().enumerate() {
            if n > 0 {
                line.push(b'\t');
            }
            push_escaped(&mut line, field);
        }
        self.rows.push(Sorted {
            key,
            number: self.count,
            line: line.into(),
        });
        self.count += 1;
        if self.rows.len() >= self.limit.saturating_mul(2).saturating_add(SLACK_ROWS) {
            self.cut();
        }
    }

    /// Sorts, and forgets what is past the limit. Rows with equal keys stay in the
    /// order they came.
    fn cut(&mut self) {
        let is_descending = self.is_descending;
        self.rows.sort_unstable_by(|a, b| {
            let keys = a.key.cmp(&b.key);
            let keys = if is_descending { keys.reverse() } else { keys };
            keys.then(a.number.cmp(&b.number))
        });
        self.rows.truncate(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first fields of rows in sorted order.
    fn sorted(sort: &str, limit: Option<u64>, rows: &[[&str; 3]]) -> Vec<String> {
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
            sorter.push(&[field.as_bytes()], &[field.as_bytes()]);
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
    fn a_column_that_is_not_there_is_a_wrong_command_line() {
        let names = ["user".to_owned()];
        for sort in ["ip", "cpu", "", "-"] {
            assert_eq!(Sorter::new(sort, &names, None).err().unwrap().code(), 64);
        }
    }
}
