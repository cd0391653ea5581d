//! Samples as Prometheus reads them: the text format 0.0.4 and OpenMetrics 1.0.
//!
//! A [`Family`] is announced by its lines of comment, then come all of its
//! samples, then the next: both formats want that. Names follow Prometheus'
//! conventions: base units at their end, `_total` behind what only grows.
//! Times are printed as they are kept, to the microsecond; no float is made.
//!
//! Names of users and domains become labels. A label is UTF-8, they are any
//! bytes: what is not UTF-8 and control characters are shown as `\xNN`, and so is
//! a backslash that would be read as the beginning of such. So different names have
//! different labels.

use crate::stats::{Item, Unit, FIELDS, FIELD_COUNT};
use crate::store::{Level, Row, WallTime};
use crate::wire::encoding::number::{push_digits, push_secs, push_stat};
use std::borrow::Cow;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4 of Prometheus.
    Text,
    OpenMetrics,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that only grows, until it begins again; its samples' names end in
    /// `_total`.
    Counter,
    /// Something that goes up and down.
    Gauge,
    /// A text, in a label; its samples' names end in `_info`.
    Info,
}

/// The samples of one metric.
#[derive(Clone, Debug)]
pub struct Family<'a> {
    /// The samples' name without the suffix of its kind; ends in the unit, if there is
    /// one.
    pub name: Cow<'a, str>,
    /// The help text: a phrase without backslash, quote and line break.
    pub about: &'a str,
    pub kind: Kind,
    /// `seconds` or `bytes`.
    pub unit: Option<&'static str>,
}

impl Family<'_> {
    /// The suffix of the name in a sample.
    fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        }
    }

    /// Appends the lines in front of its samples.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        let (suffix, kind) = match (format, self.kind) {
            (Format::Text, Kind::Counter) => (self.suffix(), "counter"),
            (Format::Text, Kind::Gauge | Kind::Info) => (self.suffix(), "gauge"),
            // Comments name families without the suffix of their samples.
            (Format::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Format::OpenMetrics, Kind::Gauge) => ("", "gauge"),
            (Format::OpenMetrics, Kind::Info) => ("", "info"),
        };
        let mut line = |word: &str, text: &str| {
            for text in ["# ", word, " ", &self.name, suffix, " ", text, "\n"] {
                out.extend_from_slice(text.as_bytes());
            }
        };
        line("HELP", self.about);
        line("TYPE", kind);
        if let (Some(unit), Format::OpenMetrics) = (self.unit, format) {
            line("UNIT", unit);
        }
    }

    /// Appends a sample, with a label or none; `push_value` appends the number.
    pub fn write_sample(
        &self,
        out: &mut Vec<u8>,
        label: Option<(&str, &[u8])>,
        push_value: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.suffix().as_bytes());
        if let Some((name, value)) = label {
            out.push(b'{');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            push_label(out, value);
            out.extend_from_slice(b"\"}");
        }
        out.push(b' ');
        push_value(out);
        out.push(b'\n');
    }

    /// Appends a sample whose value is a whole number.
    pub fn write_number(&self, out: &mut Vec<u8>, label: Option<(&str, &[u8])>, number: u64) {
        self.write_sample(out, label, |out| push_digits(out, number));
    }
}

/// Appends what is behind all families.
pub fn write_end(out: &mut Vec<u8>, format: Format) {
    match format {
        Format::Text => {}
        Format::OpenMetrics => out.extend_from_slice(b"# EOF\n"),
    }
}

/// A column that the entries of a level have.
#[derive(Clone, Copy, Debug)]
enum Column {
    Logins,
    Cmds,
    ConnectedSessions,
    Reset,
    LastUpdate,
    /// The index of a statistics field.
    Stat(usize),
}

/// The columns in front of the statistics fields.
const KEYS: [Column; 5] = [
    Column::Logins,
    Column::Cmds,
    Column::ConnectedSessions,
    Column::Reset,
    Column::LastUpdate,
];

/// How many families each level has.
pub const LEVEL_FAMILIES: usize = KEYS.len() + FIELD_COUNT;

/// A family that has a sample for each entry of a level.
#[derive(Clone, Debug)]
pub struct LevelFamily {
    family: Family<'static>,
    column: Column,
}

