//! The header of the screen: servers, totals, levels.

use super::draw::{Frame, Style};
use super::scene::{Scene, LOW};
use crate::cli::number;
use crate::cli::top::data::model::{Figures, Look};
use crate::cli::top::data::process::running_secs;
use crate::cli::top::data::values::{value_index, COMMANDS, LOGINS, SESSIONS};
use crate::cli::top::level::{LevelRow, LEVELS};
use crate::cli::top::view::{Hit, Target, View};
use crate::cli::width::{fit, visible, width};
use crate::sys::terminal::Size;

/// A piece of the header: a label, a value, and how that looks.
type Piece = (&'static str, String, Style);

/// The totals of all servers that answer: a number of the reading, summed.
fn totals(view: &View, scene: &Scene<'_>, value: impl Fn(&Figures<'_>) -> f64) -> Option<f64> {
    let servers = scene.lines.0.servers.iter().filter(|server| server.is_up());
    let look = match view.totals {
        true => Look::Totals,
        false => Look::Rates(view.window()),
    };
    let mut sum = None;
    for server in servers {
        for entry in server.global.entries() {
            let figures = server.global.figures(entry, look);
            if !figures.is_unknown() {
                sum = Some(sum.unwrap_or(0.0) + value(&figures));
            }
        }
    }
    sum
}

/// Draws the header; gives the row of the titles.
pub(super) fn header(frame: &mut Frame, view: &mut View, scene: &Scene<'_>, count: usize) -> usize {
    let Size { rows, columns } = frame.size();
    frame_title(frame, view, scene);
    let unit = if view.totals { "" } else { "/s" };
    let index = |name| value_index(name).expect("a field of the table");
    let sum = |value: usize| totals(view, scene, |figures| figures.number(value));
    // Without a server that answers, or before its second sample: a dash.
    let show = |number: Option<f64>, text: fn(f64) -> String, unit: &str| match number.map(text) {
        None => number::NOTHING.to_owned(),
        Some(text) if text == number::NOTHING => format!("0{unit}"),
        Some(text) => text + unit,
    };
    let whole = |number: f64| number::whole(number as u64);
    let counted = if view.totals { whole } else { number::count };
    let count_of = |value| show(sum(value), counted, unit);
    let bytes_of = |name| show(sum(index(name)), number::bytes, unit);
    let up = scene.lines.0.servers.iter().filter(|server| server.is_up());
    let entries = up.flat_map(|server| server.global.entries());
    let sessions = entries
        .map(|entry| entry.values[SESSIONS] as f64)
        .reduce(|sum, sessions| sum + sessions);
    let sessions = show(sessions, whole, "");
    let cpu = sum(index("user_cpu")).zip(sum(index("sys_cpu")));
    let cpu = cpu.map(|(user, system)| user + system);
    let cpu_text = match view.totals {
        true => show(cpu, |micros| number::duration(micros as u64), ""),
        false => show(cpu, |micros| number::percent(micros / 1e4), "%"),
    };
    let failures = sum(index("auth_failures")).unwrap_or(0.0);
    let failed = if failures > 0.0 {
        Style::Bad
    } else {
        Style::Strong
    };
    let first: [Piece; 5] = [
        ("Sessions", sessions, Style::Strong),
        ("Logins", count_of(LOGINS), Style::Strong),
        ("Commands", count_of(COMMANDS), Style::Strong),
        ("Auth ok", count_of(index("auth_successes")), Style::Strong),
        ("failed", count_of(index("auth_failures")), failed),
    ];
    if rows < LOW {
        let [sessions, logins, commands, _, failed] = first;
        let short = [
            ("", sessions.1 + " sess", Style::Strong),
            ("", commands.1 + " cmd", Style::Strong),
            ("cpu", cpu_text, Style::Strong),
            logins,
            failed,
        ];
        pieces(frame, 1, 1, &short, 2);
        return 2;
    }
    pieces(frame, 1, 1, &first, 3);
    let column = pieces(frame, 2, 1, &[("CPU", cpu_text, Style::Strong)], 1);
    let mut column = column.max(11);
    if !view.totals && columns >= 70 {
        let share = cpu.unwrap_or(0.0) / 1e6;
        let long = if columns >= 100 { 20 } else { 6 };
        let bar = scene.glyphs.bar(share.min(1.0), long);
        frame.put(2, column + 1, &bar, Style::Bar);
        column += long + 1;
    }
    let traffic: [Piece; 4] = [
        ("Disk in", bytes_of("disk_input"), Style::Strong),
        ("out", bytes_of("disk_output"), Style::Strong),
        ("Read", bytes_of("read_bytes"), Style::Strong),
        ("written", bytes_of("write_bytes"), Style::Strong),
    ];
    pieces(frame, 2, column + 2, &traffic, 2);
    let mut row = 3 + servers(frame, 3, scene);
    row += opened(frame, row, view, scene);
    row += usize::from(rows >= 30);
    tabs(frame, row, view, scene, count);
    row + 1
}

