//! Samples of a level, and the rates between them.
//!
//! Owns: a [`Table`], the entries that one question to one server has listed,
//! from sample to sample. For each entry it keeps what the server says now and
//! sums of our own that only grow: a sample adds how far each counter moved on.
//! Snapshots of the sums, a sixth of a window apart, are what a rate looks back
//! to.
//!
//! What a counter moved on by, so that no rate is ever negative:
//! - it grew: the difference;
//! - the entry's reset_timestamp is another: it was cleared or made anew since
//!   the last sample, so all it has counted is new;
//! - it shrank: nothing. What came in between is not known.
//!
//! An entry that a whole sample before did not list was made in between, and
//! all it has counted is new. Before there was such a sample, after a lost
//! connection or after another question, its rate begins where it is first seen.
//!
//! Time is passed in. Must not: know servers, sorting or the screen.

use super::column::{is_time, value_index, VALUES};
use crate::cli::server::Row;
use crate::store::Zoom;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Snapshots of an entry: enough for a window in sixths.
const SLOTS: usize = 8;
/// How long an entry that is gone, or new, is marked as such.
pub const FADING: Duration = Duration::from_millis(3500);
/// Points of an entry's sparkline.
pub const POINTS: usize = 120;

/// What a column of the reply is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Not kept.
    Ignored,
    /// A text of the entry, by its place in [`texts`].
    Text(usize),
    /// A number of the reading.
    Value(usize),
    /// reset_timestamp.
    Reset,
    /// last_update.
    Updated,
}

/// The texts of a level's entries, by the names of protocol.md, and how many of
/// them make the entry's key.
pub fn texts(level: Zoom) -> (&'static [&'static str], usize) {
    match level {
        Zoom::Command => (&["session", "cmd", "args", "user"], 3),
        Zoom::Session => (&["session", "user", "service", "ip", "pid"], 1),
        Zoom::User => (&["user"], 1),
        Zoom::Domain => (&["domain"], 1),
        Zoom::Ip => (&["ip"], 1),
        Zoom::Global => (&[], 0),
    }
}

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// Its texts, in the order of [`texts`].
    pub texts: Vec<Box<[u8]>>,
    /// What the server says now.
    pub values: [u64; VALUES],
    /// When it was made or cleared, in seconds since 1970; 0 where that is not
    /// told.
    reset_secs: u64,
    /// When it was updated, in microseconds since 1970.
    pub updated_micros: u64,
    /// How far the counters moved on since we look.
    sums: [u64; VALUES],
    /// The sums at the last snapshots: [`SLOTS`] times [`VALUES`].
    snapshots: Vec<u64>,
    /// The snapshots taken before it came.
    born: u64,
    /// When counting began, if that is later than a snapshot: an entry not
    /// known to be new.
    known_since: Option<Instant>,
    /// The last sample that listed it.
    seen: u64,
    /// When it was first listed; `None` for those that were there at once.
    pub new_since: Option<Instant>,
    /// When it was no longer listed.
    pub gone_since: Option<Instant>,
    /// The numbers of the watched column, the last one at `spark_end`.
    spark: Vec<f32>,
    /// The sample of the last point.
    spark_end: u64,
}

/// The entries of one question to one server.
#[derive(Debug)]
pub struct Table {
    /// The level asked for.
    level: Zoom,
    /// The entries by key.
    entries: HashMap<Box<[u8]>, Entry>,
    /// What the columns of the reply are.
    slots: Vec<Slot>,
    /// Samples begun so far.
    sample: u64,
    /// When each sample that is still of use was taken; the last one last.
    sampled: Option<Instant>,
    /// When the snapshots were taken, by number; the last [`SLOTS`] of them.
    taken: Vec<(u64, Instant)>,
    /// Snapshots taken so far.
    snapshots: u64,
    /// The last sample was whole, of the same question and connection.
    continuous: bool,
    /// Built for each row: its key.
    key: Vec<u8>,
}

/// How numbers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Totals since the server counts.
    Totals,
    /// Rates over so much time.
    Rates(Duration),
}

/// An entry's numbers as they are to be shown.
#[derive(Debug)]
pub struct Figures<'a> {
    /// What the server says now.
    pub values: &'a [u64; VALUES],
    /// When it was updated, in microseconds since 1970.
    pub updated_micros: u64,
    /// How far they moved; `None` for totals.
    moved: Option<Moved<'a>>,
}

/// How far an entry's numbers moved in a time.
#[derive(Debug)]
struct Moved<'a> {
    /// The sums now.
    now: &'a [u64; VALUES],
    /// The sums then; none: the entry began in between, at zero.
    then: Option<&'a [u64]>,
    /// The seconds in between; 0: not known yet.
    secs: f64,
}

