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
use crate::store::{Latency, Level, Row, WallTime, BOUNDS_USECS};
use crate::wire::encoding::number::{push_digits, push_secs, push_stat, push_usecs};
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
    /// How many observations were at most so large, by the label `le`, their sum and count.
    Histogram,
}

/// The labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a [u8])];

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
            Kind::Gauge | Kind::Histogram => "",
            Kind::Info => "_info",
        }
    }

    /// Appends the lines in front of its samples.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) {
        let (suffix, kind) = match (format, self.kind) {
            (Format::Text, Kind::Counter) => (self.suffix(), "counter"),
            (Format::Text, Kind::Gauge | Kind::Info) => (self.suffix(), "gauge"),
            (_, Kind::Histogram) => ("", "histogram"),
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

    /// Appends a sample; `push_value` appends the number.
    #[inline(never)]
    fn write_sample(
        &self,
        out: &mut Vec<u8>,
        suffix: &str,
        labels: Labels,
        push_value: &dyn Fn(&mut Vec<u8>),
    ) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for (name, value) in labels {
            out.push(before);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            push_label(out, value);
            out.push(b'"');
            before = b',';
        }
        if !labels.is_empty() {
            out.push(b'}');
        }
        out.push(b' ');
        push_value(out);
        out.push(b'\n');
    }

    /// Appends a sample whose value is a whole number.
    pub fn write_number(&self, out: &mut Vec<u8>, labels: Labels, number: u64) {
        self.write_sample(out, self.suffix(), labels, &|out| push_digits(out, number));
    }

    /// Appends the samples of a histogram of seconds for a service and a command name.
    fn write_histogram(
        &self,
        out: &mut Vec<u8>,
        [service, cmd]: [(&str, &[u8]); 2],
        latency: &Latency,
    ) {
        let mut sum: u64 = 0;
        for (place, &count) in latency.counts.iter().enumerate() {
            sum = sum.saturating_add(count);
            let mut bound = b"+Inf".to_vec();
            match BOUNDS_USECS.get(place) {
                Some(&usecs) if SHOWN_OF_DECADE.contains(&(place % 10)) => {
                    bound.clear();
                    push_bound(&mut bound, usecs);
                }
                Some(_) => continue,
                None => {}
            }
            let labels = [service, cmd, ("le", &*bound)];
            self.write_sample(out, "_bucket", &labels, &|out| push_digits(out, sum));
        }
        let usecs = latency.sum_usecs;
        self.write_sample(out, "_sum", &[service, cmd], &|out| push_usecs(out, usecs));
        self.write_sample(out, "_count", &[service, cmd], &|out| push_digits(out, sum));
    }
}

/// The places of 1, 2.5 and 5 among the ten bounds of a decade.
const SHOWN_OF_DECADE: [usize; 3] = [0, 4, 7];

/// Appends a bound in seconds as OpenMetrics wants floats, which Prometheus 3 makes of any:
/// without zeros at the end, but with a digit behind the point.
fn push_bound(out: &mut Vec<u8>, usecs: u64) {
    push_usecs(out, usecs);
    while out.ends_with(b"0") && !out.ends_with(b".0") {
        out.pop();
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
    /// How long commands took.
    Duration,
}

/// The columns in front of the statistics fields.
const KEYS: [Column; 5] = [
    Column::Logins,
    Column::Cmds,
    Column::ConnectedSessions,
    Column::Reset,
    Column::LastUpdate,
];

/// How many families a level has.
pub fn family_count(level: Level) -> usize {
    match level {
        Level::Cmd => 2 + FIELD_COUNT,
        _ => KEYS.len() + FIELD_COUNT,
    }
}

/// A family that has a sample for each entry of a level.
#[derive(Clone, Debug)]
pub struct LevelFamily {
    family: Family<'static>,
    column: Column,
}

impl LevelFamily {
    /// The family of this index below the [`family_count`] of the level.
    pub fn new(level: Level, index: usize) -> LevelFamily {
        let keys = match level {
            Level::Cmd => &[Column::Cmds, Column::Duration][..],
            _ => &KEYS,
        };
        let column = match keys.get(index) {
            Some(column) => *column,
            None => Column::Stat(index - keys.len()),
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
            Column::Duration => (
                "duration",
                "How long commands took that are over, by clock_time",
                Kind::Histogram,
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
        let (text, one, two);
        let labels: Labels = match row {
            Row::Parent(level, key, _) => {
                text = key.text();
                one = [(level.name(), &*text)];
                &one
            }
            Row::Service(name, ..) => {
                one = [(Level::Service.name(), *name)];
                &one
            }
            Row::Cmd { service, name, .. } => {
                two = [
                    (Level::Service.name(), *service),
                    (Level::Cmd.name(), *name),
                ];
                &two
            }
            _ => &[],
        };
        let family = &self.family;
        let write = |out: &mut Vec<u8>, push: &dyn Fn(&mut Vec<u8>)| {
            family.write_sample(out, family.suffix(), labels, push);
        };
        let counters = &totals.counters;
        let number = match self.column {
            Column::Logins => counters.num_logins,
            Column::Cmds => counters.num_cmds,
            Column::ConnectedSessions => totals.connected,
            Column::Reset => totals.reset_secs.into(),
            Column::LastUpdate => {
                let WallTime { secs, usecs } = totals.last_update;
                return write(out, &|out| push_secs(out, secs.into(), usecs));
            }
            Column::Stat(index) => {
                let value = counters.stats.values[index];
                return write(out, &|out| push_stat(out, index, value));
            }
            Column::Duration => {
                if let (&[service, cmd], Some(latency)) = (labels, row.latency()) {
                    family.write_histogram(out, [service, cmd], latency);
                }
                return;
            }
        };
        family.write_number(out, labels, number);
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
mod tests;
