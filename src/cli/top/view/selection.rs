//! What is selected, and what a click hits.

use super::rows::Line;
use crate::store::Level;

/// What a click hits: a row of the screen, from and to a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub row: usize,
    pub begin: usize,
    /// The column behind the last.
    pub end: usize,
    pub hit: Hit,
}

/// What can be clicked on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hit {
    /// The row at a place of the list.
    Row(usize),
    /// The title of a column; `None`: of the name.
    Title(Option<usize>),
    Level(Level),
}

/// A row that is selected.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    /// The place of its server.
    pub server: usize,
    /// Its number in the server's table; `None` until it is found by its name, after
    /// the level was left.
    pub id: Option<u32>,
    pub name: Box<[u8]>,
}

impl Selected {
    pub(super) fn row(line: &Line<'_>) -> Selected {
        Selected {
            server: line.server,
            id: Some(line.id),
            name: line.entry.name().into(),
        }
    }

    pub(super) fn place(&mut self, lines: &[Line<'_>]) -> Option<usize> {
        let is_it = |line: &Line<'_>| {
            line.server == self.server
                && match self.id {
                    Some(id) => line.id == id,
                    None => line.entry.name() == &*self.name,
                }
        };
        let place = lines.iter().position(is_it)?;
        self.id = Some(lines[place].id);
        Some(place)
    }
}
