//! The metrics for one request of Prometheus, made in slices.
//!
//! First come the levels that are few rows ([`ALWAYS`]), then those that the settings ask
//! for, then the daemon's own health. A level is walked once for each statistic, because all
//! samples of a family stand together.
//!
//! Must not: be dropped before [`Scrape::end`].

use crate::config::Settings;
use crate::daemon::level_walk::{LevelWalk, Part, SLICE_BYTES};
use crate::daemon::serve::context::Context;
use crate::daemon::serve::health::write_health;
use crate::store::Level;
use crate::store::{biggest_bytes, Store};
use crate::wire::metrics::{family_count, write_end, Format, LevelFamily};

/// Levels that are shown whatever the settings say.
const ALWAYS: [Level; 3] = [Level::Global, Level::Service, Level::Cmd];

#[derive(Debug)]
pub(crate) struct Scrape {
    format: Format,
    walk: LevelWalk,
    /// The family that is being written, and whether a sample of it is.
    family: Option<(LevelFamily, bool)>,
    /// The most bytes that the store may keep for it.
    held_bytes: usize,
}

impl Scrape {
    pub(crate) fn new(settings: &Settings, store: &Store, format: Format) -> Scrape {
        let others = settings.metrics_levels.iter().copied();
        let others = others.filter(|level| !ALWAYS.contains(level));
        let limit = settings.metrics_limit as usize;
        let most = store.usage().entries.into_iter().max().unwrap_or_default();
        let held_bytes = match others.clone().next() {
            None => 0,
            Some(_) => biggest_bytes(limit.min(most)),
        };
        let levels = ALWAYS.into_iter().chain(others);
        Scrape {
            format,
            walk: LevelWalk::new(levels, limit, family_count),
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
        let mut write = |output: &mut Vec<u8>, part: Part| match part {
            Part::Front(level, index) => *family = Some((LevelFamily::new(level, index), false)),
            Part::Row(row) => {
                let Some((family, has_sample)) = &mut *family else {
                    return;
                };
                // One without samples is not announced.
                if !std::mem::replace(has_sample, true) {
                    family.write(output, format);
                }
                family.write_row(output, row);
            }
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
