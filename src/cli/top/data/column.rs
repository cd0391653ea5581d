//! The columns of the table: what can be shown, sorted by and chosen.
//!
//! Owns: the one table that makes cells, titles, the two pickers, one-key sorts,
//! the SORT argument and the fields of batch frames. The statistics fields all
//! come from [`FIELDS`]; a few columns sum some of them.

use super::model::Figures;
use super::values::value_index;
use crate::cli::column::TITLES;
use crate::cli::number;
use crate::cli::top::level::level_row;
use crate::stats::{Unit, FIELDS};
use crate::store::Level;

/// How a column's number is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Count,
    Bytes,
    /// Time of a processor or of the day: a share in percent, or a total.
    Time,
    /// Things there are now: never a rate.
    Now,
    /// How long something took, in microseconds: never a rate.
    Took,
    /// How long ago something was.
    Age,
}

#[derive(Debug)]
pub(crate) struct Column {
    /// Its name, for SORT and batch frames.
    pub name: &'static str,
    /// Its title, at most 7 characters.
    pub title: &'static str,
    /// What it is, for the pickers.
    pub help: &'static str,
    /// The key that sorts by it, if it has one.
    pub key: Option<char>,
    /// How its number is meant.
    pub kind: Measure,
    /// Which numbers of a reading it sums.
    parts: Vec<usize>,
}

/// The column of when a session began, all that a session counts since when.
const CONNECT_TIME: &str = "connect_time";

/// How long commands took.
const TIMES: [(&str, &str, &str, Option<char>); 4] = [
    ("time_p50", "P50", "half of the commands took at most", None),
    ("time_p90", "P90", "90 of 100 commands took at most", None),
    (
        "time_p99",
        "P99",
        "99 of 100 commands took at most",
        Some('P'),
    ),
    ("time_max", "MAX", "longest time of a command", Some('X')),
];

/// All columns. The `disk` column counts what -b asks for.
pub(crate) fn all(bytes: bool) -> Vec<Column> {
    let value = |name: &str| value_index(name).expect("a field of the table");
    let column = |name, title, help, key, kind, parts: &[&str]| Column {
        name,
        title,
        help,
        key,
        kind,
        parts: parts.iter().map(|&part| value(part)).collect(),
    };
    let disk = match bytes {
        false => (
            "DISK",
            "disk input and output",
            ["disk_input", "disk_output"],
        ),
        true => (
            "I/O",
            "bytes read and written",
            ["read_bytes", "write_bytes"],
        ),
    };
    let mut all = vec![
        column("disk", disk.0, disk.1, Some('D'), Measure::Bytes, &disk.2),
        column(
            "cpu",
            "CPU%",
            "processor time",
            Some('C'),
            Measure::Time,
            &["user_cpu", "sys_cpu"],
        ),
        column(
            "num_cmds",
            "CMDS",
            "commands",
            Some('M'),
            Measure::Count,
            &["num_cmds"],
        ),
        column(
            "num_logins",
            "LOGINS",
            "logins",
            Some('L'),
            Measure::Count,
            &["num_logins"],
        ),
        column(
            "num_connected_sessions",
            "SESS",
            "connected sessions",
            Some('S'),
            Measure::Now,
            &["num_connected_sessions"],
        ),
        column(
            "last_update",
            "AGE",
            "time since the last update",
            Some('T'),
            Measure::Age,
            &[],
        ),
    ];
    for (field, (title, help, key)) in FIELDS.iter().zip(TITLES) {
        let kind = match field.unit {
            Unit::Time => Measure::Time,
            Unit::Count => Measure::Count,
            Unit::Bytes => Measure::Bytes,
        };
        all.push(column(field.name, title, help, key, kind, &[field.name]));
    }
    let since = "time since it connected";
    all.push(column(
        CONNECT_TIME,
        "SINCE",
        since,
        None,
        Measure::Age,
        &[],
    ));
    for (name, title, help, key) in TIMES {
        all.push(column(name, title, help, key, Measure::Took, &[name]));
    }
    if bytes {
        // R and W sort by the halves of the column that D sorts by.
        for column in &mut all {
            column.key = match column.name {
                "read_bytes" => Some('R'),
                "write_bytes" => Some('W'),
                "disk_input" | "disk_output" => None,
                _ => column.key,
            };
        }
    }
    all
}

