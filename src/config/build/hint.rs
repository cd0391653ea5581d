//! Guesses what an unknown name was meant to be.
//!
//! A guess is a text in parentheses to put behind the mistake, or nothing. It
//! never changes what is a mistake.

use super::dovecot::FROM_INSTRUCTIONS;
use crate::config::table::{self, Scope};

/// The hint for sections that belong to other parts of Dovecot.
const NOT_OURS: &str = " (of Dovecot's sections only service stats belongs here)";

/// For what instructions add to Dovecot's configuration.
const DOVECOTS: &str = " (it belongs in dovecot.conf)";

/// What the section of a service `name` may have been meant to be.
pub(super) fn for_service(name: &str) -> String {
    match did_you_mean(name, &["stats", "old-stats"]) {
        hint if hint.is_empty() => NOT_OURS.to_owned(),
        hint => hint,
    }
}

/// The hint for an unknown section `kind` in `scope`.
pub(super) fn for_section(scope: Scope, kind: &str) -> String {
    let listeners = ["fifo_listener", "unix_listener", "inet_listener"];
    match scope {
        Scope::Top if FROM_INSTRUCTIONS.contains(&kind) => DOVECOTS.to_owned(),
        Scope::Top => match did_you_mean(kind, &["service"]) {
            hint if hint.is_empty() => NOT_OURS.to_owned(),
            hint => hint,
        },
        Scope::Service if kind == "service" => {
            " (inside service stats: does a section before it have no closing }?)".to_owned()
        }
        Scope::Service => did_you_mean(kind, &listeners),
        _ => String::new(),
    }
}

/// The hint for an unknown setting `name` in `scope`.
pub(super) fn for_setting(scope: Scope, name: &str) -> String {
    let top = table::names(table::TOP);
    let service = table::names(table::SERVICE);
    let file = table::names(table::FILE);
    let inet = table::names(table::INET);
    let options = table::names(table::OPTIONS);
    let here: &[&[&str]] = match scope {
        Scope::Top => &[&top],
        Scope::Service => &[&service],
        Scope::Fifo(_) => &[&file],
        Scope::Unix(_) => &[&file, &options],
        Scope::Inet(_) => &[&inet, &options],
        Scope::Unknown => &[],
    };
    let close = did_you_mean(name, &here.concat());
    if !close.is_empty() {
        return close;
    }
    let belongs = if top.contains(&name) {
        " (it belongs outside sections)"
    } else if service.contains(&name) {
        " (it belongs in service stats)"
    } else if [file, inet, options].concat().contains(&name) {
        " (it belongs in a listener's section)"
    } else if scope == Scope::Top && FROM_INSTRUCTIONS.contains(&name) {
        DOVECOTS
    } else {
        ""
    };
    belongs.to_owned()
}

/// The nearest of `known` in parentheses, if `name` looks like a slip of it.
fn did_you_mean(name: &str, known: &[&str]) -> String {
    let mut nearest: Option<(usize, &str)> = None;
    let name = name.to_ascii_lowercase();
    for known in known {
        let found = (distance(&name, known), *known);
        let is_near = found.0 <= (known.len() / 3).min(3);
        if is_near && nearest.is_none_or(|nearest| found < nearest) {
            nearest = Some(found);
        }
    }
    match nearest {
        Some((_, known)) => format!(" (did you mean {known}?)"),
        None => String::new(),
    }
}

/// Characters to insert, remove or replace to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
