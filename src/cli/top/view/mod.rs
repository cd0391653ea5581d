//! What is shown, and what keys do to it.
//!
//! Owns: the level and the way down to it, sorting, searching, filtering, the
//! window, the columns chosen, the selected row, and the popup over them.
//!
//! Invariants: the selection is an entry, not an index: it stays on its row while others
//! overtake it. But until the user moves, the first row is selected, whichever entry has
//! it. Must not: draw, ask or read a clock.

use super::data::column::{self, Column, Measure};
use super::data::link::Question;
use super::data::model::Look;
use super::kick::Kick;
use super::level::{level_row, LEVELS};
use crate::cli::args::filter::warning;
use crate::cli::column::named;
use crate::cli::number;
use crate::cli::top::keys::Key;
use crate::store::Level;
use filter::server_filters;
use rows::{Line, Lines};
use std::time::Duration;
use typing::scroll;

pub(super) mod filter;
mod levels;
mod modes;
pub(super) mod rows;
mod saved;
mod selection;
mod typing;

use levels::{OpenedSession, Step};
use selection::Selected;
pub(super) use selection::{Hit, Target};

const WINDOWS_SECS: [u64; 3] = [1, 5, 60];
/// The delays that faster and slower step through.
const DELAYS_MILLIS: [u64; 9] = [200, 500, 1000, 2000, 3000, 5000, 10_000, 30_000, 60_000];

/// Rows of a turn of the mouse wheel.
const WHEEL_ROWS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// The line that is being typed: a search.
    Search(String),
    Filter(String),
    /// The sort picker, and the place in it.
    Sort(usize),
    /// The column picker, and the place in it.
    Choose(usize),
    /// Help; so many lines are scrolled out.
    Help(usize),
    /// Everything about the selected row; so many lines are scrolled out.
    Details(usize),
    /// Whether sessions are to be ended.
    Ask(Kick),
    /// What a command printed; so many lines are scrolled out.
    Report(Vec<String>, usize),
}

/// What has to be done after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Draw,
    /// Ask [`View::question`], which is another.
    Ask,
    /// Repeat the question at once, and at the new pace.
    Hurry,
    /// Another column is watched: begin sparklines anew.
    Watch,
    /// Run [`View::kick`].
    Kick,
    Quit,
}

#[derive(Debug)]
pub(super) struct View {
    pub columns: Vec<Column>,
    /// -b.
    bytes: bool,
    /// Filters of the command line.
    given: Vec<Vec<u8>>,
    pub level: Level,
    /// What entries must fit because of the way here.
    pinned: Vec<Vec<u8>>,
    steps: Vec<Step>,
    /// The filter as it was typed.
    pub filter: String,
    /// The search as it was typed.
    pub search: String,
    /// The column that sorts; `None`: the name.
    sort: Option<usize>,
    /// Smallest first, or names from z to a.
    pub reverse: bool,
    /// Totals in place of rates, but see [`View::is_total`].
    pub totals: bool,
    /// Which of [`WINDOWS_SECS`].
    window: usize,
    pub delay: Duration,
    /// Only rows where something happens.
    pub active_only: bool,
    pub paused: bool,
    pub mode: Mode,
    /// The selected row; `None`: the first, whichever that is.
    selected: Option<Selected>,
    /// Where the selection was drawn last.
    pub cursor: usize,
    pub offset: usize,
    /// Rows on the screen when last drawn.
    pub page: usize,
    /// The columns its user chose for a level, in place of the usual ones.
    chosen: Vec<(Level, Vec<usize>)>,
    /// Widths of the text columns so far: they grow, so that rows stand still.
    pub widths: Vec<usize>,
    /// Shown in the last line until the next key, or for a while.
    pub message: String,
    /// Where clicks hit something, as drawn last.
    pub targets: Vec<Target>,
    /// The command that was agreed to.
    pub kick: Option<Kick>,
}

