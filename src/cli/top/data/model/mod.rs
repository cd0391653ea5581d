//! Samples of a level, and the rates between them.
//!
//! Owns: a [`Table`], the entries that one question to one server has listed,
//! from sample to sample. For each entry it keeps what the server reported last and
//! how far its counters moved between snapshots, which are a sixth of a window
//! apart. A rate adds up what moved since one of them.
//!
//! | module | what it is |
//! |---|---|
//! | `line` | a line of a reply: its hash, its numbers |
//! | `entry` | an entry, and the order of entries by name |
//! | `texts` | its texts in one piece of memory |
//! | `moves` | how far its numbers moved lately, in few bytes |
//! | `figures` | its numbers as they are shown |
//! | `spark` | its sparkline |
//!
//! What a counter moved on by, so that no rate is ever negative:
//! - it grew: the difference;
//! - the entry's reset_timestamp, of a session its connect_time, is another: it was
//!   cleared or made anew since the last sample, so all it has counted is new;
//! - it shrank: nothing. What came in between is not known.
//!
//! An entry that a whole sample before did not list was made in between, and
//! all it has counted is new. Before there was such a sample, after a lost
//! connection or after another question, its rate begins where it is first seen.
//!
//! Invariants: the work of a sample is linear in its rows, whatever they are. An
//! entry is found by a keyed hash of its key (with 64 bits, of a million entries two
//! share one in one case of thirty million). Commands have no id: those that are alike
//! are *twins*, found by their order, which a list keeps. A row that stands where it
//! stood in the last sample and is the same, by a keyed hash of the line, is not even
//! taken apart.
//!
//! Time is passed in. Must not: know servers, sorting or the screen.

mod entry;
mod figures;
mod line;
mod moves;
mod spark;
mod texts;

pub(crate) use entry::{by_name, Entry, Phase};
pub(crate) use figures::{Figures, Look};

use super::values::{is_time, value_index, GAUGES, SESSIONS, VALUES};
use crate::cli::args::filter::OwnTerm;
use crate::cli::order::sort_places;
use crate::cli::server::split;
use crate::cli::top::level::level_row;
use crate::store::Level;
use figures::Moved;
use line::{digits, hash_line, micros};
use moves::Moves;
use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};
use texts::Texts;

/// Snapshots that are known: enough for a window in sixths.
const SLOTS: usize = 8;
/// How long an entry that is gone, or new, is marked as such.
pub(crate) const FADING: Duration = Duration::from_millis(3500);
/// No entry.
const NONE: u32 = u32::MAX;

/// What a column of the reply is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Ignored,
    /// A text of the entry, by its place in the level's.
    Text(usize),
    /// A number of the reading.
    Value(usize),
    /// reset_timestamp, of sessions connect_time.
    Reset,
    /// last_update.
    Updated,
}

/// The twins of one key.
#[derive(Debug)]
struct Twins {
    /// The first and the last.
    ends: [u32; 2],
    /// The first that may not have been listed in `sample` yet.
    next: u32,
    sample: u64,
}

impl Twins {
    /// The first that the sample has not listed yet.
    fn next(&mut self, entries: &[Option<Entry>], sample: u64) -> Option<u32> {
        if self.sample != sample {
            (self.next, self.sample) = (self.ends[0], sample);
        }
        // Others were found where they stood before. No twin is passed twice.
        while let Some(Some(entry)) = entries.get(self.next as usize) {
            if entry.seen != sample {
                return Some(self.next);
            }
            self.next = entry.twins[1];
        }
        None
    }
}

