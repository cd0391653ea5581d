//! An entry of a table: what the server reports of it, and how that moved.

use super::moves::Moves;
use super::texts::Texts;
use crate::cli::top::data::values::VALUES;
use crate::store::Level;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::Instant;

/// Whether an entry is marked as new or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In the first sample.
    Old,
    /// First listed at this time.
    New(Instant),
    /// No longer listed since this time.
    Gone(Instant),
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// Unique: no other of the table has had this number.
    pub id: u32,
    /// Index among all entries by name.
    pub rank: u32,
    pub(crate) texts: Texts,
    pub(crate) text_count: u8,
    /// What the server reported last.
    pub values: [u64; VALUES],
    /// When it was made or cleared, in seconds since 1970; 0 where the server does not
    /// report that.
    pub(crate) reset_secs: u64,
    /// When it was updated, in microseconds since 1970.
    pub updated_micros: u64,
    /// How far the counters moved lately.
    pub(crate) moves: Moves,
    /// When counting began, if that is later than a snapshot: an entry not
    /// known to be new.
    pub(crate) known_since: Option<Instant>,
    /// The last sample that listed it.
    pub(crate) seen: u64,
    /// Whether it is new or gone.
    pub phase: Phase,
    /// The numbers of the watched column, the last one at `spark_end`: the upper
    /// halves of 32-bit floats.
    pub(crate) spark: Box<[u16]>,
    /// The sample of the last point.
    pub(crate) spark_end: u64,
    /// The hash of its key.
    pub(crate) hash: u64,
    /// The hash of its line in the last sample.
    pub(crate) print: u64,
    /// The entry that came behind it in the last sample.
    pub(crate) behind: u32,
    /// The twins before and behind it.
    pub(crate) twins: [u32; 2],
}

/// What an entry takes beside itself: pieces of memory, its places in two orders and
/// among the hashes, and that vectors may double.
const OVERHEAD_BYTES: usize = 150;

impl Entry {
    /// Memory that it takes.
    pub(crate) fn kept_bytes(&self) -> usize {
        let own = size_of::<Option<Entry>>() + OVERHEAD_BYTES + self.texts.bytes().len();
        own + self.moves.len() + size_of_val(&*self.spark)
    }

    /// One of its texts, by the order of [`LevelRow::texts`](crate::cli::top::level::LevelRow).
    pub(crate) fn text(&self, text: usize) -> &[u8] {
        self.texts.get(text, self.text_count.into())
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.text_count.into()).map(|text| self.text(text))
    }

    /// What identifies it in every table of the level, but for twins.
    pub(crate) fn name(&self) -> &[u8] {
        self.texts.bytes()
    }
}

/// The order of entries by name: of the text that stands first on the screen, then
/// of the others.
pub(crate) fn by_name(level: Level, a: &Entry, b: &Entry) -> Ordering {
    let address = |entry: &Entry| {
        let text = std::str::from_utf8(entry.text(0)).ok();
        text.and_then(|text| text.parse::<IpAddr>().ok())
    };
    let first = match level {
        Level::Session | Level::Command => a.text(1).cmp(b.text(1)),
        Level::Ip => address(a).cmp(&address(b)),
        _ => Ordering::Equal,
    };
    first
        .then_with(|| a.texts().cmp(b.texts()))
        .then(a.id.cmp(&b.id))
}