impl View {
    /// The view that options ask for.
    ///
    /// # Errors
    /// What can be sorted by, when SORT is not among that.
    pub(super) fn new(
        bytes: bool,
        level: Option<Level>,
        given: &[Vec<u8>],
        delay: Duration,
        sort: Option<&str>,
    ) -> Result<View, String> {
        let columns = column::all(bytes);
        let text = sort.unwrap_or("disk");
        let name = text.strip_prefix('-').or_else(|| text.strip_suffix('-'));
        let level = level.unwrap_or(Level::User);
        let wanted = match &*named(name.unwrap_or(text)) {
            // With -b the column of disk bytes is that of all bytes.
            "io" if bytes => "disk".to_owned(),
            name => name.to_owned(),
        };
        let is_name = level_row(level).texts.contains(&&*wanted) || wanted == "name";
        let here = |column: &&Column| column::is_at(column, level);
        let sort = columns
            .iter()
            .filter(here)
            .any(|column| column.name == wanted);
        if !sort && !is_name {
            let level = level.name();
            let names: Vec<&str> = columns
                .iter()
                .filter(here)
                .map(|column| column.name)
                .collect();
            let names = names.join(" ");
            return Err(format!(
                "cannot sort {level} by {text:?}; there are: name {names}"
            ));
        }
        let sort = columns.iter().position(|column| column.name == wanted);
        Ok(View {
            columns,
            bytes,
            given: given.to_vec(),
            level,
            pinned: Vec::new(),
            steps: Vec::new(),
            filter: String::new(),
            search: String::new(),
            sort,
            reverse: name.is_some(),
            totals: false,
            window: 0,
            delay,
            active_only: false,
            paused: false,
            mode: Mode::Table,
            selected: None,
            cursor: 0,
            offset: 0,
            page: 10,
            chosen: Vec::new(),
            widths: Vec::new(),
            message: String::new(),
            targets: Vec::new(),
            kick: None,
        })
    }

    pub(super) fn question(&self) -> Question {
        let mut filters = self.given.clone();
        let is_one = self.pinned.iter().any(|pin| pin.starts_with(b"session="));
        if self.level == Level::Session && !is_one {
            filters.push(b"connected".to_vec());
        }
        filters.extend_from_slice(&self.pinned);
        filters.extend(server_filters(self.level, &self.filter).unwrap_or_default());
        let level = self.level;
        let is_count = |index: &usize| self.columns[*index].name == "num_connected_sessions";
        let is_seen =
            || self.sort().is_some_and(|sort| is_count(&sort)) || self.shown().iter().any(is_count);
        Question {
            level,
            filters,
            counts_sessions: level == Level::User && is_seen(),
        }
    }

    /// What to say of filters that change nothing here.
    pub(super) fn warning(&self) -> Option<String> {
        warning(self.level, &self.question().filters)
    }

    /// The length of the window.
    pub(super) fn window(&self) -> Duration {
        Duration::from_secs(WINDOWS_SECS[self.window])
    }

    /// Whether the table shows totals. A command lives for moments, and what it
    /// took in all is of more use than its rate: there it is the other way round.
    pub(super) fn is_total(&self) -> bool {
        self.totals != (self.level == Level::Command)
    }

    /// How numbers of the table are looked at.
    pub(super) fn look(&self) -> Look {
        match self.is_total() {
            true => Look::Totals,
            false => Look::Rates(self.window()),
        }
    }

    /// The column that sorts here; `None`: the name. A column that the level
    /// does not have gives way to the first; how long commands take, to how long each took.
    pub(super) fn sort(&self) -> Option<usize> {
        self.sort.map(|index| {
            let column = &self.columns[index];
            if column::is_at(column, self.level) {
                return index;
            }
            let is_slow = column.kind == Measure::Took && self.level == Level::Command;
            let took = |column: &Column| is_slow && column.name == "clock_time";
            self.columns.iter().position(took).unwrap_or(0)
        })
    }

    /// The column that is watched: that which sorts, or the first for one
    /// without a rate.
    pub(super) fn watched(&self) -> &Column {
        let column = &self.columns[self.sort().unwrap_or(0)];
        match column.kind {
            Measure::Age => &self.columns[0],
            _ => column,
        }
    }

    /// The columns to show, the most important first.
    pub(super) fn shown(&self) -> Vec<usize> {
        let chosen = self.chosen.iter().find(|(level, _)| *level == self.level);
        match chosen {
            Some((_, columns)) => columns.clone(),
            None => {
                let usual = column::usual(self.level, self.bytes);
                let index = |name| self.columns.iter().position(|column| column.name == name);
                usual.into_iter().filter_map(index).collect()
            }
        }
    }

    /// The columns that can be shown here.
    pub(super) fn possible(&self) -> Vec<usize> {
        let here = |&index: &usize| column::is_at(&self.columns[index], self.level);
        (0..self.columns.len()).filter(here).collect()
    }

    /// What was opened on the way here.
    pub(super) fn path(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().map(|step| step.label.as_slice())
    }

    /// The session whose commands are shown.
    pub(super) fn opened(&self) -> Option<&OpenedSession> {
        self.steps.last()?.session.as_ref()
    }