impl LevelFamily {
    /// The family of this index below [`LEVEL_FAMILIES`].
    pub fn new(level: Level, index: usize) -> LevelFamily {
        let column = match KEYS.get(index) {
            Some(column) => *column,
            None => Column::Stat(index - KEYS.len()),
        };
        let (name, about, kind, unit) = match column {
            Column::Logins => ("logins", "Sessions that began", Kind::Counter, None),
            Column::Cmds => ("cmds", "Commands that began", Kind::Counter, None),
            Column::ConnectedSessions => (
                "connected_sessions",
                "Sessions connected now",
                Kind::Gauge,
                None,
            ),
            Column::Reset => (
                "reset_timestamp",
                "When counting began, in seconds since 1970",
                Kind::Gauge,
                Some("seconds"),
            ),
            Column::LastUpdate => (
                "last_update_timestamp",
                "When something was last reported, in seconds since 1970; 0 if nothing was",
                Kind::Gauge,
                Some("seconds"),
            ),
            Column::Stat(index) => {
                let field = &FIELDS[index];
                let unit = match field.unit {
                    Unit::Time => Some("seconds"),
                    Unit::Bytes => Some("bytes"),
                    Unit::Count => None,
                };
                let about = match (level, field.item) {
                    (Level::Ip, Item::Auth) => field.about_at_ip,
                    _ => field.about,
                };
                (field.name, about, Kind::Counter, unit)
            }
        };
        let mut name = format!("dovestat_{}_{name}", level.name());
        if let Some(unit) = unit.filter(|unit| !name.ends_with(unit)) {
            name = format!("{name}_{unit}");
        }
        LevelFamily {
            family: Family {
                name: name.into(),
                about,
                kind,
                unit,
            },
            column,
        }
    }

    /// Appends the lines in front of its samples.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        self.family.write(out, format);
    }

    /// Appends the sample of an entry above the session level.
    pub fn write_row(&self, out: &mut Vec<u8>, row: &Row) {
        let Some(totals) = row.totals() else {
            return;
        };
        let text;
        let label = match row {
            Row::Parent(level, key, _) => {
                text = key.text();
                Some((level.name(), &*text))
            }
            _ => None,
        };
        let counters = &totals.counters;
        let number = match self.column {
            Column::Logins => counters.num_logins,
            Column::Cmds => counters.num_cmds,
            Column::ConnectedSessions => totals.connected,
            Column::Reset => totals.reset_secs.into(),
            Column::LastUpdate => {
                let WallTime { secs, usecs } = totals.last_update;
                let push = |out: &mut Vec<u8>| push_secs(out, secs.into(), usecs);
                return self.family.write_sample(out, label, push);
            }
            Column::Stat(index) => {
                let push = |out: &mut Vec<u8>| push_stat(out, index, counters.stats.values[index]);
                return self.family.write_sample(out, label, push);
            }
        };
        self.family.write_number(out, label, number);
    }
}

