//! The screen: header, table, the selected row's line, and the last line.
//!
//! Everything is a function of the servers, the view and the time; only what
//! keeps the picture still from frame to frame (widths, scrolling) is noted in
//! the view. What does not fit is left out, the least important first, so that
//! the same code serves 40 columns and 200.

use super::column::{Column, Kind, COMMANDS, LOGINS, SESSIONS};
use super::draw::{Frame, Style};
use super::glyphs::Glyphs;
use super::model::{Entry, Figures, Look, FADING};
use super::number;
use super::popup;
use super::rows::{Line, Lines};
use super::view::{Mode, View, LEVELS};
use crate::cli::width::{fit, visible, width};
use crate::store::Zoom;
use crate::sys::terminal::Size;
use std::time::Instant;

/// What does not come from the view.
pub struct Scene<'a> {
    /// The servers.
    pub lines: Lines<'a>,
    /// Now.
    pub now: Instant,
    /// The time since 1970 in microseconds.
    pub now_micros: u64,
    /// The time of day.
    pub clock: String,
    /// How things are drawn.
    pub glyphs: &'static Glyphs,
}

/// A piece of the header: a label, a value, and how that looks.
type Piece = (&'static str, String, Style);

/// Rows below which the header is cut to the bare minimum.
const LOW: usize = 16;

/// Draws the screen.
pub fn paint(view: &mut View, scene: &Scene<'_>, size: Size) -> Frame {
    let mut frame = Frame::new(size);
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
    let shares = Shares::of(view, scene, &layout, &lines);
    for (at, line) in page.iter().enumerate() {
        row += 1;
        let selected = first + at == view.cursor;
        table_row(&mut frame, row, view, scene, &layout, line, &shares);
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
            true => "asking ...",
            false => "no server answers",
        };
    }
    match (view.active_only, view.filter.is_empty(), view.level) {
        (true, _, _) => "nothing is active now (a: show all)",
        (_, false, _) => "nothing fits the filter (Esc: drop it)",
        (_, _, Zoom::Session) => "no connected sessions",
        (_, _, Zoom::Command) => "no commands",
        _ => "nothing counted yet",
    }
}

/// The totals of all servers that answer: a number of the reading, summed.
fn totals(view: &View, scene: &Scene<'_>, value: impl Fn(&Figures<'_>) -> f64) -> Option<f64> {
    let servers = scene.lines.0.servers.iter().filter(|server| server.is_up());
    let look = match view.totals {
        true => Look::Totals,
        false => Look::Rates(view.window()),
    };
    let mut sum = None;
    for server in servers {
        for (_, entry) in server.global.entries() {
            let figures = server.global.figures(entry, look);
            if !figures.is_unknown() {
                sum = Some(sum.unwrap_or(0.0) + value(&figures));
            }
        }
    }
    sum
}

