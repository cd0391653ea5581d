//! Places: what is selected, what was opened on the way, what a click hits.

use crate::cli::top::view::rows::Line;
use crate::store::Zoom;

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
    Level(Zoom),
}

/// The session that was opened, for its commands' heading.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The place of its server.
    pub server: usize,
    /// User, service, address and process.
    pub texts: [Vec<u8>; 4],
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

/// A level that was left by Enter, to come back to.
#[derive(Debug)]
pub(super) struct Step {
    pub level: Zoom,
    pub pinned: Vec<Vec<u8>>,
    pub filter: String,
    /// The row that was opened.
    pub selected: Selected,
    /// What the row is called in the path.
    pub label: Vec<u8>,
    /// The row, if it was a session.
    pub session: Option<Opened>,
}