    /// Moves the cursor to where the selected row is now.
    pub(super) fn follow(&mut self, lines: &[Line<'_>]) {
        let last = lines.len().saturating_sub(1);
        self.cursor = match &mut self.selected {
            None => 0,
            Some(selected) => selected.place(lines).unwrap_or(self.cursor.min(last)),
        };
        let page = self.page.max(1);
        let lowest = (self.cursor + 1).saturating_sub(page);
        let highest = self.cursor.min((last + 1).saturating_sub(page));
        self.offset = self.offset.clamp(lowest.min(highest), highest.max(lowest));
    }

    /// Selects the row at a place.
    fn select(&mut self, place: usize, lines: &[Line<'_>]) {
        let line = lines.get(place.min(lines.len().saturating_sub(1)));
        self.selected = line.filter(|_| place > 0).map(Selected::row);
        self.follow(lines);
    }

    /// Does what a key asks for.
    pub(super) fn press(&mut self, key: Key, rows: &Lines<'_>) -> Effect {
        self.message.clear();
        if key == Key::Ctrl('c') {
            return Effect::Quit;
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.press_table(key, rows),
            Mode::Search(text) => self.press_search(text, key, rows),
            Mode::Filter(text) => self.press_filter(text, key),
            Mode::Sort(place) => self.press_sort(place, key),
            Mode::Choose(place) => self.press_choose(place, key),
            Mode::Help(line) => {
                self.mode = scroll(line, key).map_or(Mode::Table, Mode::Help);
                Effect::Draw
            }
            Mode::Details(line) => {
                self.mode = scroll(line, key).map_or(Mode::Table, Mode::Details);
                Effect::Draw
            }
            Mode::Ask(kick) => match key {
                Key::Char('y' | 'Y') => {
                    self.message = format!("{} ...", kick.shown());
                    self.kick = Some(kick);
                    Effect::Kick
                }
                _ => {
                    self.message = "nothing was ended".to_owned();
                    Effect::Draw
                }
            },
            Mode::Report(lines, line) => {
                self.mode = match scroll(line, key) {
                    Some(line) => Mode::Report(lines, line),
                    None => Mode::Table,
                };
                Effect::Draw
            }
        }
    }

    /// A key for the table.
    fn press_table(&mut self, key: Key, rows: &Lines<'_>) -> Effect {
        let page = self.page.max(1);
        match key {
            Key::Char('q') => return Effect::Quit,
            Key::Down | Key::Char('j') => self.select(self.cursor + 1, &rows.all(self)),
            Key::Up | Key::Char('k') => {
                self.select(self.cursor.saturating_sub(1), &rows.all(self));
            }
            Key::PageDown | Key::Ctrl('f') => self.select(self.cursor + page, &rows.all(self)),
            Key::PageUp | Key::Ctrl('b') => {
                self.select(self.cursor.saturating_sub(page), &rows.all(self));
            }
            Key::Ctrl('d') => self.select(self.cursor + page / 2, &rows.all(self)),
            Key::Ctrl('u') => {
                self.select(self.cursor.saturating_sub(page / 2), &rows.all(self));
            }
            Key::Home | Key::Char('g') => self.select(0, &rows.all(self)),
            Key::End | Key::Char('G') => self.select(usize::MAX, &rows.all(self)),
            Key::Enter | Key::Right | Key::Char('l') => return self.open(&rows.all(self)),
            Key::Esc | Key::Backspace | Key::Left | Key::Char('h') => return self.back(),
            Key::Char(digit @ '1'..='8') => {
                return self.go(LEVELS[digit as usize - '1' as usize].level);
            }
            Key::F(number @ 1..=8) => return self.go(LEVELS[usize::from(number) - 1].level),
            Key::Tab => return self.turn(1),
            Key::BackTab => return self.turn(LEVELS.len() - 1),
            Key::Char('/') => self.mode = Mode::Search(String::new()),
            Key::Char('n') => self.find(1, &rows.all(self)),
            Key::Char('N') => self.find(-1, &rows.all(self)),
            Key::Char('\\') => self.mode = Mode::Filter(self.filter.clone()),
            Key::Char('s') => {
                let possible = self.possible();
                let place = possible
                    .iter()
                    .position(|&index| Some(index) == self.sort());
                self.mode = Mode::Sort(place.map_or(possible.len(), |place| place));
            }
            Key::Char('c') => self.mode = Mode::Choose(0),
            Key::Char('?') => self.mode = Mode::Help(0),
            Key::Char('i') => self.mode = Mode::Details(0),
            Key::Char('r' | 'I') => self.reverse = !self.reverse,
            Key::Char('U') => return self.sort_by(None),
            Key::Char('<') => return self.sort_beside(-1),
            Key::Char('>') => return self.sort_beside(1),
            Key::Char('t') => {
                self.totals = !self.totals;
                return Effect::Watch;
            }
            Key::Char('w') => {
                self.window = (self.window + 1) % WINDOWS_SECS.len();
                self.message = format!("rates over {}s", WINDOWS_SECS[self.window]);
            }
            Key::Char('a' | 'o') => {
                self.active_only = !self.active_only;
                let which = if self.active_only {
                    "active rows only"
                } else {
                    "all rows"
                };
                self.message = which.to_owned();
            }
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return Effect::Hurry;
            }
            Key::Char('K') => {
                let lines = rows.all(self);
                if let Some(line) = lines.get(self.cursor) {
                    let is_local = rows.0.servers[line.server].is_local();
                    match Kick::of(self.level, line.entry, is_local) {
                        Ok(kick) => self.mode = Mode::Ask(kick),
                        Err(why) => self.message = why,
                    }
                }
            }
            Key::Wheel(down) => {
                let place = match down {
                    true => self.cursor + WHEEL_ROWS,
                    false => self.cursor.saturating_sub(WHEEL_ROWS),
                };
                self.select(place, &rows.all(self));
            }
            Key::Click(row, column) => return self.click(row, column, &rows.all(self)),
            Key::Char('+' | '=') => return self.pace(|this, step| step < this),
            Key::Char('-' | '_') => return self.pace(|this, step| step > this),
            Key::Char(c) => {
                let keyed = |&index: &usize| self.columns[index].key == Some(c);
                if let Some(index) = self.possible().into_iter().find(keyed) {
                    return self.sort_by(Some(index));
                }
            }
            _ => {}
        }
        Effect::Draw
    }

    /// Does what a click asks for: selects a row, and opens it if it is selected; sorts
    /// by a title; shows a level.
    fn click(&mut self, row: usize, column: usize, lines: &[Line<'_>]) -> Effect {
        let is_hit =
            |target: &&Target| target.row == row && (target.begin..target.end).contains(&column);
        match self.targets.iter().find(is_hit).map(|target| target.hit) {
            Some(Hit::Row(place)) if place == self.cursor => return self.open(lines),
            Some(Hit::Row(place)) if place < lines.len() => self.select_row(place, lines),
            Some(Hit::Title(column)) => return self.sort_by(column),
            Some(Hit::Level(level)) => return self.go(level),
            _ => {}
        }
        Effect::Draw
    }

    /// Sorts by a column, the biggest first; by the same once more, the other
    /// way round.
    fn sort_by(&mut self, column: Option<usize>) -> Effect {
        self.reverse = self.sort == column && !self.reverse;
        self.sort = column;
        self.select(0, &[]);
        Effect::Watch
    }

    /// Sorts by the column `step` places to the right of the one that sorts.
    fn sort_beside(&mut self, step: isize) -> Effect {
        let shown = self.shown();
        let place = shown.iter().position(|&index| Some(index) == self.sort());
        let place = place.map_or(0, |place| place as isize + step);
        match shown.get(place.rem_euclid(shown.len().max(1) as isize) as usize) {
            Some(&index) => {
                self.reverse = false;
                self.sort = Some(index);
                Effect::Watch
            }
            None => Effect::Draw,
        }
    }

    /// The next delay that is faster, or slower.
    fn pace(&mut self, beyond: impl Fn(Duration, Duration) -> bool) -> Effect {
        let steps = DELAYS_MILLIS.map(Duration::from_millis);
        let mut fit = steps.into_iter().filter(|&step| beyond(self.delay, step));
        let faster = beyond(Duration::MAX, Duration::ZERO);
        let next = if faster { fit.next_back() } else { fit.next() };
        self.delay = next.unwrap_or(self.delay);
        self.message = format!("every {}s", number::secs(self.delay));
        Effect::Hurry
    }

    /// Selects the next row, `by` 1 or -1, that the search fits.
    fn find(&mut self, by: isize, lines: &[Line<'_>]) {
        let count = lines.len();
        let place = |step: usize| {
            (self.cursor as isize + by * step as isize).rem_euclid(count.max(1) as isize) as usize
        };
        let found = (1..=count)
            .map(place)
            .find(|&at| lines[at].is_like(&self.search));
        match found {
            _ if self.search.is_empty() => self.message = "nothing to search for".to_owned(),
            Some(at) => self.select_row(at, lines),
            None => self.message = "not found".to_owned(),
        }
    }

    /// Selects the row at a place, the first one, too, as a row.
    fn select_row(&mut self, place: usize, lines: &[Line<'_>]) {
        self.selected = Some(Selected::row(&lines[place]));
        self.follow(lines);
    }
}

#[cfg(test)]
mod tests;
