//! The rows of levels, written in slices: what replies, scrapes and reports to carbon
//! have in common.
//!
//! One cursor of the store walks one level at a time, once for each pass. A call writes
//! until a slice of [`SLICE_BYTES`] is full or its steps are used up, and the next call
//! goes on there. So a walk keeps the ids of at most one level's entries, whatever the
//! store keeps; an entry that is freed meanwhile is missing from then on.
//!
//! Must not: be dropped before [`LevelWalk::end`], which closes the cursor.

use crate::store::{CursorId, Level, Opening, Progress, Row, Store};

/// The output at which a slice ends, in bytes. One row may pass it: the buffer, which grows by
/// doubling, has 64 KiB by then. With 32 KiB a row takes 6% more processor time: whoever
/// reads is woken for each slice.
pub(crate) const SLICE_BYTES: usize = 49_152;

/// What is to be written next.
pub(crate) enum Part<'a> {
    /// What stands in front of the rows of a level in this pass, counted from 0.
    Front(Level, usize),
    Row(&'a Row<'a>),
}

/// A walk over levels.
#[derive(Debug)]
pub(crate) struct LevelWalk {
    /// Levels that are still to come, the last one first.
    levels: Vec<Level>,
    /// Most entries of each of them.
    limit: usize,
    /// Passes over a level.
    passes: fn(Level) -> usize,
    current: Option<Current>,
}

/// The level that is being written.
#[derive(Debug)]
struct Current {
    cursor: CursorId,
    level: Level,
    pass: usize,
    /// What stands in front of this pass is written.
    has_front: bool,
}

impl LevelWalk {
    /// A walk over the biggest entries of these levels, at most `limit` of each, and all
    /// services and cmds.
    pub(crate) fn new(
        levels: impl DoubleEndedIterator<Item = Level>,
        limit: usize,
        passes: fn(Level) -> usize,
    ) -> LevelWalk {
        LevelWalk {
            levels: levels.rev().collect(),
            limit,
            passes,
            current: None,
        }
    }

    /// One pass of a cursor over `level`.
    pub(crate) fn of(level: Level, cursor: CursorId) -> LevelWalk {
        LevelWalk {
            levels: Vec::new(),
            limit: 0,
            passes: |_| 1,
            current: Some(Current {
                cursor,
                level,
                pass: 0,
                has_front: false,
            }),
        }
    }

    /// Whether all of it is written.
    pub(crate) fn is_done(&self) -> bool {
        self.current.is_none() && self.levels.is_empty()
    }

    /// Has `write` append to `output` until a slice is full or `steps` are used up, which
    /// are taken off.
    pub(crate) fn go_on(
        &mut self,
        store: &mut Store,
        output: &mut Vec<u8>,
        steps: &mut usize,
        write: &mut dyn FnMut(&mut Vec<u8>, Part),
    ) {
        while output.len() < SLICE_BYTES && *steps > 0 {
            let Some(current) = &mut self.current else {
                let Some(level) = self.levels.pop() else {
                    return;
                };
                *steps -= 1;
                if let Opening::Rows(cursor) = store.open_biggest(level, self.limit) {
                    self.current = Some(Current {
                        cursor,
                        level,
                        pass: 0,
                        has_front: false,
                    });
                }
                continue;
            };
            if !current.has_front {
                write(output, Part::Front(current.level, current.pass));
                current.has_front = true;
            }
            let progress = store.read(&current.cursor, steps, |row| {
                write(output, Part::Row(row));
                output.len() < SLICE_BYTES
            });
            if progress == Progress::More {
                continue;
            }
            current.pass += 1;
            current.has_front = false;
            if current.pass < (self.passes)(current.level) {
                store.again(&current.cursor);
            } else {
                self.close(store);
            }
        }
    }

    /// Closes the cursor of the current level.
    fn close(&mut self, store: &mut Store) {
        if let Some(current) = self.current.take() {
            store.close(current.cursor);
        }
    }

    /// Ends the walk, done or not.
    pub(crate) fn end(mut self, store: &mut Store) {
        self.close(store);
    }
}
