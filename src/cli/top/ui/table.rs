//! The table: which columns there is room for, titles, rows.

use super::draw::{Frame, Style};
use super::glyphs::Glyphs;
use super::scene::Scene;
use crate::cli::number;
use crate::cli::top::data::column::{Column, Measure};
use crate::cli::top::data::model::{Entry, Figures, Phase, FADING};
use crate::cli::top::level::level_row;
use crate::cli::top::view::rows::Line;
use crate::cli::top::view::{Hit, Target, View};
use crate::cli::width::{fit, visible, width};
use crate::store::Level;
use std::time::Instant;

/// One text column: its title, which text, and its width.
struct Text {
    title: &'static str,
    text: Option<usize>,
    width: usize,
}

/// Where everything of a row goes.
pub(crate) struct Layout {
    texts: Vec<Text>,
    /// Columns of numbers, by their place in the view.
    numbers: Vec<usize>,
    /// The text that takes what is left: a command's arguments.
    rest: Option<usize>,
    /// Columns of the bar of shares; 0: none.
    bar: usize,
}

/// What the text of a row is.
pub(crate) fn text_of(line: &Line<'_>, text: Option<usize>, scene: &Scene<'_>) -> String {
    let utf8 = scene.glyphs.utf8;
    match text {
        None => visible(scene.lines.0.servers[line.server].name.as_bytes(), utf8),
        Some(text) if line.entry.text(text).is_empty() => "(none)".to_owned(),
        Some(text) => visible(line.entry.text(text), utf8),
    }
}

