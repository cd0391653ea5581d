//! `dovestat top`: the live view.
//!
//! The way of the data: one lasting connection a server brings samples, of which a
//! table makes rates ([`data`]); rows of all servers are filtered and sorted as the
//! [`view`] wants them, and either drawn ([`ui`]) by the loop of [`screen`], or printed by
//! that of [`batch`]. Imports go down this list only:
//!
//! | module | what it is |
//! |---|---|
//! | `screen`, `batch` | the two loops |
//! | `ui` | header, table, popups, drawn into a frame |
//! | `view` | what is shown, and what keys do to it |
//! | `view_file` | the file in which a view is remembered from one run to the next; `view/saved` is its text |
//! | `level` | the one table of what is known of each level |
//! | `kick` | sessions ended by doveadm |
//! | `keys` | bytes of a terminal as keys |
//! | `data` | connections, samples, rates, columns |
//!
//! Must not: leave the terminal other than it was, whatever happens.

mod batch;
mod data;
mod keys;
mod kick;
mod level;
mod screen;
mod ui;
mod view;
mod view_file;

use super::args::TopOptions;
use super::server::choose;
use crate::cli::warn;
use crate::config::Fatal;
use std::env;
use std::io::{self, IsTerminal};
use view::View;

/// Shows the view until the user quits.
///
/// # Errors
/// A wrong SORT, a terminal that cannot be used, and in batch mode that no
/// server answers.
pub(super) fn run(mut options: TopOptions) -> Result<(), Fatal> {
    let sort = options.sort.as_deref();
    let mut view = View::new(
        options.bytes,
        options.level,
        &options.filters,
        options.delay,
        sort,
    )
    .map_err(|why| Fatal::Usage(format!("top: {why}")))?;
    options.servers = choose(&options.servers)?;
    // A dumb terminal cannot place its cursor: it gets frames of text, too.
    let dumb = env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    let plain = options.batch || options.format.is_some();
    if plain || dumb || !io::stdout().is_terminal() {
        if let Some(why) = view.warning() {
            warn(&why);
        }
        batch::run(&options, view)
    } else {
        if options.remembers {
            view_file::load(&mut view, (options.level.is_some(), options.sort.is_some()));
        }
        let view = screen::run(&options, view)?;
        if options.remembers {
            view_file::save(&view);
        }
        Ok(())
    }
}

/// Whether the locale is one of UTF-8.
fn is_utf8_locale() -> bool {
    let set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let deciding = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(set);
    let value = deciding
        .and_then(|name| env::var(name).ok())
        .unwrap_or_default();
    let value = value.to_ascii_lowercase();
    value.contains("utf-8") || value.contains("utf8")
}

/// Whether colours are wanted: see no-color.org.
fn has_colors() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