/// Draws the header; gives the row of the titles.
fn header(frame: &mut Frame, view: &View, scene: &Scene<'_>, count: usize) -> usize {
    let Size { rows, columns } = frame.size();
    frame_title(frame, view, scene);
    let unit = if view.totals { "" } else { "/s" };
    let index = |name| super::column::value_index(name).expect("a field of the table");
    let sum = |value: usize| totals(view, scene, |figures| figures.number(value));
    let show = |number: Option<f64>, text: fn(f64) -> String| match number.map(text) {
        None => ".".to_owned(),
        Some(text) if text == number::NOTHING => "0".to_owned(),
        Some(text) => text,
    };
    let whole = |number: f64| number::whole(number as u64);
    let counted = if view.totals { whole } else { number::count };
    let count_of = |value| show(sum(value), counted) + unit;
    let bytes_of = |name| show(sum(index(name)), number::bytes) + unit;
    let up = scene.lines.0.servers.iter().filter(|server| server.is_up());
    let sessions: u64 = up
        .flat_map(|server| server.global.entries())
        .map(|(_, entry)| entry.values[SESSIONS])
        .sum();
    let cpu = sum(index("user_cpu")).zip(sum(index("sys_cpu")));
    let cpu = cpu.map(|(user, system)| user + system);
    let cpu_text = match view.totals {
        true => show(cpu, |micros| number::duration(micros as u64)),
        false => show(cpu, |micros| number::percent(micros / 1e4)) + "%",
    };
    let failures = sum(index("auth_failures")).unwrap_or(0.0);
    let failed = if failures > 0.0 {
        Style::Bad
    } else {
        Style::Strong
    };
    let first: [Piece; 5] = [
        (
            "Sessions",
            whole(sessions as f64).replace(number::NOTHING, "0"),
            Style::Strong,
        ),
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
    row += usize::from(rows >= 30);
    tabs(frame, row, view, scene, count);
    row + 1
}

/// The first line: who is asked, how it goes, and the time.
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
        (_, Some(age)) => (format!("{age:.1}s old"), Style::Dim),
        (_, None) => (String::new(), Style::Dim),
    };
    if columns >= 60 {
        let secs = view.delay.as_secs_f64();
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
        (0, _) => (glyphs.cross, Style::Bad),
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

/// The lines about servers, if there is something to tell; gives how many.
fn servers(frame: &mut Frame, row: usize, scene: &Scene<'_>) -> usize {
    let servers = &scene.lines.0.servers;
    let mut column = 1;
    let mut told = false;
    for server in servers {
        let trouble = server.trouble(scene.now);
        if servers.len() == 1 && trouble.is_none() {
            continue;
        }
        told = true;
        let utf8 = scene.glyphs.utf8;
        let (mark, style) = match &trouble {
            Some(_) => (scene.glyphs.cross, Style::Bad),
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
    usize::from(told)
}

/// The names of the levels, or the way down, and how many rows there are.
fn tabs(frame: &mut Frame, row: usize, view: &View, scene: &Scene<'_>, count: usize) {
    let columns = frame.size().columns;
    let mut right = match count {
        1 => "1 row".to_owned(),
        count => format!(
            "{} rows",
            number::whole(count as u64).replace(number::NOTHING, "no")
        ),
    };
    if view.active_only {
        right = format!("active only  {right}");
    }
    if !view.filter.is_empty() {
        right = format!(
            "\\{}  {right}",
            visible(view.filter.as_bytes(), scene.glyphs.utf8)
        );
    }
    let end = columns.saturating_sub(width(&right) + 2);
    let mut column = 1;
    for (number, level) in (1..).zip(LEVELS) {
        let (name, short) = title(level);
        let name = if columns >= 76 { name } else { short };
        let style = if level == view.level {
            Style::Active
        } else {
            Style::Dim
        };
        if level == view.level || view.path().next().is_none() {
            let text = format!("{number} {name}");
            for part in view.path() {
                let part = visible(part, scene.glyphs.utf8);
                column = frame.put_within(row, column, end, &part, Style::Strong);
                column = frame.put_within(row, column, end, scene.glyphs.into, Style::Dim);
            }
            let padded = format!(" {text} ");
            column =
                frame.put_within(row, column, end, &padded, style) + usize::from(columns >= 90);
        }
    }
    frame.put(row, end + 1, &right, Style::Dim);
}

/// What a level is called, long and short.
pub fn title(level: Zoom) -> (&'static str, &'static str) {
    match level {
        Zoom::Domain => ("Domains", "dom"),
        Zoom::User => ("Users", "user"),
        Zoom::Session => ("Sessions", "sess"),
        Zoom::Command => ("Commands", "cmd"),
        Zoom::Ip => ("IPs", "ip"),
        Zoom::Global => ("Servers", "all"),
    }
}

/// One text column: its title, which text, and its width.
struct Text {
    title: &'static str,
    text: Option<usize>,
    width: usize,
}

/// Where everything of a row goes.
struct Layout {
    /// Texts on the left.
    texts: Vec<Text>,
    /// Columns of numbers, by their place in the view.
    numbers: Vec<usize>,
    /// The text that takes what is left: a command's arguments.
    rest: Option<usize>,
    /// Columns of the bar of shares; 0: none.
    bar: usize,
}

/// The text columns of a level: title, which text, the least and the most
/// columns it takes.
fn text_columns(level: Zoom) -> &'static [(&'static str, usize, usize, usize)] {
    match level {
        Zoom::Domain => &[("DOMAIN", 0, 16, 60)],
        Zoom::User => &[("USER", 0, 16, 60)],
        Zoom::Session => &[
            ("USER", 1, 12, 50),
            ("SERVICE", 2, 7, 12),
            ("IP", 3, 9, 39),
            ("PID", 4, 5, 10),
            ("SESSION", 0, 8, 32),
        ],
        Zoom::Command => &[("COMMAND", 1, 8, 16), ("USER", 3, 12, 40)],
        Zoom::Ip => &[("ADDRESS", 0, 15, 39)],
        Zoom::Global => &[],
    }
}

/// What the text of a row is.
fn text_of(line: &Line<'_>, text: Option<usize>, scene: &Scene<'_>) -> String {
    let utf8 = scene.glyphs.utf8;
    match text {
        None => visible(scene.lines.0.servers[line.server].name.as_bytes(), utf8),
        Some(text) if line.entry.texts[text].is_empty() => "(none)".to_owned(),
        Some(text) => visible(&line.entry.texts[text], utf8),
    }
}

/// Decides what is shown of a row.
fn layout(view: &mut View, scene: &Scene<'_>, page: &[Line<'_>], columns: usize) -> Layout {
    let mut all: Vec<(&str, Option<usize>, usize, usize)> = Vec::new();
    if scene.lines.0.servers.len() > 1 || view.level == Zoom::Global {
        all.push(("SERVER", None, 12, 40));
    }
    let own = text_columns(view.level).iter();
    all.extend(own.map(|&(title, text, least, most)| (title, Some(text), least, most)));
    view.widths.resize(all.len(), 0);
    for ((_, text, least, most), known) in all.iter().zip(&mut view.widths) {
        let widest = page
            .iter()
            .map(|line| width(&text_of(line, *text, scene)))
            .max();
        *known = widest.unwrap_or(0).clamp(*least, *most).max(*known);
    }
    let rest = (view.level == Zoom::Command).then_some(2);
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
        let is_name = at == 0 || title == "USER" || text == Some(0) && view.level != Zoom::Session;
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
fn titles(frame: &mut Frame, row: usize, view: &View, scene: &Scene<'_>, layout: &Layout) {
    let columns = frame.size().columns;
    frame.fill(row, 0, columns, Style::Head);
    let arrow = match view.reverse {
        false => scene.glyphs.down,
        true => scene.glyphs.up,
    };
    let mut column = 1;
    for (at, text) in layout.texts.iter().enumerate() {
        let sorts = view.sort().is_none() && at == 0;
        let style = if sorts { Style::Active } else { Style::Head };
        let title = if sorts {
            format!("{}{arrow}", text.title)
        } else {
            text.title.to_owned()
        };
        frame.put_within(row, column, column + text.width, &title, style);
        column += text.width + 1;
    }
    for &index in &layout.numbers {
        let number = &view.columns[index];
        let sorts = view.sort() == Some(index);
        let mut title = number.title;
        if view.is_total() && number.kind == Kind::Time {
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
        column = behind;
    }
    let rest = match layout.rest {
        Some(_) => "ARGUMENTS",
        None if layout.bar > 0 => "SHARE",
        None => "",
    };
    frame.put(row, column + 1, rest, Style::Head);
}

/// What bars are drawn from.
#[derive(Default)]
struct Shares {
    /// All rows together: what the percentage is of.
    sum: f64,
    /// The biggest: what the longest bar is.
    most: f64,
}

impl Shares {
    /// Those of the column that sorts.
    fn of(view: &View, scene: &Scene<'_>, layout: &Layout, lines: &[Line<'_>]) -> Shares {
        let mut shares = Shares::default();
        let column = view.sort().map(|index| &view.columns[index]);
        if layout.bar == 0 || column.is_none_or(|column| column.kind == Kind::Age) {
            return shares;
        }
        for line in lines {
            if !scene.lines.figures(line, view).is_unknown() {
                shares.sum += line.number;
                shares.most = shares.most.max(line.number);
            }
        }
        shares
    }
}

/// Whether an entry is new or gone, and how far that has faded.
fn mark(entry: &Entry, up: bool, now: Instant) -> (&'static str, Style) {
    if entry.gone_since.is_some() {
        return ("-", Style::Dim);
    }
    if !up {
        return ("!", Style::Dim);
    }
    match entry
        .new_since
        .map(|since| now.saturating_duration_since(since))
    {
        Some(age) if age < FADING / 2 => ("+", Style::Title),
        Some(age) if age < FADING => ("+", Style::Good),
        _ => (" ", Style::Plain),
    }
}

/// A row of the table.
fn table_row(
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
            (_, Kind::Age) => Style::Plain,
            _ => number_style(number, &figures, &text),
        };
        let behind = column + number.width() + 2;
        frame.put(row, (behind - 1).saturating_sub(width(&text)), &text, style);
        column = behind;
    }
    if let Some(text) = layout.rest {
        let room = frame.size().columns.saturating_sub(column + 1);
        let args = visible(&line.entry.texts[text], scene.glyphs.utf8);
        put_cut(frame, row, column + 1, room, &args, look, scene.glyphs);
    } else if shares.sum > 0.0 && line.number > 0.0 && !figures.is_unknown() {
        let percent = format!("{:3.0}% ", line.number / shares.sum * 100.0);
        let bar = scene.glyphs.bar(line.number / shares.most, layout.bar - 7);
        let behind = frame.put(row, column + 1, &percent, look);
        frame.put(row, behind, bar.trim_end(), Style::Bar);
    }
}

