//! The lines that a carbon receiver gets.
//!
//! A line is `PATH VALUE UNIXTIME` and CR LF; PATH is `dovestat`'s predecessor's:
//! `dovecot.NAME.global.STATISTIC`, and for other levels, which Dovecot did not
//! send, `dovecot.NAME.LEVEL.ENTRY.STATISTIC`; a cmd is `SERVICE.CMD`. Receivers make
//! directories of dots and slashes and refuse blanks, so NAME and ENTRY hold
//! `[A-Za-z0-9_-]` only.
//!
//! Invariant: no path comes twice in a report. What several names would share
//! (`j.doe@example.org` and `j_doe@example.org`) goes to the entry that comes
//! first; the others have a hash of their true name added. A name chosen so that even
//! this path is taken is left out.

use crate::stats::{Item, FIELDS};
use crate::store::{Level, Row, QUANTILES};
use crate::wire::encoding::number::{push_digits, push_stat, push_usecs};
use crate::wire::reply::TIMES;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The longest part of a path that stands for a name. Receivers make it a
/// directory, whose name may have 255 bytes.
pub(super) const MAX_PART_BYTES: usize = 200;

/// A name as one part of a path: every other byte becomes `_`, an empty name too.
pub fn safe_part(name: &[u8]) -> String {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let safe = |byte: &u8| if is_safe(byte) { *byte as char } else { '_' };
    match name {
        [] => "_".to_owned(),
        name => name.iter().take(MAX_PART_BYTES).map(safe).collect(),
    }
}

/// The path of a row behind `dovecot.NAME.`, and its true name; `None` for rows that are not
/// sent.
fn row_part<'a>(row: &'a Row) -> Option<(String, Cow<'a, [u8]>)> {
    let (level, name) = match row {
        Row::Global(..) => return Some((Level::Global.name().to_owned(), Cow::default())),
        Row::Service(name, ..) => (Level::Service, Cow::Borrowed(*name)),
        Row::Cmd { service, name, .. } => {
            let path = format!("cmd.{}.{}", safe_part(service), safe_part(name));
            return Some((path, [service, &b"\t"[..], name].concat().into()));
        }
        Row::Parent(level, key, _) => (*level, key.text()),
        Row::Command { .. } | Row::Session { .. } => return None,
    };
    Some((format!("{}.{}", level.name(), safe_part(&name)), name))
}

