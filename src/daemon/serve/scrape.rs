//! The metrics for one request of Prometheus, made in slices.
//!
//! First comes the global level, then what other levels the settings ask for, then the
//! daemon's own health. A level is walked once for each statistic, because all samples of
//! a family stand together.
//!
//! Must not: be dropped before [`Scrape::end`].

use crate::config::Settings;
use crate::daemon::level_walk::{LevelWalk, Part, SLICE_BYTES};
use crate::daemon::serve::context::Context;
use crate::daemon::serve::health::write_health;
use crate::store::Level;
use crate::store::{biggest_bytes, Store};
use crate::wire::metrics::{write_end, Format, LevelFamily, LEVEL_FAMILIES};

#[derive(Debug)]
pub(crate) struct Scrape {
    format: Format,
    walk: LevelWalk,
    /// The family that is being written.
    family: Option<LevelFamily>,
    /// The most bytes that the store may keep for it.
    held_bytes: usize,
}

impl Scrape {
    pub(crate) fn new(settings: &Settings, store: &Store, format: Format) -> Scrape {
        let others = settings.metrics_levels.iter().copied();
        let others = others.filter(|&level| level != Level::Global);
        let limit = settings.metrics_limit as usize;
        let most = store.usage().entries.into_iter().max().unwrap_or_default();
        let held_bytes = match others.clone().next() {
            None => 0,
            Some(_) => biggest_bytes(limit.min(most)),
        };
        let levels = std::iter::once(Level::Global).chain(others);
        Scrape {
            format,
            walk: LevelWalk::new(levels, limit, LEVEL_FAMILIES),
            family: None,
            held_bytes,
        }
    }

    /// The most bytes that the store may keep for it.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Makes more of it until a slice is full or `steps` are used up, which are taken off.
    /// Returns whether that was all.
    pub(crate) fn make(
        &mut self,
        output: &mut Vec<u8>,
        context: &mut Context,
        steps: &mut usize,
    ) -> bool {
        let (format, family) = (self.format, &mut self.family);
        let mut write = |output: &mut Vec<u8>, part: Part| match (part, &family) {
            (Part::Front(level, index), _) => {
                let new = LevelFamily::new(level, index);
                new.write(output, format);
                *family = Some(new);
            }
            (Part::Row(row), Some(family)) => family.write_row(output, row),
            (Part::Row(_), None) => {}
        };
        self.walk.go_on(context.store, output, steps, &mut write);
        let is_made = self.walk.is_done() && output.len() < SLICE_BYTES;
        if is_made {
            write_health(output, format, context);
            write_end(output, format);
        }
        is_made
    }

    /// Ends it, made or not.
    pub(crate) fn end(self, store: &mut Store) {
        self.walk.end(store);
    }
}
