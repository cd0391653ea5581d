//! What is known of a column by its name.
//!
//! Owns: which columns are text, which are counters, what `top` calls them, and how
//! their values are read and written. A time is read as two whole numbers around its
//! dot, seconds and microseconds: `0.7442` is 7442 us, which is what the original
//! means by it, and the same as our padded `0.007442`.

use crate::stats::{Unit, FIELDS, FIELD_COUNT};
use crate::store::{Level, LEVELS};
use crate::wire::{write_header, Columns};

/// Columns with names or other text.
const TEXTS: [&str; 10] = [
    "host", "change", "cmd", "args", "session", "user", "domain", "ip", "service", HISTOGRAM,
];

/// How many commands took how long: numbers with commas between.
pub(super) const HISTOGRAM: &str = "time_histogram";

/// Counters besides the statistics fields.
const COUNTERS: [&str; 2] = ["num_logins", "num_cmds"];

/// Columns with numbers that are no counters.
const OTHERS: [&str; 11] = [
    "last_update",
    "reset_timestamp",
    "num_connected_sessions",
    "connected",
    "pid",
    "connect_time",
    "over",
    "time_p50",
    "time_p90",
    "time_p99",
    "time_max",
];

/// What may be sorted by besides columns: sums of columns.
pub(super) const SUMS: [(&str, &[&str]); 3] = [
    ("disk", &["disk_input", "disk_output"]),
    ("cpu", &["user_cpu", "sys_cpu"]),
    ("io", &["read_bytes", "write_bytes"]),
];

/// Of each statistics field, in the order of [`FIELDS`]: what `top` calls it, what it
/// is, and the key that sorts by it.
pub(super) const TITLES: [(&str, &str, Option<char>); FIELD_COUNT] = [
    ("USER%", "processor time in user mode", None),
    ("SYS%", "processor time in the kernel", None),
    ("CLOCK%", "time spent in commands", None),
    ("MINFLT", "page faults without input", None),
    ("MAJFLT", "page faults with input", None),
    ("VCSW", "voluntary context switches", None),
    ("ICSW", "involuntary context switches", None),
    ("DREAD", "bytes read from disk", Some('R')),
    ("DWRITE", "bytes written to disk", Some('W')),
    ("RCALLS", "read calls", None),
    ("RBYTES", "bytes read", None),
    ("WCALLS", "write calls", None),
    ("WBYTES", "bytes written", None),
    ("LOOKUP", "mail path lookups", None),
    ("ATTRS", "mail attribute lookups", None),
    ("MREADS", "mails read", None),
    ("MBYTES", "bytes of mails read", None),
    ("CACHE", "index cache hits", None),
    ("AUTH", "successful logins", Some('A')),
    ("MASTER", "logins of master users", None),
    ("FAIL", "failed logins", Some('F')),
    ("TMPFAIL", "logins that failed for now", None),
    ("AHIT", "auth cache hits", None),
    ("AMISS", "auth cache misses", None),
    ("NETIN", "bytes that clients sent", None),
    ("NETOUT", "bytes that clients were sent", None),
    ("LOCK%", "time spent waiting for locks", None),
];

/// Other titles of `top`, and the columns or sums that they mean.
const OTHER_TITLES: [(&str, &str); 17] = [
    ("I/O", "io"),
    ("CPU%", "cpu"),
    ("CMDS", "num_cmds"),
    ("LOGINS", "num_logins"),
    ("SESS", "num_connected_sessions"),
    ("AGE", "last_update"),
    ("SINCE", "connect_time"),
    ("ADDRESS", "ip"),
    ("COMMAND", "cmd"),
    ("ARGUMENTS", "args"),
    ("SERVER", "host"),
    ("P50", "time_p50"),
    ("P90", "time_p90"),
    ("P99", "time_p99"),
    ("MAX", "time_max"),
    ("TIME", "last_update"),
    ("TOOK", "clock_time"),
];

/// The column or sum that a person means: by its name in the protocol or its title in
/// `top`, in any case. One that is not known is taken as a name: a server may have
/// more columns.
pub(super) fn named(text: &str) -> String {
    let name = text.to_ascii_lowercase();
    let is_known = all_names().contains(&&*name) || SUMS.iter().any(|(sum, _)| *sum == name);
    if is_known {
        return name;
    }
    let fields = TITLES.iter().zip(&FIELDS);
    let titles = fields.map(|((title, ..), field)| (*title, field.name));
    let mut titles = titles.chain(OTHER_TITLES);
    let means = |(title, _): &(&str, &str)| {
        [*title, title.trim_end_matches('%')]
            .iter()
            .any(|title| title.eq_ignore_ascii_case(text))
    };
    titles.find(means).map_or(name, |(_, name)| name.to_owned())
}

/// The level of that name, or of many of its entries, in any case.
pub(super) fn level_named(text: &str) -> Option<Level> {
    let name = text.to_ascii_lowercase();
    let one = name.strip_suffix('s').unwrap_or(&name);
    Level::named(one.as_bytes())
}

/// All columns of a level that our daemon has.
pub(super) fn names_at(level: Level) -> Vec<String> {
    let mut line = Vec::new();
    write_header(
        &mut line,
        level,
        Columns {
            more: true,
            histogram: true,
            ..Columns::default()
        },
    );
    let line = String::from_utf8_lossy(&line);
    line.trim_end().split('\t').map(str::to_owned).collect()
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A name or other text.
    Text,
    /// A number or a time that is as it is: a gauge.
    Gauge,
    /// A sum that only grows until it is reset.
    Counter,
    /// A counter in seconds and microseconds.
    Time,
}