/// The style of a number: failures alarm, magnitudes differ.
fn number_style(column: &Column, figures: &Figures<'_>, text: &str) -> Style {
    let is_failure = matches!(column.name, "auth_failures" | "auth_db_tempfails");
    match is_failure && column.number(figures) > 0.0 {
        true => Style::Bad,
        false => number::style(text),
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

/// The line of the selected row: how the watched column went.
fn sparkline(frame: &mut Frame, row: usize, view: &View, scene: &Scene<'_>, line: &Line<'_>) {
    let columns = frame.size().columns;
    let watched = view.watched();
    let name = text_columns(view.level).first().map(|&(_, text, ..)| text);
    let name = text_of(line, name, scene);
    let (name, _) = fit(&name, columns / 3);
    let unit = if view.is_total() || watched.kind == Kind::Now {
        ""
    } else {
        "/s"
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
        Kind::Bytes => number::bytes(f64::from(peak)),
        Kind::Time if view.is_total() => number::duration(peak as u64),
        Kind::Time => number::percent(f64::from(peak) / 1e4) + "%",
        _ => number::count(f64::from(peak)),
    };
    frame.put(row, column, &format!("top {peak}"), Style::Dim);
}

/// The last line: what is being typed, what was told, or the keys.
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
            _ => "part of a name, * and ?, or user= domain= ip= session= since=".to_owned(),
        };
        frame.put(row, column, &hint, Style::Dim);
        return;
    }
    if !view.message.is_empty() {
        frame.put(row, 1, &view.message, Style::Notice);
        return;
    }
    let into = if view.level == Zoom::Command {
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
