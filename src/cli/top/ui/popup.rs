//! What hangs over the table: help, the two pickers, a row's details.

use super::draw::{Frame, Style};
use super::scene::Scene;
use crate::cli::number;
use crate::cli::top::data::model::Look;
use crate::cli::top::data::process::running_secs;
use crate::cli::top::kick::Kick;
use crate::cli::top::level::level_row;
use crate::cli::top::view::rows::Line;
use crate::cli::top::view::{Mode, View};
use crate::cli::width::{fit, visible, width};
use crate::store::Level;

/// The text of the help: a key and what it does; no key: a heading.
const HELP: [(&str, &str); 42] = [
    ("", "Look"),
    (
        "1-6 F1-F6 Tab",
        "domains, users, sessions, commands, IPs, servers",
    ),
    (
        "7 8 F7 F8",
        "services, kinds of command: how long they took",
    ),
    (
        "Enter l Right",
        "open the row: domain, its users, sessions, commands;",
    ),
    (
        "",
        "  service, its kinds of command, commands, their session",
    ),
    ("Esc h Left Bksp", "back; drops a search or a filter first"),
    ("j k Down Up", "select; also PgDn PgUp ^D ^U"),
    ("g G Home End", "first (always the biggest), last"),
    ("i", "everything about the selected row"),
    ("t", "rates or totals"),
    ("w", "rates over 1, 5 or 60 seconds"),
    ("a", "only rows where something happens"),
    ("c", "choose columns"),
    ("p Space", "pause"),
    ("+ -", "faster, slower"),
    ("q ^C", "quit;  ^Z suspend"),
    (
        "wheel, click",
        "select; click again: open; titles sort, levels show",
    ),
    ("", "Act"),
    (
        "K",
        "end sessions: shows the command doveadm kick, and asks",
    ),
    ("", "Find"),
    ("/", "search as you type; n next, N previous"),
    ("\\", "filter by a part of the name, * and ?, or by"),
    ("", "  user= domain= session= service= cmd= ip=ADDR/BITS"),
    ("", "  since=5m (or a date), connected"),
    ("", "Sort, the biggest first; once more: the smallest"),
    ("s", "pick the column"),
    ("< >", "the column to the left, to the right"),
    ("r", "reverse"),
    ("D C", "disk, processor time"),
    ("R W", "bytes in, bytes out"),
    ("M L", "commands, logins"),
    ("A F", "logins that succeeded, that failed"),
    ("S T U", "sessions, last update, name"),
    ("P X", "P99, MAX: slow kinds of command, commands"),
    ("", "Signs"),
    ("+ -", "a row that is new, that has gone"),
    (
        "!",
        "a row of a server that does not answer: its last state",
    ),
    (
        "P50 P90 P99",
        "half, 90, 99 of 100 commands took at most that",
    ),
    ("k M G T", "1000 of counts, 1024 of bytes"),
    ("-", "nothing"),
    (".", "no rate yet: it takes two samples"),
    ("", "  text is selected by the mouse with Shift held"),
];

/// Columns of a popup that are not text: its edges and a blank beside each.
const EDGES: usize = 4;

/// One line of a popup.
struct Item {
    text: String,
    style: Style,
}

/// Draws the popup there is, if any.
pub(super) fn paint(
    frame: &mut Frame,
    view: &mut View,
    scene: &Scene<'_>,
    line: Option<&Line<'_>>,
) {
    let columns = frame.size().columns.saturating_sub(EDGES);
    let (name, items, place) = match view.mode.clone() {
        Mode::Table | Mode::Search(_) | Mode::Filter(_) => return,
        Mode::Help(top) => (" Help ", help(), top),
        Mode::Details(top) => (" Details ", details(view, scene, line), top),
        Mode::Ask(kick) => (" End sessions? ", question(&kick, columns), 0),
        Mode::Report(lines, top) => {
            let lines = lines
                .iter()
                .flat_map(|line| wrapped(line, columns, Style::Popup));
            (" doveadm kick ", lines.collect(), top)
        }
        Mode::Sort(place) => (" Sort by ", sorts(view, place), place),
        Mode::Choose(place) => (
            " Columns: Space shows or hides, u the usual ones ",
            choices(view, place),
            place,
        ),
    };
    let size = frame.size();
    let rows = items.len().min(size.rows.saturating_sub(2));
    let spare = items.len() - rows;
    let top = match &mut view.mode {
        // A text is scrolled; it ends at its end.
        Mode::Help(top) | Mode::Details(top) | Mode::Report(_, top) => {
            *top = (*top).min(spare);
            *top
        }
        // A list follows its cursor.
        _ => (place + 1).saturating_sub(rows.div_ceil(2)).min(spare),
    };
    let widest = items
        .iter()
        .map(|item| width(&item.text))
        .max()
        .unwrap_or(0);
    let inner = (widest.max(width(name)) + 2).min(size.columns.saturating_sub(2));
    let left = (size.columns.saturating_sub(inner + 2)) / 2;
    let above = (size.rows.saturating_sub(rows + 2)) / 2;
    let [top_left, top_right, bottom_left, bottom_right, flat, side] = scene.glyphs.edges;
    let edge = |frame: &mut Frame, row, begin: &str, end: &str| {
        let text = format!("{begin}{}{end}", flat.repeat(inner));
        frame.put(row, left, &text, Style::Popup);
    };
    edge(frame, above, top_left, top_right);
    frame.put_within(above, left + 2, left + 1 + inner, name, Style::Popup);
    for (at, item) in items.iter().skip(top).take(rows).enumerate() {
        let row = above + 1 + at;
        frame.put(row, left, side, Style::Popup);
        frame.fill(row, left + 1, left + 1 + inner, item.style);
        let (text, _) = fit(&item.text, inner.saturating_sub(2));
        frame.put(row, left + 2, text, item.style);
        frame.put(row, left + 1 + inner, side, Style::Popup);
    }
    edge(frame, above + rows + 1, bottom_left, bottom_right);
    if spare > 0 {
        let more = format!(" {}-{} of {} ", top + 1, top + rows, items.len());
        let column = (left + inner).saturating_sub(width(&more));
        frame.put(above + rows + 1, column, &more, Style::Popup);
    }
}