/// The entries of one question to one server.
#[derive(Debug)]
pub(crate) struct Table {
    level: Level,
    /// What a text must fit, by its place in the level's.
    term: Option<(usize, OwnTerm)>,
    /// The entries, and places where one was.
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// The entries of each hash of a key.
    by_key: HashMap<u64, Twins>,
    /// Memory of the entries, but for what moved since the last sample.
    kept_bytes: usize,
    /// All entries by name, but `added`.
    order: Vec<u32>,
    /// Entries added since they were put in order.
    added: Vec<u32>,
    made: u32,
    /// Makes hashes of keys, and the seed of those of lines.
    hasher: RandomState,
    seed: u64,
    /// What the columns of the reply are.
    slots: Vec<Slot>,
    sample: u64,
    /// The entry that would come next if nothing has changed.
    expected: u32,
    /// The entry of the last row.
    last: u32,
    /// The entry of the first row.
    first: u32,
    /// When the last whole sample was taken.
    sampled: Option<Instant>,
    /// When the snapshots were taken, by number; the last [`SLOTS`] of them.
    taken: Vec<(u64, Instant)>,
    snapshots: u64,
    /// The last sample was whole, of the same question and connection.
    continuous: bool,
    /// Sessions of each user, where they are counted.
    sessions: Option<HashMap<Box<[u8]>, u64>>,
    /// Built for each row: where its fields are.
    spans: Vec<(usize, usize)>,
    /// Built for each row: its key, what moved.
    scratch: Vec<u8>,
}

