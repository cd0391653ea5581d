//! The whole screen: header, table, the selected row's sparkline, and the last line.
//!
//! Everything is a function of the servers, the view and the time; only what
//! keeps the picture still from frame to frame (widths, scrolling) is noted in
//! the view. What does not fit is left out, the least important first, so that
//! the same code serves 40 columns and 200.

use super::draw::{Frame, Style};
use super::header::header;
use super::popup;
use super::scene::{Scene, LOW};
use super::table::{layout, table_row, text_of, titles, Shares};
use crate::cli::number;
use crate::cli::top::data::column::Measure;
use crate::cli::top::level::level_row;
use crate::cli::top::view::rows::Line;
use crate::cli::top::view::{Hit, Mode, Target, View};
use crate::cli::width::{fit, visible, width};
use crate::store::Level;
use crate::sys::terminal::Size;

pub(crate) fn paint(view: &mut View, scene: &Scene<'_>, size: Size) -> Frame {
    let mut frame = Frame::new(size);
    view.targets.clear();
    let lines = scene.lines.all(view);
    let mut row = header(&mut frame, view, scene, lines.len());
    let spark = size.rows >= LOW;
    let bottom = size.rows.saturating_sub(1 + usize::from(spark));
    view.page = bottom.saturating_sub(row + 1);
    view.follow(&lines);
    let end = lines.len().min(view.offset + view.page);
    let page = &lines[view.offset.min(end)..end];
    let layout = layout(view, scene, page, size.columns);
    titles(&mut frame, row, view, scene, &layout);
    let first = view.offset;
    let shares = Shares::of(view, &layout, &lines);
    for (at, line) in page.iter().enumerate() {
        row += 1;
        let selected = first + at == view.cursor;
        table_row(&mut frame, row, view, scene, &layout, line, &shares);
        view.targets.push(Target {
            row,
            begin: 0,
            end: size.columns,
            hit: Hit::Row(first + at),
        });
        if selected {
            frame.restyle(row, Style::Cursor);
        }
    }
    if lines.is_empty() {
        let text = empty(view, scene);
        let column = size.columns.saturating_sub(width(text)) / 2;
        frame.put(row + 2, column, text, Style::Dim);
    }
    if spark {
        if let Some(line) = lines.get(view.cursor) {
            sparkline(&mut frame, bottom, view, scene, line);
        }
    }
    last_line(&mut frame, view, scene, &lines);
    popup::paint(&mut frame, view, scene, lines.get(view.cursor));
    frame
}

/// Why the table is empty.
fn empty(view: &View, scene: &Scene<'_>) -> &'static str {
    let servers = &scene.lines.0.servers;
    if servers
        .iter()
        .all(|server| server.table.sampled().is_none())
    {
        return match servers.iter().any(|server| server.is_up()) {
            true if servers.iter().all(|server| !server.has_rows()) => {
                "this server does not know this level: it is Dovecot's own or older"
            }
            true => "asking ...",
            false if servers.iter().all(|s| s.trouble(scene.now).is_none()) => "connecting ...",
            false => "no server answers",
        };
    }
    match (view.active_only, view.filter.is_empty(), view.level) {
        (true, _, _) => "nothing is active now (a: show all)",
        (_, false, _) => "nothing fits the filter (Esc: drop it)",
        (_, _, Level::Session) => "no connected sessions",
        (_, _, Level::Command) if view.opened().is_some() => "no commands of this session are kept",
        (_, _, Level::Command) => "no commands",
        _ => "nothing counted yet",
    }
}

/// The line of the selected row: how the watched column went.
fn sparkline(frame: &mut Frame, row: usize, view: &View, scene: &Scene<'_>, line: &Line<'_>) {
    let columns = frame.size().columns;
    let watched = view.watched();
    let count = if view.level == Level::Cmd { 2 } else { 1 };
    let names = level_row(view.level).text_columns.iter().take(count);
    let names = names.map(|&(_, text, ..)| text_of(line, Some(text), scene));
    let mut name = names.collect::<Vec<_>>().join(" ");
    if view.level == Level::Global {
        name = text_of(line, None, scene);
    }
    let (name, _) = fit(&name, columns / 3);
    let unit = match watched.kind {
        Measure::Now | Measure::Took => "",
        _ if view.is_total() => "",
        _ => "/s",
    };
    let title = format!("{}{unit} ", watched.title.trim_end_matches('%'));
    let mut column = frame.put(row, 1, name, Style::Strong) + 2;
    column = frame.put(row, column, &title, Style::Dim);
    let room = columns.saturating_sub(column + 14);
    let points = scene.lines.0.servers[line.server]
        .table
        .points(line.entry, room);
    let peak = points.iter().copied().fold(0.0, f32::max);
    let chart: String = points
        .iter()
        .map(|&point| scene.glyphs.spark(point, peak))
        .collect();
    column = frame.put(row, column, &chart, Style::Bar) + 2;
    let peak = match watched.kind {
        Measure::Bytes => number::bytes(f64::from(peak)),
        Measure::Took => number::duration(peak as u64),
        Measure::Time if view.is_total() => number::duration(peak as u64),
        Measure::Time => number::percent(f64::from(peak) / 1e4) + "%",
        _ => number::count(f64::from(peak)),
    };
    frame.put(row, column, &format!("top {peak}"), Style::Dim);
}

/// The last line: what is being typed, a message, or the keys.
fn last_line(frame: &mut Frame, view: &View, scene: &Scene<'_>, lines: &[Line<'_>]) {
    let row = frame.size().rows.saturating_sub(1);
    let utf8 = scene.glyphs.utf8;
    let typed = match &view.mode {
        Mode::Search(text) => Some(("/", text)),
        Mode::Filter(text) => Some(("\\", text)),
        _ => None,
    };
    if let Some((sign, text)) = typed {
        let column = frame.put(row, 0, sign, Style::Strong);
        // The end of a long line is what is being typed.
        let room = frame.size().columns.saturating_sub(2);
        let mut shown = visible(text.as_bytes(), utf8);
        while width(&shown) > room {
            shown.remove(0);
        }
        let column = frame.put(row, column, &shown, Style::Plain);
        let column = frame.put(row, column, " ", Style::Key) + 2;
        let count = lines.iter().filter(|line| line.is_like(text)).count();
        let hint = match sign {
            _ if !view.message.is_empty() => view.message.clone(),
            "/" if text.is_empty() => "part of a name, * and ?".to_owned(),
            "/" => format!("{count} found  n next  N previous"),
            _ => "part of a name, * and ?, or user= domain= ip= service= cmd= since=".to_owned(),
        };
        frame.put(row, column, &hint, Style::Dim);
        return;
    }
    if !view.message.is_empty() {
        frame.put(row, 1, &view.message, Style::Notice);
        return;
    }
    let into = if view.is_at_the_end() {
        "details"
    } else {
        "open"
    };
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("Enter", into),
        ("Esc", "back"),
        ("s", "sort"),
        ("/", "search"),
        ("\\", "filter"),
        ("r", "reverse"),
        ("Tab", "level"),
        ("a", "active"),
        ("t", "totals"),
        ("w", "window"),
        ("p", "pause"),
        ("c", "columns"),
        ("i", "details"),
        ("K", "kick"),
        ("+-", "speed"),
    ];
    let mut column = 1;
    for (key, what) in keys {
        if key == "Esc" && view.path().next().is_none() && view.filter.is_empty() {
            continue;
        }
        if column + key.len() + what.len() + 1 > frame.size().columns {
            break;
        }
        column = frame.put(row, column, key, Style::Key);
        column = frame.put(row, column + 1, what, Style::Plain) + 2;
    }
}
