//! How a view looks, as text and back.

use super::{Level, View};
use crate::cli::top::data::column;

/// What sorts when that is the name.
const NAME: &str = "name";

impl View {
    /// Level, sort and columns: what it is to look like again.
    pub(crate) fn remembered(&self) -> String {
        let level = self.steps.first().map_or(self.level, |step| step.level);
        let sort = self.sort.map_or(NAME, |index| self.columns[index].name);
        let reverse = if self.reverse { "yes" } else { "no" };
        let mut text = format!(
            "# Written by dovestat top.\nlevel = {}\nsort = {sort}\nreverse = {reverse}\n",
            level.name()
        );
        for (level, columns) in &self.chosen {
            let names = columns.iter().map(|&index| self.columns[index].name);
            let names = names.collect::<Vec<_>>().join(" ");
            text += &format!("columns {} = {names}\n", level.name());
        }
        text
    }

    /// Takes what was remembered, but for level and sort where those are `given`. What
    /// it does not know is passed over.
    pub(crate) fn recall(&mut self, text: &str, given: (bool, bool)) {
        let settings = text.lines().filter_map(|line| line.split_once('='));
        for (name, value) in settings.map(|(name, value)| (name.trim(), value.trim())) {
            let index = |name: &str| self.columns.iter().position(|column| column.name == name);
            match name.split_once(' ').unwrap_or((name, "")) {
                ("level", _) if !given.0 => {
                    self.level = Level::named(value.as_bytes()).unwrap_or(self.level);
                }
                ("sort", _) if !given.1 => {
                    self.sort = match value {
                        NAME => None,
                        name => index(name).or(self.sort),
                    };
                }
                ("reverse", _) if !given.1 => self.reverse = value == "yes",
                ("columns", level) => {
                    let Some(level) = Level::named(level.as_bytes()) else {
                        continue;
                    };
                    let columns = value.split_whitespace().filter_map(index);
                    let here = |&index: &usize| column::is_at(&self.columns[index], level);
                    let mut columns: Vec<usize> = columns.filter(here).collect();
                    let mut seen = Vec::new();
                    columns.retain(|index| {
                        let is_first = !seen.contains(index);
                        seen.push(*index);
                        is_first
                    });
                    self.chosen.retain(|(other, _)| *other != level);
                    self.chosen.push((level, columns));
                }
                _ => {}
            }
        }
    }
}
