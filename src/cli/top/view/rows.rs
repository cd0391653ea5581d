//! The rows of the table: of all servers together, filtered and sorted.
//!
//! Owns nothing: [`Lines`] borrows the servers and makes the list anew when it
//! is needed, which for a hundred thousand entries takes some ten milliseconds: it is
//! sorted by what stands in it.

use super::filter::own_filter;
use super::View;
use crate::cli::order::sorted;
use crate::cli::top::data::column::Column;
use crate::cli::top::data::link::{Link, Server};
use crate::cli::top::data::model::{by_name, Entry, Figures};
use crate::store::wildcard::wildcard_match;
use std::cmp::Ordering;

#[derive(Clone, Copy)]
pub(crate) struct Lines<'a>(pub &'a Link);

#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub entry: &'a Entry,
    pub number: f64,
    /// The place of its server.
    pub server: usize,
    /// [`Entry::id`].
    pub id: u32,
    /// [`Entry::rank`].
    rank: u32,
}

impl<'a> Lines<'a> {
    /// All rows of a view, in its order.
    pub(crate) fn all(&self, view: &View) -> Vec<Line<'a>> {
        let sort = view.sort().map(|index| &view.columns[index]);
        let words = own_filter(view.level, &view.filter);
        let mut lines = Vec::new();
        for (at, server) in self.0.servers.iter().enumerate() {
            collect(&mut lines, at, server, view, sort, &words);
        }
        // Equal ones in the order of their names, so that they stand still.
        sorted(lines, &|a, b| {
            let numbers = b.number.partial_cmp(&a.number).unwrap_or(Ordering::Equal);
            let names = || match a.server == b.server {
                true => a.rank.cmp(&b.rank),
                false => by_name(view.level, a.entry, b.entry).then(a.server.cmp(&b.server)),
            };
            match sort {
                Some(_) if view.reverse => numbers.reverse().then_with(names),
                Some(_) => numbers.then_with(names),
                None if view.reverse => names().reverse(),
                None => names(),
            }
        })
    }

    /// The numbers of a row.
    pub(crate) fn figures(&self, line: &Line<'a>, view: &View) -> Figures<'a> {
        self.0.servers[line.server]
            .table
            .figures(line.entry, view.look())
    }
}

/// Adds the rows of one server.
fn collect<'a>(
    lines: &mut Vec<Line<'a>>,
    at: usize,
    server: &'a Server,
    view: &View,
    sort: Option<&Column>,
    words: &[String],
) {
    for entry in server.table.entries() {
        if view.active_only && !server.table.is_active(entry, view.window()) {
            continue;
        }
        let figures = server.table.figures(entry, view.look());
        let line = Line {
            entry,
            number: sort.map_or(0.0, |column| column.number(&figures)),
            server: at,
            id: entry.id,
            rank: entry.rank,
        };
        if words.iter().all(|word| line.is_like(word)) {
            lines.push(line);
        }
    }
}

impl Line<'_> {
    /// Whether one of its texts has this in it, in upper or lower case, with `*`
    /// and `?`.
    pub(crate) fn is_like(&self, text: &str) -> bool {
        let pattern = format!("*{}*", text.to_lowercase());
        self.entry.texts().any(|text| {
            let text = String::from_utf8_lossy(text).to_lowercase();
            wildcard_match(pattern.as_bytes(), text.as_bytes())
        })
    }
}
