//! One carbon report on its way to bytes, in slices.
//!
//! A level at a time is walked with a cursor of the store, in as many steps as a
//! turn of the loop allows, until a slice of about [`SLICE_BYTES`] is made; the
//! next is made when that one is written. So a batch holds one slice, the ids of
//! at most `stats_carbon_limit` entries and the paths it has used, whatever the
//! store holds. The global level alone is one slice.
//!
//! Whoever drops a batch gives its cursor back first: [`Batch::end`].

use crate::config::Level;
use crate::store::{CursorId, Opening, Progress, Store, Zoom};
use crate::wire::{write_lines, CarbonPaths};

/// The output at which a slice ends, in bytes; one entry may pass it.
const SLICE_BYTES: usize = 16384;

/// A report.
#[derive(Debug)]
pub struct Batch {
    /// The time that all its lines have.
    unix_secs: u32,
    /// Most entries of a level.
    limit: usize,
    /// Levels that are still to come, the last one first.
    levels: Vec<Level>,
    /// The walk of the level that is being made.
    walk: Option<CursorId>,
    /// What its entries are called.
    paths: CarbonPaths,
    /// What is made and not written.
    pub output: Vec<u8>,
}

impl Batch {
    /// One that begins now.
    pub fn new(prefix: &str, unix_secs: u32, levels: &[Level], limit: u32) -> Batch {
        Batch {
            unix_secs,
            limit: limit as usize,
            levels: levels.iter().rev().copied().collect(),
            walk: None,
            paths: CarbonPaths::new(prefix),
            output: Vec::new(),
        }
    }

    /// Whether all of it has been made.
    pub fn is_made(&self) -> bool {
        self.walk.is_none() && self.levels.is_empty()
    }

    /// Makes more of it, until a slice is full or `steps` are used up, which are
    /// taken off.
    pub fn make(&mut self, store: &mut Store, steps: &mut usize) {
        while self.output.len() < SLICE_BYTES && *steps > 0 {
            let Some(walk) = self.walk.take() else {
                let Some(level) = self.levels.pop() else {
                    return;
                };
                *steps -= 1;
                if let Opening::Rows(walk) = store.open_biggest(zoom(level), self.limit) {
                    self.walk = Some(walk);
                }
                continue;
            };
            let progress = store.read(&walk, steps, |row| {
                if let (Some(path), Some(totals)) = (self.paths.of(row), row.totals()) {
                    write_lines(&mut self.output, &path, totals, self.unix_secs);
                }
                self.output.len() < SLICE_BYTES
            });
            match progress {
                Progress::More => self.walk = Some(walk),
                Progress::Done => store.close(walk),
            }
        }
    }

    /// Gives back what it holds.
    pub fn end(self, store: &mut Store) {
        if let Some(walk) = self.walk {
            store.close(walk);
        }
    }
}

/// The level in the store's terms.
pub fn zoom(level: Level) -> Zoom {
    match level {
        Level::Global => Zoom::Global,
        Level::Domain => Zoom::Domain,
        Level::User => Zoom::User,
        Level::Ip => Zoom::Ip,
    }
}
