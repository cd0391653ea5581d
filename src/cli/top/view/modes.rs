//! What keys do while something is typed or picked over the table.
//!
//! Each function gets what the mode has and puts back what it is to have next;
//! a mode that is not put back is over.

use super::filter::server_filters;
use super::rows::Lines;
use super::typing::{edit, moved, Edit};
use super::{Effect, Mode, View};
use crate::cli::top::keys::Key;

impl View {
    /// A key for the search: every one shows its first match at once.
    pub(super) fn press_search(&mut self, mut text: String, key: Key, rows: &Lines<'_>) -> Effect {
        match edit(&mut text, key) {
            Edit::Going => {
                self.search.clone_from(&text);
                let lines = rows.all(self);
                let found = lines.iter().position(|line| line.is_like(&text));
                match found.filter(|_| !text.is_empty()) {
                    Some(at) => self.select_row(at, &lines),
                    None if !text.is_empty() => self.message = "not found".to_owned(),
                    None => {}
                }
                self.mode = Mode::Search(text);
            }
            Edit::Done => self.search = text,
            Edit::Dropped => self.search.clear(),
        }
        Effect::Draw
    }

    /// A key for the filter, which holds once it is finished.
    pub(super) fn press_filter(&mut self, mut text: String, key: Key) -> Effect {
        match edit(&mut text, key) {
            Edit::Going => self.mode = Mode::Filter(text),
            Edit::Done if text == self.filter => {}
            Edit::Done => match server_filters(self.level, &text) {
                Ok(_) => return self.show(self.level, text, None),
                Err(why) => {
                    self.message = why;
                    self.mode = Mode::Filter(text);
                }
            },
            Edit::Dropped => {}
        }
        Effect::Draw
    }

    /// A key for the sort picker; behind the columns comes the name.
    pub(super) fn press_sort(&mut self, place: usize, key: Key) -> Effect {
        let possible = self.possible();
        match key {
            Key::Enter | Key::Char(' ' | 'l') => {
                let column = possible.get(place).copied();
                return match column == self.sort() {
                    true => Effect::Draw,
                    false => self.sort_by(column),
                };
            }
            Key::Char('r') => {
                self.reverse = !self.reverse;
                self.mode = Mode::Sort(place);
            }
            Key::Char(c) if c.is_ascii_uppercase() => return self.press_one_key(c),
            _ => {
                self.mode = moved(place, possible.len() + 1, key).map_or(Mode::Table, Mode::Sort);
            }
        }
        Effect::Draw
    }

    /// A one-key sort in the picker.
    pub(super) fn press_one_key(&mut self, c: char) -> Effect {
        let keyed = |&index: &usize| self.columns[index].key == Some(c);
        match self.possible().into_iter().find(keyed) {
            Some(index) => self.sort_by(Some(index)),
            None if c == 'U' => self.sort_by(None),
            None => Effect::Draw,
        }
    }

    /// A key for the column picker.
    pub(super) fn press_choose(&mut self, place: usize, key: Key) -> Effect {
        let possible = self.possible();
        self.mode = Mode::Choose(place);
        match key {
            Key::Char(' ') | Key::Enter => {
                let mut columns = self.shown();
                let index = possible[place];
                match columns.iter().position(|&shown| shown == index) {
                    Some(at) => drop(columns.remove(at)),
                    // In front: what is chosen last is certain to be seen.
                    None => columns.insert(0, index),
                }
                self.chosen.retain(|(level, _)| *level != self.level);
                self.chosen.push((self.level, columns));
            }
            Key::Char('u') => self.chosen.retain(|(level, _)| *level != self.level),
            _ => {
                self.mode = moved(place, possible.len(), key).map_or(Mode::Table, Mode::Choose);
            }
        }
        Effect::Draw
    }
}