/// The first line: servers, the age of the sample, and the time.
fn frame_title(frame: &mut Frame, view: &View, scene: &Scene<'_>) {
    let glyphs = scene.glyphs;
    let columns = frame.size().columns;
    let servers = &scene.lines.0.servers;
    let mut right = match columns {
        60.. => format!("{}  ", scene.clock),
        _ => String::new(),
    };
    let oldest = servers
        .iter()
        .filter_map(|server| server.table.sampled())
        .min();
    let age = oldest.map(|taken| scene.now.saturating_duration_since(taken).as_secs_f64());
    let state = match (view.paused, age) {
        (true, _) => ("PAUSED".to_owned(), Style::Bad),
        // Late: twice the time between two samples, and more than a blink.
        (_, Some(age)) if age > view.delay.as_secs_f64() * 2.0 + 1.0 => {
            (format!("{} old", number::age(age as u64)), Style::Bad)
        }
        (_, Some(age)) => (format!("{}s old", number::decimal(age, 1)), Style::Dim),
        (_, None) => (String::new(), Style::Dim),
    };
    if columns >= 60 {
        let secs = number::secs(view.delay);
        let window = match view.is_total() {
            true => "totals".to_owned(),
            false => format!("{}s window", view.window().as_secs()),
        };
        right = format!("every {secs}s  {window}  {right}");
    }
    let place = columns.saturating_sub(width(&right) + width(&state.0) + 2);
    let mut column = frame.put(0, 1, "dovestat", Style::Title) + 2;
    let end = place.saturating_sub(1);
    let up = servers.iter().filter(|server| server.is_up()).count();
    let one_is_bad = servers
        .iter()
        .any(|server| server.trouble(scene.now).is_some());
    let (mark, style) = match (up, one_is_bad) {
        (0, true) => (glyphs.cross, Style::Bad),
        (0, false) => (glyphs.dot, Style::Dim),
        (_, true) => (glyphs.dot, Style::Notice),
        (_, false) => (glyphs.dot, Style::Good),
    };
    column = frame.put_within(0, column, end, mark, style) + 1;
    let name = match servers.as_slice() {
        [server] if rows_are_few(frame) => {
            let trouble = server.trouble(scene.now);
            trouble.unwrap_or_else(|| visible(server.name.as_bytes(), glyphs.utf8))
        }
        [server] => visible(server.name.as_bytes(), glyphs.utf8),
        servers => format!("{up} of {} servers", servers.len()),
    };
    frame.put_within(0, column, end, &name, Style::Plain);
    let column = frame.put(0, place, &state.0, state.1) + 2;
    frame.put(0, column, &right, Style::Dim);
}

/// Whether there is no room for more than the minimum.
fn rows_are_few(frame: &Frame) -> bool {
    frame.size().rows < LOW
}

/// Puts as many pieces as there is room for; gives the column behind.
fn pieces(frame: &mut Frame, row: usize, begin: usize, pieces: &[Piece], gap: usize) -> usize {
    let mut column = begin;
    for (label, value, style) in pieces {
        let label = if label.is_empty() {
            String::new()
        } else {
            format!("{label} ")
        };
        if column + width(&label) + width(value) > frame.size().columns {
            break;
        }
        column = frame.put(row, column, &label, Style::Plain);
        column = frame.put(row, column, value, *style) + gap;
    }
    column.saturating_sub(gap)
}

/// The line about servers, if there are several or one has a problem; gives how many.
fn servers(frame: &mut Frame, row: usize, scene: &Scene<'_>) -> usize {
    let servers = &scene.lines.0.servers;
    let mut column = 1;
    let mut shown = false;
    for server in servers {
        let mut trouble = server.trouble(scene.now);
        if servers.len() > 1 && !server.has_rows() {
            trouble = trouble.or_else(|| server.failure().map(str::to_owned));
        }
        if servers.len() == 1 && trouble.is_none() {
            continue;
        }
        shown = true;
        let utf8 = scene.glyphs.utf8;
        let (mark, style) = match &trouble {
            Some(_) => (scene.glyphs.cross, Style::Bad),
            None if !server.is_up() => (scene.glyphs.dot, Style::Dim),
            None => (scene.glyphs.dot, Style::Good),
        };
        column = frame.put(row, column, mark, style) + 1;
        column = frame.put(
            row,
            column,
            &visible(server.name.as_bytes(), utf8),
            Style::Plain,
        );
        if let Some(trouble) = trouble {
            let trouble = visible(trouble.as_bytes(), utf8);
            column = frame.put(row, column, &format!(": {trouble}"), Style::Bad);
        }
        column += 3;
    }
    usize::from(shown)
}

