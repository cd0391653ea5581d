//! Frames of text for scripts and for terminals that cannot do more.
//!
//! A frame follows each round of samples but the first, which has no rates yet.
//! Rows are complete, sorted, and carry every column of their level. In the
//! formats for programs, numbers are rates a second, of processor time in
//! seconds; `last_update` and `num_connected_sessions` are as they are.

use super::data::link::Link;
use super::is_utf8_locale;
use super::level::level_row;
use super::ui::glyphs::{ASCII, UNICODE};
use super::view::View;
use crate::cli::args::TopOptions;
use crate::cli::format::{Dialect, Format, Printer};
use crate::cli::top::view::rows::{Line, Lines};
use crate::cli::warn;
use crate::cli::width::{visible, width};
use crate::config::Fatal;
use crate::sys::fd::poll::{Interest, PollSet};
use crate::sys::local_time::LocalTime;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a server that was lost, or does not answer, holds up the others.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(options: &TopOptions, view: View) -> Result<(), Fatal> {
    let mut begun = Instant::now();
    let mut link =
        Link::new(&options.servers, view.question(), begun).map_err(Fatal::io("socket pair"))?;
    round(&mut link, &view, begun)?;
    let stdout = io::stdout();
    let format = options.format.unwrap_or(Format::Table);
    let is_terminal = stdout.is_terminal();
    let new_printer = || Printer::new(stdout.lock(), format, Dialect::Frames, is_terminal);
    let mut printer = new_printer();
    let mut frame = 0;
    while options.frames.is_none_or(|frames| frame < frames) {
        begun = wait(&mut link, &view, begun + view.delay)?;
        link.connect(begun);
        link.ask(begun);
        round(&mut link, &view, begun)?;
        let wall = SystemTime::now();
        let printed = match format {
            Format::Table => table(
                &mut stdout.lock(),
                (&view, options.limit),
                Lines(&link),
                wall,
                frame,
            ),
            // An array is a document of its own; all else goes on.
            Format::Json => {
                printer = new_printer();
                print(
                    &mut printer,
                    (&view, options.limit),
                    Lines(&link),
                    wall,
                    true,
                )
                .and_then(|()| printer.end())
                .and_then(|()| stdout.lock().write_all(b"\n"))
            }
            _ => print(
                &mut printer,
                (&view, options.limit),
                Lines(&link),
                wall,
                frame == 0,
            ),
        };
        let flushed = printed.and_then(|()| stdout.lock().flush());
        flushed.map_err(Fatal::output)?;
        frame += 1;
    }
    Ok(())
}

/// Waits until every server has answered since `begun` or is known not to.
fn round(link: &mut Link, view: &View, begun: Instant) -> Result<(), Fatal> {
    let end = begun + PATIENCE;
    let mut now = begun;
    loop {
        let waiting = link.servers.iter().any(|server| {
            let answered = server.table.sampled().is_some_and(|taken| taken >= begun);
            !answered && server.failure().is_none()
        });
        if !waiting || now >= end {
            break;
        }
        now = turn(link, view, end.saturating_duration_since(now))?;
    }
    let dead = link.servers.iter().filter(|server| !server.has_rows());
    if dead.clone().count() < link.servers.len() {
        return Ok(());
    }
    for server in dead {
        let why = server.failure().unwrap_or("no answer");
        warn(&format!("{}: {why}", server.name));
    }
    Err(Fatal::Reported)
}

/// Lets time pass until `until`, taking what comes.
fn wait(link: &mut Link, view: &View, until: Instant) -> Result<Instant, Fatal> {
    let mut now = Instant::now();
    while now < until {
        now = turn(link, view, until.saturating_duration_since(now))?;
    }
    Ok(now)
}

/// Waits once, at most so long, and reads what is there.
fn turn(link: &mut Link, view: &View, time: Duration) -> Result<Instant, Fatal> {
    let mut set = PollSet::new();
    let wake = set.push(link.wake(), Interest::READ);
    let push = |(index, fd)| (index, set.push(fd, Interest::READ));
    let connections: Vec<(usize, usize)> = link.connections().map(push).collect();
    let begun = Instant::now();
    let due = link
        .silence_deadline()
        .map(|due| due.saturating_duration_since(begun));
    let time = due.map_or(time, |due| time.min(due));
    set.wait(Some(time)).map_err(Fatal::io("poll"))?;
    let now = Instant::now();
    if set.ready(wake).readable {
        link.take_connections(now);
    }
    for (index, slot) in connections {
        if set.ready(slot).readable {
            link.read(index, view.window(), now);
        }
    }
    link.give_up_silent(now);
    Ok(now)
}