impl Table {
    /// An empty one, for what fits the term.
    pub(crate) fn new(level: Level, term: Option<OwnTerm>) -> Table {
        let texts = level_row(level).texts;
        let place = |term: &OwnTerm| texts.iter().position(|&text| text == term.column);
        let hasher = RandomState::new();
        Table {
            level,
            term: term.and_then(|term| Some((place(&term)?, term))),
            entries: Vec::new(),
            free: Vec::new(),
            kept_bytes: 0,
            by_key: HashMap::new(),
            order: Vec::new(),
            added: Vec::new(),
            made: 0,
            seed: hasher.hash_one(0) | 1,
            hasher,
            slots: Vec::new(),
            sample: 0,
            expected: NONE,
            last: NONE,
            first: NONE,
            sampled: None,
            taken: Vec::new(),
            snapshots: 0,
            continuous: false,
            sessions: None,
            spans: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// All entries, those that are gone for a moment included.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// Memory of the entries, as of the last sample.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// When the last whole sample was taken.
    pub(crate) fn sampled(&self) -> Option<Instant> {
        self.sampled
    }

    /// Whether there are two samples to make rates of.
    pub(crate) fn has_rates(&self) -> bool {
        self.sampled
            .is_some_and(|now| self.taken.iter().any(|&(_, taken)| taken < now))
    }

    /// Whether the server has a column with numbers.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        let slot = value_index(name).map(Slot::Value);
        slot.is_some_and(|slot| self.slots.contains(&slot))
    }

    /// The connection was lost or another question is asked: what is not
    /// listed next may have been there before.
    pub(crate) fn interrupt(&mut self) {
        self.continuous = false;
    }

    /// A sample begins: the names of the reply's columns; none for a reply without
    /// statistics.
    pub(crate) fn begin(&mut self, names: &[String]) {
        let texts = level_row(self.level).texts;
        let slot = |name: &String| match name.as_str() {
            "reset_timestamp" | "connect_time" => Slot::Reset,
            "last_update" => Slot::Updated,
            name => match texts.iter().position(|&text| text == name) {
                Some(text) => Slot::Text(text),
                None => value_index(name).map_or(Slot::Ignored, Slot::Value),
            },
        };
        let slots: Vec<Slot> = names.iter().map(slot).collect();
        if slots.contains(&Slot::Value(SESSIONS)) {
            self.sessions = None;
        }
        // Other columns: a line that is the same means something else.
        self.expected = if slots == self.slots {
            self.first
        } else {
            NONE
        };
        self.slots = slots;
        (self.last, self.first) = (NONE, NONE);
        self.sample += 1;
    }

    /// A row of the sample, which is unescaped in place.
    pub(crate) fn row(&mut self, line: &mut [u8], now: Instant) {
        let print = hash_line(line, self.seed);
        let is_same = |entry: &Entry| {
            entry.print == print
                && entry.seen + 1 == self.sample
                && !matches!(entry.phase, Phase::Gone(_))
        };
        let at = self.expected;
        let found = self.entries.get(at as usize).and_then(Option::as_ref);
        let at = match found.is_some_and(is_same) {
            true => at,
            false => match self.changed_row(line, now) {
                Some(at) => at,
                None => return,
            },
        };
        if let Some(Some(last)) = self.entries.get_mut(self.last as usize) {
            last.behind = at;
        } else {
            self.first = at;
        }
        self.last = at;
        let sample = self.sample;
        let entry = self.entry_mut(at);
        entry.seen = sample;
        entry.print = print;
        self.expected = entry.behind;
    }

    /// The entry at a place where one is.
    fn entry_mut(&mut self, at: u32) -> &mut Entry {
        self.entries[at as usize]
            .as_mut()
            .expect("an entry's place")
    }

    /// A row that has changed or stands elsewhere: its entry, which is made if it is
    /// new. `None` for one that is not wanted.
    fn changed_row(&mut self, line: &mut [u8], now: Instant) -> Option<u32> {
        let row = level_row(self.level);
        let (names, keys) = (row.texts, row.key_texts);
        let mut texts = [&b""[..]; 5];
        let mut values = [0; VALUES];
        let (mut reset_secs, mut updated_micros) = (0, 0);
        let row = split(line, &mut self.spans);
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
        if let Some((place, term)) = &self.term {
            if !term.fits(texts[*place]) {
                return None;
            }
        }
        let hash = self.hasher.hash_one(&texts[..keys]);
        let twins = self.by_key.get_mut(&hash);
        let known = twins.and_then(|twins| twins.next(&self.entries, self.sample));
        if let Some(sessions) = &self.sessions {
            values[SESSIONS] = sessions.get(texts[0]).copied().unwrap_or(0);
        }
        let (snapshots, is_new) = (self.snapshots, self.continuous);
        // How many sessions there are now is no event.
        let mut moved = values;
        moved[GAUGES].fill(0);
        let Some(at) = known else {
            let mut moves = Moves::default();
            if is_new {
                moves.add(snapshots, moved, &mut self.scratch);
            }
            let entry = Entry {
                id: self.made,
                rank: NONE,
                texts: Texts::new(&texts[..names.len()]),
                text_count: names.len() as u8,
                values,
                reset_secs,
                updated_micros,
                moves,
                known_since: (!is_new).then_some(now),
                seen: 0,
                phase: if is_new { Phase::New(now) } else { Phase::Old },
                spark: Box::default(),
                spark_end: 0,
                hash,
                print: 0,
                behind: NONE,
                twins: [NONE; 2],
            };
            return Some(self.insert(entry));
        };
        let entry = self.entries[at as usize]
            .as_mut()
            .expect("an entry's place");
        if let Phase::Gone(_) = entry.phase {
            entry.phase = if is_new { Phase::New(now) } else { Phase::Old };
        }
        if entry.reset_secs == reset_secs {
            for (new, old) in moved.iter_mut().zip(entry.values) {
                *new = new.saturating_sub(old);
            }
        }
        entry.moves.add(snapshots, moved, &mut self.scratch);
        entry.values = values;
        entry.reset_secs = reset_secs;
        entry.updated_micros = updated_micros;
        Some(at)
    }

    /// Adds an entry behind its twins.
    fn insert(&mut self, mut entry: Entry) -> u32 {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        let twins = self.by_key.entry(entry.hash).or_insert(Twins {
            ends: [at, NONE],
            next: NONE,
            sample: self.sample,
        });
        entry.twins = [twins.ends[1], NONE];
        let before = std::mem::replace(&mut twins.ends[1], at);
        if let Some(Some(before)) = self.entries.get_mut(before as usize) {
            before.twins[1] = at;
        }
        self.kept_bytes += entry.kept_bytes();
        self.entries[at as usize] = Some(entry);
        self.made = self.made.wrapping_add(1);
        self.added.push(at);
        at
    }

    fn remove(&mut self, at: u32) {
        let entry = self.entries[at as usize].take().expect("an entry's place");
        self.kept_bytes -= entry.kept_bytes();
        let [before, behind] = entry.twins;
        let twins = self.by_key.get_mut(&entry.hash).expect("its twins");
        match self.entries.get_mut(before as usize) {
            Some(Some(before)) => before.twins[1] = behind,
            _ => twins.ends[0] = behind,
        }
        match self.entries.get_mut(behind as usize) {
            Some(Some(behind)) => behind.twins[0] = before,
            _ => twins.ends[1] = before,
        }
        if twins.ends == [NONE; 2] {
            self.by_key.remove(&entry.hash);
        }
        self.free.push(at);
    }

    /// The sample is whole: it was taken at `now`. Snapshots are to serve a
    /// window of this length.
    pub(crate) fn end(&mut self, now: Instant, window: Duration) {
        let sample = self.sample;
        let step = window.as_secs_f64() / (SLOTS - 2) as f64;
        // A turn that comes a little early must not double the distance.
        let due = |last: Instant| (now - last).as_secs_f64() >= step * 0.9;
        if self.taken.last().is_none_or(|&(_, last)| due(last)) {
            self.taken.push((self.snapshots, now));
            self.snapshots += 1;
            if self.taken.len() > SLOTS {
                self.taken.remove(0);
            }
        }
        self.sampled = Some(now);
        self.continuous = true;
        let base = self.base(window).map(|(number, _)| number);
        let mut over = Vec::new();
        self.kept_bytes = 0;
        for (at, entry) in (0..).zip(&mut self.entries) {
            let Some(entry) = entry else {
                continue;
            };
            if entry.seen != sample {
                match entry.phase {
                    Phase::Gone(since) if now - since >= FADING => over.push(at),
                    Phase::Gone(_) => {}
                    _ => entry.phase = Phase::Gone(now),
                }
            }
            if let Some(base) = base.filter(|_| !entry.moves.is_empty()) {
                entry.moves.drop_before(base);
            }
            self.kept_bytes += entry.kept_bytes();
        }
        over.iter().for_each(|&at| self.remove(at));
        self.put_in_order(!over.is_empty());
    }

    /// Gives every entry its rank, if any came or went.
    fn put_in_order(&mut self, has_removed: bool) {
        if !has_removed && self.added.is_empty() {
            return;
        }
        let (entries, level) = (&self.entries, self.level);
        let at = |at: u32| entries[at as usize].as_ref();
        // A place that was taken again is among the added ones.
        let mut added = std::mem::take(&mut self.added);
        added.retain(|&place| at(place).is_some());
        let is_old = |place: &u32| at(*place).is_some_and(|entry| entry.rank != NONE);
        self.order.retain(is_old);
        let names = |a: u32, b: u32| match (at(a), at(b)) {
            (Some(a), Some(b)) => by_name(level, a, b),
            _ => std::cmp::Ordering::Equal,
        };
        sort_places(&mut added, &names);
        // Two sorted runs, which a stable sort merges.
        self.order.extend_from_slice(&added);
        sort_places(&mut self.order, &names);
        for (rank, &place) in (0..).zip(&self.order) {
            if let Some(entry) = &mut self.entries[place as usize] {
                entry.rank = rank;
            }
        }
    }

    /// Sets how many connected sessions each user has, which Dovecot's server does not
    /// report.
    pub(crate) fn count_sessions(&mut self, counted: HashMap<Box<[u8]>, u64>) {
        for entry in self.entries.iter_mut().flatten() {
            entry.values[SESSIONS] = counted.get(entry.text(0)).copied().unwrap_or(0);
        }
        self.sessions = Some(counted);
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

    /// Whether anything of an entry moved within a window.
    pub(crate) fn is_active(&self, entry: &Entry, window: Duration) -> bool {
        let is_here = !matches!(entry.phase, Phase::Gone(_));
        is_here
            && !entry.moves.is_empty()
            && self
                .base(window)
                .is_some_and(|(number, _)| entry.moves.any_since(number))
    }

    /// An entry's numbers. Those of an entry that is gone stand still: no rate.
    pub(crate) fn figures<'a>(&self, entry: &'a Entry, look: Look) -> Figures<'a> {
        let moved = match look {
            Look::Totals => None,
            Look::Rates(window) => Some(self.moved(entry, window)),
        };
        Figures {
            values: &entry.values,
            updated_micros: entry.updated_micros,
            reset_secs: entry.reset_secs,
            moved,
        }
    }

    /// How far an entry's numbers moved in the window.
    fn moved<'a>(&self, entry: &'a Entry, window: Duration) -> Moved<'a> {
        let Some(((number, taken), sampled)) = self.base(window).zip(self.sampled) else {
            return Moved {
                moves: None,
                since: None,
                secs: 0.0,
            };
        };
        let since = entry.known_since.map_or(taken, |known| known.max(taken));
        let is_gone = matches!(entry.phase, Phase::Gone(_));
        Moved {
            moves: (!is_gone && !entry.moves.is_empty()).then_some(&entry.moves),
            since: Some(number),
            secs: sampled.saturating_duration_since(since).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests;