/// The lines of the question.
fn question(kick: &Kick, columns: usize) -> Vec<Item> {
    [
        (format!("This ends {}:", kick.what), Style::Popup),
        (String::new(), Style::Popup),
        (kick.shown(), Style::Title),
        (String::new(), Style::Popup),
        (
            "y  run it     any other key: do not".to_owned(),
            Style::Popup,
        ),
    ]
    .iter()
    .flat_map(|(text, style)| wrapped(text, columns, *style))
    .collect()
}

/// A text in lines that fit.
fn wrapped(text: &str, columns: usize, style: Style) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let (part, taken) = fit(rest, columns);
        rest = &rest[part.len()..];
        let text = part.to_owned();
        items.push(Item { text, style });
        if rest.is_empty() || taken == 0 {
            return items;
        }
    }
}

/// The lines of the help.
fn help() -> Vec<Item> {
    let line = |&(key, what): &(&str, &str)| match key {
        "" if !what.starts_with(' ') => Item {
            text: what.to_owned(),
            style: Style::Title,
        },
        key => Item {
            text: format!("  {key:<16}{what}"),
            style: Style::Popup,
        },
    };
    HELP.iter().map(line).collect()
}

/// A line of a list.
fn choice(text: String, selected: bool) -> Item {
    let style = if selected {
        Style::Cursor
    } else {
        Style::Popup
    };
    Item { text, style }
}

/// The lines of the sort picker.
fn sorts(view: &View, place: usize) -> Vec<Item> {
    let possible = view.possible();
    let column = |(at, &index): (usize, &usize)| {
        let column = &view.columns[index];
        let key = column.key.unwrap_or(' ');
        let mark = if view.sort() == Some(index) { '>' } else { ' ' };
        choice(
            format!("{mark} {key}  {:<8} {}", column.title, column.help),
            at == place,
        )
    };
    let mut items: Vec<Item> = possible.iter().enumerate().map(column).collect();
    let mark = if view.sort().is_none() { '>' } else { ' ' };
    let text = format!("{mark} U  {:<8} from a to z", "name");
    items.push(choice(text, place >= possible.len()));
    items
}

/// The lines of the column picker.
fn choices(view: &View, place: usize) -> Vec<Item> {
    let shown = view.shown();
    let column = |(at, index): (usize, usize)| {
        let column = &view.columns[index];
        let mark = if shown.contains(&index) { 'x' } else { ' ' };
        choice(
            format!("[{mark}] {:<8} {}", column.title, column.help),
            at == place,
        )
    };
    view.possible()
        .into_iter()
        .enumerate()
        .map(column)
        .collect()
}

fn details(view: &View, scene: &Scene<'_>, line: Option<&Line<'_>>) -> Vec<Item> {
    let item = |text, style| Item { text, style };
    let Some(line) = line else {
        return vec![item("no row is selected".to_owned(), Style::Popup)];
    };
    let utf8 = scene.glyphs.utf8;
    let server = &scene.lines.0.servers[line.server];
    let mut items = vec![item(level_row(view.level).title.0.to_owned(), Style::Title)];
    let name = visible(server.name.as_bytes(), utf8);
    items.push(item(format!("{:<10} {name}", "server"), Style::Popup));
    for (name, text) in level_row(view.level).texts.iter().zip(line.entry.texts()) {
        // Long arguments are broken into lines.
        for (at, line) in wrapped(&visible(text, utf8), 64, Style::Popup)
            .iter()
            .enumerate()
        {
            let name = if at == 0 { *name } else { "" };
            items.push(item(format!("{name:<10} {}", line.text), Style::Popup));
        }
    }
    let rates = server.table.figures(line.entry, Look::Rates(view.window()));
    let totals = server.table.figures(line.entry, Look::Totals);
    if view.level == Level::Session && server.is_local() {
        if let Some(secs) = running_secs(line.entry.text(4)) {
            let text = format!("{:<10} {}", "running", number::age(secs));
            items.push(item(text, Style::Popup));
        }
    }
    items.push(item(
        format!("{:<30} {:>9} {:>9}", "", "rate", "total"),
        Style::Title,
    ));
    for index in view.possible() {
        let column = &view.columns[index];
        let rate = column.cell(&rates, scene.now_micros);
        let total = column.cell(&totals, scene.now_micros);
        items.push(item(
            format!("{:<30} {rate:>9} {total:>9}", column.help),
            Style::Popup,
        ));
    }
    items
}