/// Appends a label's value: made UTF-8 first, then escaped as both formats want.
fn push_label(out: &mut Vec<u8>, value: &[u8]) {
    for (at, chunk) in chunks_with_offsets(value) {
        for (offset, character) in chunk.valid().char_indices() {
            match character {
                '\n' => out.extend_from_slice(b"\\n"),
                '"' => out.extend_from_slice(b"\\\""),
                '\\' if is_byte_escape(&value[at + offset..]) => push_byte(out, b'\\'),
                '\\' => out.extend_from_slice(b"\\\\"),
                control if control.is_control() => {
                    let mut bytes = [0; 4];
                    let bytes = control.encode_utf8(&mut bytes).bytes();
                    bytes.for_each(|byte| push_byte(out, byte));
                }
                plain => {
                    let mut bytes = [0; 4];
                    out.extend_from_slice(plain.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|&byte| push_byte(out, byte));
    }
}

/// The runs of UTF-8 in a text, each with what is not UTF-8 behind it and its offset.
fn chunks_with_offsets(text: &[u8]) -> impl Iterator<Item = (usize, std::str::Utf8Chunk<'_>)> {
    text.utf8_chunks().scan(0, |begin, chunk| {
        let at = *begin;
        *begin += chunk.valid().len() + chunk.invalid().len();
        Some((at, chunk))
    })
}

/// Whether a text begins like a byte that is shown.
fn is_byte_escape(text: &[u8]) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(text, [b'\\', b'x', high, low, ..] if is_digit(*high) && is_digit(*low))
}

/// Appends a byte that is shown, its backslash escaped.
fn push_byte(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |number: u8| DIGITS[usize::from(number)];
    out.extend_from_slice(&[b'\\', b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Random;
    use crate::store::{Counters, Key, Totals};
    use std::collections::HashMap;

    fn label(value: &[u8]) -> String {
        let mut out = Vec::new();
        push_label(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn labels_show_any_bytes() {
        for (name, expected) in [
            (&b"alice@example.org"[..], "alice@example.org"),
            (
                "j\u{f6}rg@\u{65e5}\u{672c}".as_bytes(),
                "j\u{f6}rg@\u{65e5}\u{672c}",
            ),
            (b"", ""),
            (b"a\"b\nc", r#"a\"b\nc"#),
            (b"DOMAIN\\user\\", r"DOMAIN\\user\\"),
            (b"\\x4 \\xAB \\xab", r"\\x4 \\xAB \\x5cxab"),
            (b"\xff\xfea\xc3", r"\\xff\\xfea\\xc3"),
            (b"\0\t\r\x1b\x7f", r"\\x00\\x09\\x0d\\x1b\\x7f"),
            ("\u{85}\u{202e}".as_bytes(), "\\\\xc2\\\\x85\u{202e}"),
        ] {
            assert_eq!(label(name), expected, "{name:?}");
        }
    }

    #[test]
    fn different_names_have_different_labels() {
        let mut random = Random::seeded("labels");
        let alphabet = b"\\\\\\xxx05cab\"\n\r\xc3\xa9\xff n";
        let mut seen = HashMap::new();
        for _ in 0..200_000 {
            let length = random.below(9);
            let name: Vec<u8> = (0..length)
                .map(|_| alphabet[random.below(alphabet.len() as u64) as usize])
                .collect();
            let label = label(&name);
            assert!(!label.contains(|c: char| c.is_control()), "{label:?}");
            let other = seen.entry(label).or_insert_with(|| name.clone());
            assert_eq!(*other, name);
        }
        // All pairs of bytes, too.
        for pair in 0..=u16::MAX {
            let name = pair.to_be_bytes().to_vec();
            let other = seen.entry(label(&name)).or_insert_with(|| name.clone());
            assert_eq!(*other, name);
        }
    }

    #[test]
    fn samples_and_comments_are_those_of_the_formats() {
        let mut counters = Counters {
            num_logins: 7,
            ..Counters::default()
        };
        counters.stats.values[0] = 1_007_442;
        counters.stats.values[7] = 1 << 60;
        let totals = Totals {
            reset_secs: 1000,
            last_update: WallTime { secs: 5, usecs: 42 },
            counters,
            connected: 2,
        };
        let written = |format, index: usize, level, row: &Row| {
            let mut out = Vec::new();
            let family = LevelFamily::new(level, index);
            family.write(&mut out, format);
            family.write_row(&mut out, row);
            String::from_utf8(out).unwrap()
        };
        let global = |format, index| written(format, index, Level::Global, &Row::Global(&totals));
        assert_eq!(
            global(Format::Text, 0),
            "# HELP dovestat_global_logins_total Sessions that began\n\
             # TYPE dovestat_global_logins_total counter\n\
             dovestat_global_logins_total 7\n"
        );
        assert_eq!(
            global(Format::OpenMetrics, KEYS.len()),
            "# HELP dovestat_global_user_cpu_seconds Processor time spent in programs\n\
             # TYPE dovestat_global_user_cpu_seconds counter\n\
             # UNIT dovestat_global_user_cpu_seconds seconds\n\
             dovestat_global_user_cpu_seconds_total 1.007442\n"
        );
        let text = global(Format::Text, KEYS.len() + 7);
        assert!(
            text.ends_with("\ndovestat_global_disk_input_bytes_total 1152921504606846976\n"),
            "{text}"
        );
        let text = global(Format::Text, 4);
        assert!(
            text.ends_with(" gauge\ndovestat_global_last_update_timestamp_seconds 5.000042\n"),
            "{text}"
        );
        let row = Row::Parent(Level::User, Key::Name(b"a\"b"), &totals);
        let text = written(Format::Text, 2, Level::User, &row);
        let sample = "dovestat_user_connected_sessions{user=\"a\\\"b\"} 2\n";
        assert!(text.ends_with(sample), "{text}");
        let address = Key::Address("2001:db8::1".parse().unwrap());
        let row = Row::Parent(Level::Ip, address, &totals);
        let text = written(Format::Text, 3, Level::Ip, &row);
        let sample = "dovestat_ip_reset_timestamp_seconds{ip=\"2001:db8::1\"} 1000\n";
        assert!(text.ends_with(sample), "{text}");
        let info = Family {
            name: "x_build".into(),
            about: "About.",
            kind: Kind::Info,
            unit: None,
        };
        for (format, expected) in [
            (
                Format::Text,
                "# HELP x_build_info About.\n# TYPE x_build_info gauge\n",
            ),
            (
                Format::OpenMetrics,
                "# HELP x_build About.\n# TYPE x_build info\n# EOF\n",
            ),
        ] {
            let mut out = Vec::new();
            info.write(&mut out, format);
            write_end(&mut out, format);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn families_are_all_different_and_named_by_convention() {
        let mut names = HashMap::new();
        for level in Level::WITH_TOTALS {
            for index in 0..LEVEL_FAMILIES {
                let family = LevelFamily::new(level, index).family;
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                assert!(family.name.bytes().all(plain), "{}", family.name);
                if let Some(unit) = family.unit {
                    assert!(family.name.ends_with(unit), "{}", family.name);
                }
                assert!(!family.about.contains(['\\', '"', '\n']));
                assert_eq!(names.insert(family.name.clone(), index), None);
            }
        }
    }
}