impl Figures<'_> {
    /// A number of the reading, or its rate a second.
    pub fn number(&self, value: usize) -> f64 {
        match &self.moved {
            None => self.values[value] as f64,
            Some(moved) if moved.secs <= 0.0 => 0.0,
            Some(moved) => {
                let then = moved.then.map_or(0, |then| then[value]);
                (moved.now[value] - then) as f64 / moved.secs
            }
        }
    }

    /// Whether these are totals.
    pub fn is_total(&self) -> bool {
        self.moved.is_none()
    }

    /// Whether there is no rate yet.
    pub fn is_unknown(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| moved.secs <= 0.0)
    }

    /// Whether anything moved; of totals, whether anything was counted.
    pub fn is_active(&self) -> bool {
        (0..VALUES).any(|value| self.number(value) > 0.0)
    }
}

impl Table {
    /// An empty one.
    pub fn new(level: Zoom) -> Table {
        Table {
            level,
            entries: HashMap::new(),
            slots: Vec::new(),
            sample: 0,
            sampled: None,
            taken: Vec::new(),
            snapshots: 0,
            continuous: false,
            key: Vec::new(),
        }
    }

    /// All entries, those that are gone for a moment included.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(key, entry)| (&**key, entry))
    }

    /// When the last whole sample was taken.
    pub fn sampled(&self) -> Option<Instant> {
        self.sampled
    }

    /// Whether rates can be told.
    pub fn has_rates(&self) -> bool {
        self.sampled
            .is_some_and(|now| self.taken.iter().any(|&(_, taken)| taken < now))
    }

    /// The connection was lost or another question is asked: what is not
    /// listed next may have been there before.
    pub fn interrupt(&mut self) {
        self.continuous = false;
    }

    /// A sample begins: the names of the reply's columns; none when it says
    /// that there is nothing.
    pub fn begin(&mut self, names: &[String]) {
        let (texts, _) = texts(self.level);
        let slot = |name: &String| match name.as_str() {
            "reset_timestamp" => Slot::Reset,
            "last_update" => Slot::Updated,
            name => match texts.iter().position(|&text| text == name) {
                Some(text) => Slot::Text(text),
                None => value_index(name).map_or(Slot::Ignored, Slot::Value),
            },
        };
        self.slots.clear();
        self.slots.extend(names.iter().map(slot));
        self.sample += 1;
    }

    /// A row of the sample.
    pub fn row(&mut self, row: Row<'_>, now: Instant) {
        let (names, keys) = texts(self.level);
        let mut texts = [&b""[..]; 5];
        let mut values = [0; VALUES];
        let (mut reset_secs, mut updated_micros) = (0, 0);
        for (&slot, field) in self.slots.iter().zip(row.fields()) {
            match slot {
                Slot::Ignored => {}
                Slot::Text(text) => texts[text] = field,
                Slot::Value(value) if is_time(value) => values[value] = micros(field),
                Slot::Value(value) => values[value] = digits(field),
                Slot::Reset => reset_secs = digits(field),
                Slot::Updated => updated_micros = micros(field),
            }
        }
        self.key.clear();
        for text in &texts[..keys] {
            self.key.extend_from_slice(text);
            self.key.push(0);
        }
        let sample = self.sample;
        // Commands have no id: the same one twice is told apart by a number.
        let mut twin = 0u32;
        while self
            .entries
            .get(&*self.key)
            .is_some_and(|entry| entry.seen == sample)
        {
            self.key
                .truncate(self.key.len() - if twin == 0 { 0 } else { 4 });
            twin += 1;
            self.key.extend_from_slice(&twin.to_be_bytes());
        }
        if let Some(entry) = self.entries.get_mut(&*self.key) {
            entry.seen = sample;
            if entry.gone_since.take().is_some() && self.continuous {
                entry.new_since = Some(now);
            }
            let was_reset = entry.reset_secs != reset_secs;
            for ((sum, old), new) in entry.sums.iter_mut().zip(&mut entry.values).zip(values) {
                let moved = if was_reset {
                    new
                } else {
                    new.saturating_sub(*old)
                };
                *sum = sum.saturating_add(moved);
                *old = new;
            }
            entry.reset_secs = reset_secs;
            entry.updated_micros = updated_micros;
            return;
        }
        let texts = texts[..names.len()]
            .iter()
            .map(|&text| text.into())
            .collect();
        let is_new = self.continuous;
        let entry = Entry {
            texts,
            values,
            reset_secs,
            updated_micros,
            sums: if is_new { values } else { [0; VALUES] },
            snapshots: vec![0; SLOTS * VALUES],
            born: self.snapshots,
            known_since: (!is_new).then_some(now),
            seen: sample,
            new_since: is_new.then_some(now),
            gone_since: None,
            spark: Vec::new(),
            spark_end: 0,
        };
        self.entries.insert(self.key.as_slice().into(), entry);
    }

    /// The sample is whole: it was taken at `now`. Snapshots are to serve a
    /// window of this length.
    pub fn end(&mut self, now: Instant, window: Duration) {
        let sample = self.sample;
        self.entries.retain(|_, entry| {
            if entry.seen != sample && entry.gone_since.is_none() {
                entry.gone_since = Some(now);
            }
            entry.gone_since.is_none_or(|gone| now - gone < FADING)
        });
        let step = window.as_secs_f64() / (SLOTS - 2) as f64;
        // A turn that comes a little early must not double the distance.
        let due = |last: Instant| (now - last).as_secs_f64() >= step * 0.9;
        if self.taken.last().is_none_or(|&(_, last)| due(last)) {
            let slot = (self.snapshots % SLOTS as u64) as usize * VALUES;
            for entry in self.entries.values_mut() {
                entry.snapshots[slot..slot + VALUES].copy_from_slice(&entry.sums);
            }
            self.taken.push((self.snapshots, now));
            self.snapshots += 1;
            if self.taken.len() > SLOTS {
                self.taken.remove(0);
            }
        }
        self.sampled = Some(now);
        self.continuous = true;
    }

    /// The snapshot a rate looks back to: the youngest that is a window old,
    /// or the oldest there is. `None` before there are two samples.
    fn base(&self, window: Duration) -> Option<(u64, Instant)> {
        let now = self.sampled?;
        let before = || self.taken.iter().filter(|(_, taken)| *taken < now);
        let old_enough = |taken: Instant| (now - taken).as_secs_f64() >= window.as_secs_f64() * 0.9;
        let youngest = before().rev().find(|(_, taken)| old_enough(*taken));
        youngest.or_else(|| before().next()).copied()
    }

    /// An entry's numbers. Those of an entry that is gone stand still: no rate.
    pub fn figures<'a>(&self, entry: &'a Entry, look: Look) -> Figures<'a> {
        let moved = match look {
            Look::Totals => None,
            Look::Rates(window) => Some(self.moved(entry, window)),
        };
        Figures {
            values: &entry.values,
            updated_micros: entry.updated_micros,
            moved,
        }
    }

    /// How far an entry's numbers moved in the window.
    fn moved<'a>(&self, entry: &'a Entry, window: Duration) -> Moved<'a> {
        let now = &entry.sums;
        let Some(((number, taken), sampled)) = self.base(window).zip(self.sampled) else {
            let (then, secs) = (None, 0.0);
            return Moved { now, then, secs };
        };
        let slot = (number % SLOTS as u64) as usize * VALUES;
        let then = match entry.gone_since {
            Some(_) => Some(&now[..]),
            None => (entry.born <= number).then(|| &entry.snapshots[slot..slot + VALUES]),
        };
        let since = entry.known_since.map_or(taken, |known| known.max(taken));
        let secs = sampled.saturating_duration_since(since).as_secs_f64();
        Moved { now, then, secs }
    }

    /// Adds a point to every sparkline: `number` of each entry's figures.
    pub fn spark(&mut self, look: Look, number: impl Fn(&Figures<'_>) -> f64) {
        let points: Vec<f32> = self
            .entries
            .values()
            .map(|entry| number(&self.figures(entry, look)) as f32)
            .collect();
        for (entry, point) in self.entries.values_mut().zip(points) {
            // Most entries do nothing and need no line.
            if entry.spark.is_empty() && point == 0.0 {
                continue;
            }
            if entry.spark.is_empty() {
                entry.spark = vec![0.0; POINTS];
                entry.spark_end = self.sample;
            }
            let skipped = (entry.spark_end + 1..self.sample).rev().take(POINTS);
            skipped.for_each(|at| entry.spark[at as usize % POINTS] = 0.0);
            entry.spark[self.sample as usize % POINTS] = point;
            entry.spark_end = self.sample;
        }
    }

    /// Forgets all sparklines: another column is watched.
    pub fn forget_sparks(&mut self) {
        for entry in self.entries.values_mut() {
            entry.spark = Vec::new();
        }
    }

    /// The last `count` points of an entry's sparkline, the oldest first.
    pub fn points(&self, entry: &Entry, count: usize) -> Vec<f32> {
        let count = count.min(POINTS);
        if entry.spark.is_empty() {
            return vec![0.0; count];
        }
        let end = entry.spark_end as usize + POINTS;
        (end + 1 - count..=end)
            .map(|at| entry.spark[at % POINTS])
            .collect()
    }
}

/// A number as a server writes it; what is none counts as far as it is one.
fn digits(field: &[u8]) -> u64 {
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, &byte| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    })
}

/// `seconds.microseconds` in microseconds, read as two whole numbers. Dovecot
/// 2.3 and before print 7442 microseconds as `0.7442`.
fn micros(field: &[u8]) -> u64 {
    let dot = field.iter().position(|&byte| byte == b'.');
    let (secs, usecs) = field.split_at(dot.unwrap_or(field.len()));
    digits(secs)
        .saturating_mul(1_000_000)
        .saturating_add(digits(usecs.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
