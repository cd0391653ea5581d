//! Guesses what somebody meant who wrote a name that is not known.
//!
//! A guess is a text in parentheses to put behind the mistake, or nothing. It
//! never changes what is a mistake.

use super::build::Scope;
use super::table;

/// What is said of sections that belong to the rest of Dovecot.
pub const NOT_OURS: &str = " (of Dovecot's sections only service stats belongs here)";

/// What somebody who opened the section `kind` in `scope` may have wanted.
pub fn for_section(scope: Scope, kind: &str) -> String {
    let listeners = ["fifo_listener", "unix_listener", "inet_listener"];
    match scope {
        Scope::Top => match did_you_mean(kind, ["service"].into_iter()) {
            hint if hint.is_empty() => NOT_OURS.to_owned(),
            hint => hint,
        },
        Scope::Service => did_you_mean(kind, listeners.into_iter()),
        _ => String::new(),
    }
}

/// What somebody who wrote the setting `name` in `scope` may have wanted.
pub fn for_setting(scope: Scope, name: &str) -> String {
    let file = || table::names(table::FILE);
    let options = || table::names(table::OPTIONS);
    let close = match scope {
        Scope::Top => did_you_mean(name, table::names(table::TOP)),
        Scope::Service => did_you_mean(name, table::names(table::SERVICE)),
        Scope::Fifo(_) => did_you_mean(name, file()),
        Scope::Unix(_) => did_you_mean(name, file().chain(options())),
        Scope::Inet(_) => did_you_mean(name, table::names(table::INET).chain(options())),
        Scope::Unknown => String::new(),
    };
    if !close.is_empty() {
        close
    } else if table::names(table::TOP).any(|known| known == name) {
        " (it belongs outside sections)".to_owned()
    } else if table::names(table::SERVICE).any(|known| known == name) {
        " (it belongs in service stats)".to_owned()
    } else if (file().chain(options()).chain(table::names(table::INET))).any(|known| known == name)
    {
        " (it belongs in a listener's section)".to_owned()
    } else {
        String::new()
    }
}

/// The nearest of `known` in parentheses, if `name` looks like a slip of it.
fn did_you_mean(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    known
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).min(3))
        .min()
        .map_or(String::new(), |(_, known)| {
            format!(" (did you mean {known}?)")
        })
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