/// FNV-1a of 32 bits: stable across restarts and versions.
fn fnv1a(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The paths of the entries of one report.
#[derive(Debug)]
pub struct CarbonPaths {
    /// The path in front of a level: `dovecot.NAME`.
    prefix: String,
    used: BTreeSet<String>,
}

impl CarbonPaths {
    /// No paths yet, all behind `prefix`: `dovecot.NAME`.
    pub fn new(prefix: &str) -> CarbonPaths {
        CarbonPaths {
            prefix: prefix.to_owned(),
            used: BTreeSet::new(),
        }
    }

    /// The path of the next row; `None` when it is not sent.
    pub fn of(&mut self, row: &Row) -> Option<String> {
        let (part, name) = row_part(row)?;
        let mut path = format!("{}.{part}", self.prefix);
        if self.used.contains(&path) {
            path = format!("{path}-{:08x}", fnv1a(&name));
        }
        self.used.insert(path.clone()).then_some(path)
    }
}

/// Appends the lines of a row with totals: `prefix` is all of the path in front of the
/// statistic. As Dovecot 2.3 sends them, but microseconds are padded: it sends `1.7442`
/// for 1.007442. Services and cmds, which it does not know, have how long commands took.
pub fn write_lines(out: &mut Vec<u8>, prefix: &str, row: &Row, unix_secs: u32) {
    let Some(totals) = row.totals() else {
        return;
    };
    let mut line = |name: &str, push_value: &dyn Fn(&mut Vec<u8>)| {
        for text in [prefix, ".", name, " "] {
            out.extend_from_slice(text.as_bytes());
        }
        push_value(out);
        out.push(b' ');
        push_digits(out, unix_secs.into());
        out.extend_from_slice(b"\r\n");
    };
    let is_cmd = matches!(row, Row::Cmd { .. });
    for (name, number, is_of_cmds) in [
        ("logins", totals.counters.num_logins, false),
        ("cmds", totals.counters.num_cmds, true),
        ("connected_sessions", totals.connected, false),
        ("last_reset", totals.reset_secs.into(), true),
    ] {
        if is_of_cmds || !is_cmd {
            line(name, &|out| push_digits(out, number));
        }
    }
    // Receivers are set up for what Dovecot sends.
    let known = &FIELDS[..Item::Net.fields().start];
    for (index, field) in known.iter().enumerate() {
        let value = totals.counters.stats.values[index];
        line(field.name, &|out| push_stat(out, index, value));
    }
    if let Row::Service(.., latency) | Row::Cmd { latency, .. } = row {
        let quantiles = QUANTILES.map(|percent| latency.quantile_usecs(percent));
        let times = quantiles.into_iter().chain([latency.max_usecs]);
        for (name, usecs) in TIMES.split_terminator('\t').skip(1).zip(times) {
            line(name, &|out| push_usecs(out, usecs));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Counters, Key, Latency, Totals, WallTime};

    #[test]
    fn parts_contain_only_safe_bytes() {
        assert_eq!(safe_part(b"mx-1_A"), "mx-1_A");
        assert_eq!(safe_part(b"a.b/c d@\xff\n"), "a_b_c_d___");
        assert_eq!(safe_part(b""), "_");
        for length in [MAX_PART_BYTES - 1, MAX_PART_BYTES, MAX_PART_BYTES + 1] {
            let part = safe_part(&vec![b'x'; length]);
            assert_eq!(part.len(), length.min(MAX_PART_BYTES));
        }
    }

    #[test]
    fn no_path_is_used_twice_whatever_the_names() {
        let totals = Totals {
            reset_secs: 0,
            last_update: WallTime::default(),
            counters: Counters::default(),
            connected: 0,
        };
        let forged = format!("a_b-{:08x}", fnv1a(b"a.b"));
        let mut paths = CarbonPaths::new("dovecot.mx");
        let mut path = |name: &[u8]| paths.of(&Row::Parent(Level::User, Key::Name(name), &totals));
        assert_eq!(path(b"a_b").as_deref(), Some("dovecot.mx.user.a_b"));
        let path_of_forged = path(forged.as_bytes());
        assert_eq!(path_of_forged, Some(format!("dovecot.mx.user.{forged}")));
        assert_eq!(path(b"a.b"), None);
        assert!(path(b"a/b").is_some_and(|path| path.starts_with("dovecot.mx.user.a_b-")));
    }

    #[test]
    fn services_and_cmds_have_times_and_paths_of_their_own() {
        let totals = Totals {
            reset_secs: 1000,
            last_update: WallTime::default(),
            counters: Counters::default(),
            connected: 2,
        };
        let mut latency = Latency::NONE;
        latency.add(200_000);
        latency.add(3_000_003);
        let cmd = |service, name| Row::Cmd {
            service,
            name,
            totals: &totals,
            latency: &latency,
        };
        let mut paths = CarbonPaths::new("dovecot.mx");
        let mut path = |row: &Row| paths.of(row).unwrap();
        let service = Row::Service(b"imap", &totals, &latency);
        assert_eq!(path(&service), "dovecot.mx.service.imap");
        let fetch = cmd(b"imap", b"UID FETCH");
        assert_eq!(path(&fetch), "dovecot.mx.cmd.imap.UID_FETCH");
        let twins = [
            path(&cmd(b"imap", b"UID.FETCH")),
            path(&cmd(b"imap", b"UID/FETCH")),
        ];
        assert_ne!(twins[0], twins[1]);
        for twin in twins {
            assert!(twin.starts_with("dovecot.mx.cmd.imap.UID_FETCH-"), "{twin}");
        }
        for (row, front, count) in [
            (
                &service,
                "x.logins 0 7\r\nx.cmds 0 7\r\nx.connected_sessions 2 7\r\n",
                4,
            ),
            (
                &fetch,
                "x.cmds 0 7\r\nx.last_reset 1000 7\r\nx.user_cpu ",
                2,
            ),
        ] {
            let mut out = Vec::new();
            write_lines(&mut out, "x", row, 7);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(front), "{text}");
            let end = "x.auth_cache_misses 0 7\r\nx.time_p50 0.200000 7\r\n\
                       x.time_p90 3.000003 7\r\nx.time_p99 3.000003 7\r\n\
                       x.time_max 3.000003 7\r\n";
            assert!(text.ends_with(end), "{text}");
            assert_eq!(text.lines().count(), count + 24 + 4);
        }
    }

    #[test]
    fn lines_are_those_of_dovecot() {
        let mut counters = Counters {
            num_logins: 7,
            ..Counters::default()
        };
        counters.stats.values[0] = 1_007_442;
        let totals = Totals {
            reset_secs: 1000,
            last_update: WallTime::default(),
            counters,
            connected: 2,
        };
        let mut out = Vec::new();
        let row = Row::Global(&totals, &Latency::NONE);
        write_lines(&mut out, "dovecot.mx.global", &row, 2000);
        let text = String::from_utf8(out).unwrap();
        let expected = "dovecot.mx.global.logins 7 2000\r\n\
            dovecot.mx.global.cmds 0 2000\r\n\
            dovecot.mx.global.connected_sessions 2 2000\r\n\
            dovecot.mx.global.last_reset 1000 2000\r\n\
            dovecot.mx.global.user_cpu 1.007442 2000\r\n\
            dovecot.mx.global.sys_cpu 0.000000 2000\r\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with(".auth_cache_misses 0 2000\r\n"), "{text}");
        assert_eq!(text.lines().count(), 4 + 24);
    }
}