/// The columns a level shows unless its user chose others, the most useful
/// first: what does not fit is left out from the end.
pub(crate) fn usual(level: Level, bytes: bool) -> Vec<&'static str> {
    const LAST: [&str; 6] = [
        "read_bytes",
        "write_bytes",
        "mail_read_count",
        "mail_cache_hits",
        "maj_faults",
        "vol_cs",
    ];
    let mut names = [level_row(level).columns, &LAST].concat();
    if !matches!(
        level,
        Level::Command | Level::Session | Level::Ip | Level::Cmd
    ) {
        names.extend(["auth_successes", "auth_failures"]);
    }
    if bytes {
        for name in &mut names {
            *name = match *name {
                "disk_input" => "read_bytes",
                "disk_output" => "write_bytes",
                "read_bytes" => "disk_input",
                "write_bytes" => "disk_output",
                name => name,
            };
        }
    }
    names
}

/// Whether entries of a level count this at all.
pub(crate) fn is_at(column: &Column, level: Level) -> bool {
    match column.name {
        "num_cmds" => level != Level::Command,
        "num_logins" | "num_connected_sessions" => {
            !matches!(level, Level::Command | Level::Session | Level::Cmd)
        }
        CONNECT_TIME => level == Level::Session,
        _ if column.kind == Measure::Took => {
            matches!(level, Level::Global | Level::Service | Level::Cmd)
        }
        _ => true,
    }
}

impl Column {
    /// The number to sort by: a rate a second, or a total. For an age the
    /// moment itself, so that the latest is the biggest.
    pub(crate) fn number(&self, figures: &Figures<'_>) -> f64 {
        match self.kind {
            Measure::Age => self.moment_micros(figures) as f64,
            Measure::Now | Measure::Took => figures.values[self.parts[0]] as f64,
            _ => self.parts.iter().map(|&part| figures.number(part)).sum(),
        }
    }

    /// The moment whose age is shown, in microseconds since 1970; 0: none.
    fn moment_micros(&self, figures: &Figures<'_>) -> u64 {
        match self.name {
            CONNECT_TIME => figures.reset_secs.saturating_mul(1_000_000),
            _ => figures.updated_micros,
        }
    }

    /// The cell. `now_micros` is the time since 1970.
    pub(crate) fn cell(&self, figures: &Figures<'_>, now_micros: u64) -> String {
        let number = self.number(figures);
        match self.kind {
            Measure::Age => match self.moment_micros(figures) {
                0 => number::NOTHING.to_owned(),
                moment => number::age(now_micros.saturating_sub(moment) / 1_000_000),
            },
            Measure::Now => number::whole(number as u64),
            Measure::Took => number::duration(number as u64),
            _ if figures.is_unknown() => String::from("."),
            Measure::Bytes => number::bytes(number),
            Measure::Count if figures.is_total() => number::whole(number as u64),
            Measure::Count => number::count(number),
            Measure::Time if figures.is_total() => number::duration(number as u64),
            // Microseconds a second are a share of 1000000.
            Measure::Time => number::percent(number / 1e4),
        }
    }

    /// The number for programs: whole where it is, seconds for times, a share
    /// of one (not percent) for a time's rate.
    pub(crate) fn plain(&self, figures: &Figures<'_>) -> String {
        let number = self.number(figures);
        match self.kind {
            Measure::Time | Measure::Age | Measure::Took => number::decimal(number / 1e6, 6),
            Measure::Now => number::decimal(number, 0),
            _ if figures.is_total() => number::decimal(number, 0),
            _ => number::decimal(number, 3),
        }
    }

    /// Columns on the screen, without the blank before.
    pub(crate) fn width(&self) -> usize {
        self.title
            .len()
            .max(if self.kind == Measure::Age { 4 } else { 6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keys_and_titles_are_unique_and_short() {
        for bytes in [false, true] {
            let all = all(bytes);
            for (at, column) in all.iter().enumerate() {
                assert!(column.title.len() <= 7);
                for other in &all[..at] {
                    assert_ne!(column.name, other.name);
                    assert_ne!(column.title, other.title);
                    assert!(column.key.is_none() || column.key != other.key);
                }
            }
            for level in Level::ALL {
                for name in usual(level, bytes) {
                    let column = all.iter().find(|column| column.name == name).unwrap();
                    assert!(is_at(column, level), "{name} at {level:?}");
                }
            }
        }
    }
}
