//! Rows compared with those of a saved dump.
//!
//! Owns: what has changed. Entries are found again by the names of their level
//! (commands, which may be alike, in the order they are listed); counters and
//! times of work become differences, everything else stays as it is now. A
//! column in front, `change`, has what happened to the entry:
//!
//! | change | meaning | counters |
//! |---|---|---|
//! | `kept` | it was there | what was added |
//! | `reset` | it began anew since: another reset_timestamp, or a counter that shrank | as they are |
//! | `new` | it was not there | as they are |
//! | `gone` | it is not there any more; listed last | 0 |
//!
//! Invariants: holds the saved dump, and of the rows compared with it none.

use super::output::Output;
use super::saved::Saved;
use crate::cli::column::{key_columns, number, written, ValueKind};
use crate::config::Fatal;
use crate::wire::push_escaped;
use std::collections::{HashMap, VecDeque};

/// The fields of a row of the saved dump.
type OldRow = Vec<Vec<u8>>;

/// A saved dump to compare with.
pub(super) struct Diff {
    /// What the file is called.
    file: String,
    /// The columns of the saved dump.
    old_names: Vec<String>,
    /// Its rows; those that were found again are taken.
    old_rows: Vec<Option<OldRow>>,
    /// The rows of each key, in the order of the dump.
    by_key: HashMap<Vec<u8>, VecDeque<usize>>,
    /// The columns of the new rows; none before their header.
    columns: Vec<Column>,
}

/// A column of the new rows.
struct Column {
    name: String,
    kind: ValueKind,
    /// Whether entries are found again by it.
    is_key: bool,
    /// Where it is in the saved dump.
    old_place: Option<usize>,
}

impl Diff {
    /// Reads the dump to compare with.
    pub(super) fn since(mut saved: Saved) -> Result<Diff, Fatal> {
        let file = saved.name();
        let keys = match key_columns(&saved.names) {
            Some(keys) => keys,
            None if saved.names.is_empty() => Vec::new(),
            None => return Err(Fatal::Data(format!("{file}: not a dump in the format tab"))),
        };
        let mut diff = Diff {
            file,
            old_names: saved.names.clone(),
            old_rows: Vec::new(),
            by_key: HashMap::new(),
            columns: Vec::new(),
        };
        while let Some(fields) = saved.next()? {
            let names = diff.old_names.iter().map(String::as_str);
            let named = names.zip(fields.iter().map(Vec::as_slice));
            let key = key(named.filter(|(name, _)| keys.contains(name)));
            let at = diff.old_rows.len();
            diff.by_key.entry(key).or_default().push_back(at);
            diff.old_rows.push(Some(fields));
        }
        Ok(diff)
    }

    /// Takes the header of the new rows.
    ///
    /// # Errors
    /// [`Fatal::Data`] when the saved dump is of another level.
    pub(super) fn header(&mut self, names: &[String], out: &mut Output) -> Result<(), Fatal> {
        let keys = key_columns(names).unwrap_or_default();
        if !self.old_names.is_empty() && key_columns(&self.old_names).as_ref() != Some(&keys) {
            let text = format!("{}: a dump of another level or other hosts", self.file);
            return Err(Fatal::Data(text));
        }
        let column = |name: &String| Column {
            name: name.clone(),
            kind: ValueKind::of(name),
            is_key: keys.contains(&name.as_str()),
            old_place: self.old_names.iter().position(|other| other == name),
        };
        self.columns = names.iter().map(column).collect();
        let own = ["change".to_owned()];
        out.header(&own.iter().chain(names).cloned().collect::<Vec<_>>())
    }

    /// Takes a new row; false when no more are wanted.
    pub(super) fn row(&mut self, fields: &[&[u8]], out: &mut Output) -> Result<bool, Fatal> {
        let named = self.columns.iter().zip(fields);
        let keys = named.filter(|(column, _)| column.is_key);
        let key = key(keys.map(|(column, field)| (column.name.as_str(), *field)));
        let same = self.by_key.get_mut(&key);
        let at = same.and_then(VecDeque::pop_front);
        let old = at.and_then(|at| self.old_rows[at].take());
        let (change, values) = match old.map(|old| self.added(&old, fields)) {
            None => ("new", None),
            Some(None) => ("reset", None),
            Some(values) => ("kept", values),
        };
        let mut all = vec![change.as_bytes()];
        match &values {
            Some(values) => all.extend(values.iter().map(Vec::as_slice)),
            None => all.extend_from_slice(fields),
        }
        out.row(&all)
    }

    /// What a row has more than it had; `None` when it began anew.
    fn added(&self, old: &OldRow, fields: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
        let mut values = Vec::with_capacity(fields.len());
        for (column, &field) in self.columns.iter().zip(fields) {
            let before = column.old_place.map(|place| old[place].as_slice());
            if column.name == "reset_timestamp" && before.is_some_and(|before| before != field) {
                return None;
            }
            let is_counter = matches!(column.kind, ValueKind::Counter | ValueKind::Time);
            values.push(match (before.and_then(number), number(field)) {
                (Some(before), Some(now)) if is_counter => {
                    written(column.kind, now.checked_sub(before)?).into_bytes()
                }
                _ => field.to_vec(),
            });
        }
        Some(values)
    }

    pub(super) fn finish(&mut self, out: &mut Output) -> Result<(), Fatal> {
        if self.columns.is_empty() {
            if self.old_names.is_empty() {
                return Ok(());
            }
            self.header(&self.old_names.clone(), out)?;
        }
        for old in self.old_rows.iter().flatten() {
            let mut fields = vec![b"gone".to_vec()];
            fields.extend(self.columns.iter().map(|column| {
                match column.kind {
                    ValueKind::Counter | ValueKind::Time => written(column.kind, 0).into_bytes(),
                    _ => column
                        .old_place
                        .map_or(Vec::new(), |place| old[place].clone()),
                }
            }));
            if !out.row(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>())? {
                break;
            }
        }
        Ok(())
    }
}

/// The key of an entry, given its key columns in any order.
fn key<'a>(named: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut sorted: Vec<(&str, &[u8])> = Vec::new();
    for column in named {
        let at = sorted.partition_point(|(name, _)| *name < column.0);
        sorted.insert(at, column);
    }
    let mut key = Vec::new();
    for (_, field) in sorted {
        push_escaped(&mut key, field);
        key.push(b'\t');
    }
    key
}