/// Decides what is shown of a row.
pub(crate) fn layout(
    view: &mut View,
    scene: &Scene<'_>,
    page: &[Line<'_>],
    columns: usize,
) -> Layout {
    let mut all: Vec<(&str, Option<usize>, usize, usize)> = Vec::new();
    if scene.lines.0.servers.len() > 1 || view.level == Level::Global {
        all.push(("SERVER", None, 12, 60));
    }
    let own = level_row(view.level).text_columns.iter();
    all.extend(own.map(|&(title, text, least, most)| (title, Some(text), least, most)));
    view.widths.resize(all.len(), 0);
    for ((_, text, least, most), known) in all.iter().zip(&mut view.widths) {
        let widest = page
            .iter()
            .map(|line| width(&text_of(line, *text, scene)))
            .max();
        *known = widest.unwrap_or(0).clamp(*least, *most).max(*known);
    }
    // A command's arguments are part of its key, and have a place of their own.
    let keys = match view.level {
        Level::Session => 0,
        _ => level_row(view.level).key_texts,
    };
    let rest = (view.level == Level::Command).then_some(2);
    let mut numbers = view.shown();
    if let Some(sort) = view.sort() {
        // What sorts is always seen: from the front nothing is left out.
        if !numbers.contains(&sort) {
            numbers.insert(0, sort);
        }
    }
    let cost = |index: &usize| view.columns[*index].width() + 2;
    // Arguments are worth a third of the screen.
    let wanted = 1 + rest.map_or(0, |_| columns / 3);
    // The first numbers come before the last texts, and before wide names.
    let core: usize = numbers.iter().take(4).map(cost).sum();
    let mut texts: Vec<Text> = Vec::new();
    let mut room = columns.saturating_sub(wanted);
    for (at, &(title, text, least, _)) in all.iter().enumerate() {
        let is_key = text.is_some_and(|text| text < keys);
        let is_name = at == 0 || title == "USER" || is_key;
        if !is_name && room < least + 2 + core {
            continue;
        }
        let spare = room.saturating_sub(core + 2);
        let widest = match is_name && at + 1 < all.len() {
            // A name leaves half of the room to the texts behind it.
            true => spare / 2,
            false => spare,
        };
        let width = view.widths[at]
            .min(widest)
            .max(least.min(room.saturating_sub(10)));
        room = room.saturating_sub(width + 1);
        texts.push(Text { title, text, width });
    }
    let sort = view.sort();
    let sort_cost = sort.as_ref().map_or(0, cost);
    let mut kept = Vec::new();
    let mut room = room.saturating_sub(sort_cost);
    for index in numbers {
        let cost = if Some(index) == sort { 0 } else { cost(&index) };
        if cost > room {
            // Whatever comes behind a column left out is less important.
            if sort.is_none_or(|sort| kept.contains(&sort)) {
                break;
            }
            continue;
        }
        room -= cost;
        kept.push(index);
    }
    let bar = match room + wanted.saturating_sub(1) {
        room @ 14.. if rest.is_none() && sort.is_some() => room.min(30),
        _ => 0,
    };
    Layout {
        texts,
        numbers: kept,
        rest,
        bar,
    }
}

/// The line of titles; the column that sorts is marked.
pub(crate) fn titles(
    frame: &mut Frame,
    row: usize,
    view: &mut View,
    scene: &Scene<'_>,
    layout: &Layout,
) {
    let columns = frame.size().columns;
    frame.fill(row, 0, columns, Style::Head);
    let arrow = match view.reverse {
        false => scene.glyphs.down,
        true => scene.glyphs.up,
    };
    let mut column = 1;
    let mut targets = Vec::new();
    for (at, text) in layout.texts.iter().enumerate() {
        let sorts = view.sort().is_none() && at == 0;
        let style = if sorts { Style::Active } else { Style::Head };
        let title = if sorts {
            format!("{}{arrow}", text.title)
        } else {
            text.title.to_owned()
        };
        frame.put_within(row, column, column + text.width, &title, style);
        if at == 0 {
            targets.push((column, column + text.width, None));
        }
        column += text.width + 1;
    }
    for &index in &layout.numbers {
        let number = &view.columns[index];
        let sorts = view.sort() == Some(index);
        let mut title = number.title;
        if view.is_total() && number.kind == Measure::Time {
            title = title.trim_end_matches('%');
        }
        let text = match sorts {
            true => format!("{arrow}{title:>0$}", number.width()),
            false => title.to_owned(),
        };
        // The arrow stands at the title, not at the column's edge.
        let text = match sorts {
            true => format!("{arrow}{}", text.trim_start_matches(arrow).trim_start()),
            false => text,
        };
        let style = if sorts { Style::Active } else { Style::Head };
        let behind = column + number.width() + 2;
        frame.put(row, behind - 1 - width(&text), &text, style);
        targets.push((column, behind, Some(index)));
        column = behind;
    }
    view.targets
        .extend(targets.into_iter().map(|(begin, end, index)| Target {
            row,
            begin,
            end,
            hit: Hit::Title(index),
        }));
    let rest = match layout.rest {
        Some(_) => "ARGUMENTS",
        None if layout.bar > 0 => "SHARE",
        None => "",
    };
    frame.put(row, column + 1, rest, Style::Head);
}

/// What bars are drawn from.
#[derive(Default)]
pub(crate) struct Shares {
    /// All rows together: what the percentage is of.
    sum: f64,
    /// The biggest: what the longest bar is.
    most: f64,
}

impl Shares {
    /// Those of the column that sorts.
    pub(crate) fn of(view: &View, layout: &Layout, lines: &[Line<'_>]) -> Shares {
        let mut shares = Shares::default();
        let column = view.sort().map(|index| &view.columns[index]);
        let has_shares = |column: &Column| !matches!(column.kind, Measure::Age | Measure::Took);
        if layout.bar == 0 || !column.is_some_and(has_shares) {
            return shares;
        }
        for line in lines {
            shares.sum += line.number;
            shares.most = shares.most.max(line.number);
        }
        shares
    }
}

/// Whether an entry is new or gone, and how far that has faded.
fn mark(entry: &Entry, up: bool, now: Instant) -> (&'static str, Style) {
    match entry.phase {
        Phase::Gone(_) => ("-", Style::Dim),
        _ if !up => ("!", Style::Dim),
        Phase::New(since) => match now.saturating_duration_since(since) {
            age if age < FADING / 2 => ("+", Style::Title),
            age if age < FADING => ("+", Style::Good),
            _ => (" ", Style::Plain),
        },
        Phase::Old => (" ", Style::Plain),
    }
}

/// A row of the table.
pub(crate) fn table_row(
    frame: &mut Frame,
    row: usize,
    view: &View,
    scene: &Scene<'_>,
    layout: &Layout,
    line: &Line<'_>,
    shares: &Shares,
) {
    let up = scene.lines.0.servers[line.server].is_up();
    let (sign, look) = mark(line.entry, up, scene.now);
    let found = !view.search.is_empty() && line.is_like(&view.search);
    frame.put(row, 0, sign, look);
    let mut column = 1;
    for (at, text) in layout.texts.iter().enumerate() {
        let style = match (found, at) {
            (true, 0) => Style::Notice,
            (_, 0) if look == Style::Plain && text.text.is_some() => Style::Strong,
            _ => look,
        };
        let shown = text_of(line, text.text, scene);
        let style = if shown == "(none)" { Style::Dim } else { style };
        put_cut(frame, row, column, text.width, &shown, style, scene.glyphs);
        column += text.width + 1;
    }
    let figures = scene.lines.figures(line, view);
    for &index in &layout.numbers {
        let number = &view.columns[index];
        let text = number.cell(&figures, scene.now_micros);
        let style = match (look, number.kind) {
            (Style::Dim, _) => Style::Dim,
            (_, Measure::Age) => Style::Plain,
            _ => number_style(number, &figures, &text),
        };
        let behind = column + number.width() + 2;
        frame.put(row, (behind - 1).saturating_sub(width(&text)), &text, style);
        column = behind;
    }
    if let Some(text) = layout.rest {
        let room = frame.size().columns.saturating_sub(column + 1);
        let args = visible(line.entry.text(text), scene.glyphs.utf8);
        put_cut(frame, row, column + 1, room, &args, look, scene.glyphs);
    } else if shares.sum > 0.0 && line.number > 0.0 && !figures.is_unknown() {
        let percent = format!("{:3.0}% ", line.number / shares.sum * 100.0);
        let bar = scene.glyphs.bar(line.number / shares.most, layout.bar - 7);
        let behind = frame.put(row, column + 1, &percent, look);
        frame.put(row, behind, bar.trim_end(), Style::Bar);
    }
}

/// Times of commands that a user notices, waits for, and gives up at.
const SLOW_MICROS: f64 = 1e5;
const SLOWER_MICROS: f64 = 1e6;
const SLOWEST_MICROS: f64 = 1e7;

/// The style of a number: failures alarm, magnitudes differ.
fn number_style(column: &Column, figures: &Figures<'_>, text: &str) -> Style {
    let is_failure = matches!(column.name, "auth_failures" | "auth_db_tempfails");
    match text.chars().last() {
        _ if is_failure && column.number(figures) > 0.0 => Style::Bad,
        _ if text == number::NOTHING => Style::Dim,
        _ if column.kind == Measure::Took => match column.number(figures) {
            ..SLOW_MICROS => Style::Plain,
            ..SLOWER_MICROS => Style::Notice,
            ..SLOWEST_MICROS => Style::Large,
            _ => Style::Bad,
        },
        Some('M') => Style::Notice,
        Some('G' | 'T' | 'P' | 'E') => Style::Large,
        _ => Style::Plain,
    }
}

/// Puts a text; one that does not fit ends in a mark of that.
fn put_cut(
    frame: &mut Frame,
    row: usize,
    column: usize,
    columns: usize,
    text: &str,
    style: Style,
    glyphs: &Glyphs,
) {
    let (shown, taken) = fit(text, columns);
    if shown.len() == text.len() || columns == 0 {
        frame.put_within(row, column, column + taken, shown, style);
        return;
    }
    let (shown, taken) = fit(text, columns - 1);
    frame.put(row, column, shown, style);
    frame.put(row, column + taken, glyphs.more, Style::Dim);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::data::column::all;
    use crate::cli::top::data::values::{value_index, VALUES};

    #[test]
    fn slow_times_stand_out() {
        let columns = all(false);
        let p99 = columns.iter().find(|column| column.name == "time_p99");
        let p99 = p99.unwrap();
        for (micros, text, style) in [
            (0, "-", Style::Dim),
            (99_000, "99ms", Style::Plain),
            (100_000, "100ms", Style::Notice),
            (999_000, "999ms", Style::Notice),
            (1_000_000, "1.00s", Style::Large),
            (10_000_000, "10.0s", Style::Bad),
        ] {
            let mut values = [0; VALUES];
            values[value_index("time_p99").unwrap()] = micros;
            let figures = Figures {
                values: &values,
                updated_micros: 0,
                reset_secs: 0,
                moved: None,
            };
            assert_eq!(p99.cell(&figures, 0), text);
            assert_eq!(number_style(p99, &figures, text), style, "{text}");
        }
    }
}