/// The line about the session whose commands are shown, if there is one; gives how
/// many lines that are.
fn opened(frame: &mut Frame, row: usize, view: &View, scene: &Scene<'_>) -> usize {
    let Some(session) = view.opened() else {
        return 0;
    };
    let text = |at: usize| match session.texts[at].as_slice() {
        [] => "(none)".to_owned(),
        text => visible(text, scene.glyphs.utf8),
    };
    // The process of a remote server is not in this machine's /proc.
    let is_local = scene.lines.0.servers[session.server].is_local();
    let running = is_local.then(|| running_secs(&session.texts[3])).flatten();
    let running = running.map_or(String::new(), |secs| {
        format!(", running for {}", number::age(secs))
    });
    let all: [Piece; 4] = [
        ("Process", text(3) + &running, Style::Strong),
        ("service", text(1), Style::Strong),
        ("from", text(2), Style::Strong),
        ("user", text(0), Style::Strong),
    ];
    pieces(frame, row, 1, &all, 2);
    1
}

/// The names of the levels, or the way down, and how many rows there are. The names
/// stay whatever else there is no room for.
fn tabs(frame: &mut Frame, row: usize, view: &mut View, scene: &Scene<'_>, count: usize) {
    let columns = frame.size().columns;
    let mut right = match count {
        1 => "1 row".to_owned(),
        count => format!(
            "{} rows",
            number::whole(count as u64).replace(number::NOTHING, "no")
        ),
    };
    let utf8 = scene.glyphs.utf8;
    let is_below = view.path().next().is_some();
    let levels: Vec<(usize, &LevelRow)> = (1..)
        .zip(&LEVELS)
        .filter(|(_, row)| !is_below || row.level == view.level)
        .collect();
    let room_for = |(is_long, gap): (bool, usize)| {
        let name = |row: &LevelRow| if is_long { row.title.0 } else { row.title.1 };
        let names = levels.iter().map(|(_, row)| name(row).len() + 3 + gap);
        columns.saturating_sub(names.sum::<usize>() + 2)
    };
    // What else there may be is worth more than long names.
    let wanted = width(&right)
        + if view.active_only { 13 } else { 0 }
        + if view.filter.is_empty() { 0 } else { 12 };
    // From the widest on, of long or short names and the columns between them.
    let forms = [(true, 2), (true, 1), (false, 1), (false, 0)];
    let fitting = forms.into_iter().find(|&form| wanted <= room_for(form));
    let (is_long, gap) = fitting.unwrap_or((false, 0));
    let mut room = room_for((is_long, gap));
    if view.active_only && width(&right) + 13 <= room {
        right = format!("active only  {right}");
    }
    if !view.filter.is_empty() && width(&right) + 6 <= room {
        let filter = format!("\\{}", visible(view.filter.as_bytes(), utf8));
        right = format!("{}  {right}", cut(&filter, room - width(&right) - 2, scene));
    }
    room = room.saturating_sub(width(&right));
    let mut column = 1;
    if is_below {
        let parts: Vec<String> = view.path().map(|part| visible(part, utf8)).collect();
        let path = parts.join(scene.glyphs.into) + scene.glyphs.into;
        column = frame.put(row, column, &cut(&path, room, scene), Style::Strong);
    }
    for (number, LevelRow { level, title, .. }) in levels {
        let (long, short) = title;
        let name = if is_long { long } else { short };
        let style = match *level == view.level {
            true => Style::Active,
            false => Style::Dim,
        };
        let begin = column;
        let edge = if gap > 0 { " " } else { "" };
        column = frame.put(row, column, &format!(" {number} {name}{edge}"), style);
        view.targets.push(Target {
            row,
            begin,
            end: column,
            hit: Hit::Level(*level),
        });
        column += gap.saturating_sub(1);
    }
    let end = columns.saturating_sub(width(&right) + 1);
    frame.put(row, end.max(column), &right, Style::Dim);
}

/// A text that fits, with a mark where it was cut.
fn cut(text: &str, columns: usize, scene: &Scene<'_>) -> String {
    let (all, _) = fit(text, columns);
    if all.len() == text.len() || columns == 0 {
        return all.to_owned();
    }
    let (part, _) = fit(text, columns - 1);
    format!("{part}{}", scene.glyphs.more)
}
