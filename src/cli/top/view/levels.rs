//! The way from level to level: down into a row, back, across.

use super::rows::Line;
use super::selection::Selected;
use super::{Effect, Mode, View};
use crate::cli::top::level::{level_row, LEVELS};
use crate::store::Level;

/// The session that was opened, for its commands' heading.
#[derive(Clone, Debug)]
pub(crate) struct OpenedSession {
    /// The place of its server.
    pub server: usize,
    /// User, service, address and process.
    pub texts: [Vec<u8>; 4],
}

/// A level that was left for one of its rows, to come back to.
#[derive(Debug)]
pub(super) struct Step {
    pub level: Level,
    pub pinned: Vec<Vec<u8>>,
    pub filter: String,
    /// The row that was opened.
    pub selected: Selected,
    /// What the row is called in the path.
    pub label: Vec<u8>,
    /// The row, if it was a session.
    pub session: Option<OpenedSession>,
}

impl View {
    /// Shows a level as a whole.
    pub(super) fn go(&mut self, level: Level) -> Effect {
        self.steps.clear();
        self.pinned.clear();
        self.show(level, String::new(), None)
    }

    /// The level `by` places further.
    pub(super) fn turn(&mut self, by: usize) -> Effect {
        let here = LEVELS.iter().position(|row| row.level == self.level);
        self.go(LEVELS[(here.unwrap_or(0) + by) % LEVELS.len()].level)
    }

    /// Changes the level and what depends on it.
    pub(super) fn show(
        &mut self,
        level: Level,
        filter: String,
        selected: Option<Selected>,
    ) -> Effect {
        self.level = level;
        self.filter = filter;
        self.selected = selected;
        (self.cursor, self.offset) = (0, 0);
        self.search.clear();
        self.widths.clear();
        self.message = self.warning().unwrap_or_default();
        Effect::Ask
    }

    /// Goes down: to what the selected row is made of.
    pub(super) fn open(&mut self, lines: &[Line<'_>]) -> Effect {
        let Some(line) = lines.get(self.cursor) else {
            return Effect::Draw;
        };
        let below = level_row(self.level).below;
        let Some((below, filters)) = below.filter(|_| !self.is_at_the_end()) else {
            self.mode = Mode::Details(0);
            return Effect::Draw;
        };
        let pin = |(filter, text): (&&str, &[u8])| [filter.as_bytes(), b"=", text].concat();
        let pinned: Vec<_> = filters.iter().zip(line.entry.texts()).map(pin).collect();
        // What the way here says already is not repeated beside what is new.
        let is_new = |pin: &Vec<u8>| !self.pinned.contains(pin);
        let has_new = pinned.iter().any(is_new);
        let names = pinned.iter().zip(line.entry.texts());
        let names = names.filter(|(pin, _)| !has_new || is_new(pin));
        let label = match names.map(|(_, text)| text).collect::<Vec<_>>().join(&b' ') {
            _ if filters.is_empty() => b"all".to_vec(),
            label if label.is_empty() => b"(none)".to_vec(),
            label => label,
        };
        self.steps.push(Step {
            level: self.level,
            pinned: std::mem::replace(&mut self.pinned, pinned),
            filter: std::mem::take(&mut self.filter),
            // Found again by its name: another table has other numbers.
            selected: Selected {
                id: None,
                ..Selected::row(line)
            },
            label,
            session: (self.level == Level::Session).then(|| OpenedSession {
                server: line.server,
                texts: [1, 2, 3, 4].map(|text| line.entry.text(text).to_vec()),
            }),
        });
        self.show(below, String::new(), None)
    }

    /// Whether nothing can be opened: these are the commands of a session that was.
    pub(crate) fn is_at_the_end(&self) -> bool {
        self.level == Level::Command && self.opened().is_some()
    }

    /// Takes back the search, the filter or the last way down.
    pub(super) fn back(&mut self) -> Effect {
        if !self.search.is_empty() {
            self.search.clear();
            return Effect::Draw;
        }
        if !self.filter.is_empty() {
            return self.show(self.level, String::new(), None);
        }
        match self.steps.pop() {
            Some(step) => {
                self.pinned = step.pinned;
                self.show(step.level, step.filter, Some(step.selected))
            }
            None => Effect::Draw,
        }
    }
}
