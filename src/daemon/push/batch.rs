//! The lines of one report to carbon, made in slices.
//!
//! The next slice is made when the last one is written. So a batch keeps one slice, the
//! ids of at most `stats_carbon_limit` entries and the paths it has used, whatever the
//! store keeps. The global level alone is one slice.
//!
//! Must not: be dropped before [`Batch::end`].

use crate::daemon::level_walk::{LevelWalk, Part};
use crate::store::Level;
use crate::store::Store;
use crate::wire::{write_lines, CarbonPaths};

/// Steps of the store's cursors in one turn.
const STEPS_A_TURN: usize = 512;

#[derive(Debug)]
pub(crate) struct Batch {
    /// The time of all its lines.
    unix_secs: u32,
    walk: LevelWalk,
    paths: CarbonPaths,
    /// What is made and not written.
    pub(crate) output: Vec<u8>,
}

impl Batch {
    pub(crate) fn new(prefix: &str, unix_secs: u32, levels: &[Level], limit: u32) -> Batch {
        Batch {
            unix_secs,
            walk: LevelWalk::new(levels.iter().copied(), limit as usize, |_| 1),
            paths: CarbonPaths::new(prefix),
            output: Vec::new(),
        }
    }

    /// Whether all of it has been made.
    pub(crate) fn is_made(&self) -> bool {
        self.walk.is_done()
    }

    /// Makes as much of it as a turn allows.
    pub(crate) fn make(&mut self, store: &mut Store) {
        let Batch {
            unix_secs,
            walk,
            paths,
            output,
        } = self;
        walk.go_on(store, output, &mut { STEPS_A_TURN }, &mut |output, part| {
            let Part::Row(row) = part else {
                return;
            };
            if let Some(path) = paths.of(row) {
                write_lines(output, &path, row, *unix_secs);
            }
        });
    }

    /// Ends it, made or not.
    pub(crate) fn end(self, store: &mut Store) {
        self.walk.end(store);
    }
}
