//! One answer to Prometheus on its way to bytes, in slices.
//!
//! First comes the global level, then what other levels the settings ask for,
//! then the daemon's own health. A level is walked by one cursor of the store,
//! which picks the biggest entries once and hands them out again for each
//! statistic, because all samples of a family stand together. So a scrape
//! holds the ids of at most `stats_metrics_limit` entries, whatever the store
//! holds; an entry that is freed meanwhile is missing from then on.
//!
//! Whoever drops a scrape gives its cursor back first: [`Scrape::end`].

use crate::config::{Level, Settings};
use crate::daemon::serve::batch::zoom;
use crate::daemon::serve::context::Context;
use crate::daemon::serve::health::write_health;
use crate::daemon::serve::protocol::SLICE_BYTES;
use crate::store::{biggest_bytes, CursorId, Opening, Progress, Store, Zoom};
use crate::wire::metrics::{write_end, Format, LevelFamily, LEVEL_FAMILIES};

/// A scrape.
#[derive(Debug)]
pub struct Scrape {
    /// How it is written.
    format: Format,
    /// Most entries of a level.
    limit: usize,
    /// Levels that are still to come, the last one first.
    levels: Vec<Level>,
    /// The level that is being written.
    walk: Option<Walk>,
    /// The most bytes that the store may keep for it.
    held_bytes: usize,
}

/// A level on its way.
#[derive(Debug)]
struct Walk {
    /// Its entries.
    cursor: CursorId,
    /// The level.
    zoom: Zoom,
    /// The index of the family that is written.
    index: usize,
    /// That family, once its beginning is written.
    family: Option<LevelFamily>,
}

impl Scrape {
    /// One that begins now.
    pub fn new(settings: &Settings, store: &Store, format: Format) -> Scrape {
        let others = settings.metrics_levels.iter().rev().copied();
        let others = others.filter(|&level| level != Level::Global);
        let levels: Vec<Level> = others.chain([Level::Global]).collect();
        let limit = settings.metrics_limit as usize;
        let most = store.usage().entries.into_iter().max().unwrap_or_default();
        let held_bytes = match levels.len() {
            1 => 0,
            _ => biggest_bytes(limit.min(most)),
        };
        Scrape {
            format,
            limit,
            levels,
            walk: None,
            held_bytes,
        }
    }

    /// The most bytes that the store may keep for it.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Makes more of it until a slice is full or `steps` are used up, which are
    /// taken off. Whether that was all.
    pub fn make(&mut self, output: &mut Vec<u8>, context: &mut Context, steps: &mut usize) -> bool {
        while output.len() < SLICE_BYTES && *steps > 0 {
            if let Some(walk) = self.walk.take() {
                self.walk = walk.make(self.format, output, context.store, steps);
            } else if let Some(level) = self.levels.pop() {
                *steps -= 1;
                let zoom = zoom(level);
                if let Opening::Rows(cursor) = context.store.open_biggest(zoom, self.limit) {
                    self.walk = Some(Walk {
                        cursor,
                        zoom,
                        index: 0,
                        family: None,
                    });
                }
            } else {
                write_health(output, self.format, context);
                write_end(output, self.format);
                return true;
            }
        }
        false
    }

    /// Gives back what it holds.
    pub fn end(self, store: &mut Store) {
        if let Some(walk) = self.walk {
            store.close(walk.cursor);
        }
    }
}

impl Walk {
    /// Writes more of one family; none is left behind the last.
    fn make(
        mut self,
        format: Format,
        output: &mut Vec<u8>,
        store: &mut Store,
        steps: &mut usize,
    ) -> Option<Walk> {
        let family = match self.family.take() {
            Some(family) => family,
            None => {
                let family = LevelFamily::new(self.zoom, self.index);
                family.write(output, format);
                family
            }
        };
        let progress = store.read(&self.cursor, steps, |row| {
            family.write_row(output, row);
            output.len() < SLICE_BYTES
        });
        match progress {
            Progress::More => self.family = Some(family),
            Progress::Done if self.index + 1 < LEVEL_FAMILIES => {
                self.index += 1;
                store.again(&self.cursor);
            }
            Progress::Done => {
                store.close(self.cursor);
                return None;
            }
        }
        Some(self)
    }
}