/// Time since 1970 in microseconds.
fn micros_of(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Prints a frame for programs.
fn print<W: Write>(
    printer: &mut Printer<W>,
    (view, limit): (&View, Option<usize>),
    lines: Lines<'_>,
    wall: SystemTime,
    with_header: bool,
) -> io::Result<()> {
    let columns = view.possible();
    if with_header {
        let texts = ["time", "host"].iter().chain(level_row(view.level).texts);
        let numbers = columns.iter().map(|&index| &view.columns[index].name);
        let names: Vec<String> = texts
            .chain(numbers)
            .map(|name| (*name).to_owned())
            .collect();
        printer.header(&names)?;
    }
    let now_micros = micros_of(wall);
    let time = format!("{}.{:06}", now_micros / 1_000_000, now_micros % 1_000_000);
    for line in lines.all(view).iter().take(limit.unwrap_or(usize::MAX)) {
        let figures = lines.figures(line, view);
        let numbers = columns
            .iter()
            .map(|&index| view.columns[index].plain(&figures));
        let numbers: Vec<String> = numbers.collect();
        let host = lines.0.servers[line.server].name.as_bytes();
        let mut fields = vec![time.as_bytes(), host];
        fields.extend(line.entry.texts());
        fields.extend(numbers.iter().map(String::as_bytes));
        printer.row(&fields)?;
    }
    Ok(())
}

/// Prints a frame for people: aligned columns.
fn table(
    out: &mut impl Write,
    (view, limit): (&View, Option<usize>),
    lines: Lines<'_>,
    wall: SystemTime,
    frame: u64,
) -> io::Result<()> {
    let (mut rows, now_micros) = (lines.all(view), micros_of(wall));
    let glyphs = if is_utf8_locale() { &UNICODE } else { &ASCII };
    let servers = &lines.0.servers;
    let mut text = String::new();
    if frame > 0 {
        text.push('\n');
    }
    let up = servers.iter().filter(|server| server.has_rows()).count();
    let unit = if view.is_total() {
        "totals"
    } else {
        "a second"
    };
    let count = rows.len();
    rows.truncate(limit.unwrap_or(usize::MAX));
    let count = match rows.len() {
        shown if shown < count => format!("{shown} of {count}"),
        all => all.to_string(),
    };
    text += &format!(
        "{}  {}  {unit}, {count} rows",
        LocalTime::at(wall),
        view.level.name()
    );
    text += &match servers.len() {
        1 => format!("  {}\n", visible(servers[0].name.as_bytes(), glyphs.utf8)),
        all => format!("  {up} of {all} servers\n"),
    };
    for server in servers.iter().filter(|server| !server.has_rows()) {
        let why = format!(
            "{}: {}",
            server.name,
            server.failure().unwrap_or("connecting")
        );
        text += &format!("{}\n", visible(why.as_bytes(), glyphs.utf8));
    }
    let mut titles = Vec::new();
    let with_server = servers.len() > 1 || view.level.name() == "global";
    if with_server {
        titles.push("SERVER".to_owned());
    }
    let arrow = if view.reverse { glyphs.up } else { glyphs.down };
    // The name that sorts is the one that stands first on the screen.
    let by_name = view
        .sort()
        .is_none()
        .then(|| level_row(view.level).text_columns.first());
    let by_name = by_name.flatten().map(|&(_, text, ..)| text);
    titles.extend(
        level_row(view.level)
            .texts
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let mark = if by_name == Some(at) { arrow } else { "" };
                name.to_ascii_uppercase() + mark
            }),
    );
    let left = titles.len();
    let mut columns = view.shown();
    if let Some(sort) = view.sort().filter(|sort| !columns.contains(sort)) {
        columns.insert(0, sort);
    }
    titles.extend(columns.iter().map(|&index| {
        let mark = if view.sort() == Some(index) {
            arrow
        } else {
            ""
        };
        mark.to_owned() + view.columns[index].title
    }));
    let cells = |line: &Line<'_>| {
        let figures = lines.figures(line, view);
        let mut cells = Vec::new();
        if with_server {
            cells.push(visible(servers[line.server].name.as_bytes(), glyphs.utf8));
        }
        let texts = line.entry.texts();
        cells.extend(texts.map(|text| visible(text, glyphs.utf8)));
        let numbers = columns.iter();
        cells.extend(numbers.map(|&index| view.columns[index].cell(&figures, now_micros)));
        cells
    };
    let mut widths: Vec<usize> = titles.iter().map(|title| width(title)).collect();
    // Made twice, as all of them would take more memory than the rows.
    for row in rows.iter().map(cells) {
        for (columns, cell) in widths.iter_mut().zip(&row) {
            *columns = width(cell).max(*columns);
        }
    }
    let mut out = BufWriter::with_capacity(1 << 16, out);
    out.write_all(text.as_bytes())?;
    for row in [titles].into_iter().chain(rows.iter().map(cells)) {
        let mut line = String::new();
        for (at, (cell, &columns)) in row.iter().zip(&widths).enumerate() {
            let blanks = " ".repeat(columns - width(cell));
            let gap = if at == 0 { "" } else { "  " };
            match at < left {
                true => line += &format!("{gap}{cell}{blanks}"),
                false => line += &format!("{gap}{blanks}{cell}"),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    out.flush()
}
