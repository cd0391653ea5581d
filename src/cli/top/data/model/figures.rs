//! An entry's numbers as they are shown: totals, or rates.

use super::moves::Moves;
use crate::cli::top::data::values::VALUES;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Totals since the server counts.
    Totals,
    /// Rates over so much time.
    Rates(Duration),
}

/// An entry's numbers as they are to be shown.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    /// What the server reported last.
    pub values: &'a [u64; VALUES],
    /// When it was updated, in microseconds since 1970.
    pub updated_micros: u64,
    /// When it began to count, in seconds since 1970; 0 when that is not known.
    pub reset_secs: u64,
    /// By how much they moved; `None` for totals.
    pub(crate) moved: Option<Moved<'a>>,
}

/// How far an entry's numbers moved in a time.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    /// `None`: nothing moved.
    pub moves: Option<&'a Moves>,
    pub since: Option<u64>,
    /// The seconds since; 0: not known yet.
    pub secs: f64,
}

impl Figures<'_> {
    /// A number of the reading, or its rate a second.
    pub(crate) fn number(&self, value: usize) -> f64 {
        match &self.moved {
            None => self.values[value] as f64,
            Some(moved) if moved.secs <= 0.0 => 0.0,
            Some(moved) => {
                let by = moved.moves.map(|moves| moves.since(moved.since, value));
                by.unwrap_or(0) as f64 / moved.secs
            }
        }
    }

    pub(crate) fn is_total(&self) -> bool {
        self.moved.is_none()
    }

    /// Whether there is no rate yet.
    pub(crate) fn is_unknown(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| moved.secs <= 0.0)
    }
}