impl ValueKind {
    /// Of the column of that name; one that is not known holds a gauge.
    pub(super) fn of(name: &str) -> ValueKind {
        if TEXTS.contains(&name) {
            return ValueKind::Text;
        }
        match FIELDS.iter().find(|field| field.name == name) {
            Some(field) if field.unit == Unit::Time => ValueKind::Time,
            Some(_) => ValueKind::Counter,
            None if COUNTERS.contains(&name) => ValueKind::Counter,
            None => ValueKind::Gauge,
        }
    }
}

/// The columns that identify entries, given all columns of a dump: those of
/// the innermost level that is among them, and the host. `None` when it is no
/// dump of any level.
pub(super) fn key_columns(names: &[String]) -> Option<Vec<&'static str>> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let entries = Level::ALL[1..LEVELS].iter().chain([&Level::Service]);
    let mut levels = entries.map(|level| level.name());
    let of_command = ["args", "session", "user"];
    let own = match levels.find(|name| has(name)) {
        _ if has("cmd") && !of_command.into_iter().any(has) => vec!["service", "cmd"],
        _ if has("cmd") => vec!["cmd", "args", "session", "user"],
        Some(name) => vec![name],
        None if names
            .iter()
            .any(|name| ValueKind::of(name) != ValueKind::Gauge) =>
        {
            Vec::new()
        }
        None => return None,
    };
    let host = has("host").then_some("host");
    Some(host.into_iter().chain(own).collect())
}

/// A number or time in microseconds or millionths, so that all of a column
/// compare: `None` for anything else.
pub(super) fn number(field: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(field).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok())?
    };
    Some(u128::from(digits(whole)?) * 1_000_000 + u128::from(digits(part)?))
}

/// A number of millionths as a column of that kind has it.
pub(super) fn written(kind: ValueKind, millionths: u128) -> String {
    let (whole, part) = (millionths / 1_000_000, millionths % 1_000_000);
    match kind {
        ValueKind::Time => format!("{whole}.{part:06}"),
        _ => whole.to_string(),
    }
}

/// All columns of all levels.
pub(super) fn all_names() -> Vec<&'static str> {
    let fields = FIELDS.iter().map(|field| field.name).collect::<Vec<_>>();
    [&TEXTS[..], &OTHERS, &COUNTERS, &fields].concat()
}

pub(super) fn level_names() -> Vec<&'static str> {
    Level::ALL.iter().map(|level| level.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_two_numbers_around_the_dot() {
        for (field, expected) in [
            ("0.7442", Some(7442)),
            ("0.007442", Some(7442)),
            ("2.1000000", Some(3_000_000)),
            ("3", Some(3_000_000)),
            ("0", Some(0)),
            ("", None),
            (".", None),
            ("1.", None),
            (".5", None),
            ("-1", None),
            ("+1", None),
            ("1.2.3", None),
            ("1e3", None),
        ] {
            assert_eq!(number(field.as_bytes()), expected, "{field}");
        }
        let most = u64::MAX.to_string();
        assert!(number(format!("{most}.{most}").as_bytes()).is_some());
        assert_eq!(number(format!("{most}0").as_bytes()), None);
    }

    #[test]
    fn kinds_follow_the_table_of_fields() {
        assert_eq!(ValueKind::of("user_cpu"), ValueKind::Time);
        assert_eq!(ValueKind::of("disk_input"), ValueKind::Counter);
        assert_eq!(ValueKind::of("num_cmds"), ValueKind::Counter);
        assert_eq!(ValueKind::of("num_connected_sessions"), ValueKind::Gauge);
        assert_eq!(ValueKind::of("last_update"), ValueKind::Gauge);
        assert_eq!(ValueKind::of("later"), ValueKind::Gauge);
        assert_eq!(ValueKind::of("lock_wait"), ValueKind::Time);
        assert_eq!(ValueKind::of("net_in_bytes"), ValueKind::Counter);
        for level in Level::ALL {
            for name in names_at(level) {
                assert!(all_names().contains(&&*name), "{name}");
            }
        }
        assert_eq!(ValueKind::of("args"), ValueKind::Text);
        for (_, columns) in SUMS {
            for name in columns {
                assert!(all_names().contains(name));
            }
        }
    }

    #[test]
    fn entries_are_distinguished() {
        let keys =
            |names: &str| key_columns(&names.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let command = Some(vec!["cmd", "args", "session", "user"]);
        assert_eq!(keys("cmd args session user last_update"), command);
        assert_eq!(keys("cmd args session user service over"), command);
        let kind = Some(vec!["service", "cmd"]);
        assert_eq!(keys("service cmd reset_timestamp num_cmds"), kind);
        assert_eq!(keys("service num_logins num_cmds"), Some(vec!["service"]));
        assert_eq!(keys("host session user ip"), Some(vec!["host", "session"]));
        assert_eq!(keys("user reset_timestamp"), Some(vec!["user"]));
        assert_eq!(keys("ip num_cmds"), Some(vec!["ip"]));
        assert_eq!(keys("reset_timestamp num_logins"), Some(vec![]));
        assert_eq!(keys("anything else"), None);
    }
}
